//! What is sent once more, and what never.

use crate::support::RealClock;
use crate::support::running::{LIVE, Running, Setup, get, post, request};
use crate::support::upstream::{Nobody, Upstream, ok_and_close};
use crate::support::wire::{Head, Wire};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tollgate::engine::{Clock, Nanos};

fn reset(wire: &mut Wire, head: &Head) {
    let _ = wire.body(head);
    wire.writer().reset();
}

/// Resets the first request of every `each`, answers the others, on connections of their own.
fn resetting(each: usize) -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::scripted(move |wire, head| {
        if count.fetch_add(1, Ordering::SeqCst).is_multiple_of(each) {
            reset(wire, &head);
        } else {
            let body = wire.body(&head).unwrap();
            wire.send(ok_and_close(std::str::from_utf8(&body).unwrap()));
        }
    })
}

fn before_all(upstreams: &[&Upstream]) -> Setup {
    let urls: Vec<String> = upstreams.iter().map(|upstream| format!("http://{}", upstream.address())).collect();
    let mut setup = Setup::new(upstreams[0].address());
    setup.upstream = format!("servers = {urls:?}\n");
    setup
}

fn keyed(body: &str) -> String {
    let lines = format!("idempotency-key: k1\r\ncontent-length: {}\r\n", body.len());
    request("POST", "/v1/charges", LIVE, &lines) + body
}

fn retries(gateway: &Running, labels: &[(&str, &str)]) -> f64 {
    gateway.metrics().sum("tollgate_upstream_retries_total", labels)
}

#[test]
fn reads_go_again_after_a_reset_and_are_charged_once() {
    let upstream = resetting(2);
    let limit = "[[limits]]\nname = \"five\"\nstage = \"global\"\nquota = \"5/h\"\n";
    let gateway = Setup::new(upstream.address()).with(limit).start();
    for _ in 0..5 {
        assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200);
    }
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 429, "each took one, however often it was tried");
    assert_eq!(upstream.requests().len(), 10);
    assert_eq!(retries(&gateway, &[("cause", "reset"), ("outcome", "success")]), 5.0);
    let heads = upstream.requests();
    assert_eq!(heads[0].fields, heads[1].fields, "the very same request");
}

#[test]
fn writes_go_again_with_an_idempotency_key_only_where_the_upstream_honors_them() {
    let upstream = resetting(2);
    let gateway = Setup::new(upstream.address()).start();
    let answer = gateway.ask(keyed("amount=1"));
    assert_eq!((answer.status(), answer.head.value("stripe-should-retry")), (502, Some("false")));
    assert_eq!(upstream.requests().len(), 1);

    let upstream = resetting(2);
    let honored = "retries.writes_with_idempotency_key = true\nretries.max_body = \"1KiB\"";
    let gateway = Setup::new(upstream.address()).upstream(honored).start();
    let answer = gateway.ask(keyed("amount=1"));
    assert_eq!((answer.status(), answer.text()), (200, "amount=1"), "with its body");
    let chunked = request("POST", "/v1/charges", LIVE, "idempotency-key: k1\r\ntransfer-encoding: chunked\r\n");
    let answer = gateway.ask(chunked + "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!((answer.status(), answer.text()), (200, "abcde"));
    assert_eq!(upstream.requests().len(), 4);

    assert_eq!(gateway.ask(post("/v1/charges", LIVE)).status(), 502, "no key");
    assert_eq!(gateway.ask(post("/v1/charges", LIVE)).status(), 200);
    assert_eq!(gateway.ask(keyed(&"x".repeat(1025))).status(), 502, "too long to be kept");
    let answer = gateway.ask(keyed(&"x".repeat(1025)));
    assert_eq!((answer.status(), answer.body.len()), (200, 1025), "but it is forwarded");
    assert_eq!(upstream.requests().len(), 8);
}

#[test]
fn a_server_that_takes_a_write_and_is_gone_leaves_its_outcome_unknown() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        drop(listener);
        let (mut got, mut room) = (Vec::new(), [0; 4096]);
        while !got.ends_with(b"amount=1") {
            let length = std::io::Read::read(&mut socket, &mut room).unwrap();
            got.extend_from_slice(&room[..length]);
        }
    });
    let honored = "retries.writes_with_idempotency_key = true\nejection.failures = 0";
    let gateway = Setup::new(address).upstream(honored).start();
    let answer = gateway.ask(keyed("amount=1"));
    server.join().unwrap();
    assert!(answer.text().contains("is unknown"), "{answer:?}");
    assert_eq!(answer.head.value("stripe-should-retry"), Some("false"));
}

#[test]
fn a_body_that_finds_no_room_is_sent_once() {
    let upstream = resetting(1);
    let honored = "retries.writes_with_idempotency_key = true\nretries.max_body = \"1MiB\"\nretries.attempts = 2";
    let gateway = Setup::new(upstream.address()).server("max_buffer_memory = \"1MiB\"").upstream(honored).start();
    assert_eq!(gateway.ask(keyed("amount=1")).status(), 502);
    let tries = upstream.requests().len();
    assert!(tries > 1, "what finds room is tried again");
    // With its connection longer than all the memory there is, so not kept.
    let mut client = gateway.connect();
    let _ = client.try_send(keyed(&"x".repeat(1_040_000)));
    assert_eq!(client.answer().status(), 502);
    assert_eq!(upstream.requests().len(), tries + 1);
}

#[test]
fn an_answer_that_says_unfit_is_passed_on_unless_it_is_to_be_tried_again() {
    let unfit = || Upstream::answering(|_| b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy".to_vec());
    let (bad, good) = (unfit(), Upstream::fine());
    let gateway = before_all(&[&bad]).start();
    let answer = gateway.ask(get("/v1/charges", LIVE));
    assert_eq!((answer.status(), answer.text(), bad.requests().len()), (503, "busy", 1), "as it is");

    let again = "retries.on = [\"connect\", \"503\"]\nejection.failures = 0\nbalance = \"round_robin\"";
    let gateway = before_all(&[&bad, &good]).upstream(again).start();
    for _ in 0..10 {
        assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200);
    }
    let writes: Vec<u16> = (0..10).map(|_| gateway.ask(post("/v1/charges", LIVE)).status()).collect();
    assert_eq!(writes.iter().filter(|status| **status == 503).count(), 5, "{writes:?}");
    assert!(retries(&gateway, &[("cause", "503"), ("outcome", "success")]) >= 5.0);
}

#[test]
fn a_try_that_takes_too_long_is_followed_by_another() {
    let silent = Upstream::scripted(|wire, head| {
        let _ = wire.body(&head);
        let _ = wire.is_over();
    });
    let good = Upstream::fine();
    let quick = "retries.per_try_timeout = \"50ms\"\nbalance = \"round_robin\"";
    let gateway = before_all(&[&silent, &good]).upstream(quick).start();
    for _ in 0..4 {
        assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200);
    }
    assert!(!silent.requests().is_empty());
    assert!(retries(&gateway, &[("cause", "timeout"), ("outcome", "success")]) >= 1.0);
    // In all no longer than this, whatever is tried.
    let lines = "request_timeout = \"100ms\"\nretries.per_try_timeout = \"60ms\"\nretries.attempts = 10";
    let gateway = before_all(&[&silent]).upstream(lines).start();
    let answer = gateway.ask(get("/v1/charges", LIVE));
    assert_eq!(answer.status(), 504, "{answer:?}");
    assert!(gateway.ask(post("/v1/charges", LIVE)).status() == 504);
}

#[test]
fn a_dying_upstream_gets_no_storm() {
    const REQUESTS: usize = 600;
    let (clock, count) = (RealClock::start(), Arc::new(AtomicUsize::new(0)));
    let failing = || {
        let count = Arc::clone(&count);
        Upstream::scripted(move |wire, head| {
            count.fetch_add(1, Ordering::SeqCst);
            reset(wire, &head);
        })
    };
    let upstreams = [(); 3].map(|()| failing());
    // As many tries as there are servers, so that none has to pause.
    let lines = "retries.attempts = 2\nretries.budget = 0.1\nejection.failures = 0";
    let mut setup = before_all(&[&upstreams[0], &upstreams[1], &upstreams[2]]).upstream(lines);
    setup.threads = 2;
    let gateway = setup.start();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = gateway.connect();
                for _ in 0..REQUESTS / 6 {
                    assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 502);
                }
            });
        }
    });
    let tries = count.load(Ordering::SeqCst);
    let retried = retries(&gateway, &[("cause", "reset"), ("outcome", "failure")]);
    assert_eq!(tries as f64, REQUESTS as f64 + retried);
    // A hundred free ones in ten seconds, which a busy machine may need more than once; then requests may count twice too.
    let windows = 1.0 + ((clock.now() - Nanos(0)).as_secs() / 10) as f64;
    assert!(retried >= 100.0, "there is a budget: {retried}");
    assert!(retried <= REQUESTS as f64 * 0.1 * windows.min(2.0) + 100.0 * windows, "{retried} retries");
    assert!(retries(&gateway, &[("outcome", "over_budget")]) > 0.0);
}

#[test]
fn what_was_never_sent_goes_to_another_server_whatever_it_is() {
    let (nobody, good) = (Nobody::new(), Upstream::fine());
    let mut setup = Setup::new(good.address());
    setup.upstream = format!("servers = [\"http://{}\", \"http://{}\"]\n", nobody.address(), good.address());
    let gateway = setup.start();
    for _ in 0..20 {
        assert_eq!(gateway.ask(keyed("amount=1")).status(), 200);
        assert_eq!(gateway.ask(post("/v1/charges", LIVE)).status(), 200);
    }
    assert_eq!(good.requests().len(), 40);
    assert!(retries(&gateway, &[("cause", "connect"), ("outcome", "success")]) >= 1.0);
}
