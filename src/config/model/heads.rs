//! What becomes of heads on their way through, compiled.

use http::{HeaderName, HeaderValue, Version};
use std::path::PathBuf;

/// How the gateway names itself in `Via`, and when it takes a request for one of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// Its pseudonym.
    pub name: Box<str>,
    /// How often a request may have passed a gateway of this name.
    pub max: usize,
    values: [HeaderValue; 3],
}

impl Via {
    /// A pseudonym, which must be fit for a header: another is not sent.
    pub(in crate::config) fn new(name: &str, max: usize) -> Via {
        let value = |version: &str| {
            HeaderValue::try_from(format!("{version} {name}")).unwrap_or(HeaderValue::from_static("1.1 tollgate"))
        };
        Via { name: name.into(), max, values: [value("1.0"), value("1.1"), value("2")] }
    }

    /// What is added to `Via` for a request that came in this version.
    #[must_use]
    pub fn value(&self, version: Version) -> &HeaderValue {
        let [one_zero, one_one, two] = &self.values;
        match version {
            Version::HTTP_09 | Version::HTTP_10 => one_zero,
            Version::HTTP_2 => two,
            _ => one_one,
        }
    }
}

/// What a route does to what passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteOptions {
    /// Changes to a request's header.
    pub request_headers: HeaderRules,
    /// Changes to the header of the upstream's answer.
    pub response_headers: HeaderRules,
    /// What is taken from the path's beginning; the route's prefix begins with it. No slash at the end; empty: nothing.
    pub strip_prefix: Box<str>,
    /// The same as `X-Forwarded-Prefix` has it.
    pub stripped: Option<HeaderValue>,
    /// What is put before what is left of the path. Canonical, no slash at the end; empty: nothing.
    pub add_prefix: Box<str>,
    /// What becomes of `Host`.
    pub host: HostRule,
    /// What becomes of the client's key: the route's own setting, or its upstream's.
    pub credentials: Credentials,
}

/// What becomes of `Host`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostRule {
    /// Kept towards `http://` servers, the server's towards `https://` ones.
    #[default]
    ByScheme,
    /// The client's goes on.
    Keep,
    /// The server's own.
    Server,
    /// This one.
    Fixed(HeaderValue),
}

/// Changes to a head. In order: what is cleared goes, `set` comes in its place, `add` comes besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Names of fields that go: those to be removed, and those to be set.
    pub cleared: Box<[HeaderName]>,
    /// Fields that come in place of cleared ones.
    pub set: Box<[(HeaderName, HeaderValueRule)]>,
    /// Fields that come besides.
    pub add: Box<[(HeaderName, HeaderValueRule)]>,
}

impl HeaderRules {
    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cleared.is_empty() && self.add.is_empty()
    }
}

/// The value of a field that a rule gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValueRule {
    /// Always the same.
    Fixed(HeaderValue),
    /// Put together for each request.
    Filled(Box<[Piece]>),
}

/// A piece of a value that is put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A text.
    Text(Box<str>),
    /// The key's account.
    Account,
    /// The key's id.
    KeyId,
    /// Live or test.
    Mode,
    /// The request's id.
    RequestId,
    /// The client's address.
    ClientIp,
}

/// What becomes of the client's `Authorization`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// It goes on as it came.
    #[default]
    Keep,
    /// It ends here.
    Drop,
    /// It ends here, and this comes in its place.
    Replace(Replacement),
}

/// A credential of the gateway's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The header it goes into.
    pub header: HeaderName,
    /// How it is written there.
    pub form: CredentialForm,
    /// Where it is.
    pub source: SecretSource,
}

/// How a credential is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialForm {
    /// `Bearer TOKEN`.
    Bearer,
    /// `Basic` with base64 of `user:password`.
    Basic,
    /// As it is.
    Plain,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In this environment variable.
    Env(Box<str>),
    /// In this file.
    File(PathBuf),
}

/// Whether upstreams get `Forwarded` (RFC 7239).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// No.
    Off,
    /// Yes.
    Append,
}
