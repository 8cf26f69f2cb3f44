//! FLOOR 2: from an API key to the principal it names.
//!
//! A keys file holds the SHA-256 of each secret, never the secret. That is enough, without salt or a slow hash, because secrets
//! are random with far more than 112 bits (NIST SP 800-63B §5.1.2.2 on look-up secrets); a slow hash before authentication
//! would be a lever for whoever wants the gateway busy.
//!
//! - An unknown key leaves no trace: finding nothing changes nothing, and nothing is counted or kept by key.
//! - The index is by the digest's first half. Who watches its timing learns about the digest of a guess, which tells nothing
//!   about the secret; the whole digest is compared in constant time.
//! - A revoked or expired key is found too, so that its holder can be told so.
//! - A [`Keyring`] is immutable in use: a reload makes a new one and swaps it in. Time comes in as an argument.
//! - No secret is ever in a `Debug`, a `Display` or an error.

mod authorization;
pub mod edit;
pub mod entry;
mod file;
mod generate;
mod mistake;
mod passthrough;
mod principal;
mod secret;

pub use authorization::{AuthorizationError, MAX_AUTHORIZATION_BYTES, from_authorization};
pub use file::{MAX_FILE_BYTES, ReadError, read};
pub use generate::{GenerateError, generate, has_valid_checksum, new_id};
pub use mistake::KeysMistake;
pub use passthrough::Passthrough;
pub use principal::{Allow, ConnectedAccounts, KeyKind, KeyState, Principal};
pub(crate) use secret::holds_secret;
pub use secret::{Digest, MAX_SECRET_BYTES, Secret, SecretError, masked};

use crate::endpoints::glob_matches;
use crate::engine::Seed;
use std::collections::HashMap;
use std::sync::Arc;

/// A key's whole digest, to compare, and whom it names.
type Known = (Digest, Arc<Principal>);

/// All keys of a keys file, or of the shared store.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// By the first half of the digest, with the whole one to compare. The map's hash is seeded by the standard library.
    settled: Arc<HashMap<[u8; 16], Known>>,
    /// What has changed since, so that one new key among a million does not copy them all; `None`: it is gone.
    recent: HashMap<[u8; 16], Option<Known>>,
}

/// Changes that are kept apart at least, before they are put where the others are.
const MIN_RECENT: usize = 1_024;

/// One change of a keyring.
#[derive(Clone, Debug)]
pub enum KeyChange {
    /// The secret with this digest names this principal now.
    Put(Digest, Arc<Principal>),
    /// It names nobody any more.
    Removed(Digest),
}

impl Keyring {
    /// Reads the text of a keys file. `seed` makes the engine's ids.
    ///
    /// Restricted keys may do nothing until [`bind`](Keyring::bind) has been called.
    ///
    /// # Errors
    /// Every mistake in it, in the order of the file. A text without any `keys` is one: an emptied file must not lock everybody
    /// out unnoticed. `keys = []` says that there are none.
    pub fn parse(text: &str, seed: &Seed) -> Result<Keyring, Vec<KeysMistake>> {
        file::parse(text, seed)
    }

    /// The principal that a secret names, revoked or expired ones too; see [`Principal::state`]. Allocates nothing.
    #[must_use]
    pub fn find(&self, secret: &Secret<'_>) -> Option<&Arc<Principal>> {
        self.find_digest(&secret.digest())
    }

    fn find_digest(&self, digest: &Digest) -> Option<&Arc<Principal>> {
        let prefix = digest.prefix();
        let (known, principal) = match self.recent.get(&prefix) {
            Some(changed) => changed.as_ref(),
            None => self.settled.get(&prefix),
        }?;
        (known == digest).then_some(principal)
    }

    /// Takes changes, which are settled for these endpoints as by [`bind`](Keyring::bind). A clone is left as it was, and costs as
    /// much as there are changes, these and some before; now and then as much as there are keys.
    pub fn change(&mut self, changes: Vec<KeyChange>, names: &[&str]) {
        let mut bound = HashMap::new();
        for change in changes {
            match change {
                KeyChange::Put(digest, mut principal) => {
                    bind_one(&mut principal, names, &mut bound);
                    self.recent.insert(digest.prefix(), Some((digest, principal)));
                }
                KeyChange::Removed(digest) => _ = self.recent.insert(digest.prefix(), None),
            }
        }
        if self.recent.len() > MIN_RECENT.max(self.settled.len() / 64) {
            self.settle();
        }
    }

    fn settle(&mut self) {
        let settled = Arc::make_mut(&mut self.settled);
        for (prefix, changed) in self.recent.drain() {
            match changed {
                Some(known) => _ = settled.insert(prefix, known),
                None => _ = settled.remove(&prefix),
            }
        }
    }

    /// Settles what keys with an `allow` list may use, given the names of all endpoints in the order of their ids. To be called
    /// anew whenever those change. Equal lists are worked out once and shared.
    pub fn bind(&mut self, names: &[&str]) {
        self.settle();
        let mut bound = HashMap::new();
        for (_, principal) in Arc::make_mut(&mut self.settled).values_mut() {
            bind_one(principal, names, &mut bound);
        }
    }

    /// The globs of all keys that fit none of these names: most likely a slip of the pen. Sorted, each once.
    #[must_use]
    pub fn idle_globs(&self, names: &[&str]) -> Vec<&str> {
        let globs = self.principals().filter_map(|principal| match &principal.allow {
            Allow::Only { globs, .. } => Some(globs.iter()),
            Allow::Everything => None,
        });
        let mut globs: Vec<&str> = globs.flatten().map(|glob| &**glob).collect();
        globs.sort_unstable();
        globs.dedup();
        globs.retain(|glob| !names.iter().any(|name| glob_matches(glob, name)));
        globs
    }

    /// All principals, in no order.
    pub fn principals(&self) -> impl Iterator<Item = &Principal> {
        let settled = self.settled.iter().filter(|(prefix, _)| !self.recent.contains_key(*prefix));
        let recent = self.recent.values().flatten();
        settled.map(|(_, known)| known).chain(recent).map(|(_, principal)| &**principal)
    }

    /// How many keys there are, good or not.
    #[must_use]
    pub fn len(&self) -> usize {
        if self.recent.is_empty() { self.settled.len() } else { self.principals().count() }
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Equal lists of globs, worked out once.
type Bound = HashMap<Box<[Box<str>]>, Arc<[u64]>>;

fn bind_one(principal: &mut Arc<Principal>, names: &[&str], bound: &mut Bound) {
    if !matches!(principal.allow, Allow::Only { .. }) {
        return;
    }
    if let Allow::Only { globs, endpoints } = &mut Arc::make_mut(principal).allow {
        *endpoints = match bound.get(&**globs) {
            Some(bits) => Arc::clone(bits),
            None => Arc::clone(bound.entry(globs.clone()).or_insert(fitting(globs, names))),
        };
    }
}

/// A bit for each name that fits one of the globs.
fn fitting(globs: &[Box<str>], names: &[&str]) -> Arc<[u64]> {
    names
        .chunks(64)
        .map(|chunk| {
            chunk
                .iter()
                .rev()
                .fold(0, |word, name| word << 1 | u64::from(globs.iter().any(|glob| glob_matches(glob, name))))
        })
        .collect()
}

#[cfg(test)]
mod tests;
