//! What an HTTP/2 client holds, and until when: slots stay until the last byte has left, and nobody holds one by doing nothing.

use crate::support::frames::{
    self, ACK, CANCEL, DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw, WINDOW_UPDATE, fields, frame,
};
use crate::support::h2::{Client, request as ask, runtime};
use crate::support::running::{LIVE, Running, Setup};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::wait_until;
use crate::support::wire::Wire;
use http::{Method, StatusCode};

const SECRET: &str = "Bearer sk_live_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const ONE_SLOT: &str = "[[limits]]\nname = \"s\"\nstage = \"global\"\nconcurrency = 1\n";
/// `SETTINGS_INITIAL_WINDOW_SIZE`: no byte of a body may be sent.
const CLOSED: &[(u16, u32)] = &[(4, 0)];

fn silent() -> Upstream {
    Upstream::scripted(|wire: &mut Wire, _| while !wire.is_over() {})
}

fn get(raw: &mut Raw, stream: u32) {
    raw.head(stream, &fields("GET", "/v1/charges", SECRET), true);
}

/// The gateway has done all that was to do: it has answered a ping that came after.
#[track_caller]
fn settle(raw: &mut Raw) {
    raw.send(frame(PING, 0, 0, &[9; 8]));
    raw.until(|frame| frame.kind == PING && frame.flags == ACK).unwrap();
}

fn open(raw: &mut Raw, stream: u32, by: u32) {
    raw.send(frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes()));
}

#[track_caller]
fn assert_nothing_left(gateway: &Running) {
    wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn a_closed_window_holds_its_slot_until_the_last_byte() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(ONE_SLOT).start();
    let mut raw = Raw::begin(gateway.address, CLOSED);
    get(&mut raw, 1);
    let head = raw.until(|frame| frame.kind == HEADERS).unwrap();
    assert!(head.is_200() && !head.ends_stream());
    let mut next = 3;
    // "ok" is two bytes: with none and with one of them gone, the slot is held.
    for _ in 0..2 {
        settle(&mut raw);
        get(&mut raw, next);
        let refused = raw.until(|frame| frame.kind == HEADERS && frame.stream == next).unwrap();
        assert!(!refused.is_200(), "the slot is held");
        assert_eq!(gateway.metrics().sum("tollgate_in_flight", &[("stage", "global-concurrency")]), 1.0);
        next += 2;
        open(&mut raw, 1, 1);
        assert_eq!(raw.until(|frame| frame.kind == DATA && frame.stream == 1).unwrap().payload.len(), 1);
    }
    assert_nothing_left_of_slots(&gateway);
    get(&mut raw, next);
    assert!(raw.until(|frame| frame.kind == HEADERS && frame.stream == next).unwrap().is_200());
    assert_eq!(upstream.connections(), 1, "the upstream's connection did not wait for the client");
}

#[track_caller]
fn assert_nothing_left_of_slots(gateway: &Running) {
    let slots = [("stage", "global-concurrency")];
    wait_until("the slot is back", || gateway.metrics().sum("tollgate_in_flight", &slots) == 0.0);
}

#[test]
fn a_reset_gives_the_slot_back_at_once() {
    let upstream = Upstream::answering(|_| ok(&"x".repeat(200_000)));
    let gateway = Setup::new(upstream.address()).with(ONE_SLOT).start();
    let mut raw = Raw::begin(gateway.address, CLOSED);
    get(&mut raw, 1);
    raw.until(|frame| frame.kind == HEADERS).unwrap();
    raw.send(frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()));
    assert_nothing_left(&gateway);
    get(&mut raw, 3);
    assert!(raw.until(|frame| frame.kind == HEADERS && frame.stream == 3).unwrap().is_200());
    drop(raw);
    assert_nothing_left(&gateway);
    let gone = gateway.metrics().sum("tollgate_requests_total", &[("status", "499")]);
    assert_eq!(gone, 2.0);
}

/// Row 64.
#[test]
fn windows_that_never_open_time_out_stream_by_stream() {
    let upstream =
        Upstream::answering(|got| ok(&"x".repeat(if got.head.target() == "/v1/short" { 10 } else { 100_000 })));
    let gateway = Setup::new(upstream.address()).server("write_timeout = \"200ms\"").start();
    let mut raw = Raw::begin(gateway.address, CLOSED);
    for turn in 0..100 {
        get(&mut raw, 1 + 2 * turn);
    }
    for _ in 0..100 {
        assert_eq!(raw.until(|frame| frame.kind == RST_STREAM).unwrap().code(), Some(CANCEL));
    }
    assert_nothing_left(&gateway);
    // The connection goes on for those that read.
    raw.head(201, &fields("GET", "/v1/short", SECRET), true);
    raw.until(|frame| frame.kind == HEADERS && frame.stream == 201).unwrap();
    open(&mut raw, 201, 10);
    assert_eq!(raw.body(201), "x".repeat(10));
}

/// Row 65.
#[test]
fn bodies_that_never_come_time_out() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server("body_timeout = \"200ms\"").start();
    let mut raw = Raw::begin(gateway.address, &[]);
    for turn in 0..100 {
        raw.head(1 + 2 * turn, &fields("POST", "/v1/charges", SECRET), false);
    }
    let mut ended = 0;
    while ended < 100 {
        let frame = raw.next().expect("each is answered");
        ended += u32::from(frame.ends_stream());
    }
    assert_nothing_left(&gateway);
    assert_eq!(gateway.metrics().sum("tollgate_requests_total", &[("status", "408")]), 100.0);
    get(&mut raw, 201);
    assert_eq!(raw.body(201), "ok");
}

#[test]
fn who_is_gone_holds_nothing() {
    let upstream = silent();
    let gateway = Setup::new(upstream.address()).start();
    let mut raw = Raw::begin(gateway.address, &[]);
    for turn in 0..50 {
        get(&mut raw, 1 + 2 * turn);
    }
    wait_until("all are forwarded", || upstream.requests().len() == 50);
    drop(raw);
    assert_nothing_left(&gateway);
    wait_until("the connection is gone", || gateway.metrics().sum("tollgate_connections", &[]) == 0.0);
}

#[test]
fn a_client_that_answers_no_ping_is_gone() {
    let upstream = silent();
    let setup = Setup::new(upstream.address()).server("idle_timeout = \"150ms\"\nwrite_timeout = \"150ms\"");
    let gateway = setup.start();
    let mut raw = Raw::begin(gateway.address, &[]);
    get(&mut raw, 1);
    assert!(raw.until(|frame| frame.kind == PING && frame.flags == 0).is_some());
    assert!(raw.is_over());
    assert_nothing_left(&gateway);
}

#[test]
fn a_client_that_answers_pings_may_wait() {
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let upstream = Upstream::scripted(move |wire, _| {
        told.lock().unwrap().recv().unwrap();
        wire.send(ok("late"));
    });
    let setup = Setup::new(upstream.address()).server("idle_timeout = \"100ms\"\nwrite_timeout = \"10s\"");
    let gateway = setup.start();
    let mut raw = Raw::begin(gateway.address, &[]);
    get(&mut raw, 1);
    for _ in 0..3 {
        let ping = raw.until(|frame| frame.kind == PING && frame.flags == 0).unwrap();
        raw.send(frame(PING, ACK, 0, &ping.payload));
    }
    tell.send(()).unwrap();
    assert_eq!(raw.body(1), "late");
}

#[test]
fn an_idle_connection_is_asked_to_leave() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server("idle_timeout = \"150ms\"").start();
    runtime().block_on(async {
        let mut client = Client::connect(gateway.address).await;
        assert_eq!(client.ask(ask(Method::GET, "/v1/charges", LIVE), "").await.status, StatusCode::OK);
        let sender = client.sender.clone();
        client.ended().await.unwrap();
        drop(sender);
    });
    wait_until("it is gone", || gateway.metrics().sum("tollgate_connections", &[]) == 0.0);
}

/// Row 80: what is in flight ends; what comes behind the last stream named was never begun, and the client knows.
#[test]
fn a_drain_names_the_last_stream_and_serves_no_other() {
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let upstream = Upstream::scripted(move |wire, _| {
        told.lock().unwrap().recv().unwrap();
        wire.send(ok("whole"));
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut raw = Raw::begin(gateway.address, &[]);
    get(&mut raw, 1);
    wait_until("it is forwarded", || upstream.requests().len() == 1);
    gateway.handle().drain();
    let first = raw.until(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!(first.code(), Some(0));
    assert_eq!(&first.payload[..4], &0x7fff_ffff_u32.to_be_bytes(), "streams on their way are still served");
    let ping = raw.until(|frame| frame.kind == PING && frame.flags == 0).unwrap();
    raw.send(frame(PING, ACK, 0, &ping.payload));
    let last = raw.until(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!(&last.payload[..4], &1u32.to_be_bytes());
    get(&mut raw, 3);
    tell.send(()).unwrap();
    let rest = raw.stream(1);
    let body: Vec<u8> =
        rest.iter().filter(|frame| frame.kind == DATA).flat_map(|frame| frame.payload.clone()).collect();
    assert_eq!(body, b"whole");
    assert!(raw.is_over());
    gateway.join();
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_client_that_does_not_leave_does_not_hold_up_a_drain() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let mut raw = Raw::begin(gateway.address, &[]);
    get(&mut raw, 1);
    assert_eq!(raw.body(1), "ok");
    // And one that has not even begun.
    let silent = Raw::open(gateway.address);
    gateway.handle().drain();
    // The ping behind the first GOAWAY is never answered.
    gateway.join();
    drop((raw, silent));
}

#[test]
fn streaming_goes_both_ways_at_once() {
    let upstream = Upstream::scripted(|wire, _| {
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        loop {
            let Ok(chunk) = wire.chunk() else { return };
            if chunk.is_empty() {
                let _ = wire.try_send("0\r\n\r\n");
                return;
            }
            wire.send(format!("{:x}\r\n", chunk.len()));
            wire.send([&chunk[..], b"\r\n"].concat());
        }
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut raw = Raw::begin(gateway.address, &[]);
    raw.head(1, &fields("POST", "/v1/charges", SECRET), false);
    for piece in [&b"one"[..], b"two", b"three"] {
        raw.send(frame(DATA, 0, 1, piece));
        assert_eq!(raw.until(|frame| frame.kind == DATA).unwrap().payload, piece);
    }
    raw.send(frame(DATA, END_STREAM, 1, b""));
    assert!(raw.stream(1).last().is_some_and(frames::Frame::ends_stream));
    assert_nothing_left(&gateway);
}
