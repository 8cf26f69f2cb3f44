//! Heads of HTTP/2: what two readers could read differently is refused, and what is left looks as HTTP/1 has it.
//!
//! The library has refused already: pseudo-headers that come twice, late, or are unknown; names in capitals or with bytes that no
//! name has; CR, LF and NUL in values; `Connection` and what belongs to it; `TE` other than `trailers`; a `Content-Length` that
//! is no number, or differs from the body.

use crate::server::wire::{WireFault, WireLimits, check_authority, check_target, is_never_trailer, is_shadow_name};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};

/// Checks a request's head and gives it the `Host` and the one `Cookie` that it would have in HTTP/1.
///
/// # Errors
/// What is wrong with it.
pub(super) fn admit(parts: &mut Parts, limits: &WireLimits) -> Result<(), WireFault> {
    if head_bytes(parts) > limits.max_head_bytes {
        return Err(WireFault::HeadTooLarge);
    }
    if parts.headers.len() > limits.max_headers {
        return Err(WireFault::TooManyHeaders);
    }
    check_uri(parts, limits)?;
    for (name, value) in &parts.headers {
        if is_shadow_name(name.as_str().as_bytes()) {
            return Err(WireFault::HeaderShadow);
        }
        if matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t']) {
            return Err(WireFault::HeaderBlanks);
        }
    }
    if let Some(authority) = parts.uri.authority() {
        if authority.as_str().contains('@') {
            return Err(WireFault::TargetUserInfo);
        }
        check_authority(authority.as_str().as_bytes())?;
        if !parts.headers.contains_key(header::HOST) {
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_| WireFault::HostInvalid)?;
            parts.headers.insert(header::HOST, host);
        }
    }
    join_cookies(&mut parts.headers);
    Ok(())
}

/// What a head counts for: its fields and 32 bytes for each, as HTTP/2 has it (RFC 9113 §6.5.2). Of the pseudo-headers only
/// the target can be long.
fn head_bytes(parts: &Parts) -> usize {
    const FIELD_BYTES: usize = 32;
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let authority = parts.uri.authority().map_or(0, |authority| authority.as_str().len());
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES);
    target + authority + fields.sum::<usize>()
}

fn check_uri(parts: &Parts, limits: &WireLimits) -> Result<(), WireFault> {
    // CONNECT has none, and is refused as a method.
    let Some(target) = parts.uri.path_and_query() else { return Ok(()) };
    if target.as_str().len() > limits.max_target_bytes {
        return Err(WireFault::TargetTooLong);
    }
    check_target(target.as_str().as_bytes(), parts.method == Method::OPTIONS).map(drop)
}

/// HTTP/2 may cut `Cookie` into crumbs, HTTP/1 has one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Refuses trailers that would frame, route or authenticate a message already on its way.
///
/// # Errors
/// When there is one.
pub(super) fn check_trailers(trailers: &HeaderMap) -> Result<(), WireFault> {
    let bad = trailers.keys().any(|name| is_never_trailer(name.as_str().as_bytes()));
    if bad { Err(WireFault::TrailerName) } else { Ok(()) }
}

/// What belongs to a connection of HTTP/1 and has no place in HTTP/2.
const NOT_IN_HTTP2: [HeaderName; 4] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, HeaderName::from_static("keep-alive")];

/// Makes an answer's head fit for HTTP/2. `length` is that of its body, where it is known.
pub(super) fn finish<B>(response: &mut Response<B>, length: Option<u64>, date: impl FnOnce() -> Option<HeaderValue>) {
    let bodiless = is_bodiless(response.status());
    let headers = response.headers_mut();
    for name in &NOT_IN_HTTP2 {
        headers.remove(name);
    }
    if let Some(length) = length.filter(|_| !bodiless && !headers.contains_key(header::CONTENT_LENGTH)) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if !headers.contains_key(header::DATE)
        && let Some(date) = date()
    {
        headers.insert(header::DATE, date);
    }
}

/// Whether answers with this status have no body.
pub(super) fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("https://api.test/v1/charges?a=b");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn admitted(headers: &[(&str, &str)]) -> Result<HeaderMap, WireFault> {
        let mut parts = parts(headers);
        admit(&mut parts, &WireLimits { max_headers: 5, max_target_bytes: 20, ..WireLimits::default() })?;
        Ok(parts.headers)
    }

    #[test]
    fn crumbs_become_one_cookie_and_the_authority_a_host() {
        let headers = admitted(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]).unwrap();
        assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
        assert_eq!(headers["host"], "api.test");
        assert_eq!(
            admitted(&[("host", "other.test")]).unwrap()["host"],
            "other.test",
            "who contradicts is refused later"
        );
    }

    /// Half of what a head may be.
    const HALF: &str = match std::str::from_utf8(&[b'x'; 16 * 1024]) {
        Ok(half) => half,
        Err(_) => "",
    };

    #[test]
    fn heads_that_could_be_read_in_two_ways() {
        for (headers, fault) in [
            (&[("a", " x")][..], WireFault::HeaderBlanks),
            (&[("a", "x\t")], WireFault::HeaderBlanks),
            (&[("content_length", "1")], WireFault::HeaderShadow),
            (&[("x", "y"); 6], WireFault::TooManyHeaders),
            (&[("x", HALF), ("y", HALF)], WireFault::HeadTooLarge),
        ] {
            assert_eq!(admitted(headers).unwrap_err(), fault, "{headers:?}");
        }
        for (uri, fault) in [
            ("https://a.test/123456789012345678901", WireFault::TargetTooLong),
            ("https://u@a.test/", WireFault::TargetUserInfo),
            ("https://a,b/", WireFault::HostInvalid),
            ("https://a.test/\u{e9}", WireFault::TargetByte),
        ] {
            let mut parts = parts(&[]);
            parts.uri = uri.parse().unwrap();
            let limits = WireLimits { max_target_bytes: 20, ..WireLimits::default() };
            assert_eq!(admit(&mut parts, &limits).unwrap_err(), fault, "{uri}");
        }
    }

    #[test]
    fn trailers_that_decide_nothing_pass() {
        let trailers = |name: &str| HeaderMap::from_iter([(HeaderName::try_from(name).unwrap(), HeaderValue::from(1))]);
        assert_eq!(check_trailers(&trailers("grpc-status")), Ok(()));
        for bad in ["content-length", "authorization", "host", "tollgate-account", "x_forwarded_for", "cookie"] {
            assert_eq!(check_trailers(&trailers(bad)), Err(WireFault::TrailerName), "{bad}");
        }
    }
}
