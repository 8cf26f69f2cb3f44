//! Making a connection: resolve, connect, TLS where the URL says https, HTTP/1.1 or HTTP/2.

use super::gather::Gather;
use super::http2::Shared;
use super::{MAX_HEAD_BYTES, MAX_HEADERS, RequestBody, SendFault};
use crate::clock::Time;
use crate::config::{Protocol, Scheme, Upstream, UpstreamServer};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::rc::Rc;
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
    protocol: Protocol,
    /// What its `ca` held, so that with another one it is another server: nobody goes on trusting what was taken out.
    ca: Option<Arc<[u8]>>,
    tls: Connector,
}

/// HTTP/2 as ALPN calls it.
const HTTP2: &[u8] = b"h2";

/// A new connection, by what it speaks.
pub(super) enum Made {
    Http1(SendRequest<RequestBody>),
    Http2(Rc<Shared>),
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
            protocol: upstream.protocol,
            // Read a moment after it was checked: what cannot be read now is trusted in nothing.
            ca: upstream.ca.as_ref().map(|path| std::fs::read(path).unwrap_or_default().into()),
            tls: Arc::default(),
        }
    }

    fn identity(&self) -> (bool, &str, u16, Protocol, Option<&[u8]>) {
        (self.scheme == Scheme::Https, &self.host, self.port, self.protocol, self.ca.as_deref())
    }

    /// Whether a connection to it may speak HTTP/2.
    pub(super) fn may_share(&self) -> bool {
        match self.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => self.scheme == Scheme::Https,
        }
    }

    pub(super) async fn connect(&self, time: &Time) -> Result<Made, ConnectError> {
        let unreachable = |error: &dyn std::fmt::Display| {
            tracing::warn!(host = %self.host, port = self.port, %error, "cannot connect to an upstream server");
            ConnectError::Unreachable
        };
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let socket = TcpStream::connect((host, self.port)).await.map_err(|error| unreachable(&error))?;
        socket.set_nodelay(true).map_err(|error| unreachable(&error))?;
        match self.scheme {
            Scheme::Http if self.protocol == Protocol::Http2 => share(socket, self.scheme, time).await,
            Scheme::Http => handshake(socket).await,
            Scheme::Https => {
                let tls = self.tls.get_or_init(|| connector(self.ca.as_deref(), self.protocol));
                let tls = tls.as_ref().ok_or_else(|| unreachable(&"no usable root certificates"))?;
                let name = ServerName::try_from(host.to_owned()).map_err(|error| unreachable(&error))?;
                let stream = tls.connect(name, socket).await.map_err(|error| unreachable(&error))?;
                let chosen = stream.get_ref().1.alpn_protocol();
                match self.protocol {
                    _ if chosen == Some(HTTP2) => share(stream, self.scheme, time).await,
                    Protocol::Http2 => return Err(unreachable(&"it does not speak HTTP/2")),
                    Protocol::Http1 | Protocol::Auto => handshake(stream).await,
                }
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
async fn share<IO>(stream: IO, scheme: Scheme, time: &Time) -> Result<Made, SendFault>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    Shared::handshake(stream, scheme, time).await.map(Made::Http2).map_err(SendFault::Http2)
}

/// Verification is always on: against the given CA alone, or against the system's roots.
fn connector(ca: Option<&[u8]>, protocol: Protocol) -> Option<TlsConnector> {
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
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = match protocol {
        Protocol::Http1 => Vec::new(),
        Protocol::Http2 => vec![HTTP2.to_vec()],
        Protocol::Auto => vec![HTTP2.to_vec(), b"http/1.1".to_vec()],
    };
    Some(TlsConnector::from(Arc::new(config)))
}

/// The certificates of a PEM text, at least one.
fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.map_err(|error| error.to_string())?);
    if roots.is_empty() { Err("it holds no certificate of an authority".to_owned()) } else { Ok(roots) }
}
