//! The configuration as it is written: a mirror of the TOML. The JSON Schema (`tollgate schema`) comes from the same
//! structs, and their doc comments are its descriptions.
//!
//! Every field is optional here. What is missing is the compiler's to say: it knows the place and can go on with the rest.

mod addresses;
mod auth;
mod enforce;
mod figures;
mod heads;
mod listener;
mod lock;
mod log;
mod replay;
mod state;
mod store;
mod tls;
mod upstream;

pub(super) use addresses::RawAddresses;
pub(super) use auth::{RawAuth, RawAuthMode, RawKeysStore};
pub(super) use enforce::RawEnforce;
pub(super) use figures::{RawAccount, RawAllocation, RawFigures, RawTier};
pub(super) use heads::{RawCredentials, RawCredentialsTable, RawForwarded, RawHeaderRules};
pub(super) use listener::RawProxyProtocol;
pub(super) use lock::RawLock;
pub(super) use log::{RawLevel, RawLog, RawLogFormat};
pub(super) use replay::RawReplay;
pub(super) use state::RawState;
pub(super) use store::{RawOnStoreFailure, RawStore, RawStoreKind, RawStoreMode, RawTopology};
pub(super) use tls::{RawClientAuth, RawPair, RawTls, RawTlsVersion, RawUnknownSni};
pub(super) use upstream::{RawBalance, RawEjection, RawHealth, RawProtocol, RawRetries, RawRetryOn, RawUpstream};

use super::source::{Place, SourceId};
use super::values::{Address, AdminAddress, Dur, FormTest, Located, Network, OneOrMany, Rate, Size};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// One table of the configuration with where it came from.
#[derive(Clone, Debug)]
pub(super) struct Item<T> {
    pub(super) source: SourceId,
    /// Its header or its braces.
    pub(super) span: Range<usize>,
    /// A mistake in it has been reported: what is missing may have been that.
    pub(super) damaged: bool,
    pub(super) raw: T,
}

impl<T> Item<T> {
    pub(super) fn place(&self) -> Place {
        self.at(&self.span)
    }

    /// A place inside.
    pub(super) fn at(&self, span: &Range<usize>) -> Place {
        Place { source: self.source, span: span.clone() }
    }
}

impl<T: Default> Default for Item<T> {
    fn default() -> Self {
        Item { source: SourceId::FILE, span: 0..0, damaged: false, raw: T::default() }
    }
}

impl<T: JsonSchema> JsonSchema for Item<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Tables with names of the user's choosing, in the order of the file.
#[derive(Clone, Debug)]
pub(super) struct Named<T>(pub(super) Vec<(Located<String>, Item<T>)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named(Vec::new())
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, T>::json_schema(generator)
    }
}

/// Configuration of Tollgate, an HTTP reverse proxy that enforces Stripe-style API limits.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Config")]
pub(super) struct RawConfig {
    /// Built-in endpoints and limits to start from: "stripe" (today's page) and "stripe-read-write" (the older page: reads
    /// and writes counted apart). Entries of yours with a preset entry's name replace it.
    pub(super) presets: Option<OneOrMany<String>>,
    /// The public listener.
    pub(super) server: Option<Item<RawServer>>,
    /// The admin listener: /metrics, /healthz, /readyz and the JSON API.
    pub(super) admin: Option<Item<RawAdmin>>,
    /// Limits by the client's address, before its key is looked at.
    pub(super) addresses: Option<Item<RawAddresses>>,
    /// Who may pass.
    pub(super) auth: Option<Item<RawAuth>>,
    /// Calls for connected accounts (`Stripe-Account`).
    pub(super) connect: Option<Item<RawConnect>>,
    /// What the gateway's own answers carry.
    pub(super) responses: Option<Item<RawResponses>>,
    /// Access log and diagnostics.
    pub(super) log: Option<Item<RawLog>>,
    /// What outlives a restart.
    pub(super) state: Option<Item<RawState>>,
    /// Where limits count: in this gateway, or in Redis together with others.
    pub(super) store: Option<Item<RawStore>>,
    /// What `tollgate replay` reads.
    pub(super) replay: Option<Item<RawReplay>>,
    /// Where requests are forwarded to, by name.
    pub(super) upstreams: Option<Named<RawUpstream>>,
    /// Which requests go to which upstream. Without any, everything goes to the only upstream.
    pub(super) routes: Option<Vec<Item<RawRoute>>>,
    /// Endpoints: a method and a path template each.
    pub(super) endpoints: Option<Vec<Item<RawEndpoint>>>,
    /// Limits.
    pub(super) limits: Option<Vec<Item<RawLimit>>>,
    /// Sets of figures that accounts may have in place of the limits' own, by name.
    pub(super) tiers: Option<Named<RawTier>>,
    /// Accounts with a tier or figures of their own, by account id.
    pub(super) accounts: Option<Named<RawAccount>>,
    /// Mistakes about the file's shape that have been reported already.
    #[schemars(skip)]
    pub(super) damage: Damage,
}

/// What cannot be said to be missing, since it may stand where the file could not be read.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// The syntax is broken: anything may be missing.
    pub(super) all: bool,
    /// Sections that could not be read as a whole.
    pub(super) sections: Vec<&'static str>,
}

impl Damage {
    /// Whether entries of a section may be missing through a mistake that has been reported.
    pub(super) fn touches(&self, section: &str) -> bool {
        self.all || self.sections.contains(&section)
    }
}

/// The public listener.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Server")]
pub(super) struct RawServer {
    /// Addresses to listen on, one or a list. Default "127.0.0.1:8080".
    pub(super) listen: Option<Located<OneOrMany<Address>>>,
    /// Speak TLS. Reloaded when the files change.
    pub(super) tls: Option<Located<RawTls>>,
    /// Threads that serve requests; 0: one per core.
    pub(super) threads: Option<Located<u32>>,
    /// Open connections at once; further ones wait to be accepted. 0: 65,536. Lowered where the process may not open that many.
    pub(super) max_connections: Option<Located<u32>>,
    /// Open connections of one client address, an IPv6 one by its /64; further ones are closed as they come. 0: no such bound.
    /// Those of `trusted_proxies` are not counted. Default 8,192.
    pub(super) max_connections_per_address: Option<Located<u32>>,
    /// Bytes that client connections may hold in buffers, all together; beyond, none are accepted and what needs more is
    /// refused with 503. "0B": a quarter of the memory there is. Default "0B".
    pub(super) max_buffer_memory: Option<Located<Size>>,
    /// "required": every connection begins with a PROXY protocol header, version 1 or 2, which names the client. Default "off".
    pub(super) proxy_protocol: Option<Located<RawProxyProtocol>>,
    /// Time for a request's head to arrive, from its first byte on or from the connection's opening. Default "30s".
    pub(super) header_timeout: Option<Located<Dur>>,
    /// Time for a TLS handshake, from the connection's opening on. Default "10s".
    pub(super) handshake_timeout: Option<Located<Dur>>,
    /// TLS handshakes at once; further connections wait for their turn within `handshake_timeout`. Default 1,024.
    pub(super) max_handshakes: Option<Located<u32>>,
    /// Time between two requests of one connection. Default "75s".
    pub(super) idle_timeout: Option<Located<Dur>>,
    /// Time between two pieces of a request's body. Default "30s".
    pub(super) body_timeout: Option<Located<Dur>>,
    /// Bytes a second that a body must bring in the end: it may keep its reader waiting for `body_timeout` and a second more
    /// for each so many bytes. "0B": no such bound. Default "240B".
    pub(super) min_body_rate: Option<Located<Size>>,
    /// Bytes of a request's body; longer ones are refused with 413. "0B": no such bound. Default "64MiB".
    pub(super) max_body_bytes: Option<Located<Size>>,
    /// Time for a client to take a piece of a response. Default "30s".
    pub(super) write_timeout: Option<Located<Dur>>,
    /// Bytes a second that a client must take of a response it is kept waiting with, counted as `min_body_rate`. Default "240B".
    pub(super) min_write_rate: Option<Located<Size>>,
    /// Time that neither side of a connection that has gone on in another protocol (WebSocket) sends anything. Default "1h".
    pub(super) tunnel_idle_timeout: Option<Located<Dur>>,
    /// Bytes of a request's head. Default "32KiB".
    pub(super) max_header_bytes: Option<Located<Size>>,
    /// Headers of a request. Default 100.
    pub(super) max_headers: Option<Located<u32>>,
    /// Bytes of a request's target. Default "8KiB".
    pub(super) max_uri_bytes: Option<Located<Size>>,
    /// Speak HTTP/2 too: chosen by ALPN over TLS, by prior knowledge elsewhere. Default true.
    pub(super) http2: Option<Located<bool>>,
    /// Requests in flight on one HTTP/2 connection; a client may not begin more. Default 100.
    pub(super) http2_max_streams: Option<Located<u32>>,
    /// Bytes of one request's body that may wait here on an HTTP/2 connection (its stream's window). Default "64KiB".
    pub(super) http2_stream_window: Option<Located<Size>>,
    /// Bytes of all requests' bodies that may wait here for one HTTP/2 connection. Default "1MiB".
    pub(super) http2_connection_window: Option<Located<Size>>,
    /// Bytes of one response that may wait here for the socket of an HTTP/2 connection. Default "64KiB".
    pub(super) http2_send_buffer: Option<Located<Size>>,
    /// Time between telling that the gateway is not ready any more and closing its listeners. Default "0s".
    pub(super) drain_delay: Option<Located<Dur>>,
    /// Time for open requests to end at a shutdown. Default "30s".
    pub(super) drain_timeout: Option<Located<Dur>>,
    /// Proxies whose X-Forwarded-For, -Proto and -Host are believed, and whose PROXY protocol headers. Default none.
    pub(super) trusted_proxies: Option<Vec<Located<Network>>>,
    /// `Forwarded` (RFC 7239) for upstreams, besides `X-Forwarded-For`: "off" (default), or "append": to what a trusted proxy
    /// wrote, in place of what anybody else did.
    pub(super) forwarded: Option<Located<RawForwarded>>,
    /// The name of this gateway in `Via`. Default "tollgate".
    pub(super) via: Option<Located<String>>,
    /// A request that has this name in `Via` so often goes in a circle and is refused. Default 3.
    pub(super) max_via: Option<Located<u32>>,
    /// Requests that may wait for one object's lock; further ones are refused. Default 64.
    pub(super) lock_queue_max: Option<Located<u32>>,
    /// Requests that may wait for locks in all; further ones are refused. Default 10,000.
    pub(super) lock_waiters_max: Option<Located<u32>>,
    /// Partitions of all limits that may have state at once, about 100 bytes each. New ones share one beyond that.
    /// Default 10,000,000.
    pub(super) max_partitions: Option<Located<u32>>,
    /// Time between two sweeps for partitions that can be forgotten. Default "10s".
    pub(super) sweep_interval: Option<Located<Dur>>,
    /// Bytes of a request's body that are read ahead where limits count by it; longer ones share one partition of each such
    /// limit. Default "64KiB".
    pub(super) inspect_body_max: Option<Located<Size>>,
}

/// The admin listener.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Admin")]
pub(super) struct RawAdmin {
    /// The address to listen on, or "off". Default "127.0.0.1:9090".
    pub(super) listen: Option<Located<AdminAddress>>,
}

/// Calls for connected accounts (`Stripe-Account`).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Connect")]
pub(super) struct RawConnect {
    /// Whose budget such a call spends, that is, what `per = ["account"]` means for it: "platform" (default), "connected" or
    /// "both".
    pub(super) charge: Option<Located<RawCharge>>,
}

/// Whose budget a call for a connected account spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Charge")]
pub(super) enum RawCharge {
    /// The account's that the key belongs to.
    Platform,
    /// The account's that is acted for.
    Connected,
    /// Both accounts': all or nothing.
    Both,
}

/// What the gateway's own answers carry.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Responses")]
pub(super) struct RawResponses {
    /// The header that gives the reason of a 429. Default "Stripe-Rate-Limited-Reason".
    pub(super) reason_header: Option<Located<String>>,
    /// Send `Retry-After` with a 429. Default true.
    pub(super) retry_after: Option<Located<bool>>,
    /// Send the IETF headers `RateLimit` and `RateLimit-Policy`. Default true.
    pub(super) ratelimit_headers: Option<Located<bool>>,
    /// `Stripe-Should-Retry` on a limit's 429: "absent" (default), "true" or "false".
    pub(super) should_retry: Option<Located<RawShouldRetry>>,
    /// `doc_url` of a limit's 429. Default `https://stripe.com/docs/error-codes/rate-limit`.
    pub(super) doc_url: Option<Located<String>>,
}

/// What a 429 says of trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ShouldRetry")]
pub(super) enum RawShouldRetry {
    /// Nothing.
    Absent,
    /// Try again.
    True,
    /// Do not try again.
    False,
}

/// Which requests go to an upstream.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Route")]
pub(super) struct RawRoute {
    /// Its name in conditions and metrics. Default: the path prefix, or else the upstream.
    pub(super) name: Option<Located<String>>,
    /// Hosts, exact or "*.example.com". Default any.
    pub(super) hosts: Option<Located<OneOrMany<String>>>,
    /// Paths that begin with these segments. Default "/".
    pub(super) path_prefix: Option<Located<String>>,
    /// The upstream's name. Default the only upstream.
    pub(super) upstream: Option<Located<String>>,
    /// Changes to the headers of requests.
    pub(super) request_headers: Option<Located<RawHeaderRules>>,
    /// Changes to the headers of the upstream's answers.
    pub(super) response_headers: Option<Located<RawHeaderRules>>,
    /// Taken from the path's beginning before it is forwarded: `path_prefix` or the beginning of it. Default nothing.
    pub(super) strip_prefix: Option<Located<String>>,
    /// Put before what is left of the path then. Default nothing.
    pub(super) add_prefix: Option<Located<String>>,
    /// `Host` for the upstream: "keep", "server" (the server's own), or a host. Default: kept towards `http://` servers, the
    /// server's own towards `https://` ones.
    pub(super) host: Option<Located<String>>,
    /// "keep" (default) the client's `Authorization`, "drop" it, or a table: what the upstream gets in its place.
    pub(super) credentials: Option<Located<RawCredentials>>,
    /// Protocols that a client may go on in where the upstream agrees, as `Upgrade` names them; never "h2c". Default
    /// ["websocket"]; [] for none.
    pub(super) upgrades: Option<Located<Vec<Located<String>>>>,
}

/// An endpoint: a method and a path template.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Endpoint")]
pub(super) struct RawEndpoint {
    /// The method and the path template: "POST /v1/payouts/{payout}".
    #[serde(rename = "match")]
    #[schemars(required)]
    pub(super) matches: Option<Located<String>>,
    /// Its name in conditions, metrics and logs. Default: the match itself.
    pub(super) name: Option<Located<String>>,
    /// "read" or "write". Default from the method: GET, HEAD and OPTIONS read; all else writes.
    pub(super) access: Option<Located<RawAccess>>,
    /// Tokens that one request takes from each rate, 0 to 1,000,000. Default 1.
    pub(super) cost: Option<Located<u32>>,
    /// Requests that name the same object run one at a time, in the order in which they came. Default none.
    pub(super) lock: Option<Located<RawLock>>,
    /// Whether a successful (2xx) request is a transaction, which earns every `allocation`. Default false.
    pub(super) transaction: Option<Located<bool>>,
}

/// Whether a request reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Access")]
pub(super) enum RawAccess {
    /// Changes nothing.
    Read,
    /// Everything else.
    Write,
}

/// Whether a key is for live or for test traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Mode")]
pub(super) enum RawMode {
    /// Real money.
    Live,
    /// Test keys and sandboxes.
    Test,
}

/// Where a limit is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Stage")]
pub(super) enum RawStage {
    /// Over all of an account's traffic.
    Global,
    /// On endpoints.
    Endpoint,
    /// On single objects.
    Resource,
}

/// A limit. Exactly one of `rate`, `quota`, `concurrency` and `allocation`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limit")]
pub(super) struct RawLimit {
    /// Its name: in answers, metrics, logs and overrides.
    #[schemars(required)]
    pub(super) name: Option<Located<String>>,
    /// "global", "endpoint" or "resource". With the mechanism, it gives the reason of a 429.
    #[schemars(required)]
    pub(super) stage: Option<Located<RawStage>>,
    /// Tokens per time (token bucket): "15/s".
    pub(super) rate: Option<Located<Rate>>,
    /// Tokens of a rate at once. Default one second's worth, at least 1.
    pub(super) burst: Option<Located<u64>>,
    /// Requests per sliding window: "1000/h".
    pub(super) quota: Option<Located<Rate>>,
    /// Requests in flight at once.
    pub(super) concurrency: Option<Located<u32>>,
    /// Requests per sliding window, as many as transactions earn.
    pub(super) allocation: Option<Located<RawAllocation>>,
    /// The limit applies to requests for which all of this holds. Default all requests.
    pub(super) when: Option<Located<RawCondition>>,
    /// But not to requests for which all of this holds. Default none.
    pub(super) except: Option<Located<RawCondition>>,
    /// Only for requests that no other limit of this stage and mechanism covers. Default false.
    pub(super) fallback: Option<Located<bool>>,
    /// What is counted apart: account, connected_account, key, ip, endpoint, path.NAME, header.NAME, query.NAME, form.NAME
    /// ("form.payload[customer]"), json.NAME ("json.payload.customer"); "path.NAME|form.NAME" takes the first that an endpoint
    /// has. Default ["account"] for global, ["account", "endpoint"] for endpoint; must be given for resource.
    pub(super) per: Option<Located<Vec<Located<String>>>>,
    /// false: shadow. Counted and reported as would-be refusals, never refused. A number from 0 to 1: enforced for that share of
    /// the accounts, the same ones in every gateway, and a shadow for the others. Default true.
    pub(super) enforce: Option<Located<RawEnforce>>,
    /// Figures on trial beside these, of the same mechanism: counted on the same traffic, never refused. Default none.
    pub(super) candidate: Option<Located<RawFigures>>,
    /// "redis" (default where [store] is) or "local": counted by each gateway for itself.
    pub(super) store: Option<Located<RawStoreKind>>,
    /// What it does while Redis cannot be asked: "local-share", "open" or "closed". Default that of [store].
    pub(super) on_store_failure: Option<Located<RawOnStoreFailure>>,
    /// `doc_url` of this limit's 429. Default that of [responses].
    pub(super) doc_url: Option<Located<String>>,
}

/// What is asked of a request; everything given must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Condition")]
pub(super) struct RawCondition {
    /// "live" or "test".
    pub(super) mode: Option<Located<RawMode>>,
    /// "read" or "write".
    pub(super) access: Option<Located<RawAccess>>,
    /// Endpoints: a name, a match, a glob such as "payouts.*" or "GET /v1/*/search", or a list of these.
    pub(super) endpoint: Option<Located<OneOrMany<String>>>,
    /// Whether the request acts for a connected account (`Stripe-Account`).
    pub(super) connected: Option<Located<bool>>,
    /// Accounts, one or a list.
    pub(super) account: Option<Located<OneOrMany<String>>>,
    /// Routes by name, one or a list.
    pub(super) route: Option<Located<OneOrMany<String>>>,
    /// Keys of the form in the body, all of which must be as said: a text is the key's value, true that it is there, false that
    /// it is not; `*` in brackets stands for any index.
    pub(super) form: Option<BTreeMap<Located<String>, Located<FormTest>>>,
    /// The same, one of which must be as said.
    pub(super) form_any: Option<BTreeMap<Located<String>, Located<FormTest>>>,
}
