//! `tls` of the server, and certificates with their keys, as they are written.

use super::super::values::Located;
use schemars::JsonSchema;
use serde::Deserialize;

/// TLS to clients. Paths of PEM files are relative to this configuration's folder; all are reloaded when they change.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tls")]
pub(in crate::config) struct RawTls {
    /// The certificate chain, the server's own first. It also serves clients that ask for no name or an unknown one.
    #[schemars(required)]
    pub(in crate::config) certificate: Option<Located<String>>,
    /// Its private key.
    #[schemars(required)]
    pub(in crate::config) private_key: Option<Located<String>>,
    /// Further certificates. A client gets the one that holds the name it asks for; a name itself goes before a wildcard,
    /// and of several the first whose key the client can verify. Default none.
    pub(in crate::config) certificates: Option<Vec<Located<RawPair>>>,
    /// The oldest version spoken: "1.2" (default) or "1.3".
    pub(in crate::config) min_version: Option<Located<RawTlsVersion>>,
    /// What a client gets that asks for no name or for one that no certificate has: "default" (the first certificate) or
    /// "refuse" (no handshake).
    pub(in crate::config) unknown_sni: Option<Located<RawUnknownSni>>,
    /// The authorities whose client certificates are accepted. Default: no client is asked for one.
    pub(in crate::config) client_ca: Option<Located<String>>,
    /// Whether each client must show a certificate: "required" (default with `client_ca`) or "optional".
    pub(in crate::config) client_auth: Option<Located<RawClientAuth>>,
    /// What those authorities have revoked: one list or more (CRL). With it, a client whose issuer has no list here is
    /// refused. Default none.
    pub(in crate::config) client_crl: Option<Located<String>>,
}

/// A certificate and its key, as PEM files; relative to this configuration's folder.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CertificateAndKey")]
pub(in crate::config) struct RawPair {
    /// The certificate chain, the own one first.
    #[schemars(required)]
    pub(in crate::config) certificate: Option<Located<String>>,
    /// Its private key.
    #[schemars(required)]
    pub(in crate::config) private_key: Option<Located<String>>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "TlsVersion")]
pub(in crate::config) enum RawTlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// What a client gets that asks for no name or an unknown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "UnknownSni")]
pub(in crate::config) enum RawUnknownSni {
    /// The first certificate.
    Default,
    /// No handshake.
    Refuse,
}

/// Whether each client must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ClientAuth")]
pub(in crate::config) enum RawClientAuth {
    /// It must.
    Required,
    /// It may; one that it shows must be good.
    Optional,
}
