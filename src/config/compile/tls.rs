//! TLS: which files, and what goes together.

use super::super::error::Finding;
use super::super::model::{Clients, Pair, Tls, TlsVersion};
use super::super::raw::{Item, RawClientAuth, RawServer, RawTls, RawTlsVersion, RawUnknownSni};
use super::super::source::Place;
use super::super::values::Located;
use super::{Context, value};

/// How many certificates a server may have: each is looked at in full at every reload.
const MAX_CERTIFICATES: usize = 1_000;

pub(super) fn server(context: &mut Context<'_>, item: &Item<RawServer>, located: &Located<RawTls>) -> Option<Tls> {
    let raw = &located.value;
    let place = |span| (!item.damaged).then(|| item.at(span));
    let first = pair(context, "tls", place(&located.span), &raw.certificate, &raw.private_key);
    let further = raw.certificates.iter().flatten();
    let further: Vec<Option<Pair>> = further
        .map(|pair| (place(&pair.span), &pair.value))
        .map(|(place, raw)| pair(context, "certificates", place, &raw.certificate, &raw.private_key))
        .collect();
    if further.len() >= MAX_CERTIFICATES {
        let finding = Finding::error(item.at(&located.span), "too many certificates");
        context.tell(finding.expected(format!("at most {MAX_CERTIFICATES}")));
    }
    let clients = clients(context, item, raw);
    let mut certificates = vec![first?];
    certificates.extend(further.into_iter().flatten());
    Some(Tls {
        certificates,
        min_version: match value(&raw.min_version, RawTlsVersion::Tls12) {
            RawTlsVersion::Tls12 => TlsVersion::Tls12,
            RawTlsVersion::Tls13 => TlsVersion::Tls13,
        },
        refuse_unknown_sni: value(&raw.unknown_sni, RawUnknownSni::Default) == RawUnknownSni::Refuse,
        clients,
    })
}

/// A certificate and its key. What is missing is told at `place`; without one, it has been told already.
pub(super) fn pair(
    context: &mut Context<'_>,
    what: &str,
    place: Option<Place>,
    certificate: &Option<Located<String>>,
    private_key: &Option<Located<String>>,
) -> Option<Pair> {
    for (key, field) in [("certificate", certificate), ("private_key", private_key)] {
        if let (None, Some(place)) = (field, &place) {
            let finding = Finding::error(place.clone(), format!("`{what}` lacks `{key}`"));
            context.tell(finding.expected(r#"{ certificate = "cert.pem", private_key = "key.pem" }"#));
        }
    }
    let (certificate, private_key) = (certificate.as_ref()?, private_key.as_ref()?);
    Some(Pair { certificate: context.file(&certificate.value), private_key: context.file(&private_key.value) })
}

fn clients(context: &mut Context<'_>, item: &Item<RawServer>, raw: &RawTls) -> Option<Clients> {
    let Some(ca) = &raw.client_ca else {
        let spans = [raw.client_auth.as_ref().map(|auth| &auth.span), raw.client_crl.as_ref().map(|crl| &crl.span)];
        for span in spans.into_iter().flatten().filter(|_| !item.damaged) {
            let finding = Finding::error(item.at(span), "no client is asked for a certificate without `client_ca`");
            context.tell(finding.expected(r#"client_ca = "client-ca.pem""#));
        }
        return None;
    };
    Some(Clients {
        ca: context.file(&ca.value),
        crl: raw.client_crl.as_ref().map(|crl| context.file(&crl.value)),
        required: value(&raw.client_auth, RawClientAuth::Required) == RawClientAuth::Required,
    })
}

/// A name that a certificate can hold: a DNS name, or an address.
pub(super) fn server_name<T>(context: &mut Context<'_>, item: &Item<T>, name: &Located<String>) -> Option<Box<str>> {
    if rustls::pki_types::ServerName::try_from(name.value.as_str()).is_err() {
        let finding = Finding::error(item.at(&name.span), "not a name that a certificate can hold");
        context.tell(finding.expected("a host's name or an IP address, without a port"));
        return None;
    }
    Some(name.value.as_str().into())
}
