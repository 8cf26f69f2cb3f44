//! Making a connection to an address: connect, TLS where the URL says https, HTTP/1.1 or HTTP/2.

use super::gather::Gather;
use super::http2::{Fresh, Shared};
use super::secure::UpstreamTls;
use super::{MAX_HEAD_BYTES, MAX_HEADERS, RequestBody, SendFault};
use crate::config::{Protocol, Scheme, UpstreamServer};
use crate::tls;
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

/// A new connection, by what it speaks.
pub(super) enum Made {
    Http1(SendRequest<RequestBody>),
    Http2(Fresh),
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

    /// With other TLS it is another server: nobody goes on trusting what was taken out. And so it is with another protocol.
    fn identity(&self) -> (Option<[u8; 32]>, Protocol, &str, u16) {
        let digest = (self.scheme == Scheme::Https).then(|| self.tls.digest());
        (digest, self.tls.protocol(), &self.host, self.port)
    }

    pub(super) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether a connection to it may speak HTTP/2.
    pub(super) fn may_share(&self) -> bool {
        match self.tls.protocol() {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => self.scheme == Scheme::Https,
        }
    }

    /// Whether it is spoken HTTP/2 to, unasked.
    pub(super) fn is_http2(&self) -> bool {
        self.tls.protocol() == Protocol::Http2
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
    pub(super) async fn connect(&self, address: SocketAddr) -> io::Result<Made> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        match self.scheme {
            Scheme::Http if self.is_http2() => share(socket).await,
            Scheme::Http => handshake(socket).await,
            Scheme::Https => {
                let stream = self.tls.connect(self.host(), socket).await?;
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::Protocol::Http2.id());
                match self.tls.protocol() {
                    _ if is_http2 => share(stream).await,
                    Protocol::Http2 => return Err(io::Error::other("it does not speak HTTP/2")),
                    Protocol::Http1 | Protocol::Auto => handshake(stream).await,
                }
            }
        }
        .map_err(io::Error::other)
    }

    /// A bare connection, for a health check.
    pub(super) async fn stream(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let socket = TcpStream::connect(address).await?;
        Ok(match self.scheme {
            Scheme::Http => Box::new(socket),
            Scheme::Https => Box::new(self.tls.connect_to_ask(self.host(), socket).await?),
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
async fn handshake<IO>(stream: IO) -> Result<Made, SendFault>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = Builder::new();
    builder.max_header_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
    let (sender, connection) = builder.handshake(TokioIo::new(Gather(stream))).await.map_err(SendFault::Http1)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an upstream connection ended");
        }
    });
    Ok(Made::Http1(sender))
}

/// Puts HTTP/2 on a stream.
async fn share<IO>(stream: IO) -> Result<Made, SendFault>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    Shared::handshake(stream).await.map(Made::Http2).map_err(SendFault::Http2)
}
