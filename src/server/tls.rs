//! TLS to clients.

use crate::config::Tls;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate's file.
    #[error("cannot read the certificate {path}: {why}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: rustls::pki_types::pem::Error,
    },
    /// The key's file.
    #[error("cannot read the private key {path}: {why}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: rustls::pki_types::pem::Error,
    },
    /// The two do not belong together, or are not usable.
    #[error("the certificate and its private key cannot be used: {0}")]
    Pair(rustls::Error),
}

/// An acceptor for TLS 1.2 and 1.3 with this certificate; 0-RTT is off (a replayed POST is a second payment). Clients may choose
/// HTTP/1.1, and `http2` if that is spoken.
///
/// # Errors
/// When a file cannot be read or the pair cannot be used.
pub fn acceptor(tls: &Tls, http2: bool) -> Result<TlsAcceptor, TlsError> {
    let certificate = |why| TlsError::Certificate { path: tls.certificate.clone(), why };
    let chain = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.private_key)
        .map_err(|why| TlsError::Key { path: tls.private_key.clone(), why })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Pair)?;
    let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}
