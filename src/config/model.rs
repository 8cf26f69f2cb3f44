//! The compiled settings: plain values, all present, all within their bounds.

mod addresses;
mod heads;
mod store;
mod tls;
mod upstream;

pub use addresses::Addresses;
pub use heads::{
    CredentialForm, Credentials, Forwarded, HeaderRules, HeaderValueRule, HostRule, Piece, Replacement, RouteOptions,
    SecretSource, Via,
};
pub use store::{Redis, RedisUrl, Store, StoreMode, Topology};
pub use tls::{Clients, Pair, Tls, TlsVersion};
pub use upstream::{
    Balance, Ejection, HealthCheck, Protocol, Retries, RetryOn, Scheme, Share, Upstream, UpstreamBounds, UpstreamServer,
};

use crate::body::{FormKey, JsonPath};
use crate::endpoints::Template;
use crate::engine::{Access, Id};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The public listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Addresses to listen on; at least one, no two the same.
    pub listen: Vec<SocketAddr>,
    /// TLS, if it is spoken.
    pub tls: Option<Tls>,
    /// Threads that serve; 0: one per core.
    pub threads: usize,
    /// Open connections at once.
    pub max_connections: usize,
    /// Open connections of one client address; 0: any number.
    pub max_connections_per_address: usize,
    /// Bytes in the buffers of all client connections; 0: a share of the memory there is.
    pub max_buffer_memory: usize,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Time for a request's head to arrive.
    pub header_timeout: Duration,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// TLS handshakes at once.
    pub max_handshakes: usize,
    /// Time between two requests of one connection.
    pub idle_timeout: Duration,
    /// Time between two pieces of a request's body.
    pub body_timeout: Duration,
    /// Bytes a second of a request's body; 0: any.
    pub min_body_rate: usize,
    /// Bytes of a request's body; 0: any number.
    pub max_body_bytes: usize,
    /// Time for a client to take a piece of a response.
    pub write_timeout: Duration,
    /// Bytes a second of a response that a client makes wait; 0: any.
    pub min_write_rate: usize,
    /// Time that neither side of a tunnel sends anything.
    pub tunnel_idle_timeout: Duration,
    /// Bytes of a request's head.
    pub max_header_bytes: usize,
    /// Headers of a request.
    pub max_headers: usize,
    /// Bytes of a request's target.
    pub max_uri_bytes: usize,
    /// What HTTP/2 connections may take; `None`: it is not spoken.
    pub http2: Option<Http2>,
    /// Time between being told to end and accepting nothing more.
    pub drain_delay: Duration,
    /// Time for open requests to end at a shutdown.
    pub drain_timeout: Duration,
    /// Proxies whose forwarding headers are believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Whether upstreams get `Forwarded`.
    pub forwarded: Forwarded,
    /// How the gateway names itself in `Via`.
    pub via: Via,
    /// Requests that may wait for one object's lock.
    pub lock_queue_max: u32,
    /// Requests that may wait for locks in all.
    pub lock_waiters_max: u32,
    /// Partitions with state at once.
    pub max_partitions: usize,
    /// Time between two sweeps.
    pub sweep_interval: Duration,
    /// Bytes of a body that are read ahead for limits that count by it.
    pub inspect_body_max: usize,
}

/// What one HTTP/2 connection of a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// Requests in flight.
    pub max_streams: u32,
    /// Bytes of one request's body that may wait here.
    pub stream_window: u32,
    /// Bytes of all requests' bodies that may wait here.
    pub connection_window: u32,
    /// Bytes of one response that may wait here for the socket.
    pub send_buffer: usize,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The address; `None`: off.
    pub listen: Option<SocketAddr>,
}

/// Who may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// How keys are checked.
    pub mode: AuthMode,
    /// Where known keys are.
    pub store: KeysStore,
    /// The file of known keys; always there in the mode [`AuthMode::Keys`] with [`KeysStore::File`].
    pub keys_file: Option<PathBuf>,
    /// The realm in `WWW-Authenticate`.
    pub realm: String,
}

/// Where known keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysStore {
    /// In a file.
    File,
    /// In the Redis of `[store]`.
    Redis,
}

/// How keys are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Only known keys pass.
    Keys,
    /// Any key passes; the account is a keyed hash of it.
    Passthrough,
}

/// What the gateway's own answers carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Responses {
    /// The header that gives the reason of a 429.
    pub reason_header: http::HeaderName,
    /// Whether a 429 has `Retry-After`.
    pub retry_after: bool,
    /// Whether answers have `RateLimit` and `RateLimit-Policy`.
    pub ratelimit_headers: bool,
    /// `Stripe-Should-Retry` on a limit's 429.
    pub should_retry: ShouldRetry,
    /// `doc_url` of a limit's 429.
    pub doc_url: String,
}

/// What a 429 says of trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShouldRetry {
    /// Nothing.
    Absent,
    /// `true`.
    True,
    /// `false`.
    False,
}

/// What outlives a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The directory; `None`: nothing does.
    pub dir: Option<PathBuf>,
    /// Time between two writes.
    pub persist_interval: Duration,
    /// Windows at least this long are kept.
    pub persist_min_window: Duration,
}

/// Access log and diagnostics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where the access log goes, if anywhere.
    pub access: Option<AccessLog>,
    /// How much diagnostics say.
    pub level: Level,
    /// How diagnostics look.
    pub format: LogFormat,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// How much diagnostics say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What went wrong.
    Error,
    /// And what may.
    Warn,
    /// And what happens seldom.
    Info,
    /// And what happens often.
    Debug,
    /// Everything.
    Trace,
}

/// How diagnostics look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Endpoint {
    /// Where among its path's parameters it has this one.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<usize> {
        self.template.as_ref()?.names().iter().position(|known| **known == *name)
    }
}

/// A method and a path template, or all unknown paths of one access.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its name, unique.
    pub name: Box<str>,
    /// What it matches; `None` for `other.read` and `other.write`.
    pub template: Option<Template>,
    /// Whether its requests read or write.
    pub access: Access,
    /// Tokens that one request takes.
    pub cost: u32,
    /// Whether a successful request is a transaction, which earns allocations.
    pub transaction: bool,
    /// What its requests take turns by, if they do.
    pub lock: Option<ObjectLock>,
}

/// How the requests of an endpoint take turns.
#[derive(Clone, Debug)]
pub struct ObjectLock {
    /// Stands for the lock's name: endpoints whose locks have one name exclude each other.
    pub id: Id,
    /// Where among a request's values those are that name the object, in order.
    pub values: Box<[usize]>,
    /// Time that a request may wait for its turn.
    pub wait: Duration,
}

/// Calls for connected accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Whose budget they spend.
    pub charge: Charge,
}

/// Whose budget a call for a connected account spends: what `per = ["account"]` means for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// The platform's.
    Platform,
    /// The connected account's.
    Connected,
    /// Both, all or nothing.
    Both,
}

/// How to take a value that a limit counts by. Displayed as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Extractor {
    /// The path parameter of this name.
    Path(Box<str>),
    /// The request header of this name.
    Header(http::HeaderName),
    /// A key of the query.
    Query(FormKey),
    /// A key of the form in the body.
    Form(FormKey),
    /// A member of the JSON in the body.
    Json(JsonPath),
    /// The first of these that an endpoint can have: a path parameter only where its template has it. Never one in another.
    FirstOf(Box<[Extractor]>),
}

impl std::fmt::Display for Extractor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Extractor::Path(name) => write!(f, "path.{name}"),
            Extractor::Header(name) => write!(f, "header.{name}"),
            Extractor::Query(key) => write!(f, "query.{key}"),
            Extractor::Form(key) => write!(f, "form.{key}"),
            Extractor::Json(path) => write!(f, "json.{path}"),
            Extractor::FirstOf(some) => {
                let names: Vec<String> = some.iter().map(ToString::to_string).collect();
                f.write_str(&names.join("|"))
            }
        }
    }
}

impl Extractor {
    /// What is taken from requests of an endpoint, given which path parameters it has.
    pub(super) fn at(&self, has_parameter: impl Fn(&str) -> bool) -> Option<&Extractor> {
        let fits = |extractor: &&Extractor| !matches!(extractor, Extractor::Path(name) if !has_parameter(name));
        match self {
            Extractor::FirstOf(some) => some.iter().find(fits),
            one => Some(one).filter(fits),
        }
    }
}
