//! Which client certificates are good.

use super::certificate::digest;
use super::facts::{Facts, next_update};
use super::{TlsError, provider};
use crate::config::Clients;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::path::Path;
use std::sync::Arc;

/// The authorities whose client certificates are accepted, less what they have revoked.
#[derive(Clone, Debug)]
pub struct ClientTrust {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// Of all that decides: a session that began under another trust is not resumed.
    pub(super) digest: [u8; 32],
}

impl ClientTrust {
    /// Reads the authorities and what they have revoked.
    ///
    /// # Errors
    /// When a file cannot be read, or holds nothing that can be used.
    pub fn load(clients: &Clients, now: Timestamp, warnings: &mut Vec<String>) -> Result<ClientTrust, TlsError> {
        let (ca, roots) = authorities(&clients.ca, now, warnings)?;
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let mut crl = Vec::new();
        if let Some(path) = &clients.crl {
            let lists;
            (crl, lists) = revocations(path, now, warnings)?;
            // Lists of the authorities above the issuer are seldom at hand, and rarely tell anything.
            builder = builder.with_crls(lists).only_check_end_entity_revocation();
        }
        if !clients.required {
            builder = builder.allow_unauthenticated();
        }
        let fault = |why: String| match &clients.crl {
            Some(path) => TlsError::Revocations { path: path.clone(), why },
            None => TlsError::Authorities { path: clients.ca.clone(), why },
        };
        let verifier = builder.build().map_err(|error| fault(error.to_string()))?;
        let required: &[u8] = if clients.required { b"required" } else { b"optional" };
        Ok(ClientTrust { verifier, digest: digest(&[required, &ca, &crl]) })
    }
}

fn authorities(path: &Path, now: Timestamp, warnings: &mut Vec<String>) -> Result<(Vec<u8>, RootCertStore), TlsError> {
    let read = super::read_authorities(path)?;
    // An authority is trusted by its key alone, so the end of its own certificate ends nothing.
    let expired = CertificateDer::pem_slice_iter(&read.0).flatten().filter_map(|authority| Facts::of(&authority));
    for facts in expired.filter(|facts| facts.not_after < now) {
        let what = format!("an authority's certificate has expired ({}); it is still trusted", facts.not_after);
        warnings.push(format!("{}: warning: {what}", path.display()));
    }
    Ok(read)
}

/// What a file holds, and that as lists; at least one.
type Revocations = (Vec<u8>, Vec<CertificateRevocationListDer<'static>>);

fn revocations(path: &Path, now: Timestamp, warnings: &mut Vec<String>) -> Result<Revocations, TlsError> {
    let fault = |why: String| TlsError::Revocations { path: path.to_owned(), why };
    let pem = crate::files::read(path).map_err(|error| fault(error.to_string()))?;
    let lists = CertificateRevocationListDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fault(error.to_string()))?;
    if lists.is_empty() {
        return Err(fault("it holds no revocation list".to_owned()));
    }
    for due in lists.iter().filter_map(|list| next_update(list)).filter(|due| *due < now) {
        let what = format!("a revocation list is out of date since {due}; what it revokes stays revoked");
        warnings.push(format!("{}: warning: {what}", path.display()));
    }
    Ok((pem, lists))
}
