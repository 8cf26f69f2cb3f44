//! Any key passes, and its account is a keyed hash of it: for a sidecar in front of somebody else's API.

use crate::engine::{Mode, Seed};
use crate::keys::principal::{ConnectedAccounts, KeyKind, Principal};
use crate::keys::secret::Secret;
use crate::swar;
use sha2::{Digest as _, Sha256};

/// Makes a principal of any key. Keeps nothing: who mints keys at will costs no memory here.
#[derive(Clone, Copy, Debug)]
pub struct Passthrough {
    seed: Seed,
}

/// How many hexadecimal digits stand for an account or a key: 64 bits of a keyed hash.
const DIGITS: usize = 16;

impl Passthrough {
    /// Ids depend on `seed`: with the same one, a key has the same account in every process.
    #[must_use]
    pub fn new(seed: Seed) -> Passthrough {
        Passthrough { seed }
    }

    /// The principal of a key: live or test by its prefix, live where that is silent. It may use every endpoint and act for any
    /// account, since the upstream is the one to judge.
    #[must_use]
    pub fn principal(&self, secret: &Secret<'_>) -> Principal {
        let digest = Sha256::new()
            .chain_update(self.seed.0[0].to_le_bytes())
            .chain_update(self.seed.0[1].to_le_bytes())
            .chain_update(secret.expose())
            .finalize();
        // Two halves that share no byte: who learns one id learns nothing of the other.
        let (account, key) = digest.split_at(DIGITS);
        let mode = secret.mode().unwrap_or(Mode::Live);
        let kind = secret.kind().unwrap_or(KeyKind::Secret);
        let (id, account) = (named("key_", key), named("acct_", account));
        let mut principal = Principal::new(&self.seed, id, account, mode, kind);
        principal.connected_accounts = ConnectedAccounts::Any;
        principal
    }
}

fn named(prefix: &str, digest: &[u8]) -> Box<str> {
    let mut digits = [0; DIGITS];
    swar::hex(&mut digits, digest);
    let mut name = String::with_capacity(prefix.len() + DIGITS);
    name.push_str(prefix);
    name.push_str(std::str::from_utf8(&digits).unwrap_or_default());
    name.into_boxed_str()
}
