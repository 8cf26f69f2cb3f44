//! What can go wrong with a call of Redis, and what it says about the next one.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a call brought no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    /// Not within its time.
    #[error("no answer in time")]
    Timeout,
    /// The breaker is open: it was not asked at all.
    #[error("not asked: it was out of order when last heard of")]
    Open,
    /// No connection, or it broke.
    #[error("no connection: {0}")]
    Connection(Box<str>),
    /// It answers that it cannot do it now: it loads, it is a replica, it is full, a script keeps it busy.
    #[error("out of order: {0}")]
    Server(Box<str>),
    /// It will never do it: the wrong password, no permission, a script that is wrong, a setting.
    #[error("{0}")]
    Unusable(Box<str>),
}

impl Fault {
    /// The label in `tollgate_store_errors_total`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Fault::Timeout => "timeout",
            Fault::Open => "open",
            Fault::Connection(_) => "connection",
            Fault::Server(_) => "server",
            Fault::Unusable(_) => "unusable",
        }
    }

    /// Every fault's label.
    pub const LABELS: [&'static str; 5] = ["timeout", "open", "connection", "server", "unusable"];

    /// Whether the connection is better made anew: it broke, or leads to the wrong server.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        match self {
            Fault::Connection(_) | Fault::Server(_) | Fault::Unusable(_) => true,
            Fault::Timeout | Fault::Open => false,
        }
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Fault {
        let told = error.to_string().into_boxed_str();
        if error.is_timeout() {
            return Fault::Timeout;
        }
        match error.kind() {
            ErrorKind::Io
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::NoValidReplicasFoundBySentinel => Fault::Connection(told),
            ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => Fault::Unusable(told),
            ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::CrossSlot) => Fault::Unusable(told),
            _ if error.is_io_error() || error.is_connection_dropped() => Fault::Connection(told),
            _ => Fault::Server(told),
        }
    }
}
