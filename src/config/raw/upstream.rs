//! `[upstreams.NAME]` as it is written.

use super::RawPair;
use super::heads::RawCredentials;
use crate::config::values::{Dur, Located, OneOrMany, Size, Statuses};
use schemars::JsonSchema;
use serde::Deserialize;

/// Servers that serve the same.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Upstream")]
pub(in crate::config) struct RawUpstream {
    /// URLs of its servers: "http://10.0.0.1:9000", "https://10.0.0.2:9443"; no path. Each address of a name is a server of its
    /// own.
    #[schemars(required)]
    pub(in crate::config) servers: Option<Located<OneOrMany<String>>>,
    /// How a server is chosen: "least_loaded" (default) takes the less busy one of two picked at random, "round_robin" one after
    /// the other.
    pub(in crate::config) balance: Option<Located<RawBalance>>,
    /// Time between two look-ups of the servers' names. Default "30s".
    pub(in crate::config) resolve_interval: Option<Located<Dur>>,
    /// Time to connect, TLS included, or to wait where `max_connections` are open. Default "2s".
    pub(in crate::config) connect_timeout: Option<Located<Dur>>,
    /// Time from the request's last byte to the response's head. Default "80s".
    pub(in crate::config) response_timeout: Option<Located<Dur>>,
    /// Time from the request's head to the response's head in all, uploads and further tries included. Default "15m".
    pub(in crate::config) request_timeout: Option<Located<Dur>>,
    /// Time between two pieces of the response's body. Default "30s".
    pub(in crate::config) body_timeout: Option<Located<Dur>>,
    /// Time that an unused connection is kept; shorter than the server's own. Default "4s".
    pub(in crate::config) idle_timeout: Option<Located<Dur>>,
    /// Unused connections kept per server and thread. Default 256.
    pub(in crate::config) max_idle: Option<Located<u32>>,
    /// Open connections to one server, of all threads. Default 1,024.
    pub(in crate::config) max_connections: Option<Located<u32>>,
    /// Requests that may wait for a connection where `max_connections` are open; further ones get a 503. Default 1,024.
    pub(in crate::config) max_pending: Option<Located<u32>>,
    /// Requests in flight to all its servers; further ones get a 503. Default 16,384.
    pub(in crate::config) max_in_flight: Option<Located<u32>>,
    /// Ask each server at intervals whether it is well. Default: nobody asks.
    pub(in crate::config) health: Option<Located<RawHealth>>,
    /// When a server that fails requests is left out for a while.
    pub(in crate::config) ejection: Option<Located<RawEjection>>,
    /// When a request that failed is sent once more.
    pub(in crate::config) retries: Option<Located<RawRetries>>,
    /// What its servers speak: "http1", "http2", or "auto" (default): over TLS what they choose, HTTP/1.1 elsewhere.
    pub(in crate::config) protocol: Option<Located<RawProtocol>>,
    /// PEM file of the authorities to trust for https, relative to this configuration's folder. Default: the web's.
    pub(in crate::config) ca: Option<Located<String>>,
    /// The certificate to show to servers that ask for one (mutual TLS). Reloaded when the files change.
    pub(in crate::config) client_certificate: Option<Located<RawPair>>,
    /// The name that https servers are asked for and verified by, in place of their host. Default: the host of each URL.
    pub(in crate::config) server_name: Option<Located<String>>,
    /// What these servers get in place of the client's `Authorization`, where the route does not say. Default "keep".
    pub(in crate::config) credentials: Option<Located<RawCredentials>>,
}

/// What servers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Protocol")]
pub(in crate::config) enum RawProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: chosen by ALPN over TLS, by prior knowledge elsewhere.
    Http2,
    /// Over TLS what they choose, HTTP/1.1 elsewhere.
    Auto,
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Balance")]
pub(in crate::config) enum RawBalance {
    /// The less busy one of two picked at random.
    LeastLoaded,
    /// One after the other.
    RoundRobin,
}

/// Requests that ask a server whether it is well.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Health")]
pub(in crate::config) struct RawHealth {
    /// The target of the GET: "/healthz".
    #[schemars(required)]
    pub(in crate::config) path: Option<Located<String>>,
    /// Time between two checks of one server, give or take a tenth. Default "5s".
    pub(in crate::config) interval: Option<Located<Dur>>,
    /// Time for a check, connecting included. Default "2s".
    pub(in crate::config) timeout: Option<Located<Dur>>,
    /// Checks that must succeed in a row before a server is used again. Default 2.
    pub(in crate::config) healthy: Option<Located<u32>>,
    /// Checks that must fail in a row before a server is no longer used; 1 for one that has never been well. Default 3.
    pub(in crate::config) unhealthy: Option<Located<u32>>,
    /// Statuses that a server that is well answers, one or a list: "204", "200-399". Default "200-299".
    pub(in crate::config) statuses: Option<Located<OneOrMany<Statuses>>>,
    /// The `Host` of checks. Default: the server's own.
    pub(in crate::config) host: Option<Located<String>>,
}

/// When a server that fails requests is left out for a while.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Ejection")]
pub(in crate::config) struct RawEjection {
    /// Requests that must fail in a row: no connection, broken off, too late, 502, 503 or 504. 0: never. Default 5.
    pub(in crate::config) failures: Option<Located<u32>>,
    /// Time it is left out for at first; each further time as much longer, up to 5 minutes. Default "10s".
    pub(in crate::config) base: Option<Located<Dur>>,
    /// The share of the servers that may be left out at once, 0 to 1; one at least, but never the last. Default 0.5.
    pub(in crate::config) max_share: Option<Located<f64>>,
}

/// When a request that failed is sent once more. GET and HEAD only, but for failures to connect, which are before anything is
/// sent.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Retries")]
pub(in crate::config) struct RawRetries {
    /// Further tries of one request, 0 to 10. Default 2.
    pub(in crate::config) attempts: Option<Located<u32>>,
    /// After what: "connect" (no connection), "reset" (broken off before an answer), "502", "503", "504". Default
    /// ["connect", "reset"].
    pub(in crate::config) on: Option<Located<OneOrMany<RawRetryOn>>>,
    /// Retries as a share of the requests of the last 10 seconds, 0 to 1; 10 a second are always free. Default 0.2.
    pub(in crate::config) budget: Option<Located<f64>>,
    /// Time for the head of each try's answer, after which the next is made. Default: `response_timeout`, with no retry.
    pub(in crate::config) per_try_timeout: Option<Located<Dur>>,
    /// Writes with an `Idempotency-Key` too: the upstream must know by it that it has seen them. Default false.
    pub(in crate::config) writes_with_idempotency_key: Option<Located<bool>>,
    /// Bytes of such a write's body that are kept for another try; longer ones are sent once. Default "64KiB".
    pub(in crate::config) max_body: Option<Located<Size>>,
}

/// What a request may be sent once more after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "RetryOn")]
pub(in crate::config) enum RawRetryOn {
    /// No connection: nothing was sent.
    #[serde(rename = "connect")]
    Connect,
    /// The connection broke before there was an answer.
    #[serde(rename = "reset")]
    Reset,
    /// Bad Gateway.
    #[serde(rename = "502")]
    BadGateway,
    /// Service Unavailable.
    #[serde(rename = "503")]
    Unavailable,
    /// Gateway Timeout.
    #[serde(rename = "504")]
    GatewayTimeout,
}
