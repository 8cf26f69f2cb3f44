//! What a certificate says of itself.

use super::names::Names;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

/// What is looked at besides the key.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) names: Names,
    /// Names that no client accepts.
    pub(super) unusable: Vec<String>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// Encoded names of the issuer and the subject, to hold a chain's order against.
    pub(super) issuer: Vec<u8>,
    pub(super) subject: Vec<u8>,
}

impl Facts {
    /// `None` where it is no certificate.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Facts> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let (mut names, mut unusable) = (Names::default(), Vec::new());
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            let usable = match name {
                GeneralName::DNSName(name) => names.add(name),
                GeneralName::IPAddress(bytes) => names.add_address(bytes),
                // Of no use to a server, and no harm.
                _ => true,
            };
            if !usable {
                unusable.push(name.to_string());
            }
        }
        Some(Facts {
            names,
            unusable,
            not_before: timestamp(parsed.validity().not_before),
            not_after: timestamp(parsed.validity().not_after),
            issuer: parsed.issuer().as_raw().to_vec(),
            subject: parsed.subject().as_raw().to_vec(),
        })
    }

    /// What to say of when it is valid.
    pub(super) fn validity(&self, now: Timestamp) -> Option<String> {
        let (begins, ends) = (self.not_before, self.not_after);
        let lifetime = ends.duration_since(begins).as_secs();
        let soon = SOON_SECONDS.min(lifetime / 3);
        if ends < now {
            Some(format!("the certificate has expired ({ends}): it is refused"))
        } else if begins > now {
            Some(format!("the certificate is not valid before {begins}: it is refused until then"))
        } else if ends.duration_since(now).as_secs() < soon {
            Some(format!("the certificate expires soon ({ends})"))
        } else {
            None
        }
    }
}

/// A certificate that has less than this, and less than a third of its life, left should have been replaced: 14 days.
const SOON_SECONDS: i64 = 14 * 24 * 3600;

/// When a certificate stops to be good; `None` where it is none.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    X509Certificate::from_der(certificate).ok().map(|(_, parsed)| timestamp(parsed.validity().not_after))
}

/// When the next list is due; `None` where the list does not say, or is none.
pub(super) fn next_update(list: &[u8]) -> Option<Timestamp> {
    CertificateRevocationList::from_der(list).ok()?.1.next_update().map(timestamp)
}

fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX)
}
