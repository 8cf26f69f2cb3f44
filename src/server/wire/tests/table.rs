//! Every bad input with its fault, and the good ones beside them, each cut in every way.

use super::*;
use WireFault as F;

fn with(headers: &str) -> Vec<u8> {
    format!("POST /v1/payouts HTTP/1.1\r\nHost: api.example.com\r\n{headers}\r\n").into_bytes()
}

fn line(request_line: &str) -> Vec<u8> {
    format!("{request_line}\r\nHost: a\r\n\r\n").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    [&with("Transfer-Encoding: chunked\r\n")[..], body.as_bytes()].concat()
}

fn refused(bytes: &[u8], fault: WireFault) {
    let passed = pass_in_all_ways(bytes);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    assert_eq!(passed.verdict, Some(fault), "{shown:?}");
    assert_eq!((passed.bytes.len(), passed.requests, passed.error), (0, 0, None), "{shown:?}");
}

/// The head passes, the body up to `good` bytes, then the reader fails.
fn body_refused(bytes: &[u8], good: usize, fault: WireFault) {
    let passed = pass_in_all_ways(bytes);
    let head = with("Transfer-Encoding: chunked\r\n").len();
    assert_eq!(passed.verdict, Some(fault), "{:?}", String::from_utf8_lossy(&bytes[head..bytes.len().min(head + 200)]));
    assert!(passed.bytes == bytes[..head + good], "{} bytes passed", passed.bytes.len() - head);
    assert_eq!((passed.requests, passed.error), (1, Some(io::ErrorKind::InvalidData)));
}

fn passes(bytes: &[u8], requests: u64) {
    let passed = pass_in_all_ways(bytes);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    assert_eq!(passed.verdict, None, "{shown:?}");
    assert!(passed.bytes == bytes, "changed: {shown:?}");
    assert_eq!((passed.requests, passed.error), (requests, None), "{shown:?}");
}

#[test]
fn lengths_that_two_parsers_read_differently() {
    for (headers, fault) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", F::TwoLengths),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", F::TwoLengths),
        ("Content-Length: 2\r\nContent-Length: 3\r\n", F::HeaderRepeated),
        ("Content-Length: 2\r\ncontent-length: 2\r\n", F::HeaderRepeated),
        ("Content-Length: 2, 2\r\n", F::ContentLength),
        ("Content-Length: +2\r\n", F::ContentLength),
        ("Content-Length: -1\r\n", F::ContentLength),
        ("Content-Length: 0x2\r\n", F::ContentLength),
        ("Content-Length: 2 2\r\n", F::ContentLength),
        ("Content-Length:\r\n", F::ContentLength),
        ("Content-Length: 010\r\n", F::ContentLength),
        ("Content-Length: 00\r\n", F::ContentLength),
        ("Content-Length: 18446744073709551616\r\n", F::ContentLength),
        ("Content-Length: 18446744073709551615\r\n", F::ContentLength),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", F::HeaderRepeated),
        ("Transfer-Encoding: ,chunked\r\n", F::TransferEncoding),
        ("Transfer-Encoding: chunked,\r\n", F::TransferEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", F::TransferEncoding),
        ("Transfer-Encoding: gzip, chunked\r\n", F::TransferCoding),
        ("Transfer-Encoding: xchunked\r\n", F::TransferEncoding),
        ("Transfer-Encoding: chunked, gzip\r\n", F::TransferEncoding),
        ("Transfer-Encoding: identity\r\n", F::TransferEncoding),
        ("Transfer-Encoding: \"chunked\"\r\n", F::TransferEncoding),
        ("Transfer-Encoding: chunked;q=1\r\n", F::TransferEncoding),
        ("Transfer-Encoding:\r\n", F::TransferEncoding),
        ("Transfer-Encoding: \x0bchunked\r\n", F::HeaderValue),
    ] {
        refused(&with(headers), fault);
    }
    refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", F::TransferEncodingHttp10);
}

#[test]
fn header_lines() {
    for (headers, fault) in [
        ("A: b\r\n c\r\n", F::Folded),
        ("A: b\r\n\tc\r\n", F::Folded),
        ("A : b\r\n", F::HeaderName),
        ("A\r\n", F::HeaderName),
        (": b\r\n", F::HeaderName),
        ("A b: c\r\n", F::HeaderName),
        ("A(: c\r\n", F::HeaderName),
        ("\u{e4}: c\r\n", F::HeaderName),
        ("A: b\0c\r\n", F::HeaderValue),
        ("A: b\rc\r\n", F::HeaderValue),
        ("A: b\r\r\n", F::HeaderValue),
        ("A: b\x1bc\r\n", F::HeaderValue),
        ("A: b\x7fc\r\n", F::HeaderValue),
        ("A: b\n", F::BareLineFeed),
        ("A: b\nC: d\r\n", F::BareLineFeed),
        ("Content_Length: 5\r\n", F::HeaderShadow),
        ("Transfer_Encoding: chunked\r\n", F::HeaderShadow),
        ("stripe_account: acct_1\r\n", F::HeaderShadow),
        ("Idempotency_Key: 1\r\n", F::HeaderShadow),
        ("X_Forwarded-For: 1\r\n", F::HeaderShadow),
        ("TOLLGATE_ACCOUNT: acct_1\r\n", F::HeaderShadow),
        ("Authorization: Bearer a\r\nAuthorization: Bearer b\r\n", F::HeaderRepeated),
        ("Stripe-Account: acct_1\r\nstripe-account: acct_1\r\n", F::HeaderRepeated),
        ("Stripe-Context: a\r\nStripe-Context: a\r\n", F::HeaderRepeated),
        ("Idempotency-Key: a\r\nIdempotency-Key: b\r\n", F::HeaderRepeated),
        ("Content-Type: a/b\r\nContent-Type: a/b\r\n", F::HeaderRepeated),
        ("Expect: 200-ok\r\n", F::Expectation),
    ] {
        refused(&with(headers), fault);
    }
    refused(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", F::Folded);
    refused(b"GET / HTTP/1.1\nHost: a\n\n", F::BareLineFeed);
    refused(b"Useless:\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", F::BareLineFeed);
}

#[test]
fn hosts() {
    refused(b"GET / HTTP/1.1\r\n\r\n", F::HostMissing);
    refused(b"GET http://a/ HTTP/1.1\r\n\r\n", F::HostMissing);
    refused(&with("Host: api.example.com\r\n"), F::HeaderRepeated);
    for host in [
        "", "a/../b?x", "a b", "a, b", "u@a", "a:", "a:0", "a:65536", "a:1:2", "a:+1", "a:8o", ":80", "[", "[::1",
        "::1", "[]", "[g]", "[::1]x", "[::1]:", "[::1]80", "a%2fb", "a\\b", "a#b", "\u{e4}",
    ] {
        refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), F::HostInvalid);
        refused(format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes(), F::HostInvalid);
    }
    for host in ["a", "a.b-c_d~e.", "127.0.0.1:8080", "[::1]", "[::1]:443", "A:65535"] {
        passes(format!("GET / HTTP/1.1\r\nHost:\t {host} \t\r\n\r\n").as_bytes(), 1);
    }
    passes(b"GET / HTTP/1.0\r\n\r\n", 1);
}

#[test]
fn targets() {
    for (target, fault) in [
        ("a:80", F::TargetForm),
        ("!", F::TargetForm),
        ("~", F::TargetForm),
        ("v1/charges", F::TargetForm),
        ("?a", F::TargetForm),
        ("*", F::TargetForm),
        ("ftp://a/", F::TargetForm),
        ("http:/a", F::TargetForm),
        ("http://b/", F::HostContradicts),
        ("http://a:80/", F::HostContradicts),
        ("http:///v1", F::HostInvalid),
        ("http://?x", F::HostInvalid),
        ("http://u@a/", F::TargetUserInfo),
        ("http://u:p@a/", F::TargetUserInfo),
        ("http://a#x", F::TargetFragment),
        ("/v1/charges#x", F::TargetFragment),
        ("/v1?a#x", F::TargetFragment),
        ("/v1/a b", F::TargetByte),
        ("/v1/a\tb", F::TargetByte),
        ("/v1/a\rb", F::TargetByte),
        ("/v1/\0", F::TargetByte),
        ("/v1/\x7f", F::TargetByte),
        ("/v1/<a>", F::TargetByte),
        ("/v1/\u{e4}", F::TargetByte),
        ("/v1/search?query=name:\"a\"", F::TargetByte),
        ("/v1/search?query=amount>1", F::TargetByte),
        ("", F::TargetForm),
    ] {
        refused(&line(&format!("GET {target} HTTP/1.1")), fault);
    }
    refused(b"GET /?a=\xff HTTP/1.1\r\nHost: a\r\n\r\n", F::TargetByte);
    refused(&line(&format!("GET /{} HTTP/1.1", "a".repeat(8 * 1024))), F::TargetTooLong);
    refused(&line(&format!("GET /{} HTTP/1.1", "a".repeat(60 * 1024))), F::TargetTooLong);
    passes(&line(&format!("GET /{} HTTP/1.1", "a".repeat(8 * 1024 - 1))), 1);
    for target in
        ["/", "//v1/x", "/v1/%zz?a=b&c[]=d|{}", "http://a", "http://A/v1", "https://a?x=1", "/?q=\u{e4}", "/a?b?c"]
    {
        passes(&line(&format!("GET {target} HTTP/1.1")), 1);
    }
    passes(&line("OPTIONS * HTTP/1.1"), 1);
}

#[test]
fn methods_and_versions() {
    for (request_line, fault) in [
        ("G{T / HTTP/1.1", F::MethodByte),
        ("GET\t/ HTTP/1.1", F::RequestLine),
        ("G\tT / HTTP/1.1", F::MethodByte),
        ("CONNECT a:443 HTTP/1.1", F::MethodRefused),
        ("TRACE / HTTP/1.1", F::MethodRefused),
        ("GET / HTTP/1.2", F::Version),
        ("GET / HTTP/2.0", F::Version),
        ("GET / HTTP/0.9", F::Version),
        ("GET / http/1.1", F::RequestLine),
        ("GET / HTTP/1.10", F::RequestLine),
        ("GET / HTTP/1.1 ", F::RequestLine),
        ("GET /", F::RequestLine),
        ("GET", F::RequestLine),
        ("PROXY TCP4 10.0.0.1 10.0.0.2 1 2", F::RequestLine),
    ] {
        refused(&line(request_line), fault);
    }
    refused(&line(&format!("{} / HTTP/1.1", "A".repeat(33))), F::MethodTooLong);
    refused(&line(&format!("{} / HTTP/1.1", "A".repeat(5000))), F::MethodTooLong);
    refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", F::Version);
    refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", F::NotHttp);
    refused(b"\0", F::NotHttp);
    refused(b"\xff\xf4", F::NotHttp);
    for method in ["GET", "get", "PURGE", "M-SEARCH", &"A".repeat(32)] {
        passes(&line(&format!("{method} / HTTP/1.1")), 1);
    }
}

#[test]
fn bounds_of_a_head() {
    refused(b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", F::LeadingLines);
    refused(&b"\r\n".repeat(40 * 1024), F::LeadingLines);
    refused(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", F::BareLineFeed);
    refused(&with(&"A: b\r\n".repeat(100)), F::TooManyHeaders);
    refused(&with(&format!("A: {}\r\n", "b".repeat(500 * 1024))), F::HeadTooLarge);
    refused(&[b'A'; 40 * 1024], F::TargetTooLong);
    passes(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    passes(&with(&"A: b\r\n".repeat(99)), 1);
    let around = with("A: \r\n").len();
    passes(&with(&format!("A: {}\r\n", "b".repeat(32 * 1024 - around))), 1);
    refused(&with(&format!("A: {}\r\n", "b".repeat(32 * 1024 - around + 1))), F::HeadTooLarge);
}

#[test]
fn chunks() {
    for (body, good, fault) in [
        ("0x1\r\na\r\n0\r\n\r\n", 1, F::ChunkSize),
        ("-1\r\n", 0, F::ChunkSize),
        ("+1\r\n", 0, F::ChunkSize),
        (" 1\r\n", 0, F::ChunkSize),
        ("1 \r\n", 1, F::ChunkSize),
        ("\r\n", 0, F::ChunkSize),
        (";a\r\n", 0, F::ChunkSize),
        ("1\na\r\n", 1, F::ChunkSize),
        ("00000000000000001\r\n", 16, F::ChunkSize),
        ("1\r\rab", 2, F::ChunkEnd),
        ("1\r\nab\r\n", 4, F::ChunkEnd),
        ("1\r\na\n0\r\n\r\n", 4, F::ChunkEnd),
        ("1\r\na\r0\r\n\r\n", 5, F::ChunkEnd),
        ("1;a\nb\r\na\r\n", 3, F::ChunkExtension),
        ("1;a\rb\r\na\r\n", 4, F::ChunkEnd),
        ("1;a\0\r\na\r\n", 3, F::ChunkExtension),
        ("0\r\nContent-Length: 5\r\n\r\n", 3, F::TrailerName),
        ("0\r\nTransfer-Encoding: chunked\r\n\r\n", 3, F::TrailerName),
        ("0\r\nX: y\r\nauthorization: Bearer a\r\n\r\n", 3, F::TrailerName),
        ("0\r\nHost: a\r\n\r\n", 3, F::TrailerName),
        ("0\r\nStripe-Account: acct_1\r\n\r\n", 3, F::TrailerName),
        ("0\r\nTollgate-Account: acct_1\r\n\r\n", 3, F::TrailerName),
        ("0\r\nX-Forwarded-For: 1\r\n\r\n", 3, F::TrailerName),
        ("0\r\nContent_Length: 5\r\n\r\n", 3, F::TrailerName),
        ("0\r\nX y: z\r\n\r\n", 3, F::HeaderName),
        ("0\r\nX: y\r\n z\r\n\r\n", 3, F::Folded),
        ("0\r\nX: y\n\n", 3, F::BareLineFeed),
        ("0\r\n\n", 3, F::BareLineFeed),
    ] {
        body_refused(&chunked(body), good, fault);
    }
    body_refused(&chunked(&format!("1;{}\r\na\r\n", "e".repeat(20 * 1024))), 4 * 1024 + 2, F::ChunkExtension);
    body_refused(&chunked(&"1;e=1234567\r\na\r\n".repeat(600)), 16 * 409 + 2 + 6, F::ChunkExtension);
    body_refused(&chunked(&format!("0\r\nX: {}\r\n\r\n", "y".repeat(17 * 1024))), 3, F::TrailersTooLarge);
    body_refused(&chunked(&format!("0\r\n{}\r\n", "X: y\r\n".repeat(101))), 3, F::TooManyHeaders);
}

#[test]
fn good_bodies_and_pipelines() {
    let requests: [&[u8]; 9] = [
        b"GET /v1/charges?limit=3 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk_test_1\r\nUser_Agent: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n5;a=\"b\"\r\nhe\nlo\r\n0A\r\n0123456789\r\n000;z\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\nX-Checksum: abc\r\nY:\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\nA:\r\nB: \t \r\nC: \xff\x80 d\te\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n\r\n",
        b"DELETE /v1/customers/cus_1 HTTP/1.0\r\nContent-Length: 3\r\n\r\n\r\n\r",
    ];
    for request in requests {
        passes(request, 1);
    }
    passes(&requests.concat(), 9);
    passes(&requests.concat().repeat(3), 27);
}

#[test]
fn good_requests_before_a_bad_one_pass() {
    let good = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let passed = pass_in_all_ways(
        &[&good[..], b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
    );
    assert_eq!((&passed.bytes[..], passed.requests), (&good[..], 2));
    assert_eq!((passed.verdict, passed.error), (Some(F::TargetFragment), None));
}
