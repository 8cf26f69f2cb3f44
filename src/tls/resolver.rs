//! Which certificate a client gets.

use super::Certificate;
use super::names::{normal, parent};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// All certificates of a server, found by name.
#[derive(Debug)]
pub struct Certificates {
    /// At least one; the first is the default.
    all: Vec<Certificate>,
    /// Places in `all` by name, in order.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By what follows `*.`.
    wildcards: HashMap<Box<str>, Vec<usize>>,
    refuses_unknown: bool,
}

impl Certificates {
    pub(super) fn new(all: Vec<Certificate>, refuses_unknown: bool) -> Certificates {
        let (mut exact, mut wildcards) =
            (HashMap::<Box<str>, Vec<usize>>::new(), HashMap::<Box<str>, Vec<usize>>::new());
        for (place, certificate) in all.iter().enumerate() {
            for name in certificate.names.exact() {
                exact.entry(name.into()).or_default().push(place);
            }
            for name in certificate.names.wildcards() {
                wildcards.entry(name.into()).or_default().push(place);
            }
        }
        Certificates { all, exact, wildcards, refuses_unknown }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Certificate> + Clone {
        self.all.iter()
    }

    /// Those with this name, in lower case: with the name itself, or else with a wildcard for it.
    fn named(&self, name: &str) -> impl Iterator<Item = &Certificate> {
        let name = normal(name);
        let places = self.exact.get(name).or_else(|| self.wildcards.get(parent(name)?));
        places.into_iter().flatten().filter_map(|&place| self.all.get(place))
    }

    /// Whether a client that asked for `server_name` (in lower case) may ask this connection for `host`: it is the same
    /// name, or one of the certificate that the client was shown for it. A name that no certificate has tells nothing.
    #[must_use]
    pub fn serve(&self, server_name: &str, host: &str) -> bool {
        if normal(host).eq_ignore_ascii_case(normal(server_name)) {
            return true;
        }
        let mut shown = self.named(server_name).peekable();
        shown.peek().is_none() || shown.any(|certificate| certificate.names.cover(host))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let mut named = name.as_deref().into_iter().flat_map(|name| self.named(name)).peekable();
        if named.peek().is_none() {
            let default = self.all.first().filter(|_| !self.refuses_unknown)?;
            return Some(Arc::clone(&default.key));
        }
        let first = named.peek().copied();
        let can_verify =
            |certificate: &&Certificate| certificate.key.key.choose_scheme(hello.signature_schemes()).is_some();
        // Of keys of several kinds the first that the client knows; with none, the handshake will say so.
        named.find(can_verify).or(first).map(|certificate| Arc::clone(&certificate.key))
    }
}
