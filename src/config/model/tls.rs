//! TLS to clients, and certificates with their keys.

use std::path::PathBuf;

/// TLS to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificates; at least one. The first serves clients that ask for no name or an unknown one.
    pub certificates: Vec<Pair>,
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// Whether clients are refused that ask for no name or for one that no certificate has.
    pub refuse_unknown_sni: bool,
    /// Who may be at the other end; `None`: no client is asked for a certificate.
    pub clients: Option<Clients>,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub private_key: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Which client certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// PEM file of the authorities.
    pub ca: PathBuf,
    /// PEM file of what they have revoked.
    pub crl: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub required: bool,
}
