//! Bodies on their way through: whole, in both directions, piece by piece, and never gathered.

use crate::support::running::{LIVE, Setup, get, request};
use crate::support::upstream::{Upstream, ok};
use crate::support::wire::Wire;
use std::sync::Mutex;
use std::sync::mpsc::channel;

const LARGE: usize = 20 << 20;
const CHUNK: usize = 60_000;

/// So many bytes that repeat with a period that no buffer has.
fn pattern(length: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..65_521_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    block.repeat(length.div_ceil(block.len()))[..length].to_vec()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(body.len() + body.len() / 1_000);
    for chunk in body.chunks(CHUNK) {
        wire.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend(chunk);
        wire.extend(b"\r\n");
    }
    wire.extend(b"0\r\n\r\n");
    wire
}

fn upload(lines: &str, wire_body: Vec<u8>) {
    let whole = pattern(LARGE);
    let upstream = Upstream::answering(move |got| ok(if got.body == whole { "whole" } else { "broken" }));
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    client.send(request("POST", "/v1/charges", LIVE, lines));
    let mut writer = client.writer();
    let sending = std::thread::spawn(move || writer.send(wire_body));
    assert_eq!(client.answer().text(), "whole");
    sending.join().unwrap();
    assert_eq!(client.ask(get("/v1/charges", LIVE)).text(), "broken", "the connection serves on");
}

#[test]
fn twenty_megabytes_go_up_with_a_length() {
    upload(&format!("content-length: {LARGE}\r\n"), pattern(LARGE));
}

#[test]
fn twenty_megabytes_go_up_in_chunks() {
    upload("transfer-encoding: chunked\r\n", chunked(&pattern(LARGE)));
}

#[test]
fn twenty_megabytes_come_down_either_way() {
    let upstream = Upstream::answering(|got| {
        let body = pattern(LARGE);
        let (head, body) = match got.head.target() {
            "/v1/chunked" => ("transfer-encoding: chunked".to_owned(), chunked(&body)),
            _ => (format!("content-length: {LARGE}"), body),
        };
        [format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").into_bytes(), body].concat()
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    for path in ["/v1/chunked", "/v1/length"] {
        assert!(client.ask(get(path, LIVE)).body == pattern(LARGE), "{path}");
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_body_without_a_length_ends_with_its_connection() {
    let upstream = Upstream::scripted(|wire, _| wire.send("HTTP/1.1 200 OK\r\n\r\nuntil the end"));
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    for connections in 1..=2 {
        assert_eq!(client.ask(get("/v1/charges", LIVE)).text(), "until the end");
        assert_eq!(upstream.connections(), connections);
    }
}

#[test]
fn every_piece_goes_on_as_it_comes() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let upstream = Upstream::scripted(move |wire, _| {
        for _ in 0..2 {
            tell.lock().unwrap().send(wire.chunk().unwrap()).unwrap();
        }
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        // The rest of the answer waits for a piece that the client sends only after it has read the first one.
        tell.lock().unwrap().send(wire.chunk().unwrap()).unwrap();
        wire.send("6\r\nsecond\r\n0\r\n\r\n");
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    let heard = || told.recv().unwrap();
    client.send(request("POST", "/v1/charges", LIVE, "transfer-encoding: chunked\r\n"));
    client.send("3\r\none\r\n");
    assert_eq!(heard(), b"one");
    client.send("3\r\ntwo\r\n");
    assert_eq!(heard(), b"two");
    let head = client.head().unwrap();
    assert_eq!((head.status(), client.chunk().unwrap()), (200, b"first".to_vec()));
    client.send("0\r\n\r\n");
    assert_eq!(heard(), b"");
    assert_eq!(client.chunk().unwrap(), b"second");
    assert_eq!(client.chunk().unwrap(), b"");
}

/// How much the gateway takes of `offer` bytes that nobody reads at the other end.
fn taken(mut writer: Wire, offer: usize) -> usize {
    let piece = vec![b'x'; 256 * 1024];
    writer.set_write_patience(std::time::Duration::from_millis(300));
    let mut taken = 0;
    while taken < offer && writer.try_send(&piece).is_ok() {
        taken += piece.len();
    }
    taken
}

/// What the kernel's buffers of two connections may hold, with room to spare.
const BUFFERS: usize = 48 << 20;

#[test]
fn an_upstream_that_does_not_read_holds_the_client_back() {
    let (stop, stopped) = channel::<()>();
    let stopped = Mutex::new(stopped);
    let upstream = Upstream::scripted(move |_, _| {
        let _ = stopped.lock().unwrap().recv();
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    client.send(request("POST", "/v1/charges", LIVE, &format!("content-length: {}\r\n", 4 * BUFFERS)));
    let taken = taken(client.writer(), 2 * BUFFERS);
    assert!(taken < BUFFERS, "{taken} bytes were gathered");
    drop(stop);
}

#[test]
fn a_client_that_does_not_read_holds_the_upstream_back() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let upstream = Upstream::scripted(move |wire, _| {
        wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 4 * BUFFERS));
        tell.lock().unwrap().send(taken(wire.writer(), 2 * BUFFERS)).unwrap();
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    client.send(get("/v1/charges", LIVE));
    let taken = told.recv().unwrap();
    assert!(taken < BUFFERS, "{taken} bytes were gathered");
}

#[test]
fn a_body_is_asked_for_only_when_the_upstream_gets_it() {
    let upstream = Upstream::answering(|got| ok(&String::from_utf8_lossy(&got.body)));
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    let lines = "content-length: 4\r\nexpect: 100-continue\r\n";
    client.send(request("POST", "/v1/charges", LIVE, lines));
    assert_eq!(client.head().unwrap().status(), 100);
    assert_eq!(client.ask("body").text(), "body");
    assert!(!upstream.last().has("expect"));

    let mut refused = gateway.connect();
    let answer = refused.ask(request("POST", "/v1/charges", "sk_live_nobody", lines));
    assert_eq!(answer.status(), 401, "without a 100 before it");
}

#[test]
fn trailers_go_both_ways_where_they_are_announced() {
    let upstream = Upstream::answering(|got| {
        let seen = got.trailers.iter().map(|(name, value)| format!("{name}={value};")).collect::<String>();
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
        format!("{head}{:x}\r\n{seen}\r\n0\r\nx-sum: 42\r\n\r\n", seen.len()).into_bytes()
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    let lines = "te: trailers\r\ntrailer: x-check\r\ntransfer-encoding: chunked\r\n";
    let answer = client.ask(request("POST", "/v1/charges", LIVE, lines) + "1\r\na\r\n0\r\nx-check: 7\r\n\r\n");
    assert_eq!(answer.text(), "x-check=7;");
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "42".to_owned())]);
    assert_eq!(upstream.last().value("te"), Some("trailers"));
}

#[test]
fn interim_answers_end_at_the_gateway() {
    let upstream = Upstream::answering(|_| {
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(20);
        [interim.into_bytes(), ok("final")].concat()
    });
    let gateway = Setup::new(upstream.address()).start();
    let answer = gateway.ask(get("/v1/charges", LIVE));
    assert_eq!((answer.status(), answer.text()), (200, "final"));
}
