//! HTTP/2 to clients: the same requests get the same answers as over HTTP/1, and heads are as strict.

use crate::support::frames::{self, Raw};
use crate::support::h2::{Client, read, request as ask, runtime, within};
use crate::support::running::{LIVE, Setup, UNKNOWN, get};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::wait_until;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use std::time::Duration;

const SECRET: &str = "Bearer sk_live_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[test]
fn requests_and_answers_are_what_they_are_over_http1() {
    let upstream = Upstream::answering(|got| ok(&format!("{} {}", got.head.target(), got.body.len())));
    let gateway = Setup::new(upstream.address()).start();
    runtime().block_on(async {
        let mut client = Client::connect(gateway.address).await;
        let answer = client.ask(ask(Method::GET, "/v1//charges/?limit=3", LIVE), "").await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "/v1/charges/?limit=3 0"));
        let head = upstream.last();
        assert_eq!(head.values("host"), ["api.test"]);
        assert_eq!((head.value("tollgate-account"), head.value("x-forwarded-proto")), (Some("acct_a"), Some("http")));
        assert_eq!(head.values("x-forwarded-host"), ["api.test"]);

        let large = vec![7; 3 << 20];
        let answer = client.ask(ask(Method::POST, "/v1/charges", LIVE), large).await;
        assert_eq!(answer.text(), format!("/v1/charges {}", 3 << 20));

        let refused = client.ask(ask(Method::GET, "/v1/charges", UNKNOWN), "").await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        assert_eq!(refused.header("content-type"), Some("application/json"));
        assert!(refused.headers.contains_key("request-id") && refused.headers.contains_key("date"));
        assert_eq!(refused.header("content-length"), Some(refused.body.len().to_string().as_str()));
        assert!(refused.text().starts_with("{\"error\":"));

        let head = client.ask(ask(Method::HEAD, "/v1/charges", UNKNOWN), "").await;
        assert_eq!((head.status, head.body.len()), (StatusCode::UNAUTHORIZED, 0));
        let options = client.ask(ask(Method::OPTIONS, "/v1/charges", LIVE), "").await;
        assert_eq!(options.status, StatusCode::OK);
    });
    wait_until("it is gone", || gateway.metrics().sum("tollgate_connections", &[]) == 0.0);
}

/// As a literal that is never indexed (RFC 7541 §6.2.3): with its name, each time. What was put into the table would be named by
/// its number the second time.
#[test]
fn request_ids_are_kept_out_of_the_table() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let mut raw = Raw::begin(gateway.address, &[]);
    // `request-id` in HPACK's Huffman code, behind its length.
    let field = [0x10, 0x87, 0xb0, 0xbd, 0xad, 0x2a, 0x12, 0xb1, 0xa4];
    for stream in [1, 3] {
        raw.head(stream, &frames::fields("GET", "/v1/charges", SECRET), true);
        let answered = raw.stream(stream);
        let head = &answered.iter().find(|frame| frame.kind == frames::HEADERS).unwrap().payload;
        assert!(head.windows(field.len()).any(|bytes| bytes == field), "{head:x?}");
    }
}

#[test]
fn http1_and_http2_share_a_port_unless_it_is_switched_off() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200);
    let off = Setup::new(upstream.address()).server("http2 = false").start();
    assert_eq!(off.ask(get("/v1/charges", LIVE)).status(), 200);
    let mut wire = off.connect();
    wire.send(frames::PREFACE);
    assert_eq!(wire.answer().status(), 505, "then it is a bad request of HTTP/1");
}

#[test]
fn a_limit_refuses_and_the_body_that_nobody_read_does_no_harm() {
    let upstream = Upstream::fine();
    let limit = "[[limits]]\nname = \"slow\"\nstage = \"global\"\nrate = \"1/h\"\nburst = 1\n";
    let gateway = Setup::new(upstream.address()).with(limit).start();
    runtime().block_on(async {
        let mut client = Client::connect(gateway.address).await;
        assert_eq!(client.ask(ask(Method::GET, "/v1/charges", LIVE), "").await.status, StatusCode::OK);
        for _ in 0..50 {
            // The body is never sent to its end: the answer comes all the same, and then the stream is over.
            let (response, mut stream) = client.begin(ask(Method::POST, "/v1/charges", LIVE), false).await;
            // The answer may be here before the body has begun.
            let _ = stream.send_data(Bytes::from(vec![1; 40_000]), false);
            let answer = read(within(response).await.unwrap()).await.unwrap();
            assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(answer.header("stripe-rate-limited-reason"), Some("global-rate"));
        }
        let other = client.ask(ask(Method::GET, "/v1/charges", crate::support::running::OTHER), "").await;
        assert_eq!(other.status, StatusCode::OK, "the connection serves on, with room for bodies");
    });
    wait_until("nothing is left", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn many_at_once_and_each_gets_its_own() {
    let upstream = Upstream::answering(|got| ok(&format!("{} {}", got.head.target(), got.body.len())));
    let gateway = Setup::new(upstream.address()).start();
    runtime().block_on(async {
        let mut client = Client::connect(gateway.address).await;
        let mut open = Vec::new();
        for nth in 0..300_usize {
            let (response, mut stream) =
                client.begin(ask(Method::POST, &format!("/v1/things/{nth}"), LIVE), false).await;
            stream.send_data(Bytes::from(vec![b'x'; nth * 10]), true).unwrap();
            open.push(response);
        }
        for (nth, response) in open.into_iter().enumerate() {
            let answer = read(within(response).await.unwrap()).await.unwrap();
            assert_eq!(answer.text(), format!("/v1/things/{nth} {}", nth * 10));
        }
    });
    // The last bytes may be with the client before the gateway has noticed that they have left.
    wait_until("each is counted", || gateway.metrics().sum("tollgate_requests_total", &[("status", "200")]) >= 300.0);
    assert_eq!(gateway.metrics().sum("tollgate_requests_total", &[("status", "200")]), 300.0);
}

#[test]
fn an_expectation_is_met_when_the_body_is_wanted() {
    let upstream = Upstream::answering(|got| ok(&format!("{} {}", got.body.len(), got.head.has("expect"))));
    let gateway = Setup::new(upstream.address()).start();
    let mut raw = Raw::begin(gateway.address, &[]);
    let mut fields = frames::fields("POST", "/v1/charges", SECRET);
    fields.push(("expect", "100-continue"));
    raw.head(1, &fields, false);
    let go_on = raw.until(|frame| frame.kind == frames::HEADERS).unwrap();
    assert!(!go_on.is_200() && !go_on.ends_stream(), "{go_on:?}");
    raw.send(frames::frame(frames::DATA, frames::END_STREAM, 1, b"body"));
    assert_eq!(raw.body(1), "4 false");
}

/// What the upstream may never see of a request, by what is sent in place of the good fields.
#[test]
fn heads_that_two_readers_could_read_differently_are_refused() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let good = frames::fields("GET", "/v1/charges", SECRET);
    let with = |more: &[(&'static str, &'static str)]| [&good[..], more].concat();
    let instead = |name: &str, value: &'static str| -> Vec<(&str, &str)> {
        good.iter().map(|field| if field.0 == name { (field.0, value) } else { *field }).collect()
    };
    let without = |name: &str| -> Vec<(&str, &str)> { good.iter().filter(|field| field.0 != name).copied().collect() };
    // Rows 70, 72 to 79 of the catalogue of hostile inputs.
    let refused = [
        (with(&[("x", " y")]), "must not begin or end with a space"),
        (with(&[("x", "y\t")]), "must not begin or end with a space"),
        (with(&[("host", "evil.test")]), "contradicts"),
        (with(&[("host", "api.test"), ("host", "api.test")]), "more than once"),
        (with(&[("authorization", SECRET)]), "more than once"),
        (with(&[("content_type", "x")]), "underscores"),
        (with(&[("x-method", "a"), ("expect", "200-ok")]), "expectation"),
        (without(":authority"), "Host header is required"),
        (instead(":authority", "user@api.test"), "user"),
        (instead(":authority", "a,b"), "host name"),
        (instead(":path", "*"), "slash"),
        (instead(":path", "/v1/%2f"), "encoded slash"),
        (instead(":method", "post"), "capital letters"),
        (instead(":method", "TRACE"), "not supported"),
        (vec![(":method", "CONNECT"), (":authority", "api.test:443"), ("authorization", SECRET)], "not supported"),
    ];
    for (fields, message) in refused {
        let mut raw = Raw::begin(gateway.address, &[]);
        raw.head(1, &fields, true);
        let body = raw.body(1);
        assert!(body.contains(message), "{fields:?}: {body}");
        // One bad head takes nobody along.
        raw.head(3, &good, true);
        assert_eq!(raw.body(3), "ok", "{fields:?}");
    }
    let served = upstream.requests();
    assert!(
        served.iter().all(|head| head.target() == "/v1/charges" && head.values("host") == ["api.test"]),
        "{served:?}"
    );
}

/// Rows 66 to 69, 71, 74 and 79: what the library refuses, by the stream or by the connection.
#[test]
fn malformed_heads_never_reach_the_upstream() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let good = frames::fields("GET", "/v1/charges", SECRET);
    let with = |more: &[(&'static str, &'static str)]| [&good[..], more].concat();
    let instead = |name: &str, value: &'static str| -> Vec<(&str, &str)> {
        good.iter().map(|field| if field.0 == name { (field.0, value) } else { *field }).collect()
    };
    let cases = [
        with(&[("transfer-encoding", "chunked")]),
        with(&[("connection", "close")]),
        with(&[("upgrade", "h2c")]),
        with(&[("te", "gzip")]),
        with(&[("keep-alive", "1")]),
        with(&[("x", "a\r\nb: c")]),
        with(&[("x", "a\nb")]),
        with(&[("x", "a\0b")]),
        with(&[("Upper", "case")]),
        with(&[("a:b", "colon")]),
        with(&[("", "nameless")]),
        with(&[(":path", "/twice")]),
        with(&[(":unknown", "x")]),
        [&[("x", "first")], &good[..]].concat(),
        instead(":path", ""),
        instead(":path", "x"),
        instead(":path", "/a b"),
        instead(":path", "/a\r\nb"),
        with(&[(":status", "200")]),
        with(&[("content-length", "x")]),
        with(&[("content-length", "1"), ("content-length", "2")]),
        [&[(":method", "CONNECT"), (":protocol", "websocket")], &good[1..]].concat(),
    ];
    for fields in cases {
        let mut raw = Raw::begin(gateway.address, &[]);
        raw.head(1, &fields, true);
        let end = raw.stream(1);
        assert!(!end.iter().any(frames::Frame::is_200), "{fields:?}: {end:?}");
        assert!(!end.is_empty(), "{fields:?}");
    }
    assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
}

/// Row 66: what a body has is what its head says.
#[test]
fn a_body_of_another_length_is_cut_off() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    for (length, body) in [("3", &b"four"[..]), ("5", b"four"), ("0", b"x")] {
        let mut raw = Raw::begin(gateway.address, &[]);
        let fields = [&frames::fields("POST", "/v1/charges", SECRET)[..], &[("content-length", length)]].concat();
        raw.head(1, &fields, false);
        raw.send(frames::frame(frames::DATA, frames::END_STREAM, 1, body));
        let end = raw.stream(1);
        assert!(!end.iter().any(frames::Frame::is_200), "{length}: {end:?}");
    }
    wait_until("nothing is left", || gateway.metrics().in_flight() == 0.0);
}

/// Row 81.
#[test]
fn cookie_crumbs_are_one_cookie_again() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let mut raw = Raw::begin(gateway.address, &[]);
    let crumbs = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")];
    raw.head(1, &[&frames::fields("GET", "/v1/charges", SECRET)[..], &crumbs].concat(), true);
    assert_eq!(raw.body(1), "ok");
    assert_eq!(upstream.last().values("cookie"), ["a=1; b=2"]);
}

/// Row 63, and the size that HTTP/1 has too.
#[test]
fn too_many_headers_are_told_so() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let mut raw = Raw::begin(gateway.address, &[]);
    let many = vec![("x", "y"); 400];
    raw.head(1, &[&frames::fields("GET", "/v1/charges", SECRET)[..], &many].concat(), true);
    assert!(raw.body(1).contains("too many headers"));
    raw.head(3, &frames::fields("GET", &format!("/v1/{}", "x".repeat(9_000)), SECRET), true);
    assert!(raw.body(3).contains("URL is too long"));
    raw.head(5, &frames::fields("GET", "/v1/charges", SECRET), true);
    assert_eq!(raw.body(5), "ok");
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("tollgate_requests_total", &[("status", "431")]), 1.0);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn trailers_pass_and_those_that_decide_something_do_not() {
    let upstream = Upstream::answering(|got| {
        let trailers: Vec<_> = got.trailers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        ok(&trailers.join(","))
    });
    let gateway = Setup::new(upstream.address()).start();
    runtime().block_on(async {
        let mut client = Client::connect(gateway.address).await;
        let mut begin = async |name: &'static str| {
            let mut head = ask(Method::POST, "/v1/charges", LIVE);
            head.headers_mut().insert("te", "trailers".parse().unwrap());
            head.headers_mut().insert("trailer", name.parse().unwrap());
            let (response, mut stream) = client.begin(head, false).await;
            stream.send_data("body".into(), false).unwrap();
            let trailers = HeaderMap::from_iter([(name.parse().unwrap(), "1".parse().unwrap())]);
            stream.send_trailers(trailers).unwrap();
            read(within(response).await.unwrap()).await.unwrap()
        };
        assert_eq!(begin("x-sum").await.text(), "x-sum=1");
        let refused = begin("authorization").await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{refused:?}");
        assert!(refused.text().contains("trailer"), "{refused:?}");
    });
}

/// Row 82.
#[test]
fn whoever_begins_otherwise_is_not_read_as_http1() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let mut raw = Raw::open(gateway.address);
    raw.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\nGET /v1/charges HTTP/1.1\r\nhost: api.test\r\n\r\n");
    assert!(raw.is_over());
    let mut raw = Raw::begin(gateway.address, &[]);
    raw.set_read_patience(Duration::from_secs(20));
    raw.send(get("/v1/charges", LIVE));
    assert!(raw.goaway().is_some());
    assert!(upstream.requests().is_empty());
}
