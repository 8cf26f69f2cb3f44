//! `[addresses]`, compiled.

use crate::engine::Gate;
use std::net::IpAddr;

/// Limits by the client's address, before its key is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Requests, whatever becomes of them.
    pub requests: Option<Gate>,
    /// Requests whose key is not good.
    pub failures: Option<Gate>,
    /// The same of all addresses together.
    pub all_failures: Option<Gate>,
    /// Whether failures of private addresses count too: not unless somebody asked for it, since a load balancer that
    /// `trusted_proxies` lacks has one, and it stands for everybody.
    pub private_failures: bool,
    /// Networks that none of this holds for.
    pub exempt: Box<[ipnet::IpNet]>,
    /// Buckets of addresses with state at once.
    pub max_addresses: usize,
}

impl Addresses {
    /// Whether none of this holds for an address.
    #[must_use]
    pub fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(&address))
    }

    /// Whether requests of an address whose key is not good count.
    #[must_use]
    pub fn counts_failures(&self, address: IpAddr) -> bool {
        (self.failures.is_some() || self.all_failures.is_some())
            && (self.private_failures || is_public(address))
            && !self.is_exempt(address)
    }
}

/// Whether an address is no machine's own, no local network's and no carrier's inner one.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let is_shared = matches!(address.octets(), [100, 64..=127, ..]);
            !(address.is_loopback() || address.is_private() || address.is_link_local() || is_shared)
        }
        IpAddr::V6(address) => !(address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses() {
        let public = |text: &str| is_public(text.parse().unwrap());
        for text in ["192.0.2.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "64:ff9b::1"] {
            assert!(public(text), "{text}");
        }
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(!public(text), "{text}");
        }
    }
}
