//! FLOOR 2: TLS with rustls: certificates, who is trusted, handshakes with clients.
//!
//! In reading order: [`Certificate`] is one pair of files, checked; [`Certificates`] chooses among several by the name a client
//! asks for; [`ClientTrust`] says which client certificates are good; [`Lasting`] is what a reload keeps, so that sessions
//! resume; [`Acceptor`] puts them together and shakes hands. `upstream` makes its connections with the same pieces.
//!
//! Files are read once, when a configuration is loaded; nothing here reads a file or a clock later. 0-RTT is off on both sides:
//! a replayed POST is a second payment. Renegotiation does not exist in rustls.

mod acceptor;
mod certificate;
mod clients;
mod facts;
mod lasting;
mod names;
mod resolver;

pub use acceptor::{Acceptor, Handshake, HandshakeError, Protocol};
pub use certificate::{Certificate, Expiry, expiries};
pub use clients::ClientTrust;
pub use lasting::Lasting;
pub use names::Names;
pub use resolver::Certificates;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a file of TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate's file.
    #[error("cannot read the certificate {path}: {why}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A key's file.
    #[error("cannot read the private key {path}: {why}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Never anything of what is in it.
        why: String,
    },
    /// The two do not belong together, or are not usable.
    #[error("the certificate {path} and its private key cannot be used: {why}")]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        why: rustls::Error,
    },
    /// Authorities to trust.
    #[error("cannot use the authorities in {path}: {why}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Lists of what authorities have revoked.
    #[error("cannot use the revocation lists in {path}: {why}")]
    Revocations {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS itself, apart from any file.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// Everything that keeps TLS from being used; at least one.
#[derive(Debug)]
pub struct TlsErrors(pub Vec<TlsError>);

impl fmt::Display for TlsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, error) in self.0.iter().enumerate() {
            f.write_str(if nth == 0 { "" } else { "\n" })?;
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for TlsErrors {}

impl From<TlsError> for TlsErrors {
    fn from(error: TlsError) -> TlsErrors {
        TlsErrors(vec![error])
    }
}

/// What signs and encrypts on both sides.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The authorities of a PEM text, at least one; `path` is told where it has none.
///
/// # Errors
/// When the text is no PEM, or holds no certificate that can be trusted.
pub fn authorities(pem: &[u8], path: &Path) -> Result<RootCertStore, TlsError> {
    let fault = |why: String| TlsError::Authorities { path: path.to_owned(), why };
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.map_err(|error| fault(error.to_string()))?);
    if roots.is_empty() {
        return Err(fault("it holds no certificate of an authority".to_owned()));
    }
    Ok(roots)
}

/// A file of authorities: what it holds, and that as authorities.
///
/// # Errors
/// When it cannot be read, is no PEM, or holds no certificate that can be trusted.
pub fn read_authorities(path: &Path) -> Result<(Vec<u8>, RootCertStore), TlsError> {
    let pem = crate::files::read(path)
        .map_err(|error| TlsError::Authorities { path: path.to_owned(), why: error.to_string() })?;
    let roots = authorities(&pem, path)?;
    Ok((pem, roots))
}
