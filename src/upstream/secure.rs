//! TLS to an upstream's servers: verification and SNI are always on.

use crate::config::{self, Upstream};
use crate::tls::{self, Certificate, Protocol, TlsErrors};
use jiff::Timestamp;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};
use std::io;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whom an upstream's servers are verified by and what is shown to them, loaded.
#[derive(Default)]
pub struct UpstreamTls {
    /// Of all that decides: with another one a server is another server, so that nobody goes on with a connection to one
    /// that is trusted no more, or under a certificate that has been replaced.
    digest: [u8; 32],
    /// `None`: the system's.
    roots: Option<Arc<RootCertStore>>,
    certificate: Option<Certificate>,
    /// What to ask for and to verify in place of the host.
    server_name: Option<ServerName<'static>>,
    /// What its servers speak.
    protocol: config::Protocol,
    /// Made at the first connection, then kept: sessions are resumed through it.
    connector: OnceLock<Option<TlsConnector>>,
    /// The same for health checks, which offer nothing but what they speak.
    asking: OnceLock<Option<TlsConnector>>,
}

impl UpstreamTls {
    /// Reads what an upstream names, past every mistake.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn load(upstream: &Upstream, now: Timestamp, warnings: &mut Vec<String>) -> Result<UpstreamTls, TlsErrors> {
        let ca = upstream.ca.as_ref().map(|path| tls::read_authorities(path)).transpose();
        let certificate = upstream.client_certificate.as_ref();
        let certificate = certificate.map(|pair| Certificate::load_client(pair, now, warnings)).transpose();
        let (ca, certificate) = match (ca, certificate) {
            (Ok(ca), Ok(certificate)) => (ca, certificate),
            (ca, certificate) => return Err(TlsErrors(ca.err().into_iter().chain(certificate.err()).collect())),
        };
        let mut hasher = Sha256::new();
        for part in [ca.as_ref().map(|ca| &ca.0[..]), certificate.as_ref().map(|own| &own.digest()[..])] {
            let digest = part.map(Sha256::digest);
            hasher.update(digest.unwrap_or_default());
        }
        let name = upstream.server_name.as_deref();
        hasher.update(name.unwrap_or_default());
        Ok(UpstreamTls {
            digest: hasher.finalize().into(),
            roots: ca.map(|(_, roots)| Arc::new(roots)),
            certificate,
            server_name: name.and_then(|name| ServerName::try_from(name.to_owned()).ok()),
            protocol: upstream.protocol,
            connector: OnceLock::new(),
            asking: OnceLock::new(),
        })
    }

    /// What is shown to servers that ask.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    pub(super) fn protocol(&self) -> config::Protocol {
        self.protocol
    }

    /// TLS on a connection to `host`.
    pub(super) async fn connect(&self, host: &str, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let protocols: &[Protocol] = match self.protocol {
            config::Protocol::Http1 => &[Protocol::Http1],
            config::Protocol::Http2 => &[Protocol::Http2],
            config::Protocol::Auto => &[Protocol::Http2, Protocol::Http1],
        };
        self.shake_hands(&self.connector, protocols, host, socket).await
    }

    /// The same for a health check.
    pub(super) async fn connect_to_ask(&self, host: &str, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let is_http2 = self.protocol == config::Protocol::Http2;
        let protocols: &[Protocol] = if is_http2 { &[Protocol::Http2] } else { &[Protocol::Http1] };
        self.shake_hands(&self.asking, protocols, host, socket).await
    }

    async fn shake_hands(
        &self,
        connector: &OnceLock<Option<TlsConnector>>,
        protocols: &[Protocol],
        host: &str,
        socket: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let connector = connector.get_or_init(|| self.connector(protocols));
        let connector = connector.as_ref().ok_or_else(|| io::Error::other("no usable root certificates"))?;
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
        };
        connector.connect(name, socket).await
    }

    fn connector(&self, protocols: &[Protocol]) -> Option<TlsConnector> {
        let roots = match &self.roots {
            Some(roots) => Arc::clone(roots),
            None => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Arc::new(roots)
            }
        };
        if roots.is_empty() {
            return None;
        }
        let config = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions().ok()?;
        let config = config.with_root_certificates(roots);
        let mut config = match &self.certificate {
            Some(certificate) => {
                let own = SingleCertAndKey::from(Arc::clone(certificate.key()));
                config.with_client_cert_resolver(Arc::new(own))
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.id().to_vec()).collect();
        Some(TlsConnector::from(Arc::new(config)))
    }
}
