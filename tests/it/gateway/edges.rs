//! Where two ends disagree: old clients, odd upstreams, bodies that nobody wants, chains of proxies.

use crate::support::running::{LIVE, Setup, UNKNOWN, get, post, request};
use crate::support::upstream::{Nobody, Upstream, ok};
use crate::support::wait::wait_until;
use tollgate::engine::Clock;

fn http10(lines: &str) -> String {
    format!("GET /v1/charges HTTP/1.0\r\nauthorization: Bearer {LIVE}\r\n{lines}\r\n")
}

#[test]
fn a_client_of_http_1_0_is_served_in_its_own_framing() {
    let upstream =
        Upstream::answering(|_| b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec());
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    let answer = client.ask(http10("host: api.test\r\n"));
    assert_eq!((answer.status(), answer.text()), (200, "abc"));
    assert!(!answer.head.has("transfer-encoding"), "{answer:?}");
    assert!(upstream.last().line.ends_with("HTTP/1.1"));
}

#[test]
fn an_upstream_is_never_without_a_host() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    assert_eq!(gateway.ask(http10("")).status(), 200);
    assert_eq!(upstream.last().values("host"), [upstream.address().to_string()]);
    assert!(!upstream.last().has("x-forwarded-host"));
    assert_eq!(gateway.ask(http10("host: api.test\r\n")).status(), 200);
    assert_eq!(upstream.last().values("host"), ["api.test"]);
}

#[test]
fn codings_that_nobody_asked_for_are_not_passed_on_unnamed() {
    for coding in ["gzip, chunked", "chunked\r\ntransfer-encoding: chunked", "identity"] {
        let upstream = Upstream::scripted(move |wire, _| {
            wire.send(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {coding}\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
        });
        let gateway = Setup::new(upstream.address()).start();
        let answer = gateway.ask(get("/v1/charges", LIVE));
        assert_eq!(answer.status(), 502, "{coding}: {answer:?}");
    }
}

#[test]
fn a_whole_chain_of_proxies_goes_on() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server("trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]").start();
    // What stands in the second line is what the trusted proxy wrote: without it the upstream would believe the first.
    let lines = "x-forwarded-for: 6.6.6.6\r\nx-forwarded-for: 192.0.2.1\r\n";
    assert_eq!(gateway.ask(request("GET", "/v1/charges", LIVE, lines)).status(), 200);
    assert_eq!(upstream.last().values("x-forwarded-for"), ["6.6.6.6, 192.0.2.1, 127.0.0.1"]);
}

#[test]
fn a_refusal_is_read_even_by_a_client_that_sends_first_and_reads_later() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    for length in [100_000, 1_000_000, 8_000_000] {
        let mut client = gateway.connect();
        let head = request("POST", "/v1/charges", UNKNOWN, &format!("content-length: {length}\r\n"));
        client.send(head);
        // The gateway may stop reading at some point.
        let _ = client.try_send(vec![b'x'; length]);
        let answer = client.answer();
        assert_eq!(answer.status(), 401, "{length}: {answer:?}");
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_refused_request_whose_small_body_comes_later_keeps_the_connection() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    for (lines, body) in
        [("content-length: 8\r\n", "amount=1"), ("transfer-encoding: chunked\r\n", "3\r\na=1\r\n0\r\n\r\n")]
    {
        let mut client = gateway.connect();
        for _ in 0..3 {
            client.send(request("POST", "/v1/charges", UNKNOWN, lines));
            let answer = client.answer();
            assert_eq!(answer.status(), 401);
            assert!(!answer.closes(), "a new connection for each refusal is a storm of handshakes: {answer:?}");
            client.send(body);
        }
        assert_eq!(client.ask(post("/v1/charges", LIVE)).status(), 200, "nothing of the bodies is left");
    }
}

#[test]
fn a_dead_upstream_costs_no_connection_either() {
    let nobody = Nobody::new();
    let gateway = Setup::new(nobody.address()).start();
    let mut client = gateway.connect();
    for _ in 0..3 {
        client.send(request("POST", "/v1/charges", LIVE, "content-length: 8\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status(), 502);
        assert!(!answer.closes(), "{answer:?}");
        client.send("amount=1");
    }
}

#[test]
fn a_refused_body_that_never_comes_does_not_hold_the_connection_for_ever() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server("body_timeout = \"60ms\"").start();
    let mut client = gateway.connect();
    let answer = client.ask(request("POST", "/v1/charges", UNKNOWN, "content-length: 8\r\n"));
    assert_eq!(answer.status(), 401);
    assert!(client.is_over());
}

#[test]
fn an_upload_that_stalls_is_given_up() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server("body_timeout = \"60ms\"").start();
    let mut client = gateway.connect();
    let answer = client.ask(request("POST", "/v1/charges", LIVE, "content-length: 8\r\n") + "part");
    assert_eq!(answer.status(), 408, "{answer:?}");
    assert_eq!(answer.error()["type"], "invalid_request_error");
    client.finish_writing();
    assert!(client.is_over());
    wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn a_client_that_leaves_first_is_recorded_as_gone() {
    let upstream = Upstream::scripted(|wire, _| while !wire.is_over() {});
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    client.send(get("/v1/charges", LIVE));
    wait_until("the upstream has it", || !upstream.requests().is_empty());
    drop(client);
    let gone = || gateway.metrics().sum("tollgate_requests_total", &[("status", "499"), ("route", "default")]);
    wait_until("it is recorded", || gone() == 1.0);
}

#[test]
fn an_answer_before_the_body_was_asked_for_ends_the_connection() {
    let upstream = Upstream::scripted(|wire, _| {
        wire.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
        while !wire.is_over() {}
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    let lines = "content-length: 4\r\nexpect: 100-continue\r\n";
    client.send(request("POST", "/v1/charges", LIVE, lines));
    let mut head = client.head().unwrap();
    if head.status() == 100 {
        head = client.head().unwrap();
    }
    assert_eq!((head.status(), client.response_body(&head).unwrap()), (403, b"no".to_vec()));
}

#[test]
fn options_of_the_server_itself_are_answered_here() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let answer = gateway.ask(request("OPTIONS", "*", LIVE, ""));
    // There is no endpoint to classify, so nothing is forwarded.
    assert!(matches!(answer.status(), 200 | 204 | 400), "{answer:?}");
    assert!(upstream.requests().is_empty());
}

#[test]
fn connections_beyond_the_bound_wait_while_those_inside_are_busy() {
    let (go, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let upstream = Upstream::answering(move |_| {
        let _ = told.lock().unwrap().recv();
        ok("ok")
    });
    let gateway = Setup::new(upstream.address()).server("max_connections = 1").start();
    let mut inside = gateway.connect();
    inside.send(get("/v1/charges", LIVE));
    wait_until("it is in flight", || gateway.metrics().in_flight() > 0.0);
    let mut waiting = gateway.connect();
    waiting.send(get("/v1/charges", LIVE));
    let pauses = || gateway.metrics().sum("tollgate_accept_pauses_total", &[("cause", "connections")]);
    wait_until("accepting pauses", || pauses() == 1.0);
    assert_eq!(gateway.metrics().sum("tollgate_connections", &[]), 1.0);
    drop(go);
    assert_eq!(inside.answer().status(), 200, "those inside notice nothing");
    drop(inside);
    assert_eq!(waiting.answer().status(), 200);
}

#[test]
fn passthrough_takes_any_key_and_tells_nobody_which() {
    let upstream = Upstream::fine();
    let setup = Setup::new(upstream.address())
        .with("[[limits]]\nname = \"all\"\nstage = \"global\"\nrate = \"1/h\"\nburst = 1\n");
    let config = setup.toml().replace("keys_file = \"keys.toml\"", "mode = \"passthrough\"");
    let source = tollgate::process::Source::Text { config, keys: String::new() };
    let gateway = crate::support::running::Running::start(source);
    let mut client = gateway.connect();
    let mut ask = |secret: &str| {
        let status = client.ask(get("/v1/charges", secret)).status();
        (status, upstream.last())
    };
    let (_, live) = ask("sk_live_one");
    let (_, test) = ask("sk_test_one");
    assert_eq!((live.value("tollgate-mode"), test.value("tollgate-mode")), (Some("live"), Some("test")));
    assert_eq!(live.value("authorization"), Some("Bearer sk_live_one"));
    for name in ["tollgate-account", "tollgate-key-id"] {
        assert!(!live.value(name).unwrap().contains("one"), "{live:?}");
        assert_ne!(live.value(name), test.value(name));
    }
    assert_eq!(ask("sk_live_one").0, 429);
    assert_eq!(ask("sk_live_two").0, 200);
}

#[test]
fn many_clients_at_once_share_few_upstream_connections() {
    let upstream = Upstream::answering(|_| ok("ok"));
    let gateway = Setup::new(upstream.address()).upstream("max_idle = 2").start();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = gateway.connect();
                for _ in 0..50 {
                    assert_eq!(client.ask(get("/v1/charges", LIVE)).text(), "ok");
                }
            });
        }
    });
    assert!(upstream.connections() < 400, "{}", upstream.connections());
}

#[test]
fn a_body_where_none_belongs_reaches_nobody() {
    let upstream = Upstream::answering(|got| match got.head.method() {
        "HEAD" => ok("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
        "DELETE" => b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil".to_vec(),
        _ => ok("good"),
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    for method in ["HEAD", "DELETE", "HEAD"] {
        client.send(request(method, "/v1/charges", LIVE, ""));
        let answer = client.answer_to("HEAD");
        assert!(matches!(answer.status(), 200 | 204), "{answer:?}");
        assert_eq!(client.ask(get("/v1/charges", LIVE)).text(), "good");
    }
}

#[test]
fn a_length_said_twice_reaches_nobody_twice() {
    for (lines, status) in [
        ("content-length: 3\r\ncontent-length: 3", 502),
        ("content-length: 3\r\ncontent-length: 4", 502),
        ("content-length: 3, 3", 502),
        ("content-length: +3", 502),
        ("content-length: 3", 200),
    ] {
        let upstream = Upstream::scripted(move |wire, _| wire.send(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nabc")));
        let gateway = Setup::new(upstream.address()).start();
        let answer = gateway.ask(get("/v1/charges", LIVE));
        assert_eq!(answer.status(), status, "{lines}: {answer:?}");
        assert_eq!(answer.head.values("content-length").len(), 1, "{lines}: {answer:?}");
    }
}

#[test]
fn an_upstream_of_http_1_0_is_understood() {
    let upstream = Upstream::scripted(|wire, _| wire.send("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc"));
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    for connections in 1..=3 {
        let answer = client.ask(get("/v1/charges", LIVE));
        assert_eq!((answer.head.line.as_str(), answer.text()), ("HTTP/1.1 200 OK", "abc"));
        assert_eq!(upstream.connections(), connections, "a connection that does not stay is not kept");
    }
}

#[test]
fn an_answer_with_too_many_fields_is_none() {
    let upstream = Upstream::answering(|_| {
        format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x-many: 1\r\n".repeat(150)).into_bytes()
    });
    let gateway = Setup::new(upstream.address()).start();
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 502);
}

#[test]
fn an_idle_upstream_connection_is_kept_for_its_time_only() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).upstream("idle_timeout = \"1ms\"").start();
    let mut client = gateway.connect();
    for connections in 1..=3 {
        assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
        assert_eq!(upstream.connections(), connections);
        let clock = crate::support::RealClock::start();
        wait_until("it has waited too long", || Clock::now(&clock).0 > 2_000_000);
    }
}
