//! Making a connection to an address: connect, and TLS where the URL says https.

use super::http1::Stream;
use super::secure::UpstreamTls;
use crate::config::{Protocol, Scheme, UpstreamServer};
use crate::tls;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
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
    pub(super) async fn connect(&self, address: SocketAddr) -> io::Result<Stream> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(match self.scheme {
            Scheme::Http => Stream::Plain(socket),
            Scheme::Https => Stream::Tls(Box::new(self.tls.connect(self.host(), socket).await?)),
        })
    }

    /// The same for a health check, which speaks nothing but what it asks in.
    pub(super) async fn connect_to_ask(&self, address: SocketAddr) -> io::Result<Stream> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(match self.scheme {
            Scheme::Http => Stream::Plain(socket),
            Scheme::Https => Stream::Tls(Box::new(self.tls.connect_to_ask(self.host(), socket).await?)),
        })
    }

    /// Whether HTTP/2 is spoken on a new connection: where that is configured, or chosen by ALPN.
    ///
    /// # Errors
    /// When it is configured and the server did not choose it.
    pub(super) fn speaks_http2(&self, stream: &Stream) -> io::Result<bool> {
        match (stream, self.tls.protocol()) {
            (Stream::Tls(stream), protocol) => {
                let is_chosen = stream.get_ref().1.alpn_protocol() == Some(tls::Protocol::Http2.id());
                if protocol == Protocol::Http2 && !is_chosen {
                    return Err(io::Error::other("it does not speak HTTP/2"));
                }
                Ok(is_chosen)
            }
            (_, protocol) => Ok(protocol == Protocol::Http2),
        }
    }
}

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
