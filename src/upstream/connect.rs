//! Making a connection: resolve, connect, TLS where the URL says https, HTTP/1.1.

use super::gather::Gather;
use super::secure::UpstreamTls;
use super::{MAX_HEAD_BYTES, MAX_HEADERS, RequestBody};
use crate::config::{Scheme, UpstreamServer};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::sync::{Arc, Weak};
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
    /// Which of all that may be trusted and shown, see [`UpstreamTls`]; none without TLS.
    digest: Option<[u8; 32]>,
    /// The configuration that names the server holds it: what is no longer in use is not kept for ever.
    tls: Weak<UpstreamTls>,
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
            digest: (server.scheme == Scheme::Https).then(|| tls.digest()),
            tls: Arc::downgrade(tls),
        }
    }

    fn identity(&self) -> (Option<[u8; 32]>, &str, u16) {
        (self.digest, &self.host, self.port)
    }

    /// Whether no configuration holds its TLS any more.
    pub(super) fn is_left(&self) -> bool {
        self.tls.strong_count() == 0
    }

    pub(super) async fn connect(&self) -> Result<SendRequest<RequestBody>, ConnectError> {
        let unreachable = |error: &dyn std::fmt::Display| {
            tracing::warn!(host = %self.host, port = self.port, %error, "cannot connect to an upstream server");
            ConnectError::Unreachable
        };
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let socket = TcpStream::connect((host, self.port)).await.map_err(|error| unreachable(&error))?;
        socket.set_nodelay(true).map_err(|error| unreachable(&error))?;
        match self.scheme {
            Scheme::Http => handshake(socket).await,
            Scheme::Https => {
                let tls = self.tls.upgrade().ok_or_else(|| unreachable(&"its configuration has been replaced"))?;
                handshake(tls.connect(host, socket).await.map_err(|error| unreachable(&error))?).await
            }
        }
        .map_err(|error| unreachable(&error))
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
