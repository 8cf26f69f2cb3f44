//! What makes a request ambiguous is refused before anything is read from it.
//!
//! The connection's own scanner refuses most of this on HTTP/1 already; here it holds whatever the request came over.

use super::exchange::Peer;
use super::head::Head;
use super::headers::DECIDING;
use super::refusal::BadRequest;
use crate::config::Via;
use crate::swar;
use crate::tls::Handshake;
use http::{Method, StatusCode, Version, header};

/// Refuses a head that two readers could read differently.
///
/// # Errors
/// What is wrong with it.
pub fn check(head: &Head) -> Result<(), BadRequest> {
    check_method(&head.method)?;
    // Fields and names are equally many unless some name comes twice, which is rare, so the names are looked up then only.
    if head.headers.len() != head.headers.keys_len() {
        let comes_twice = |name| head.headers.get_all(name).iter().nth(1).is_some();
        if DECIDING.iter().any(comes_twice) {
            return Err(BadRequest::new("A header that may be sent only once was sent more than once."));
        }
    }
    if head.has(&header::CONTENT_LENGTH) && head.has(&header::TRANSFER_ENCODING) {
        return Err(BadRequest::new("A request cannot have both Content-Length and Transfer-Encoding."));
    }
    check_expect(head)?;
    check_host(head)
}

/// Whether a request has passed gateways of this one's name so often that it must be going in a circle. Two in a row may well
/// have one name, an edge and a sidecar.
#[must_use]
pub fn is_loop(head: &Head, via: &Via) -> bool {
    if !head.has(&header::VIA) {
        return false;
    }
    let lines = head.headers.get_all(header::VIA).iter().filter_map(|line| line.to_str().ok());
    let hops = lines.flat_map(|line| line.split(',')).filter_map(|hop| hop.split_ascii_whitespace().nth(1));
    hops.filter(|name| name.eq_ignore_ascii_case(&via.name)).nth(via.max.saturating_sub(1)).is_some()
}

/// Refuses a query that carries a secret key: some servers take a key from there, and would serve another account than the one
/// that pays; all of them write it into their logs. Publishable keys are no secrets.
///
/// # Errors
/// When a value begins as a secret key does.
pub fn check_query(query: &str) -> Result<(), BadRequest> {
    // Every prefix of a key has an underscore, plain or escaped, and few queries have either.
    let may_hold_one = memchr::memchr2(b'_', b'%', query.as_bytes()).is_some();
    let holds_one =
        || query.split(['&', ';']).any(|pair| is_secret(pair.split_once('=').map_or("", |(_, value)| value)));
    if may_hold_one && holds_one() {
        return Err(BadRequest::new(
            "An API key must not be in the URL. Send it in the Authorization header, and roll this one.",
        ));
    }
    Ok(())
}

/// Whether a value, its escapes decoded, begins with the prefix of a secret key.
fn is_secret(value: &str) -> bool {
    const PREFIX_BYTES: usize = 8;
    let mut decoded = [0; PREFIX_BYTES];
    let mut rest = value.bytes();
    for place in &mut decoded {
        *place = match rest.next() {
            Some(b'%') => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => u8::try_from(high << 4 | low).unwrap_or(0),
                    _ => return false,
                }
            }
            Some(byte) => byte,
            None => return false,
        };
    }
    [b"sk_live_", b"sk_test_", b"rk_live_", b"rk_test_"].contains(&&decoded)
}

/// Refuses a request for a host that its connection was not opened for: the client asked for one name in its handshake and
/// for another one now, which the certificate it was shown does not cover (RFC 9110 §15.5.20).
///
/// # Errors
/// 421: the client may try again on another connection.
pub fn check_directed(head: &Head, peer: &Peer) -> Result<(), BadRequest> {
    let is_served = |handshake: &Handshake| {
        let host = host(head);
        host.is_empty() || handshake.serves(host)
    };
    if peer.handshake().is_none_or(is_served) {
        return Ok(());
    }
    let message = "This connection was opened for another host.";
    Err(BadRequest { status: StatusCode::MISDIRECTED_REQUEST, message })
}

/// The host a request is for, without port; empty where HTTP/1.0 names none.
pub fn host(head: &Head) -> &str {
    let text = match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => head.get(&header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default(),
    };
    strip_port(text)
}

fn strip_port(host: &str) -> &str {
    host.get(..without_port(host.as_bytes())).unwrap_or(host)
}

/// How much of it stands before the port.
fn without_port(host: &[u8]) -> usize {
    // Bytes from the end: a search for the last colon by letters costs many times as much, and this is done for each request.
    let digits = host.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let end = host.len() - digits;
    match host.get(..end) {
        Some([.., b':']) => end - 1,
        _ => host.len(),
    }
}

fn check_method(method: &Method) -> Result<(), BadRequest> {
    // What nearly all requests have needs no second look.
    if matches!(*method, Method::GET | Method::POST | Method::DELETE) {
        return Ok(());
    }
    let refused = matches!(*method, Method::CONNECT | Method::TRACE);
    if refused {
        let message = "This method is not supported here.";
        return Err(BadRequest { status: StatusCode::METHOD_NOT_ALLOWED, message });
    }
    // Methods are spelled in capitals. Frameworks that capitalize what they get (Werkzeug) would run `post` as the endpoint's
    // POST, while here it is a method that no endpoint has.
    if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(BadRequest::new("The method of a request is written in capital letters."));
    }
    if method.as_str().len() > 32 {
        return Err(BadRequest { status: StatusCode::NOT_IMPLEMENTED, message: "This method is not known." });
    }
    Ok(())
}

fn check_expect(head: &Head) -> Result<(), BadRequest> {
    let fine = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if !head.has(&header::EXPECT) || head.headers.get_all(header::EXPECT).iter().all(fine) {
        return Ok(());
    }
    Err(BadRequest { status: StatusCode::EXPECTATION_FAILED, message: "This expectation cannot be met." })
}

fn check_host(head: &Head) -> Result<(), BadRequest> {
    let header = head.get(&header::HOST).map(http::HeaderValue::as_bytes);
    if header.is_some_and(|host| !is_valid_host(host)) {
        return Err(BadRequest::new("The Host header is not valid."));
    }
    match (head.uri.authority(), header) {
        (Some(authority), _) if authority.as_str().contains('@') => {
            Err(BadRequest::new("The request target must not hold user information."))
        }
        (Some(authority), Some(host)) if !authority.as_str().as_bytes().eq_ignore_ascii_case(host) => {
            Err(BadRequest::new("The Host header contradicts the request target."))
        }
        (None, None) if head.version > Version::HTTP_10 => Err(BadRequest::new("A Host header is required.")),
        _ => Ok(()),
    }
}

/// `uri-host [ ":" port ]` of RFC 9110 §7.2, the host not empty.
fn is_valid_host(text: &[u8]) -> bool {
    let host = text.get(..without_port(text)).unwrap_or_default();
    match host {
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
        }
        _ => !host.is_empty() && host.iter().all(|&byte| NAME[usize::from(byte)]),
    }
}

/// Whether each of the 256 bytes may be in a registered name (RFC 3986 §3.2.2).
static NAME: [bool; 256] = swar::alphanumeric_or(b"-._~%!$&'()*+,;=");

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Request};

    fn parts(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Head {
        build(Request::builder().uri("/v1/charges")).body(()).unwrap().into_parts().0.into()
    }

    #[test]
    fn hosts() {
        for good in ["a", "api.example.com:8080", "127.0.0.1", "[::1]:80", "A-b_c"] {
            assert_eq!(check(&parts(|request| request.header("host", good))), Ok(()), "{good}");
        }
        for bad in ["", ":80", "a/../b?x", "a b", "a@b", "[::1", "[zz]", "a:b", "a,b:1x"] {
            assert!(check(&parts(|request| request.header("host", bad))).is_err(), "{bad}");
        }
        assert!(check(&parts(|request| request)).is_err());
        assert_eq!(check(&parts(|request| request.version(Version::HTTP_10))), Ok(()));
        assert!(check(&parts(|request| request.header("host", "a").header("host", "a"))).is_err());
        let absolute =
            |host: &'static str| parts(move |request| request.uri("http://a.example/x").header("host", host));
        assert_eq!(check(&absolute("A.example")), Ok(()));
        assert!(check(&absolute("b.example")).is_err());
        assert_eq!(host(&absolute("a.example")), "a.example");
        assert_eq!(host(&parts(|request| request.header("host", "[::1]:80"))), "[::1]");
    }

    #[test]
    fn a_circle_is_one_when_it_has_closed_often_enough() {
        let config = crate::config::parse(
            "[auth]\nmode = 'passthrough'\n[upstreams.a]\nservers = 'http://a'\n[server]\nvia = 'edge-1'\nmax_via = 2\n",
            std::path::Path::new("t.toml"),
            &crate::engine::Seed([1, 2]),
        );
        let via = config.unwrap().server.via;
        let is_loop = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::VIA, line.parse().unwrap());
            }
            let mut request = Request::new(());
            *request.headers_mut() = headers;
            super::is_loop(&request.into_parts().0.into(), &via)
        };
        for no in [&[][..], &["1.1 edge-1"], &["1.1 edge-10, 1.1 edge", "1.1 edge-1"], &["edge-1 edge-2, edge-1"]] {
            assert!(!is_loop(no), "{no:?}");
        }
        for yes in
            [&["1.1 edge-1, 1.1 other, 2 Edge-1"][..], &["1.1 edge-1", "HTTP/1.1 edge-1 (us)"], &["1.1 edge-1"; 5]]
        {
            assert!(is_loop(yes), "{yes:?}");
        }
    }

    #[test]
    fn a_secret_key_in_the_query_is_refused() {
        for bad in ["api_key=sk_live_1", "a=1&key=rk_test_x&b", "k=%73k%5Flive_1", "a;k=sk_test_9", "=sk_live_"] {
            assert!(check_query(bad).is_err(), "{bad}");
        }
        for good in [
            "",
            "a=%zz",
            "key=pk_live_1",
            "q=about+sk_live_keys",
            "session=cs_test_1",
            "sk_live_1",
            "k=%7",
            "k=sk_live",
        ] {
            assert_eq!(check_query(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_decides_comes_once() {
        for name in DECIDING {
            let twice = parts(|request| request.header("host", "a").header(&name, "1").header(&name, "1"));
            assert!(check(&twice).is_err(), "{name}");
        }
        let both = parts(|request| {
            request.header("host", "a").header("content-length", "1").header("transfer-encoding", "chunked")
        });
        assert!(check(&both).is_err());
    }

    #[test]
    fn methods_and_expectations() {
        assert_eq!(check(&parts(|request| request.method("PURGE").header("host", "a"))), Ok(()));
        for method in ["CONNECT", "TRACE", "post", "Get", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGH"] {
            assert!(check(&parts(|request| request.method(method).header("host", "a"))).is_err(), "{method}");
        }
        assert!(check(&parts(|request| request.header("host", "a").header("expect", "200-ok"))).is_err());
        assert_eq!(check(&parts(|request| request.header("host", "a").header("expect", "100-Continue"))), Ok(()));
    }
}
