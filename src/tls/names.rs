//! The names of a certificate.

use std::net::IpAddr;

/// What a certificate is for: its subject alternative names. The common name is not looked at, as clients do not either.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// In lower case, without a trailing dot.
    exact: Vec<Box<str>>,
    /// Of `*.example.com`: `example.com`.
    wildcards: Vec<Box<str>>,
    addresses: Vec<IpAddr>,
}

impl Names {
    /// Adds a DNS name as the certificate has it. Answers whether it is one that a client can accept.
    pub(super) fn add(&mut self, name: &str) -> bool {
        let wildcard = name.strip_prefix("*.");
        let plain = normal(wildcard.unwrap_or(name)).to_ascii_lowercase();
        let is_dns = rustls::pki_types::DnsName::try_from(plain.as_str()).is_ok() && plain.parse::<IpAddr>().is_err();
        // `*.com` is refused by no library here, but by every browser.
        if !is_dns || wildcard.is_some() && !plain.contains('.') {
            return false;
        }
        let list = if wildcard.is_some() { &mut self.wildcards } else { &mut self.exact };
        list.push(plain.into());
        true
    }

    /// Adds an address of 4 or 16 bytes.
    pub(super) fn add_address(&mut self, bytes: &[u8]) -> bool {
        let address = match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
            (Ok(v4), _) => IpAddr::from(v4),
            (_, Ok(v6)) => IpAddr::from(v6),
            _ => return false,
        };
        self.addresses.push(address);
        true
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty() && self.addresses.is_empty()
    }

    pub(super) fn exact(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().map(AsRef::as_ref)
    }

    pub(super) fn wildcards(&self) -> impl Iterator<Item = &str> {
        self.wildcards.iter().map(AsRef::as_ref)
    }

    /// Whether the certificate is good for a host as a URL has it: a name in any case, an address, an IPv6 one in brackets.
    #[must_use]
    pub fn cover(&self, host: &str) -> bool {
        let host = normal(host);
        if self.exact.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            return true;
        }
        let under = parent(host);
        if self.wildcards.iter().any(|wildcard| under.is_some_and(|parent| wildcard.eq_ignore_ascii_case(parent))) {
            return true;
        }
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        !self.addresses.is_empty() && bare.parse().is_ok_and(|address| self.addresses.contains(&address))
    }
}

/// The name without the dot that may end it.
pub(super) fn normal(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// What a wildcard would have to stand before: a wildcard is one whole label.
pub(super) fn parent(name: &str) -> Option<&str> {
    name.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_one_label() {
        let mut names = Names::default();
        assert!(names.add("API.example.com") && names.add("*.pay.example.com"));
        assert!(names.add_address(&[127, 0, 0, 1]) && names.add_address(&[0; 16]));
        for covered in
            ["api.example.com", "Api.Example.com.", "eu.pay.example.com", "EU.pay.example.com", "127.0.0.1", "[::]"]
        {
            assert!(names.cover(covered), "{covered}");
        }
        for other in [
            "",
            ".",
            "example.com",
            "pay.example.com",
            ".pay.example.com",
            "a.eu.pay.example.com",
            "xapi.example.com",
            "127.0.0.2",
            "[::1]",
        ] {
            assert!(!names.cover(other), "{other}");
        }
    }

    #[test]
    fn names_that_no_client_accepts() {
        let mut names = Names::default();
        for bad in ["", "*", "*.", "*.com", "a*.example.com", "*.*.example.com", "a..b", "10.0.0.1", "a b"] {
            assert!(!names.add(bad), "{bad}");
        }
        assert!(!names.add_address(&[1, 2, 3]));
        assert!(names.is_empty());
    }
}
