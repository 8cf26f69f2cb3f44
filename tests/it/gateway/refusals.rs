//! Refusals that no limit makes: keys, permissions, routes, malformed requests. Status, headers, words, and what becomes of
//! the connection.

use crate::support::running::{EXPIRED, LIVE, RESTRICTED, REVOKED, Running, Setup, UNKNOWN, get, post, request};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use crate::support::wire::Answer;

fn gateway() -> (Upstream, Running) {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    (upstream, gateway)
}

/// What every answer of the gateway's own has.
#[track_caller]
fn assert_own(answer: &Answer, status: u16, kind: &str, keys: &[&str]) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert_eq!(answer.head.values("content-type"), ["application/json"]);
    assert_eq!(answer.head.values("cache-control"), ["no-store"]);
    assert_eq!(answer.head.values("request-id").len(), 1);
    assert_eq!(answer.head.value("content-length").unwrap(), answer.body.len().to_string());
    let error = answer.error();
    assert_eq!(error["type"], kind);
    assert_eq!(error.keys().collect::<Vec<_>>(), keys);
}

const PLAIN: &[&str] = &["message", "type"];
const CODED: &[&str] = &["code", "doc_url", "message", "type"];

#[test]
fn keys_that_are_not_good() {
    let (upstream, gateway) = gateway();
    let mut client = gateway.connect();
    let mut ask = |authorization: &str| {
        let answer = client.ask(format!("GET /v1/charges HTTP/1.1\r\nhost: a\r\n{authorization}\r\n"));
        assert_eq!(answer.head.values("www-authenticate"), ["Basic realm=\"Stripe\""], "{answer:?}");
        assert!(!answer.closes(), "{answer:?}");
        answer
    };
    for missing in ["", "authorization: Digest x\r\n", "authorization: Bearer\r\n", "authorization: Basic !!!\r\n"] {
        let answer = ask(missing);
        assert_own(&answer, 401, "invalid_request_error", PLAIN);
        assert!(answer.message().starts_with("You did not provide an API key"), "{missing}");
    }
    for secret in [UNKNOWN, REVOKED] {
        let answer = ask(&format!("authorization: Bearer {secret}\r\n"));
        assert_own(&answer, 401, "invalid_request_error", PLAIN);
        assert!(answer.message().starts_with("Invalid API Key provided: sk_live_"), "{}", answer.message());
        assert!(!answer.text().contains(&secret[..20]), "masked: {}", answer.text());
        assert!(answer.text().contains(&secret[secret.len() - 4..]), "its end shows which: {}", answer.text());
    }
    let answer = ask(&format!("authorization: Bearer {EXPIRED}\r\n"));
    assert_own(&answer, 401, "invalid_request_error", CODED);
    assert_eq!(answer.error()["code"], "api_key_expired");
    assert!(!answer.text().contains(&EXPIRED[..20]));
    // The same connection serves a good key.
    assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
    assert_eq!(upstream.requests().len(), 1);
    let metrics = gateway.metrics();
    for (cause, count) in [("no_key", 1.0), ("malformed", 3.0), ("unknown", 1.0), ("revoked", 1.0), ("expired", 1.0)] {
        assert_eq!(metrics.sum("tollgate_auth_failures_total", &[("cause", cause)]), count, "{cause}");
    }
}

#[test]
fn a_key_comes_as_bearer_or_as_basic_user() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let (_upstream, gateway) = gateway();
    let basic = STANDARD.encode(format!("{LIVE}:"));
    for scheme in [format!("Basic {basic}"), format!("basic {basic}"), format!("bearer {LIVE}")] {
        let answer = gateway.ask(format!("GET /v1/charges HTTP/1.1\r\nhost: a\r\nauthorization: {scheme}\r\n\r\n"));
        assert_eq!(answer.status(), 200, "{scheme}");
    }
}

#[test]
fn good_keys_that_may_not_do_this() {
    let (upstream, gateway) = gateway();
    let mut client = gateway.connect();
    let endpoint = client.ask(post("/v1/payouts", RESTRICTED));
    assert_own(&endpoint, 403, "invalid_request_error", PLAIN);
    assert!(endpoint.message().contains("key_restricted") && endpoint.message().contains("payouts.create"));
    let stranger = client.ask(request("GET", "/v1/charges", RESTRICTED, "stripe-account: acct_stranger\r\n"));
    assert_own(&stranger, 403, "invalid_request_error", CODED);
    assert_eq!(stranger.error()["code"], "account_invalid");
    let child = client.ask(request("GET", "/v1/charges", RESTRICTED, "stripe-account: acct_child\r\n"));
    assert_eq!(child.status(), 200);
    assert_eq!(upstream.requests().len(), 1);
    for cause in ["endpoint", "account"] {
        assert_eq!(gateway.metrics().sum("tollgate_auth_failures_total", &[("cause", cause)]), 1.0, "{cause}");
    }
}

#[test]
fn no_route() {
    let upstream = Upstream::fine();
    let routes = "[[routes]]\nname = \"v1\"\nhosts = [\"api.test\"]\npath_prefix = \"/v1\"\nupstream = \"api\"\n";
    let gateway = Setup::new(upstream.address()).with(routes).start();
    let mut client = gateway.connect();
    let answer = client.ask(get("/v2/charges", LIVE));
    assert_own(&answer, 404, "invalid_request_error", PLAIN);
    assert!(answer.message().starts_with("Unrecognized request URL (GET: /v2/charges)"), "{}", answer.message());
    let other = format!("GET /v1/charges HTTP/1.1\r\nhost: other.test\r\nauthorization: Bearer {LIVE}\r\n\r\n");
    assert_eq!(client.ask(other).status(), 404);
    assert_eq!(client.ask(get("/v1", LIVE)).status(), 200);
    assert_eq!(client.ask(get("/v1x", LIVE)).status(), 404);
    let counted = || gateway.metrics().sum("tollgate_requests_total", &[("route", "v1"), ("status", "200")]);
    wait_until("it is counted", || counted() == 1.0);
}

/// Everything wrong that a head can have, and the status it gets.
fn malformed() -> Vec<(u16, String)> {
    let with = |lines: &str| request("GET", "/v1/charges", LIVE, lines);
    let path = |target: &str| get(target, LIVE);
    let long = "x".repeat(9 * 1024);
    vec![
        (400, path("/v1/charges#fragment")),
        (400, path("/v1/files%2fa")),
        (400, path("/v1/files%5ca")),
        (400, path("/v1/files%00")),
        (400, path("/v1/files%zz")),
        (400, path("/v1\\payouts")),
        (400, path("v1/charges")),
        (400, path("api.test:80")),
        (400, path("*")),
        (400, path("http://user@api.test/v1/charges")),
        (400, path("http://other.test/v1/charges")),
        (400, with("host: api.test\r\n")),
        (400, format!("GET / HTTP/1.1\r\nauthorization: Bearer {LIVE}\r\n\r\n")),
        (400, format!("GET / HTTP/1.1\r\nhost: a/../b?x\r\nauthorization: Bearer {LIVE}\r\n\r\n")),
        (400, with(&format!("authorization: Bearer {LIVE}\r\n"))),
        (400, with("stripe-account: acct_1\r\nstripe-account: acct_2\r\n")),
        (400, with("idempotency-key: 1\r\nidempotency-key: 2\r\n")),
        (400, with("content-length: 3\r\ntransfer-encoding: chunked\r\n") + "0\r\n\r\n"),
        (400, with("content-length: 3\r\ncontent-length: 4\r\n")),
        (400, with("content-length: +3\r\n")),
        (400, with("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n")),
        (501, with("transfer-encoding: gzip, chunked\r\n")),
        (400, with("x-folded: a\r\n b\r\n")),
        (400, with("x-space : a\r\n")),
        (400, with("x-nul: a\0b\r\n")),
        (417, with("expect: 200-ok\r\n")),
        (405, request("CONNECT", "/v1/charges", LIVE, "")),
        (405, request("TRACE", "/v1/charges", LIVE, "")),
        (505, get("/v1/charges", LIVE).replace("HTTP/1.1", "HTTP/1.2")),
        (414, path(&format!("/{long}"))),
        (431, with(&format!("x-long: {}\r\n", "x".repeat(40 * 1024)))),
        (431, with(&"x-many: 1\r\n".repeat(120))),
        (400, "\u{16}\u{3}\u{1}hello".to_owned()),
        (400, with("stripe-account: acct 1\r\n")),
    ]
}

#[test]
fn malformed_requests_get_an_answer_and_no_second_chance() {
    let (upstream, gateway) = gateway();
    let cases = malformed();
    for (status, bytes) in &cases {
        let mut client = gateway.connect();
        client.send(bytes);
        let answer = client.answer();
        let shown = &bytes[..bytes.len().min(80)];
        assert_eq!(answer.status(), *status, "{shown:?}: {answer:?}");
        assert_own(&answer, *status, "invalid_request_error", PLAIN);
        assert!(answer.closes(), "{shown:?}");
        client.finish_writing();
        assert!(client.is_over(), "{shown:?}");
    }
    assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200, "the process serves on");
    wait_until("the last one is counted", || gateway.metrics().in_flight() == 0.0);
    let counted = gateway.metrics().sum("tollgate_requests_total", &[]);
    assert_eq!(counted, cases.len() as f64 + 1.0, "each is counted once");
    let at_fault = |fault| gateway.metrics().sum("tollgate_bad_requests_total", &[("fault", fault)]);
    assert_eq!((at_fault("two-lengths"), at_fault("folded"), at_fault("version")), (1.0, 1.0, 1.0));
}

#[test]
fn a_bad_body_is_the_clients_fault() {
    let (_upstream, gateway) = gateway();
    let long = format!("1\r\na\r\n0\r\nx-long: {}\r\n\r\n", "x".repeat(20 * 1024));
    let bodies = [
        (400, "invalid size", "0x1\r\na\r\n0\r\n\r\n"),
        (400, "CR LF", "5\r\nabc\r\n0\r\n\r\n"),
        (400, "invalid size", "-1\r\n\r\n"),
        (400, "as a trailer", "1\r\na\r\n0\r\nhost: evil\r\n\r\n"),
        (431, "too large", long.as_str()),
    ];
    for (status, words, body) in bodies {
        let mut client = gateway.connect();
        let answer = client.ask(request("POST", "/v1/charges", LIVE, "transfer-encoding: chunked\r\n") + body);
        assert_eq!(answer.status(), status, "{body:?}: {answer:?}");
        assert!(answer.message().contains(words), "{answer:?}");
        client.finish_writing();
        assert!(client.is_over(), "{body:?}");
    }
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200);
}

#[test]
fn a_refused_request_with_its_body_at_hand_keeps_the_connection() {
    let (_upstream, gateway) = gateway();
    let mut client = gateway.connect();
    for _ in 0..3 {
        assert_eq!(client.ask(post("/v1/charges", UNKNOWN)).status(), 401);
    }
    assert_eq!(client.ask(post("/v1/charges", LIVE)).status(), 200);
}

#[test]
fn pipelined_requests_are_answered_in_turn() {
    let (upstream, gateway) = gateway();
    let mut client = gateway.connect();
    client.send([get("/a", LIVE), get("/b", UNKNOWN), get("/c", LIVE), get("/d#", LIVE)].concat());
    let statuses: Vec<u16> = (0..4).map(|_| client.answer().status()).collect();
    assert_eq!(statuses, [200, 401, 200, 400]);
    assert_eq!(upstream.requests().iter().map(|head| head.target().to_owned()).collect::<Vec<_>>(), ["/a", "/c"]);
}

#[test]
fn options_of_the_server_itself_never_reach_the_upstream() {
    let (upstream, gateway) = gateway();
    let mut client = gateway.connect();
    for _ in 0..2 {
        let answer = client.ask("OPTIONS * HTTP/1.1\r\nhost: api.test\r\n\r\n");
        assert_eq!((answer.status(), answer.body.len()), (204, 0));
        assert!(answer.head.value("allow").is_some_and(|allow| allow.contains("POST")));
    }
    assert!(upstream.requests().is_empty());
    assert_eq!(gateway.metrics().sum("tollgate_requests_total", &[("status", "204")]), 2.0);
}
