//! What upstream servers answer, good and bad, byte by byte over real sockets: nothing of a bad answer reaches anybody, and of a
//! good one nothing is lost.

use crate::support::running::{LIVE, Setup, get, post, request};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::wait_until;
use crate::support::wire::{Answer, Wire};
use std::sync::Mutex;
use std::sync::mpsc::channel;

/// What a client is told of one answer, and how many connections two such requests took.
fn told(answer: &'static str) -> (Answer, usize) {
    let upstream = Upstream::answering(move |_| answer.as_bytes().to_vec());
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    let first = client.ask(get("/v1/charges", LIVE));
    assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), first.status(), "{answer:?}");
    wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
    assert_eq!(gateway.metrics().sum("tollgate_panics_total", &[]), 0.0);
    (first, upstream.connections())
}

#[test]
fn an_answer_that_can_be_read_in_two_ways_is_none() {
    for answer in [
        "<html>an answer of HTTP/0.9</html>\r\n",
        "HTTP/1.1 1000 Too many\r\n\r\n",
        "HTTP/1.1 600 Beyond\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 3, 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length : 3\r\n\r\nabc",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ] {
        let (told, _) = told(answer);
        assert_eq!((told.status(), told.error()["type"].as_str()), (502, Some("api_error")), "{answer:?}");
    }
}

#[test]
fn a_body_where_none_may_be_reaches_nobody() {
    for (answer, status) in [
        ("HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nevil", 204),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\nevil", 304),
        ("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n", 204),
    ] {
        let (told, connections) = told(answer);
        assert_eq!((told.status(), told.text(), connections), (status, "", 2), "{answer:?}");
    }
    let upstream = Upstream::answering(|_| ok("evil"));
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    for connections in 1..=3 {
        let answer = client.ask(request("HEAD", "/v1/charges", LIVE, ""));
        assert_eq!((answer.status(), answer.head.value("content-length")), (200, Some("4")));
        assert_eq!(upstream.connections(), connections, "what came behind the head is with its connection");
    }
    assert_eq!(client.ask(get("/v1/charges", LIVE)).text(), "evil", "asked for, it is an answer");
}

#[test]
fn interim_answers_are_bounded() {
    let answers =
        |count: usize| ["HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(count).into_bytes(), ok("final")];
    for (count, status) in [(1, 200), (100, 200), (101, 502), (1_000, 502)] {
        let upstream = Upstream::answering(move |_| answers(count).concat());
        let gateway = Setup::new(upstream.address()).start();
        assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), status, "{count}");
    }
}

#[test]
fn heads_of_answers_are_bounded() {
    for (fields, status) in [(99, 200), (100, 502), (150, 502)] {
        let head = format!("HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\nok", "x-field: y\r\n".repeat(fields));
        let upstream = Upstream::answering(move |_| head.clone().into_bytes());
        let gateway = Setup::new(upstream.address()).start();
        assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), status, "{fields}");
    }
}

#[test]
fn an_upstreams_own_refusal_goes_through_untouched() {
    let (told, connections) = told(
        "HTTP/1.1 429 Slow Down\r\nretry-after: 7\r\nrequest-id: req_theirs\r\nstripe-should-retry: true\r\n\
         content-length: 4\r\n\r\nslow",
    );
    assert_eq!((told.status(), told.text(), connections), (429, "slow", 1));
    assert_eq!(told.head.values("retry-after"), ["7"]);
    assert_eq!(told.head.values("request-id"), ["req_theirs"]);
    assert_eq!(told.head.values("stripe-should-retry"), ["true"]);
    assert!(!told.head.has("stripe-rate-limited-reason") && !told.head.has("ratelimit"), "{told:?}");
}

#[test]
fn trailers_of_an_answer_that_decide_something_are_dropped() {
    let (told, connections) = told(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\n\
         x-sum: 42\r\ncontent-length: 9\r\nset-cookie: a=b\r\ntollgate-account: acct_b\r\n\r\n",
    );
    assert_eq!((told.text(), connections), ("ok", 1));
    for (name, _) in &told.trailers {
        assert_eq!(name, "x-sum");
    }
}

#[test]
fn a_connection_that_the_server_has_closed_takes_no_request_not_even_a_write() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let upstream = Upstream::scripted(move |wire, head| {
        let _ = wire.body(&head);
        wire.send(ok("ok"));
        // Closed though it was to be kept: the end is on its way before anybody is told.
        wire.finish_writing();
        tell.lock().unwrap().send(()).unwrap();
        let _ = wire.is_over();
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    for _ in 0..20 {
        assert_eq!(client.ask(post("/v1/charges", LIVE)).status(), 200);
        told.recv().unwrap();
    }
    assert_eq!((upstream.connections(), upstream.requests().len()), (20, 20), "each was sent once");
}

#[test]
fn a_server_may_answer_first_and_read_the_rest_later() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let upstream = Upstream::scripted(move |wire: &mut Wire, head| {
        wire.send(ok("early"));
        tell.lock().unwrap().send(wire.body(&head).map(|body| body.len())).unwrap();
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    client.send(request("POST", "/v1/charges", LIVE, "content-length: 300000\r\n"));
    assert_eq!(client.answer().text(), "early");
    // The client may go on or not; if it does, the server gets what it was promised, or the end of its connection.
    let _ = client.try_send(vec![b'x'; 300_000]);
    let got = told.recv().unwrap();
    assert!(got.is_err() || got.is_ok_and(|length| length == 300_000));
    wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn fields_come_through_the_same_however_they_are_spelled() {
    // The second of each pair has a blank too many.
    for (plain, odd, framing) in [
        (
            "HTTP/1.1 200 OK\r\nServer: s\r\nDate: now\r\nRequest-Id: r\r\nSet-Cookie: a\r\nKeep-Alive: timeout=5\r\nset-cookie: b\r\n\
             Connection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nServer:  s\r\nDate: now\r\nRequest-Id: r\r\nSet-Cookie: a\r\nKeep-Alive: timeout=5\r\nset-cookie: b\r\n\
             Connection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            ("content-length", "2"),
        ),
        (
            "HTTP/1.1 200 OK\r\nServer: s\r\nDate: now\r\nRequest-Id: r\r\nSet-Cookie: a\r\nUpgrade: h2c\r\nset-cookie: b\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nServer: s \r\nDate: now\r\nRequest-Id: r\r\nSet-Cookie: a\r\nUpgrade: h2c\r\nset-cookie: b\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            ("transfer-encoding", "chunked"),
        ),
    ] {
        let (name, value) = framing;
        let mut expected = vec![
            ("date", "now"),
            ("request-id", "r"),
            ("server", "s"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
            (name, value),
        ];
        expected.sort_unstable();
        for answer in [plain, odd] {
            let (answer, _) = told(answer);
            let mut fields: Vec<_> =
                answer.head.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            fields.sort();
            assert_eq!((fields, answer.text()), (expected.clone(), "ok"));
        }
    }
    for bare in ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length:2\r\n\r\nok"] {
        let (answer, _) = told(bare);
        assert_eq!((answer.head.values("date").len(), answer.head.values("request-id").len()), (1, 1), "{answer:?}");
        assert!(!answer.head.has("authorization") && !answer.head.has("host"), "{answer:?}");
        assert_eq!(answer.head.fields.len(), 3, "{answer:?}");
    }
}
