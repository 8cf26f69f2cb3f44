//! From a server's name to its addresses. Only the control thread looks names up; requests find the newest good answer there.

use super::connect::Target;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Addresses of one name that are used; further ones are left out.
pub const MAX_ADDRESSES: usize = 64;

/// What a look-up gives.
pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Looks names up: the system's resolver, or an embedding program's own.
pub trait Resolve: Send + Sync + fmt::Debug {
    /// All addresses of a name.
    fn resolve(&self, host: &str) -> Lookup;
}

/// The system's resolver: its files, then DNS, as it is configured.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> Lookup {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// A configured server with the addresses it is known to have.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) target: Arc<Target>,
    /// Sorted; empty as long as its name has not been found.
    known: Mutex<Box<[IpAddr]>>,
    /// The last look-up failed: it is told once, not each time.
    is_failing: AtomicBool,
}

impl Site {
    /// A server whose address is known only if it is written as one.
    pub(super) fn new(target: Target) -> Site {
        let known = target.host().parse::<IpAddr>().ok().into_iter().collect();
        Site { target: Arc::new(target), known: Mutex::new(known), is_failing: AtomicBool::new(false) }
    }

    /// Whether it has a name, whose addresses may change.
    pub(super) fn has_name(&self) -> bool {
        self.target.host().parse::<IpAddr>().is_err()
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|ip| SocketAddr::new(*ip, self.target.port())).collect()
    }

    /// Takes a look-up's answer. Returns whether the addresses are other ones now. A failure changes nothing: what was known
    /// stays in use.
    pub(super) fn learn(&self, found: io::Result<Vec<IpAddr>>) -> Result<bool, io::Error> {
        match found.and_then(usable) {
            Ok(found) => {
                if self.is_failing.swap(false, Relaxed) {
                    tracing::info!(host = self.target.host(), "an upstream server's name is found again");
                }
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                let has_changed = *known != found;
                *known = found;
                Ok(has_changed)
            }
            Err(error) => {
                if !self.is_failing.swap(true, Relaxed) {
                    tracing::warn!(host = self.target.host(), %error, "an upstream server's name is not found");
                }
                Err(error)
            }
        }
    }
}

/// An answer's addresses that may be connected to: sorted, each once, not too many.
fn usable(found: Vec<IpAddr>) -> io::Result<Box<[IpAddr]>> {
    let count = found.len();
    let mut usable: Vec<IpAddr> = found.into_iter().map(|ip| ip.to_canonical()).filter(is_fit).collect();
    usable.sort_unstable();
    usable.dedup();
    usable.truncate(MAX_ADDRESSES);
    match (usable.is_empty(), count) {
        (false, _) => Ok(usable.into()),
        (true, 0) => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
        (true, _) => Err(io::Error::new(io::ErrorKind::PermissionDenied, "it has no address but forbidden ones")),
    }
}

/// Whether a name may lead there. Link-local addresses hold clouds' metadata services, which hand out credentials; who controls
/// a name must not be able to point the gateway at them. Such an address that the configuration has literally is used.
fn is_fit(ip: &IpAddr) -> bool {
    /// Metadata services that are not link-local.
    const METADATA: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))];
    let is_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !is_local && !ip.is_unspecified() && !ip.is_multicast() && !METADATA.contains(ip)
}

#[cfg(test)]
mod tests {
    use super::super::tests::target;
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_leads_nowhere_that_credentials_are_handed_out() {
        let forbidden = [
            "169.254.169.254",
            "169.254.0.1",
            "fe80::1",
            "febf::1",
            "::ffff:169.254.169.254",
            "fd00:ec2::254",
            "100.100.100.200",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ];
        for one in forbidden {
            let refused = usable(ips(&[one])).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{one}");
        }
        let mixed = ["10.0.0.2", "169.254.169.254", "10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "127.0.0.1"];
        let fit = ips(&["10.0.0.1", "10.0.0.2", "127.0.0.1", "2001:db8::1"]);
        assert_eq!(*usable(ips(&mixed)).unwrap(), *fit);
        assert_eq!(usable(Vec::new()).unwrap_err().kind(), io::ErrorKind::NotFound);
        let many = (0..1_000_u32).map(|nth| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + nth))).collect();
        assert_eq!(usable(many).unwrap().len(), MAX_ADDRESSES);
    }

    #[test]
    fn failures_keep_what_was_known() {
        let site = Site::new(target("http://api.test:81"));
        assert!(site.has_name() && site.addresses().is_empty());
        assert!(site.learn(Ok(ips(&["10.0.0.2", "10.0.0.1"]))).unwrap());
        assert!(!site.learn(Ok(ips(&["10.0.0.1", "10.0.0.2", "10.0.0.2"]))).unwrap(), "the same in another order");
        let known = ["10.0.0.1:81", "10.0.0.2:81"].map(|address| address.parse().unwrap());
        for failure in [Ok(Vec::new()), Ok(ips(&["fe80::1"])), Err(io::ErrorKind::TimedOut.into())] {
            assert!(site.learn(failure).is_err());
            assert_eq!(site.addresses(), known);
        }
        assert!(site.learn(Ok(ips(&["10.0.0.3"]))).unwrap());
    }

    #[test]
    fn an_address_is_known_as_it_is_written() {
        for (url, address) in [("http://169.254.1.1:80", "169.254.1.1:80"), ("https://[::1]", "[::1]:443")] {
            let site = Site::new(target(url));
            assert!(!site.has_name());
            assert_eq!(site.addresses(), [address.parse().unwrap()]);
        }
    }
}
