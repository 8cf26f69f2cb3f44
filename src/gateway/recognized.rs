//! The key that a connection sent last, so that it is not hashed and looked up anew for each request.
//!
//! Kept is a keyed 128-bit hash of the field, never the key: whoever reads this memory has nothing to send. What was found goes
//! with the keys that it was found in: after a reload it is looked for anew. Whether the key is expired or revoked is asked each
//! time. Only a key that was found is kept, so nothing can be learnt from the time it takes but what the answer says as well.

use super::context::Authority;
use crate::engine::Id;
use crate::keys::Principal;
use std::cell::RefCell;
use std::sync::{Arc, Weak};

/// Whom a connection's last key named.
#[derive(Default)]
pub(super) struct Recognized(RefCell<Option<Known>>);

struct Known {
    authorization: Id,
    principal: Arc<Principal>,
    /// Who said so. Weak: a connection that is idle must not keep all keys of an old configuration.
    authority: Weak<Authority>,
}

impl Recognized {
    /// The principal, where the field is the same as last time and the keys are.
    pub(super) fn find(&self, authority: &Arc<Authority>, authorization: Id) -> Option<Arc<Principal>> {
        let known = self.0.borrow();
        let same = |known: &&Known| {
            known.authorization == authorization && std::ptr::eq(known.authority.as_ptr(), Arc::as_ptr(authority))
        };
        known.as_ref().filter(same).map(|known| Arc::clone(&known.principal))
    }

    /// Keeps what was found.
    pub(super) fn keep(&self, authority: &Arc<Authority>, authorization: Id, principal: &Arc<Principal>) {
        let (principal, authority) = (Arc::clone(principal), Arc::downgrade(authority));
        *self.0.borrow_mut() = Some(Known { authorization, principal, authority });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Seed;
    use crate::keys::{Passthrough, Secret};

    #[test]
    fn another_field_and_other_keys_are_not_recognized() {
        let seed = Seed([1, 2]);
        let authority = || Arc::new(Authority::Keys(crate::keys::Keyring::default()));
        let (now, next) = (authority(), authority());
        let principal = Arc::new(Passthrough::new(seed).principal(&Secret::new("sk_live_x").unwrap()));
        let recognized = Recognized::default();
        assert!(recognized.find(&now, Id([1, 2])).is_none());
        recognized.keep(&now, Id([1, 2]), &principal);
        assert!(recognized.find(&now, Id([1, 2])).is_some_and(|found| Arc::ptr_eq(&found, &principal)));
        assert!(recognized.find(&now, Id([1, 3])).is_none());
        assert!(recognized.find(&next, Id([1, 2])).is_none());
        let kept = Arc::downgrade(&now);
        drop(now);
        assert!(kept.upgrade().is_none(), "the old keys are gone");
    }
}
