//! `[store]` and what limits say of it, as they are written.

use super::super::values::{Dur, Located, OneOrMany};
use schemars::JsonSchema;
use serde::Deserialize;

/// Where limits count.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Store")]
pub(in crate::config) struct RawStore {
    /// "local" (default): in this gateway. "redis": in Redis or Valkey, where all gateways with the same `prefix` count together.
    pub(in crate::config) kind: Option<Located<RawStoreKind>>,
    /// Where Redis is: "redis://HOST:PORT/DB", or "rediss://" with TLS; one, or several sentinels or nodes of a cluster.
    pub(in crate::config) urls: Option<Located<OneOrMany<String>>>,
    /// "single" (default), "sentinel" or "cluster".
    pub(in crate::config) topology: Option<Located<RawTopology>>,
    /// The name by which sentinels know the master.
    pub(in crate::config) master_name: Option<Located<String>>,
    /// "leased" (default): tokens are taken ahead in batches and requests decided here. "exact": one call of Redis a request.
    pub(in crate::config) mode: Option<Located<RawStoreMode>>,
    /// What all keys in Redis begin with. Default "tollgate".
    pub(in crate::config) prefix: Option<Located<String>>,
    /// The ACL user. Default Redis's own, "default".
    pub(in crate::config) user: Option<Located<String>>,
    /// The file with the password, relative to this configuration's folder; read when a connection is made. Default none.
    pub(in crate::config) password_file: Option<Located<String>>,
    /// The environment variable with the password. Default none.
    pub(in crate::config) password_env: Option<Located<String>>,
    /// The authorities that the server's certificate is held against. Default the system's.
    pub(in crate::config) ca_file: Option<Located<String>>,
    /// Time to connect, TLS and authentication included. Default "1s".
    pub(in crate::config) connect_timeout: Option<Located<Dur>>,
    /// Time for one call: the longest that Redis can hold a request up. Default "50ms".
    pub(in crate::config) command_timeout: Option<Located<Dur>>,
    /// Time after which what a gateway holds in Redis comes back when nothing is heard of it any more. Default "15s".
    pub(in crate::config) lease_ttl: Option<Located<Dur>>,
    /// This gateway's name among those with its prefix. Default a random one.
    pub(in crate::config) gateway_id: Option<Located<String>>,
    /// What limits do that do not say it themselves while Redis cannot be asked: "local-share" (default), "open" or "closed".
    pub(in crate::config) on_store_failure: Option<Located<RawOnStoreFailure>>,
}

/// Where limits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "StoreKind")]
pub(in crate::config) enum RawStoreKind {
    /// In this gateway.
    Local,
    /// In Redis, together with other gateways.
    Redis,
}

/// How several Redis servers belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Topology")]
pub(in crate::config) enum RawTopology {
    /// There is one.
    Single,
    /// The URLs are sentinels, which know the master.
    Sentinel,
    /// The URLs are nodes of a cluster.
    Cluster,
}

/// How gateways share what is in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "StoreMode")]
pub(in crate::config) enum RawStoreMode {
    /// In batches, ahead.
    Leased,
    /// Request by request.
    Exact,
}

/// What a limit does while its store cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "OnStoreFailure")]
pub(in crate::config) enum RawOnStoreFailure {
    /// Its figures divided by the gateways last seen, counted here.
    LocalShare,
    /// It admits everything.
    Open,
    /// It refuses everything.
    Closed,
}
