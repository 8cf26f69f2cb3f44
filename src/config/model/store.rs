//! Where limits count.

use super::SecretSource;
use std::path::PathBuf;
use std::time::Duration;

/// Where limits count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In this process.
    Local,
    /// In Redis, together with other gateways.
    Redis(Box<Redis>),
}

impl Store {
    /// The settings of Redis, where it is used.
    #[must_use]
    pub fn redis(&self) -> Option<&Redis> {
        match self {
            Store::Local => None,
            Store::Redis(redis) => Some(redis),
        }
    }
}

/// A Redis to count in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// At least one; [`Topology::Single`] has just one.
    pub urls: Vec<RedisUrl>,
    /// How they belong together.
    pub topology: Topology,
    /// How gateways share it.
    pub mode: StoreMode,
    /// What all keys begin with.
    pub prefix: String,
    /// The ACL user.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<SecretSource>,
    /// The authorities for TLS; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time for one call.
    pub command_timeout: Duration,
    /// Time after which what a silent gateway holds comes back.
    pub lease_ttl: Duration,
    /// This gateway's name; `None`: a random one.
    pub gateway_id: Option<String>,
}

/// Where one Redis server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The database.
    pub db: i64,
}

/// How several Redis servers belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// There is one.
    Single,
    /// Sentinels, which know the master by this name.
    Sentinel(String),
    /// Nodes of a cluster.
    Cluster,
}

/// How gateways share what is in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreMode {
    /// Tokens are taken ahead in batches; requests are decided here.
    Leased,
    /// Every request is decided there.
    Exact,
}
