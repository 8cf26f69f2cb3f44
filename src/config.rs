//! FLOOR 1: the configuration, from a TOML file to what the gateway runs on.
//!
//! In the order of reading: `source` knows places, `error` what a mistake is, `values` and `raw` mirror the TOML,
//! `document` reads it past every mistake, `presets` holds the built-in limits and endpoints, and `compile` turns all of it
//! into a [`Config`]; `lint` looks for what works but is surely not meant.
//!
//! Every mistake is reported at once, each exactly once: a pass goes on with what the one before could use, and does not
//! complain that something is missing where a mistake about it has been reported already.

mod compile;
mod document;
mod error;
mod figures;
mod lint;
mod model;
mod presets;
mod raw;
mod router;
mod schema;
mod source;
mod trace_format;
mod values;

#[cfg(test)]
mod tests;

pub use error::{ConfigErrors, Excerpt, MAX_MISTAKES, Mistake, Severity};
pub use figures::{WrittenAllocation, WrittenFigures};
pub use model::{
    AccessLog, Addresses, Admin, Auth, AuthMode, Balance, Charge, Clients, Connect, CredentialForm, Credentials,
    Ejection, Endpoint, Extractor, Forwarded, HeaderRules, HeaderValueRule, HealthCheck, HostRule, Http2, KeysStore,
    Level, Log, LogFormat, ObjectLock, Pair, Piece, Protocol, Redis, RedisUrl, Replacement, Responses, Retries,
    RetryOn, RouteOptions, Scheme, SecretSource, Server, Share, ShouldRetry, State, Store, StoreMode, Tls, TlsVersion,
    Topology, Upstream, UpstreamBounds, UpstreamServer, Via,
};
pub use presets::stripe_operations;
pub use router::{Route, Router};
pub use schema::json_schema;
pub use source::MAX_EXCERPT;
pub use trace_format::{TraceFields, TraceFormat, TraceKind, TraceTimeIs, TraceUnit};

use crate::body::Inspection;
use crate::endpoints::Endpoints;
use crate::engine::policy::ExtractorId;
use crate::engine::{Access, EndpointId, LimitId, Policy, ProfileId, RouteId, Seed};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file that is read, in bytes: some 100,000 limits.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// A whole configuration, compiled: valid, and indexed for the request path.
#[derive(Clone, Debug)]
pub struct Config {
    /// The public listener.
    pub server: Server,
    /// The admin listener.
    pub admin: Admin,
    /// Limits by the client's address.
    pub addresses: Addresses,
    /// Who may pass.
    pub auth: Auth,
    /// Calls for connected accounts.
    pub connect: Connect,
    /// What the gateway's own answers carry.
    pub responses: Responses,
    /// Access log and diagnostics.
    pub log: Log,
    /// What outlives a restart.
    pub state: State,
    /// Where limits count.
    pub store: Store,
    /// How foreign traces are written that `tollgate replay` reads.
    pub trace_format: Option<TraceFormat>,
    /// Where requests are forwarded to; at least one.
    pub upstreams: Box<[Upstream]>,
    /// Routes; the index is the [`RouteId`]. At least one.
    pub routes: Box<[Route]>,
    /// Finds a request's route.
    pub router: Router,
    /// Endpoints; the index is the [`EndpointId`]. The last two are `other.read` and `other.write`.
    pub endpoints: Box<[Endpoint]>,
    /// Finds a request's endpoint.
    pub index: Endpoints,
    /// The endpoints of unknown paths, by [`Access`] as an index.
    pub other: [EndpointId; 2],
    /// How to take the values that limits count by; the index is the `ExtractorId`.
    pub extractors: Box<[Extractor]>,
    /// What to look for in queries and bodies, by [`EndpointId`].
    pub inspections: Box<[Option<Box<Inspection>>]>,
    /// All limits.
    pub policy: Arc<Policy>,
    /// What the 429s of a limit link to where it is not what all others do, by [`LimitId`].
    pub doc_urls: Box<[Option<Box<str>>]>,
    /// The figures of accounts that do not have the base ones, by account id.
    pub profiles: HashMap<Box<str>, ProfileId>,
    /// The tiers of accounts that have one, by account id.
    pub tiers: HashMap<Box<str>, Box<str>>,
    /// The figures of tiers, by the tier's name.
    pub tier_profiles: HashMap<Box<str>, ProfileId>,
    /// What works but is surely not meant.
    pub warnings: Vec<Mistake>,
    /// The file itself and every file it refers to, for a watcher.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// The route of a request: see [`Router::find`].
    #[must_use]
    pub fn route(&self, host: &str, path: &str) -> Option<RouteId> {
        self.router.find(host, path)
    }

    /// Whether any route is for some hosts only: else nobody needs to know a request's.
    #[must_use]
    pub fn asks_for_hosts(&self) -> bool {
        self.router.asks_for_hosts()
    }

    /// The endpoint for requests to unknown paths.
    #[must_use]
    pub fn other(&self, access: Access) -> EndpointId {
        self.other[access as usize]
    }

    /// What to look for in the queries and bodies of an endpoint's requests, if there is anything.
    #[must_use]
    pub fn inspection(&self, endpoint: EndpointId) -> Option<&Inspection> {
        self.inspections.get(endpoint.0 as usize)?.as_deref()
    }

    /// What an extractor takes from an endpoint's requests; never [`Extractor::FirstOf`].
    #[must_use]
    pub fn extractor_at(&self, endpoint: EndpointId, extractor: ExtractorId) -> Option<&Extractor> {
        let endpoint = self.endpoints.get(endpoint.0 as usize)?;
        self.extractors.get(extractor.0 as usize)?.at(|name| endpoint.parameter(name).is_some())
    }

    /// Where among its path's parameters an endpoint has this one.
    #[must_use]
    pub fn parameter(&self, endpoint: EndpointId, name: &str) -> Option<usize> {
        self.endpoints.get(endpoint.0 as usize)?.parameter(name)
    }

    /// What a limit's 429s link to.
    #[must_use]
    pub fn doc_url(&self, limit: LimitId) -> &str {
        let own = self.doc_urls.get(limit.index()).and_then(Option::as_deref);
        own.unwrap_or(&self.responses.doc_url)
    }

    /// The figures of an account.
    #[must_use]
    pub fn profile(&self, account: &str) -> ProfileId {
        self.profiles.get(account).copied().unwrap_or(ProfileId::BASE)
    }
}

/// Reads and compiles a file. `seed` must be the engine's: the policy's ids are made with it.
///
/// # Errors
/// Every mistake in the file, warnings among them; or why it cannot be read.
pub fn load(path: &Path, seed: &Seed) -> Result<Config, ConfigErrors> {
    let text = read_file(path)?;
    parse(&text, path, seed)
}

/// Compiles a text. `file` is its name in messages, and its folder is what other files' paths are relative to.
///
/// # Errors
/// Every mistake in the text, warnings among them.
pub fn parse(text: &str, file: &Path, seed: &Seed) -> Result<Config, ConfigErrors> {
    // The parser skips a byte order mark too; the offsets in its errors count from after it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    compile::compile(text, file, seed)
}

/// The text of a file that can be one. Anything but a regular file is refused before it is read: a FIFO would never end.
fn read_file(path: &Path) -> Result<String, ConfigErrors> {
    let refuse = |message: String, hint: Option<&str>| ConfigErrors::unreadable(path, message, hint);
    let cannot = |error: std::io::Error| refuse(format!("cannot be read: {error}"), None);
    let known = std::fs::metadata(path).map_err(cannot)?;
    if !known.is_file() {
        let kind = if known.is_dir() { "a directory" } else { "not a regular file" };
        return Err(refuse(format!("cannot be read: it is {kind}"), Some("name the TOML file itself")));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refuse("is larger than 16 MiB".to_owned(), Some("is this the right file?")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|&&b| b == b'\n').count();
        refuse(format!("is not UTF-8 text: line {line} has other bytes"), Some("save it as UTF-8"))
    })
}
