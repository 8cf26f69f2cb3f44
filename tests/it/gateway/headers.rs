//! Heads on their way through: what is removed, what is added, what nobody touches.

use crate::support::running::{LIVE, Setup, TEST, get, request};
use crate::support::upstream::Upstream;
use crate::support::wire::Head;

/// What the upstream gets of a request with these header lines.
fn forwarded(lines: &str) -> Head {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let answer = gateway.ask(request("GET", "/v1/charges", LIVE, lines));
    assert_eq!(answer.status(), 200, "{answer:?}");
    upstream.last()
}

fn answered(head: &'static str) -> Head {
    let upstream = Upstream::answering(move |_| format!("{head}content-length: 0\r\n\r\n").into_bytes());
    let gateway = Setup::new(upstream.address()).start();
    gateway.ask(get("/v1/charges", LIVE)).head
}

#[test]
fn the_gateway_says_who_asks_and_on_whose_behalf() {
    let head = forwarded("");
    let expected = [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "api.test"),
        ("host", "api.test"),
        ("via", "1.1 tollgate"),
        ("tollgate-account", "acct_a"),
        ("tollgate-mode", "live"),
        ("tollgate-key-id", "key_live"),
    ];
    for (name, value) in expected {
        assert_eq!(head.values(name), [value], "{name}");
    }
    assert!(head.value("authorization").unwrap().ends_with(LIVE), "the upstream may check the key itself");
    let traceparent = head.value("traceparent").unwrap();
    assert!(traceparent.len() == 55 && traceparent.starts_with("00-"), "{traceparent}");
    assert!(head.value("request-id").unwrap().starts_with("req_"));
}

#[test]
fn ids_of_the_client_are_carried_on() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let head = forwarded(&format!("traceparent: {trace}\r\ntracestate: a=1\r\nrequest-id: req_mine-1\r\n"));
    assert_eq!(head.values("traceparent"), [trace]);
    assert_eq!(head.values("tracestate"), ["a=1"]);
    assert_eq!(head.values("request-id"), ["req_mine-1"]);
    let unfit = forwarded("request-id: \"><script>\r\n");
    assert!(unfit.value("request-id").unwrap().starts_with("req_"));
}

#[test]
fn what_only_the_gateway_may_say_is_dropped() {
    let head = forwarded(
        "Tollgate-Account: acct_evil\r\nTOLLGATE-MODE: test\r\ntollgate-key-id: k\r\ntollgate-other: x\r\n\
         x-forwarded-for: 6.6.6.6\r\nx-forwarded-proto: https\r\nx-forwarded-host: evil.test\r\nforwarded: for=6.6.6.6\r\n\
         x-real-ip: 6.6.6.6\r\nx-http-method-override: DELETE\r\nx-original-url: /v1/payouts\r\n\
         x-forwarded-user: evil-user\r\nx-forwarded-port: 6666\r\nx-forwarded-prefix: /evil\r\n",
    );
    let text = format!("{head:?}");
    let evils =
        ["acct_evil", "6.6.6.6", "evil.test", "DELETE", "/v1/payouts", "tollgate-other", "evil-user", "6666", "/evil"];
    for evil in evils {
        assert!(!text.contains(evil), "{evil}: {text}");
    }
    assert_eq!(head.values("tollgate-mode"), ["live"]);
    assert_eq!(head.values("x-forwarded-proto"), ["http"]);
}

#[test]
fn underscores_are_no_second_spelling() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    for line in
        ["Tollgate_Account: evil", "tollgate_mode: test", "X_Forwarded_For: 6.6.6.6", "Stripe_Account: acct_evil"]
    {
        // Refused, or forwarded without it: either dodges nothing.
        let answer = gateway.ask(request("GET", "/v1/charges", LIVE, &format!("{line}\r\n")));
        assert!(matches!(answer.status(), 200 | 400), "{line}");
    }
    let text = format!("{:?}", upstream.requests());
    assert!(!text.contains("evil") && !text.contains("6.6.6.6") && !text.contains("tollgate_"), "{text}");
}

#[test]
fn hop_by_hop_fields_of_the_client_stay_here() {
    let head = forwarded(
        "connection: keep-alive, x-private, authorization, tollgate-account, host, stripe-account, x-forwarded-for\r\n\
         x-private: 1\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nproxy-authorization: Basic eA==\r\n\
         te: gzip\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\nstripe-account: acct_child\r\nx-public: 2\r\n",
    );
    let gone = [
        "connection",
        "x-private",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "upgrade",
        "http2-settings",
    ];
    for name in gone {
        assert!(!head.has(name), "{name}: {head:?}");
    }
    for name in ["authorization", "tollgate-account", "host", "stripe-account", "x-forwarded-for", "x-public"] {
        assert_eq!(head.values(name).len(), 1, "{name}: {head:?}");
    }
}

#[test]
fn hop_by_hop_fields_of_the_upstream_stay_there() {
    let head = answered(
        "HTTP/1.1 200 OK\r\nconnection: x-private\r\nx-private: 1\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\n\
         upgrade: h2c\r\nx-public: 2\r\n",
    );
    for name in ["x-private", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert!(!head.has(name), "{name}: {head:?}");
    }
    assert_eq!(head.value("x-public"), Some("2"));
}

#[test]
fn the_upstreams_answer_is_its_own() {
    let head = answered(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 17\r\nRequest-Id: req_upstream\r\nSet-Cookie: a=1\r\n\
         Stripe-Rate-Limited-Reason: endpoint-rate\r\nX-OddCase: Yes\r\nSet-Cookie: b=2; Path=/\r\nSet-Cookie: c=3\r\n\
         Cache-Control: no-cache\r\nServer: theirs\r\n",
    );
    assert_eq!(head.status(), 429);
    assert_eq!(head.values("set-cookie"), ["a=1", "b=2; Path=/", "c=3"]);
    let own = [
        ("retry-after", "17"),
        ("request-id", "req_upstream"),
        ("stripe-rate-limited-reason", "endpoint-rate"),
        ("x-oddcase", "Yes"),
        ("cache-control", "no-cache"),
        ("server", "theirs"),
    ];
    for (name, value) in own {
        assert_eq!(head.values(name), [value], "{name}");
    }
    assert!(!head.has("ratelimit"), "nothing of ours: {head:?}");
}

#[test]
fn an_answer_without_a_request_id_gets_the_one_that_was_forwarded() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let answer = gateway.ask(get("/v1/charges", TEST));
    assert_eq!(answer.head.value("request-id"), upstream.last().value("request-id"));
    assert_eq!(upstream.last().values("tollgate-mode"), ["test"]);
}

/// A rule that touches nothing of a request makes the gateway put its own fields among the client's, where rules see them;
/// without one they are written behind them.
#[test]
fn the_gateways_own_fields_are_the_same_with_and_without_rules() {
    let upstream = Upstream::fine();
    let plain = Setup::new(upstream.address()).start();
    let ruled = Setup::new(upstream.address())
        .with("[[routes]]\nrequest_headers = { remove = [\"X-Nobody-Sends-This\"] }\n")
        .start();
    let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let own = "tollgate-account: a\r\nTollgate_Mode: test\r\nx-forwarded-for: 6.6.6.6\r\nx_forwarded_proto: https\r\n\
               x-forwarded-port: 1\r\nforwarded: for=6.6.6.6\r\ntracestate: a=1\r\n";
    for lines in [
        String::new(),
        trace.to_owned(),
        format!("{trace}tracestate: a=1\r\nrequest-id: req_mine\r\n"),
        format!("{trace}{trace}tracestate: a=1\r\nrequest-id: <>\r\nrequest-id: req_2\r\n"),
        own.to_owned(),
        "via: 1.0 a\r\nte: trailers, deflate\r\nvia: 1.1 b\r\nconnection: x-a, te, via\r\nx-a: 1\r\nx-b: 1\r\nx-b: 2\r\n".to_owned(),
        "connection: keep-alive, request-id, traceparent, host\r\nkeep-alive: 1\r\n".to_owned(),
    ] {
        let [one, other] = [&plain, &ruled].map(|gateway| {
            let answer = gateway.ask(request("GET", "/v1/charges", LIVE, &lines));
            assert_eq!(answer.status(), 200, "{lines}{answer:?}");
            let mut fields = upstream.last().fields;
            // Ids of the gateway's own differ from request to request.
            for (name, value) in &mut fields {
                if (name == "request-id" && value != "req_mine") || (name == "traceparent" && !trace.contains(&**value)) {
                    value.truncate(3);
                }
            }
            fields.sort_by(|one, other| one.0.cmp(&other.0));
            fields
        });
        assert_eq!(one, other, "{lines}");
        assert!(one.len() >= 11, "{one:?}");
    }
}
