//! Which route a request takes: the most specific host first, then the longest path prefix.

use super::model::RouteOptions;
use crate::engine::RouteId;
use std::borrow::Cow;
use std::collections::HashMap;

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name, unique.
    pub name: Box<str>,
    /// Hosts in lower case, exact or `*.example.com`; empty: any.
    pub hosts: Box<[Box<str>]>,
    /// Segments the path begins with, with a leading and no trailing slash; empty: any.
    pub path_prefix: Box<str>,
    /// Index of its upstream in `Config::upstreams`.
    pub upstream: usize,
    /// What it does to what passes.
    pub options: RouteOptions,
    /// Protocols that a client may go on in, in lower case.
    pub upgrades: Box<[Box<str>]>,
}

/// Finds routes. A look-up hashes the host once per label; it allocates only for a host with capital letters.
#[derive(Clone, Debug, Default)]
pub struct Router {
    exact: HashMap<Box<str>, Prefixes>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Prefixes>,
    any: Prefixes,
}

/// The path prefixes of one host, the longest first.
#[derive(Clone, Debug, Default)]
struct Prefixes(Vec<(Box<str>, RouteId)>);

impl Prefixes {
    fn find(&self, path: &str) -> Option<RouteId> {
        self.0.iter().find(|(prefix, _)| begins_with(path, prefix)).map(|&(_, route)| route)
    }

    fn add(&mut self, prefix: &str, route: RouteId) -> Result<(), RouteId> {
        let folded = prefix.to_ascii_lowercase();
        match self.0.binary_search_by(|(known, _)| folded.len().cmp(&known.len()).then_with(|| (**known).cmp(&folded)))
        {
            Ok(place) => Err(self.0.get(place).map_or(route, |&(_, known)| known)),
            Err(place) => {
                self.0.insert(place, (folded.into(), route));
                Ok(())
            }
        }
    }
}

/// Whether a path begins with the segments of a prefix: `/v1` begins `/v1` and `/v1/x`, but not `/v10`. As with endpoints, the
/// case of letters makes no difference: else `/V1` would dodge the limits of the route `/v1`.
fn begins_with(path: &str, prefix: &str) -> bool {
    let (path, prefix) = (path.as_bytes(), prefix.as_bytes());
    let begins = path.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix));
    begins && path.get(prefix.len()).is_none_or(|&next| next == b'/')
}

impl Router {
    /// Adds a route.
    ///
    /// # Errors
    /// The route that already has the same host and prefix.
    pub fn add(&mut self, route: &Route, id: RouteId) -> Result<(), RouteId> {
        if route.hosts.is_empty() {
            return self.any.add(&route.path_prefix, id);
        }
        for host in &route.hosts {
            let prefixes = match host.strip_prefix("*.") {
                Some(suffix) => self.wildcard.entry(suffix.into()).or_default(),
                None => self.exact.entry(host.clone()).or_default(),
            };
            prefixes.add(&route.path_prefix, id)?;
        }
        Ok(())
    }

    /// Whether any route is for some hosts only.
    #[must_use]
    pub fn asks_for_hosts(&self) -> bool {
        !(self.exact.is_empty() && self.wildcard.is_empty())
    }

    /// The route of a request, `host` with or without a port. An exact host goes before a wildcard, a longer wildcard before a
    /// shorter one, any host last; among the routes of one host the longest prefix wins. A host none of whose prefixes fits
    /// leaves the request to the next less specific one. `*.example.com` stands for any number of labels, but at least one.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Option<RouteId> {
        if !self.asks_for_hosts() {
            return self.any.find(path);
        }
        let host = normal_host(host);
        let exact = self.exact.get(&*host).and_then(|prefixes| prefixes.find(path));
        exact.or_else(|| self.find_wildcard(&host, path)).or_else(|| self.any.find(path))
    }

    fn find_wildcard(&self, host: &str, path: &str) -> Option<RouteId> {
        if self.wildcard.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some(route) = self.wildcard.get(suffix).and_then(|prefixes| prefixes.find(path)) {
                return Some(route);
            }
            rest = suffix;
        }
        None
    }
}

/// A host as it is compared: no port, no dot at the end, lower case.
fn normal_host(host: &str) -> Cow<'_, str> {
    let end = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let host = host.get(..end).unwrap_or(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[(&[&str], &str)]) -> Router {
        let mut router = Router::default();
        for (id, (hosts, prefix)) in (0..).map(RouteId).zip(routes) {
            let hosts = hosts.iter().map(|&host| host.into()).collect();
            let route = Route {
                name: "r".into(),
                hosts,
                path_prefix: (*prefix).into(),
                upstream: 0,
                upgrades: Box::default(),
                options: RouteOptions::default(),
            };
            router.add(&route, id).unwrap();
        }
        router
    }

    #[test]
    fn the_most_specific_host_then_the_longest_prefix() {
        let router = router(&[
            (&[], ""),
            (&[], "/v1"),
            (&["*.example.com"], ""),
            (&["*.eu.example.com"], ""),
            (&["api.example.com", "[::1]"], "/v1"),
            (&["api.example.com"], "/v1/files"),
        ]);
        let cases = [
            ("other.org", "/", 0),
            ("other.org", "/v1/x", 1),
            ("other.org", "/v10", 0),
            ("a.example.com", "/v1", 2),
            ("a.b.example.com:80", "/", 2),
            ("a.eu.example.com", "/", 3),
            ("example.com", "/", 0),
            ("API.Example.com.:8443", "/v1", 4),
            ("[::1]:8080", "/v1/", 4),
            ("api.example.com", "/v1/files/f", 5),
            ("api.example.com", "/v1/filesystem", 4),
            ("api.example.com", "/v2", 2),
            ("other.org", "/V1/x", 1),
            ("api.example.com", "/V1/Files", 5),
        ];
        for (host, path, wanted) in cases {
            assert_eq!(router.find(host, path), Some(RouteId(wanted)), "{host} {path}");
        }
    }

    #[test]
    fn the_same_host_and_prefix_twice_is_told() {
        let mut router = router(&[(&["a.org", "b.org"], "/v1"), (&[], "/x")]);
        let mut add = |hosts: &[&str], prefix: &str| {
            let hosts = hosts.iter().map(|&host| host.into()).collect();
            router.add(
                &Route {
                    name: "r".into(),
                    hosts,
                    path_prefix: prefix.into(),
                    upstream: 0,
                    upgrades: Box::default(),
                    options: RouteOptions::default(),
                },
                RouteId(9),
            )
        };
        assert_eq!(add(&["b.org"], "/v1"), Err(RouteId(0)));
        assert_eq!(add(&["b.org"], "/V1"), Err(RouteId(0)));
        assert_eq!(add(&["b.org"], "/v2"), Ok(()));
        assert_eq!(add(&[], "/x"), Err(RouteId(1)));
    }

    #[test]
    fn no_route_is_none() {
        assert_eq!(Router::default().find("a.org", "/"), None);
        assert_eq!(router(&[(&["*.a.org"], "")]).find("", "/"), None);
        assert_eq!(router(&[(&["*.a.org"], "")]).find("...", "/"), None);
    }
}
