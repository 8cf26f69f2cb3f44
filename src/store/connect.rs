//! Connections to Redis: one server, a master that sentinels name, or a cluster; with TLS and an ACL user where they are wanted.
//!
//! Every connection is bounded in the time it takes to make. A call's time is its caller's to bound: see
//! [`Link`](super::Link).

use super::fault::Fault;
use crate::config::{Redis, RedisUrl, SecretSource, Topology};
use crate::files;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisFuture,
    RedisResult, TlsCertificates, TlsMode, Value,
};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// How often a cluster's client tries a call again by itself: for redirections, within the caller's time.
const CLUSTER_RETRIES: u32 = 3;
/// How long it waits before, in milliseconds.
const CLUSTER_RETRY_WAIT_MS: u64 = 10;
/// A cluster's calls are given up by its client at last, whoever waits for them.
const CLUSTER_CALL: Duration = Duration::from_secs(5);

/// One connection; clones share it, and what they send goes in the order in which it was sent. Many calls may be under way.
#[derive(Clone)]
pub enum Connection {
    /// To one server.
    One(MultiplexedConnection),
    /// To the servers of a cluster.
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::One(one) => one.req_packed_command(command),
            Connection::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Connection::One(one) => one.req_packed_commands(pipeline, offset, count),
            Connection::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Connection::One(one) => one.get_db(),
            Connection::Cluster(cluster) => cluster.get_db(),
        }
    }
}

/// Makes connections as the configuration says.
#[derive(Clone, Debug)]
pub struct Dialer {
    settings: Redis,
}

impl Dialer {
    /// For these settings.
    #[must_use]
    pub fn new(settings: Redis) -> Dialer {
        Dialer { settings }
    }

    /// Makes a connection, within `connect_timeout`. Passwords and authorities are read anew each time.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn dial(&self) -> Result<Connection, Fault> {
        match timeout(self.settings.connect_timeout, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(Fault::Timeout),
        }
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        let password = self.settings.password.as_ref().map(read_secret).transpose()?;
        let password = password.as_ref().map(|secret| secret.as_str());
        let connected = match &self.settings.topology {
            Topology::Single => self.single(password).await.map(Connection::One),
            Topology::Sentinel(master) => self.sentinel(master, password).await.map(Connection::One),
            Topology::Cluster => self.cluster(password).await.map(Connection::Cluster),
        };
        Ok(connected?)
    }

    async fn single(&self, password: Option<&str>) -> RedisResult<MultiplexedConnection> {
        let Some(url) = self.settings.urls.first() else { return Err(unusable("no URL of Redis is configured")) };
        let mut account = RedisConnectionInfo::default().set_db(url.db).set_skip_set_lib_name();
        if let Some(password) = password {
            account = account.set_password(password);
        }
        if let Some(user) = &self.settings.user {
            account = account.set_username(user);
        }
        let info = address(url).into_connection_info()?.set_redis_settings(account);
        let client = if url.tls { Client::build_with_tls(info, self.authorities()?)? } else { Client::open(info)? };
        client.get_multiplexed_async_connection_with_config(&self.patience()).await
    }

    async fn sentinel(&self, master: &str, password: Option<&str>) -> RedisResult<MultiplexedConnection> {
        let Redis { urls, user, .. } = &self.settings;
        let mut builder = SentinelClientBuilder::new(urls.iter().map(address), master, SentinelServerType::Master)?;
        if let Some(user) = user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(url) = urls.first() {
            builder = builder.set_client_to_redis_db(url.db);
        }
        if urls.iter().any(|url| url.tls) {
            let authorities = self.authorities()?;
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(authorities.clone())
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_certificates(authorities);
        }
        builder.build()?.get_async_connection_with_config(&self.patience()).await
    }

    async fn cluster(&self, password: Option<&str>) -> RedisResult<ClusterConnection> {
        let Redis { urls, user, connect_timeout, .. } = &self.settings;
        let nodes = urls.iter().map(|url| address(url).into_connection_info()).collect::<RedisResult<Vec<_>>>()?;
        let mut builder = ClusterClient::builder(nodes)
            .connection_timeout(*connect_timeout)
            .response_timeout(CLUSTER_CALL)
            .retries(CLUSTER_RETRIES)
            .min_retry_wait(CLUSTER_RETRY_WAIT_MS)
            .max_retry_wait(CLUSTER_RETRY_WAIT_MS * 2);
        if let Some(user) = user {
            builder = builder.username(user);
        }
        if let Some(password) = password {
            builder = builder.password(password);
        }
        if urls.iter().any(|url| url.tls) {
            builder = builder.tls(TlsMode::Secure).certs(self.authorities()?);
        }
        builder.build()?.get_async_connection().await
    }

    fn patience(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.connect_timeout))
            // Whoever calls knows how long it waits; what a late answer has taken is given back when it comes.
            .set_response_timeout(None)
    }

    fn authorities(&self) -> RedisResult<TlsCertificates> {
        let root_cert = self.settings.ca_file.as_ref().map(|path| files::read(path)).transpose()?;
        Ok(TlsCertificates { client_tls: None, root_cert })
    }
}

fn address(url: &RedisUrl) -> ConnectionAddr {
    let RedisUrl { tls, host, port, .. } = url.clone();
    if tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

/// A password, without the line end behind it.
fn read_secret(source: &SecretSource) -> Result<Zeroizing<String>, Fault> {
    let (place, bytes) = match source {
        SecretSource::Env(name) => {
            (format!("the environment variable {name}"), std::env::var_os(&**name).map(OsString::into_vec))
        }
        SecretSource::File(path) => (path.display().to_string(), files::read(path).ok()),
    };
    let missing = || Fault::Unusable(format!("{place}: no password can be read from it").into());
    let text = Zeroizing::new(String::from_utf8(bytes.ok_or_else(missing)?).map_err(|_| missing())?);
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn unusable(why: &'static str) -> redis::RedisError {
    (redis::ErrorKind::InvalidClientConfig, why).into()
}
