//! One key as the shared store holds it: a keys file with this key alone, under the hash of its secret.
//!
//! So a key is read by the same rules wherever it is, and neither the store nor whoever looks into it ever has a secret.

use crate::engine::Seed;
use crate::keys::edit::{self, EditError, NewKey};
use crate::keys::secret::Digest;
use crate::keys::{KeyChange, Keyring, Principal};

/// Keys that the store takes.
pub const CAPACITY: usize = 2_000_000;

/// The field of a key: what its secret is looked up by.
#[must_use]
pub fn field(digest: &Digest) -> String {
    digest.to_string()
}

/// The text of a new key.
///
/// # Errors
/// What no keys file could hold.
pub fn text(key: &NewKey<'_>) -> Result<String, EditError> {
    edit::add("", key)
}

/// What one entry says of its key, with the seed of checks; `None`: nothing that can be understood.
#[must_use]
pub fn principal(text: &str) -> Option<Principal> {
    let keyring = Keyring::parse(text, &edit::CHECK_SEED).ok()?;
    let mut principals = keyring.principals();
    let principal = principals.next()?.clone();
    principals.next().is_none().then_some(principal)
}

/// Reads many entries, fields and texts. Those that cannot be understood are not among the changes: their fields are.
#[must_use]
pub fn read(entries: &[(String, String)], seed: &Seed) -> (Vec<KeyChange>, Vec<String>) {
    // At once where nothing is wrong; one by one to find what is.
    if let Some(changes) = read_together(entries, seed) {
        return (changes, Vec::new());
    }
    let (mut changes, mut wrong) = (Vec::with_capacity(entries.len()), Vec::new());
    for entry in entries {
        match read_together(std::slice::from_ref(entry), seed) {
            Some(change) => changes.extend(change),
            None => wrong.push(entry.0.clone()),
        }
    }
    (changes, wrong)
}

/// What an entry that is gone means.
#[must_use]
pub fn removed(field: &str) -> Option<KeyChange> {
    Digest::parse(field).map(KeyChange::Removed)
}

fn read_together(entries: &[(String, String)], seed: &Seed) -> Option<Vec<KeyChange>> {
    let whole: String = entries.iter().flat_map(|(_, text)| [text.as_str(), "\n"]).collect();
    let keyring = Keyring::parse(&whole, seed).ok()?;
    if keyring.len() != entries.len() {
        return None;
    }
    let change = |(field, _): &(String, String)| {
        let digest = Digest::parse(field)?;
        Some(KeyChange::Put(digest, keyring.find_digest(&digest)?.clone()))
    };
    entries.iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Mode;
    use crate::keys::{KeyKind, Secret};
    use jiff::Timestamp;

    const SEED: Seed = Seed([1, 2]);

    fn entry(id: &str, secret: &str) -> (String, String) {
        let key = NewKey {
            id,
            digest: Secret::new(secret).unwrap().digest(),
            account: "acct_1",
            mode: Mode::Live,
            kind: KeyKind::Restricted,
            allow: &["b".to_owned()],
            connected_accounts: &[],
            expires_at: None,
            created_at: Timestamp::UNIX_EPOCH,
        };
        (field(&key.digest), text(&key).unwrap())
    }

    fn find<'k>(keyring: &'k Keyring, secret: &str) -> Option<&'k str> {
        keyring.find(&Secret::new(secret).unwrap()).map(|principal| &*principal.id)
    }

    #[test]
    fn keys_come_change_and_go() {
        let entries = [entry("key_a", "sk_live_a"), entry("key_b", "sk_live_b")];
        let (changes, wrong) = read(&entries, &SEED);
        assert!(wrong.is_empty());
        let mut keyring = Keyring::default();
        keyring.change(changes, &["a", "b"]);
        assert_eq!((find(&keyring, "sk_live_a"), keyring.len()), (Some("key_a"), 2));
        let b = keyring.find(&Secret::new("sk_live_b").unwrap()).unwrap();
        assert!(b.may_use(crate::engine::EndpointId(1)) && !b.may_use(crate::engine::EndpointId(0)));
        let mut gone = keyring.clone();
        gone.change(vec![removed(&entries[0].0).unwrap()], &[]);
        assert_eq!((find(&gone, "sk_live_a"), find(&gone, "sk_live_b"), gone.len()), (None, Some("key_b"), 1));
        assert_eq!(find(&keyring, "sk_live_a"), Some("key_a"));
    }

    #[test]
    fn many_changes_settle_and_change_nothing() {
        let mut keyring = Keyring::default();
        let secret = |number: usize| format!("sk_live_{number}");
        for number in 0..3_000 {
            let (changes, _) = read(&[entry(&format!("key_{number}"), &secret(number))], &SEED);
            keyring.change(changes, &[]);
        }
        assert!(keyring.recent.len() <= super::super::MIN_RECENT && !keyring.settled.is_empty());
        assert_eq!(keyring.len(), 3_000);
        assert!((0..3_000).all(|number| find(&keyring, &secret(number)).is_some()));
        keyring.bind(&["b"]);
        assert_eq!((keyring.len(), keyring.recent.len()), (3_000, 0));
    }

    #[test]
    fn what_cannot_be_understood_is_left_out_and_named() {
        let (good, other) = (entry("key_a", "sk_live_a"), entry("key_b", "sk_live_b"));
        let broken = ("sha256:00".to_owned(), "x".to_owned());
        // Somebody's key under another's hash, and two in one.
        let swapped = (entry("key_c", "sk_live_c").0, other.1.clone());
        let two = (entry("key_d", "sk_live_d").0, good.1.clone() + "\n" + &other.1);
        let (changes, wrong) = read(&[good, broken.clone(), swapped.clone(), two.clone()], &SEED);
        let mut keyring = Keyring::default();
        keyring.change(changes, &[]);
        assert_eq!((keyring.len(), find(&keyring, "sk_live_a")), (1, Some("key_a")));
        assert_eq!(wrong, [broken.0, swapped.0, two.0]);
        assert!(removed("sha256:00").is_none());
    }
}
