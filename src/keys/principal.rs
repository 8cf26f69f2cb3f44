//! Whom a key names, and what it may do.

use crate::engine::{EndpointId, Id, IdKind, Mode, Seed, lot};
use http::HeaderValue;
use jiff::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;

/// What sort of key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// May do everything, unless it has an `allow` list.
    Secret,
    /// May do what its `allow` list says, and nothing without one.
    Restricted,
    /// For clients in the open; as restricted.
    Publishable,
}

impl KeyKind {
    /// All kinds.
    pub const ALL: [KeyKind; 3] = [KeyKind::Secret, KeyKind::Restricted, KeyKind::Publishable];

    /// The word used in keys files and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            KeyKind::Secret => "secret",
            KeyKind::Restricted => "restricted",
            KeyKind::Publishable => "publishable",
        }
    }

    /// What the secrets of such keys begin with, up to the first underscore.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            KeyKind::Secret => "sk",
            KeyKind::Restricted => "rk",
            KeyKind::Publishable => "pk",
        }
    }
}

/// The endpoints that a key may use.
#[derive(Clone, Debug)]
pub enum Allow {
    /// All.
    Everything,
    /// Those whose names fit one of the globs.
    Only {
        /// As the keys file lists them.
        globs: Box<[Box<str>]>,
        /// The endpoints that fit, a bit for each [`EndpointId`]. Empty, so nothing is allowed, until
        /// [`Keyring::bind`](super::Keyring::bind) has seen their names.
        endpoints: Arc<[u64]>,
    },
}

/// The accounts that a key may act for besides its own.
#[derive(Clone, Debug)]
pub enum ConnectedAccounts {
    /// None.
    None,
    /// Any.
    Any,
    /// These.
    Only(HashSet<Box<str>>),
}

/// Whether a key is good at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It is.
    Active,
    /// Its time is over.
    Expired,
    /// It has been revoked.
    Revoked,
}

/// Whom a key names. Holds no secret.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The key's id: what logs and the upstream see.
    pub id: Box<str>,
    /// The account that the key belongs to.
    pub account: Box<str>,
    /// The engine's id of `account`.
    pub account_id: Id,
    /// The engine's id of `id`.
    pub key_id: Id,
    /// What the account has drawn, see [`lot`](crate::engine::lot).
    pub lot: u64,
    /// Live or test.
    pub mode: Mode,
    /// What sort of key it is.
    pub kind: KeyKind,
    /// The endpoints it may use.
    pub allow: Allow,
    /// The accounts it may act for.
    pub connected_accounts: ConnectedAccounts,
    /// From when on it is good no more.
    pub expires_at: Option<Timestamp>,
    /// Whether it has been revoked.
    pub revoked: bool,
    /// `id` as a header's value; cloning it allocates once, the first time.
    pub id_header: HeaderValue,
    /// `account` as a header's value; cloning it allocates once, the first time.
    pub account_header: HeaderValue,
}

impl Principal {
    /// A principal that may use everything and act for nobody else, to be changed by the caller. `id` and `account` must be
    /// ids in the sense of [`is_id`].
    pub(super) fn new(seed: &Seed, id: Box<str>, account: Box<str>, mode: Mode, kind: KeyKind) -> Principal {
        Principal {
            account_id: seed.id(IdKind::Account, account.as_bytes()),
            key_id: seed.id(IdKind::Key, id.as_bytes()),
            lot: lot(&account),
            mode,
            kind,
            allow: Allow::Everything,
            connected_accounts: ConnectedAccounts::None,
            expires_at: None,
            revoked: false,
            id_header: header(&id),
            account_header: header(&account),
            id,
            account,
        }
    }

    /// Whether a text can be the id of an account or a key.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        is_id(text)
    }

    /// Whom a request is said to come from that nobody sends: for explanations and replays, not for requests. It may use
    /// everything and act for anybody.
    #[must_use]
    pub fn supposed(seed: &Seed, id: &str, account: &str, mode: Mode) -> Principal {
        let principal = Principal::new(seed, id.into(), account.into(), mode, KeyKind::Secret);
        Principal { connected_accounts: ConnectedAccounts::Any, ..principal }
    }

    /// Whether the key is good at `now`. It is not any more at the very instant it expires.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> KeyState {
        if self.revoked {
            KeyState::Revoked
        } else if self.expires_at.is_some_and(|end| now >= end) {
            KeyState::Expired
        } else {
            KeyState::Active
        }
    }

    /// Whether the key may use an endpoint, which must be of the list that the keyring was bound to. Looks up one bit.
    #[must_use]
    pub fn may_use(&self, endpoint: EndpointId) -> bool {
        match &self.allow {
            Allow::Everything => true,
            Allow::Only { endpoints, .. } => {
                let word = endpoints.get(endpoint.0 as usize / 64).copied().unwrap_or(0);
                word >> (endpoint.0 % 64) & 1 == 1
            }
        }
    }

    /// As [`may_use`](Principal::may_use) by the endpoint's name. Tries every glob: for explanations, not for requests.
    #[must_use]
    pub fn may_use_name(&self, endpoint: &str) -> bool {
        match &self.allow {
            Allow::Everything => true,
            Allow::Only { globs, .. } => globs.iter().any(|glob| crate::endpoints::glob_matches(glob, endpoint)),
        }
    }

    /// Whether the key may act for an account: its own always, any other as `connected_accounts` says. What cannot be an
    /// account's id (blanks, commas, more than 255 characters) never.
    #[must_use]
    pub fn may_act_for(&self, connected_account: &str) -> bool {
        match &self.connected_accounts {
            _ if connected_account == &*self.account => true,
            ConnectedAccounts::None => false,
            ConnectedAccounts::Any => is_id(connected_account),
            ConnectedAccounts::Only(accounts) => accounts.contains(connected_account),
        }
    }
}

/// The longest id of an account or a key, in bytes.
pub(super) const MAX_ID_BYTES: usize = 255;

/// Whether a text can be the id of an account or a key: letters, digits, `_`, `-`, `.` and `:`.
pub(super) fn is_id(text: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':'))
}

/// An id as a header's value. It is always a good one; should that ever change, an empty one names nobody.
fn header(id: &str) -> HeaderValue {
    HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static(""))
}
