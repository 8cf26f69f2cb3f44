//! Making a connection: resolve, connect, TLS where the URL says https, HTTP/1.1.

use super::gather::Gather;
use super::{MAX_HEAD_BYTES, MAX_HEADERS, RequestBody};
use crate::config::{Scheme, Upstream, UpstreamServer};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

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
    ca: Option<PathBuf>,
    tls: Connector,
}

/// Made at the first connection, then kept.
type Connector = Arc<OnceLock<Option<TlsConnector>>>;

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.identity())
    }
}

impl Target {
    pub(super) fn new(server: &UpstreamServer, upstream: &Upstream) -> Target {
        Target {
            scheme: server.scheme,
            host: server.host.clone(),
            port: server.port,
            ca: upstream.ca.clone(),
            tls: Arc::default(),
        }
    }

    fn identity(&self) -> (bool, &str, u16, Option<&Path>) {
        (self.scheme == Scheme::Https, &self.host, self.port, self.ca.as_deref())
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
                let tls = self.tls.get_or_init(|| connector(self.ca.as_deref()));
                let tls = tls.as_ref().ok_or_else(|| unreachable(&"no usable root certificates"))?;
                let name = ServerName::try_from(host.to_owned()).map_err(|error| unreachable(&error))?;
                handshake(tls.connect(name, socket).await.map_err(|error| unreachable(&error))?).await
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

/// Verification is always on: against the given CA alone, or against the system's roots.
fn connector(ca: Option<&Path>) -> Option<TlsConnector> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            match certificates {
                Ok(certificates) => drop(roots.add_parsable_certificates(certificates)),
                Err(error) => tracing::error!(path = %path.display(), %error, "cannot read an upstream's CA"),
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return None;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}
