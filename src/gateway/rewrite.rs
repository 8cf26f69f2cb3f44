//! Where a request goes on to: the path without the route's prefix and with another, the host as the route says.
//!
//! Everything that decides (endpoints, limits, locks, the log) is by the client's own canonical path. What is left of it after
//! whole segments are taken off, with whole canonical segments before it, is canonical again, so the upstream sees no path that
//! two readers could read differently either.

use crate::config::{HostRule, RouteOptions, Scheme, Upstream};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri, header};

/// Bytes of a target that an `http::Uri` can hold.
const MAX_TARGET_BYTES: usize = u16::MAX as usize - 1;

/// Whether a target still fits once it is rewritten.
pub(super) fn fits(uri: &Uri, options: &RouteOptions) -> bool {
    let length = uri.path_and_query().map_or(0, |target| target.as_str().len());
    options.add_prefix.is_empty() || length + options.add_prefix.len() <= MAX_TARGET_BYTES
}

/// The target as the upstream gets it.
pub(super) fn target(uri: Uri, options: Option<&RouteOptions>) -> Uri {
    let rewritten = options.filter(|options| !(options.strip_prefix.is_empty() && options.add_prefix.is_empty()));
    let rewritten = rewritten.and_then(|options| {
        let path = path(uri.path(), &options.strip_prefix, &options.add_prefix);
        let target = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        PathAndQuery::try_from(target).ok()
    });
    match rewritten {
        Some(target) => Uri::from(target),
        None => origin_form(uri),
    }
}

fn origin_form(uri: Uri) -> Uri {
    if uri.path_and_query().is_some() && uri.scheme().is_none() && uri.authority().is_none() {
        return uri;
    }
    let path = uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::from(path)
}

/// `path` without `strip` at its beginning, after `add`. Routes look past the case of letters, so `strip` is as long in any.
fn path(path: &str, strip: &str, add: &str) -> String {
    let begins = path.get(..strip.len()).is_some_and(|start| start.eq_ignore_ascii_case(strip));
    let rest = path.get(strip.len()..).filter(|rest| begins && (rest.is_empty() || rest.starts_with('/')));
    match (add, rest.unwrap_or(path)) {
        ("", "") => "/".to_owned(),
        (add, rest) => format!("{add}{rest}"),
    }
}

/// The `Host` for the upstream; `None` where the client's goes on. By default that is so towards a plain upstream; one that is
/// reached over TLS is known by its own name. A request of HTTP/1.0 that names no host gets the server's.
pub(super) fn host(upstream: &Upstream, parts: &Parts, options: Option<&RouteOptions>) -> Option<HeaderValue> {
    let server = upstream.servers.first()?;
    let replaced = match options.map(|options| &options.host) {
        Some(HostRule::Fixed(host)) => return Some(host.clone()),
        Some(HostRule::Keep) => false,
        Some(HostRule::Server) => true,
        Some(HostRule::ByScheme) | None => server.scheme == Scheme::Https,
    };
    if !replaced && host_of(&parts.headers).is_some() {
        return None;
    }
    HeaderValue::from_str(server.authority.as_str()).ok()
}

/// The host that a request names: mostly with its first field, so that it is found sooner than its name is hashed.
pub(super) fn host_of(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.iter().find(|(name, _)| **name == header::HOST).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::canonical;
    use proptest::prelude::*;

    fn rewritten(target: &'static str, strip: &str, add: &str) -> String {
        let options = RouteOptions { strip_prefix: strip.into(), add_prefix: add.into(), ..RouteOptions::default() };
        super::target(Uri::from_static(target), Some(&options)).to_string()
    }

    #[test]
    fn prefixes_go_and_come() {
        for (from, strip, add, to) in [
            ("/api/x?y=/api", "/api", "", "/x?y=/api"),
            ("/api", "/api", "", "/"),
            ("/api?q", "/api", "", "/?q"),
            ("/api/", "/api", "", "/"),
            ("/API/x", "/api", "/v2", "/v2/x"),
            ("/api", "/api", "/v2", "/v2"),
            ("/api/", "/api", "/v2", "/v2/"),
            ("/x", "", "/v2/y", "/v2/y/x"),
            ("/", "", "/v2", "/v2/"),
            ("http://a.test/api/x?", "/api", "/v2", "/v2/x?"),
            ("http://a.test/api/x", "", "", "/api/x"),
        ] {
            assert_eq!(rewritten(from, strip, add), to, "{from}");
        }
    }

    #[test]
    fn a_target_must_fit() {
        let options = RouteOptions { add_prefix: "/v2".into(), ..RouteOptions::default() };
        let long = |bytes: usize| Uri::try_from(format!("/{}", "x".repeat(bytes - 1))).unwrap();
        assert!(fits(&long(MAX_TARGET_BYTES - 3), &options) && !fits(&long(MAX_TARGET_BYTES - 2), &options));
        assert_eq!(super::target(long(MAX_TARGET_BYTES - 3), Some(&options)).path().len(), MAX_TARGET_BYTES);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn a_canonical_path_stays_canonical(rest in "(/[a-z.;%2Fe]{0,4}){0,5}", add in "(/[a-z]{1,3}){0,2}") {
            let whole = format!("/Api{rest}");
            if let Ok(from) = canonical(whole.as_bytes())
                && from.as_str().get(4..).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                && from.as_str().starts_with("/Api")
            {
                let to = path(from.as_str(), "/api", &add);
                let again = canonical(to.as_bytes()).unwrap();
                prop_assert_eq!(again.as_str(), &to);
            }
        }
    }
}
