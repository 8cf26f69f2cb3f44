//! Making a connection to an address: connect, TLS where the URL says https, HTTP/1.1.

use super::gather::Gather;
use super::secure::UpstreamTls;
use super::{MAX_HEAD_BYTES, MAX_HEADERS, RequestBody};
use crate::config::{Scheme, UpstreamServer};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Why there is no connection. Nothing has been sent then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Not resolved, refused, or not to be trusted.
    #[error("the server cannot be reached")]
    Unreachable,
    /// Not within `connect_timeout`.
    #[error("the server did not take the connection in time")]
    TimedOut,
}

/// A server to connect to. Equal ones share connections.
#[derive(Clone)]
pub(super) struct Target {
    scheme: Scheme,
    host: Box<str>,
    port: u16,
    authority: Box<str>,
    tls: Arc<UpstreamTls>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Target {
    pub(super) fn new(server: &UpstreamServer, tls: &Arc<UpstreamTls>) -> Target {
        Target {
            scheme: server.scheme,
            host: server.host.clone(),
            port: server.port,
            authority: server.authority.as_str().into(),
            tls: Arc::clone(tls),
        }
    }

    /// With other TLS it is another server: nobody goes on trusting what was taken out.
    fn identity(&self) -> (Option<[u8; 32]>, &str, u16) {
        let digest = (self.scheme == Scheme::Https).then(|| self.tls.digest());
        (digest, &self.host, self.port)
    }

    /// The host, an IPv6 address without its brackets.
    pub(super) fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Host and port, as a `Host` has them.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// The URL it is configured by.
    pub(super) fn url(&self) -> String {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }

    /// Connects to it at one of its addresses.
    pub(super) async fn connect(&self, address: SocketAddr) -> io::Result<SendRequest<RequestBody>> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        match self.scheme {
            Scheme::Http => handshake(socket).await,
            Scheme::Https => handshake(self.tls.connect(self.host(), socket).await?).await,
        }
        .map_err(io::Error::other)
    }

    /// A bare connection, for a health check.
    pub(super) async fn stream(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let socket = TcpStream::connect(address).await?;
        Ok(match self.scheme {
            Scheme::Http => Box::new(socket),
            Scheme::Https => Box::new(self.tls.connect(self.host(), socket).await?),
        })
    }
}

/// What a health check speaks over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl PartialEq for Target {
    fn eq(&self, other: &Target) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Target {}

impl std::hash::Hash for Target {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// Puts HTTP/1.1 on a stream and lets a task of this thread drive it.
async fn handshake<IO>(stream: IO) -> Result<SendRequest<RequestBody>, hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = Builder::new();
    builder.max_header_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
    let (sender, connection) = builder.handshake(TokioIo::new(Gather(stream))).await?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an upstream connection ended");
        }
    });
    Ok(sender)
}
