//! Upstreams that fail: what the client is told, and that nothing of it reaches the next one.

use crate::support::running::{LIVE, Setup, get, post};
use crate::support::upstream::{Nobody, Upstream, ok};
use crate::support::wait::wait_until;
use crate::support::wire::{Answer, Head, Wire};
use std::sync::atomic::{AtomicUsize, Ordering};

const SHOULD_RETRY: &str = "stripe-should-retry";

#[track_caller]
fn assert_api_error(answer: &Answer, status: u16) {
    assert_eq!(answer.status(), status, "{answer:?}");
    let error = answer.error();
    assert_eq!(error.keys().collect::<Vec<_>>(), ["message", "type"]);
    assert_eq!(error["type"], "api_error");
}

/// Asks once to read and once to write; the outcome of either is unknown.
#[track_caller]
fn assert_unknown_outcome(
    script: impl Fn(&mut Wire, Head) + Send + Sync + 'static,
    more: &str,
    status: u16,
    reads: usize,
) {
    let upstream = Upstream::scripted(script);
    let gateway = Setup::new(upstream.address()).upstream(more).start();
    let mut client = gateway.connect();
    let read = client.ask(get("/v1/charges", LIVE));
    assert_api_error(&read, status);
    assert!(!read.head.has(SHOULD_RETRY), "a read may be tried again: {read:?}");
    let write = client.ask(post("/v1/charges", LIVE));
    assert_api_error(&write, status);
    assert_eq!(write.head.values(SHOULD_RETRY), ["false"]);
    assert!(write.message().contains("unknown"), "{}", write.message());
    let sent = |method| upstream.requests().iter().filter(|head| head.method() == method).count();
    assert_eq!(sent("POST"), 1, "no write is sent twice");
    assert_eq!(sent("GET"), reads, "a read is sent again only where the connection broke");
    wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn a_dead_upstream() {
    let nobody = Nobody::new();
    let gateway = Setup::new(nobody.address()).start();
    let mut client = gateway.connect();
    for request in [get("/v1/charges", LIVE), post("/v1/charges", LIVE)] {
        let answer = client.ask(request);
        assert_api_error(&answer, 502);
        assert!(!answer.head.has(SHOULD_RETRY), "nothing was sent: {answer:?}");
        assert!(answer.message().contains("not sent"));
    }
}

#[test]
fn another_server_is_tried_when_one_cannot_be_reached() {
    let upstream = Upstream::fine();
    let mut setup = Setup::new(upstream.address());
    let nobody = Nobody::new();
    setup.upstream = format!("servers = [\"http://{}\", \"http://{}\"]\n", nobody.address(), upstream.address());
    let gateway = setup.start();
    for _ in 0..4 {
        assert_eq!(gateway.ask(post("/v1/charges", LIVE)).status(), 200);
    }
}

#[test]
fn a_silent_upstream() {
    let silent = |wire: &mut Wire, head: Head| {
        let _ = wire.body(&head);
        // Until the gateway gives up.
        let _ = wire.is_over();
    };
    assert_unknown_outcome(silent, "response_timeout = \"60ms\"", 504, 1);
}

#[test]
fn an_upstream_that_closes_before_it_answers() {
    assert_unknown_outcome(|wire, head| drop(wire.body(&head)), "", 502, 3);
}

#[test]
fn an_upstream_that_resets() {
    let reset = |wire: &mut Wire, head: Head| {
        let _ = wire.body(&head);
        wire.writer().reset();
    };
    assert_unknown_outcome(reset, "", 502, 3);
    let reset = |wire: &mut Wire, head: Head| {
        let _ = wire.body(&head);
        wire.writer().reset();
    };
    assert_unknown_outcome(reset, "retries.attempts = 0", 502, 1);
}

#[test]
fn an_upstream_that_is_no_http_server() {
    for garbage in
        ["SSH-2.0-x\r\n\r\n", "HTTP/1.1 99 No\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "\0\0\0\0\r\n"]
    {
        let answer = move |wire: &mut Wire, head: Head| {
            let _ = wire.body(&head);
            wire.send(garbage);
        };
        assert_unknown_outcome(answer, "", 502, 1);
    }
}

#[test]
fn an_upstream_with_a_head_that_is_too_large() {
    let answer = |wire: &mut Wire, head: Head| {
        let _ = wire.body(&head);
        let _ = wire.try_send(format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "x".repeat(900 * 1024)));
    };
    assert_unknown_outcome(answer, "", 502, 1);
}

#[test]
fn an_upstream_that_frames_its_answer_twice() {
    let answer = |wire: &mut Wire, head: Head| {
        let _ = wire.body(&head);
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    };
    assert_unknown_outcome(answer, "", 502, 1);
}

#[test]
fn an_upstream_that_switches_protocols_unasked() {
    let answer = |wire: &mut Wire, head: Head| {
        let _ = wire.body(&head);
        wire.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        let _ = wire.is_over();
    };
    assert_unknown_outcome(answer, "", 502, 1);
}

#[test]
fn an_answer_that_breaks_off_is_never_ended_cleanly() {
    let heads = [
        ("content-length: 100", "only this"),
        ("transfer-encoding: chunked", "9\r\nonly this\r\n"),
        ("transfer-encoding: chunked", "9\r\nonly this\r\nzz\r\n"),
    ];
    for (framing, body) in heads {
        let upstream = Upstream::scripted(move |wire, _| {
            wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}"));
        });
        let gateway = Setup::new(upstream.address()).start();
        let mut client = gateway.connect();
        client.send(get("/v1/charges", LIVE));
        let head = client.head().unwrap();
        assert_eq!(head.status(), 200);
        assert!(client.response_body(&head).is_err(), "{framing} {body:?}");
        wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
    }
}

#[test]
fn an_answer_that_stalls_breaks_off() {
    let upstream = Upstream::scripted(|wire, _| {
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this");
        let _ = wire.is_over();
    });
    let gateway = Setup::new(upstream.address()).upstream("body_timeout = \"60ms\"").start();
    let mut client = gateway.connect();
    client.send(get("/v1/charges", LIVE));
    let head = client.head().unwrap();
    assert!(client.response_body(&head).is_err());
    wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn bytes_behind_an_answer_reach_nobody() {
    let upstream = Upstream::answering(|_| [ok("good"), ok("evil")].concat());
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    for _ in 0..5 {
        assert_eq!(client.ask(get("/v1/charges", LIVE)).text(), "good");
    }
    assert_eq!(upstream.connections(), 5, "none is used again");
}

#[test]
fn a_connection_that_the_upstream_closed_meanwhile_is_replaced() {
    let served = AtomicUsize::new(0);
    let upstream = Upstream::scripted(move |wire, head| {
        // The first answer promises to keep the connection, and breaks that promise.
        served.fetch_add(1, Ordering::SeqCst);
        let _ = wire.body(&head);
        wire.send(ok("ok"));
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    for _ in 0..20 {
        let answer = client.ask(get("/v1/charges", LIVE));
        // In the moment of closing the request may be on its way already: a read goes again, on a new connection.
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
    // The last one is counted once its answer has left, which the client may be ahead of.
    let counted = || gateway.metrics().sum("tollgate_requests_total", &[("status", "200")]);
    wait_until("each is counted, once", || counted() == 20.0);
}

#[test]
fn an_early_answer_ends_the_upload() {
    let upstream = Upstream::scripted(|wire, _| {
        wire.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 5\r\nconnection: close\r\n\r\nlarge");
        let _ = wire.is_over();
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    client.send(crate::support::running::request("POST", "/v1/charges", LIVE, "content-length: 1000000\r\n") + "some");
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text()), (413, "large"));
    wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
}
