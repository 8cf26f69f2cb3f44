//! What the engine knows of a request: ids and hashes, no strings, `Copy`.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

/// Whether the key is for live or for test traffic. The two never share a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Real money.
    Live,
    /// Test keys and sandboxes.
    Test,
}

impl Mode {
    /// Both modes, in the order of their index.
    pub const ALL: [Mode; 2] = [Mode::Live, Mode::Test];

    /// The word used in configuration, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Live => "live",
            Mode::Test => "test",
        }
    }
}

/// Whether a request reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// GET, HEAD and OPTIONS, unless the endpoint says otherwise.
    Read,
    /// Everything else.
    Write,
}

impl Access {
    /// Both kinds, in the order of their index.
    pub const ALL: [Access; 2] = [Access::Read, Access::Write];

    /// The word used in configuration, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
        }
    }
}

/// An endpoint's place in its [`Policy`](super::policy::Policy).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub u32);

/// A route's place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u32);

/// Which set of figures an account has: the base ones, its tier's, or its own. See [`Profile`](super::policy::Profile).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileId(pub u32);

impl ProfileId {
    /// The figures written at the limits themselves.
    pub const BASE: ProfileId = ProfileId(0);
}

/// A 128-bit keyed hash that stands for a name: an account, a key, an address, a header's value.
///
/// It is made by [`Seed::id`]; without the seed nobody can choose two names that collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub [u64; 2]);

impl Id {
    /// Stands for "there is none": a call without `Stripe-Account`, a request without the header that a limit counts by.
    /// All such requests share one partition, so that leaving a value out never dodges a limit.
    pub const NONE: Id = Id([0, 0]);
}

/// Hashes keys that are ids, and so outputs of a keyed hash already: takes their first half as it is.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The secret of all hashes of one process. Made of random numbers where traffic is served, fixed in tests and in `replay`.
#[derive(Clone, Copy)]
pub struct Seed(pub [u64; 2]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl Seed {
    /// The id of `name` among the names of one `kind` (one byte keeps an account and a header of the same text apart).
    /// SipHash-1-3 with 128 bits of output (Aumasson and Bernstein, 2012).
    #[must_use]
    pub fn id(&self, kind: IdKind, name: &[u8]) -> Id {
        let mut hasher = self.hasher();
        hasher.write_u8(kind as u8);
        hasher.write(name);
        Self::finish(&hasher)
    }

    /// The id of a whole `message`, for callers that lay out their own.
    #[must_use]
    pub fn hash(&self, message: &[u8]) -> Id {
        let mut hasher = self.hasher();
        hasher.write(message);
        Self::finish(&hasher)
    }

    fn hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0[0], self.0[1])
    }

    fn finish(hasher: &SipHasher13) -> Id {
        let hash = hasher.finish128();
        Id([hash.h1, hash.h2])
    }
}

/// What an [`Id`] is the id of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum IdKind {
    /// An account or a connected account: one namespace, since one may act as the other.
    Account = 1,
    /// An API key's id (never its secret).
    Key = 2,
    /// A client address.
    Ip = 3,
    /// An endpoint's name.
    Endpoint = 4,
    /// A limit's name and mechanism.
    Limit = 5,
    /// A value taken from the request: a path segment, a header.
    Value = 6,
}

/// How many values taken from a request (`path.NAME`, `header.NAME`) the limits of one endpoint may count by.
pub const MAX_VALUES: usize = 8;

/// Everything that decides about one request.
#[derive(Clone, Copy, Debug)]
pub struct RequestClass {
    /// Live or test.
    pub mode: Mode,
    /// Read or write.
    pub access: Access,
    /// Which endpoint; requests to unknown paths have one too.
    pub endpoint: EndpointId,
    /// Which route.
    pub route: RouteId,
    /// Which figures apply to the account.
    pub profile: ProfileId,
    /// Tokens this request spends; 0 spends none.
    pub cost: u32,
    /// The account that the key belongs to.
    pub account: Id,
    /// The account acted for (`Stripe-Account`), or [`Id::NONE`].
    pub connected: Id,
    /// The API key.
    pub key: Id,
    /// The client's address.
    pub ip: Id,
    /// The values that the endpoint's limits count by, in the order of
    /// [`EndpointClass::extractors`](super::policy::EndpointClass::extractors); the rest is [`Id::NONE`].
    pub values: [Id; MAX_VALUES],
    /// What is known to be true of the request beyond its class, as the configuration numbers it for this endpoint: bit `n`
    /// stands for the fact `n`. See [`Condition::facts`](super::policy::Condition::facts).
    pub facts: u64,
    /// Whose budget it spends.
    pub payers: Payers,
    /// What the key's account has drawn, by which limits that are enforced for a share of accounts tell theirs: see
    /// [`lot`](super::enforce::lot).
    pub lot: u64,
}

/// Whose budget a request spends: what `per = ["account"]` counts by, and whose figures hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payers {
    /// The key's account, with [`RequestClass::profile`].
    #[default]
    Account,
    /// The account acted for, with these figures.
    Connected(ProfileId),
    /// Both, the key's account first; the figures are those of the account acted for. A limit that counts by account is asked
    /// for each, all or nothing.
    Both(ProfileId),
}

/// One account that pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Payer {
    pub(super) account: Id,
    pub(super) profile: ProfileId,
}

impl RequestClass {
    /// Who pays, and who pays as well.
    pub(super) fn payers(&self) -> (Payer, Option<Payer>) {
        let own = Payer { account: self.account, profile: self.profile };
        let connected = |profile| Payer { account: self.connected, profile };
        match self.payers {
            Payers::Account => (own, None),
            Payers::Connected(profile) => (connected(profile), None),
            Payers::Both(profile) => (own, Some(connected(profile))),
        }
    }

    /// Whether the request acts for a connected account.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected != Id::NONE
    }
}
