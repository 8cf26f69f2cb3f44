//! Making a connection to an address: connect, TLS where the URL says https, HTTP/1.1.

use super::gather::Gather;
use super::{MAX_HEAD_BYTES, MAX_HEADERS, RequestBody};
use crate::config::{Scheme, Upstream, UpstreamServer};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

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

/// Why an upstream's `ca` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the authorities in {path}: {why}")]
pub struct CaError {
    /// The file.
    path: PathBuf,
    /// What is wrong with it.
    why: String,
}

/// Whether a file holds authorities to trust.
///
/// # Errors
/// When it cannot be read, is no PEM, or holds no certificate that can be trusted.
pub fn check_ca(path: impl AsRef<Path>) -> Result<(), CaError> {
    let path = path.as_ref();
    let fault = |why: &dyn std::fmt::Display| CaError { path: path.to_owned(), why: why.to_string() };
    let pem = std::fs::read(path).map_err(|error| fault(&error))?;
    authorities(&pem).map(drop).map_err(|why| fault(&why))
}

/// A server to connect to. Equal ones share connections.
#[derive(Clone)]
pub(super) struct Target {
    scheme: Scheme,
    host: Box<str>,
    port: u16,
    authority: Box<str>,
    /// What its `ca` held, so that with another one it is another server: nobody goes on trusting what was taken out.
    ca: Option<Arc<[u8]>>,
    tls: Connector,
}

/// Made at the first connection, then kept.
type Connector = Arc<OnceLock<Option<TlsConnector>>>;

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Target {
    pub(super) fn new(server: &UpstreamServer, upstream: &Upstream) -> Target {
        Target {
            scheme: server.scheme,
            host: server.host.clone(),
            port: server.port,
            authority: server.authority.as_str().into(),
            // Read a moment after it was checked: what cannot be read now is trusted in nothing.
            ca: upstream.ca.as_ref().map(|path| std::fs::read(path).unwrap_or_default().into()),
            tls: Arc::default(),
        }
    }

    fn identity(&self) -> (bool, &str, u16, Option<&[u8]>) {
        (self.scheme == Scheme::Https, &self.host, self.port, self.ca.as_deref())
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
            Scheme::Https => handshake(self.secure(socket).await?).await,
        }
        .map_err(io::Error::other)
    }

    /// A bare connection, for a health check.
    pub(super) async fn stream(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let socket = TcpStream::connect(address).await?;
        Ok(match self.scheme {
            Scheme::Http => Box::new(socket),
            Scheme::Https => Box::new(self.secure(socket).await?),
        })
    }

    async fn secure(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let tls = self.tls.get_or_init(|| connector(self.ca.as_deref()));
        let tls = tls.as_ref().ok_or_else(|| io::Error::other("no usable root certificates"))?;
        let name = ServerName::try_from(self.host().to_owned()).map_err(io::Error::other)?;
        tls.connect(name, socket).await
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

/// Verification is always on: against the given CA alone, or against the system's roots.
fn connector(ca: Option<&[u8]>) -> Option<TlsConnector> {
    let roots = match ca {
        Some(pem) => authorities(pem).ok()?,
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    if roots.is_empty() {
        return None;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

/// The certificates of a PEM text, at least one.
fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.map_err(|error| error.to_string())?);
    if roots.is_empty() { Err("it holds no certificate of an authority".to_owned()) } else { Ok(roots) }
}
