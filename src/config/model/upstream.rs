//! The compiled settings of an upstream.

use super::Pair;
use super::heads::Credentials;
use std::path::PathBuf;
use std::time::Duration;

/// Servers that serve the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name, unique.
    pub name: Box<str>,
    /// Its servers; at least one.
    pub servers: Box<[UpstreamServer]>,
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Time from the request's last byte to the response's head.
    pub response_timeout: Duration,
    /// Time between two pieces of the response's body.
    pub body_timeout: Duration,
    /// Time that an unused connection is kept.
    pub idle_timeout: Duration,
    /// Unused connections kept per server and thread.
    pub max_idle: usize,
    /// Time from a request's head to its answer's, in all.
    pub request_timeout: Duration,
    /// How a server is chosen.
    pub balance: Balance,
    /// Time between two look-ups of the servers' names.
    pub resolve_interval: Duration,
    /// What may be open, waiting and in flight at once.
    pub bounds: UpstreamBounds,
    /// Whether and how servers are asked if they are well.
    pub health: Option<HealthCheck>,
    /// When a server is left out for a while.
    pub ejection: Ejection,
    /// When a request is sent once more.
    pub retries: Retries,
    /// What its servers speak.
    pub protocol: Protocol,
    /// PEM file of the authorities to trust; `None`: the web's.
    pub ca: Option<PathBuf>,
    /// The certificate to show to servers that ask for one.
    pub client_certificate: Option<Pair>,
    /// The name that https servers are asked for and verified by; `None`: the host of each.
    pub server_name: Option<Box<str>>,
    /// What becomes of the client's key, where the route does not say.
    pub credentials: Credentials,
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamServer {
    /// Whether TLS is spoken to it.
    pub scheme: Scheme,
    /// Host and port as written, for a `Host` header.
    pub authority: http::uri::Authority,
    /// The host, an IPv6 address without its brackets.
    pub host: Box<str>,
    /// The port, by default the scheme's.
    pub port: u16,
}

/// What servers speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: chosen by ALPN over TLS, by prior knowledge elsewhere.
    Http2,
    /// Over TLS what they choose, HTTP/1.1 elsewhere.
    #[default]
    Auto,
}

/// Whether TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// No.
    Http,
    /// Yes.
    Https,
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The less busy one of two picked at random.
    LeastLoaded,
    /// One after the other.
    RoundRobin,
}

/// What of an upstream there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamBounds {
    /// Open connections to one server, of all threads.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending: u32,
    /// Requests in flight.
    pub max_in_flight: u32,
}

/// A part of a whole, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(pub u32);

impl Share {
    /// This share of `whole`, rounded down.
    #[must_use]
    pub fn of(self, whole: u64) -> u64 {
        whole.saturating_mul(u64::from(self.0)) / 1_000
    }
}

/// How servers are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The target of the GET.
    pub path: Box<str>,
    /// Time between two checks of one server.
    pub interval: Duration,
    /// Time for a check.
    pub timeout: Duration,
    /// Checks in a row that make a server well.
    pub healthy: u32,
    /// Failed checks in a row that make it unwell.
    pub unhealthy: u32,
    /// Statuses of a server that is well: ranges, both ends included.
    pub statuses: Box<[(u16, u16)]>,
    /// The `Host` of checks; `None`: the server's own.
    pub host: Option<Box<str>>,
}

/// When a server that fails requests is left out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failed requests in a row; 0: never.
    pub failures: u32,
    /// How long the first time.
    pub base: Duration,
    /// How many of the servers at once.
    pub max_share: Share,
}

/// When a request is sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Further tries of one request.
    pub attempts: u32,
    /// After what.
    pub on: RetryOn,
    /// Retries for each request.
    pub budget: Share,
    /// Time for the head of each try's answer.
    pub per_try_timeout: Option<Duration>,
    /// Whether writes with an `Idempotency-Key` may be sent again.
    pub writes_with_idempotency_key: bool,
    /// Bytes of a body that are kept for another try.
    pub max_body: usize,
}

/// What a request may be sent once more after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection.
    pub connect: bool,
    /// No answer on a connection that broke.
    pub reset: bool,
    /// 502.
    pub bad_gateway: bool,
    /// 503.
    pub unavailable: bool,
    /// 504.
    pub gateway_timeout: bool,
}
