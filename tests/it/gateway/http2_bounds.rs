//! What an HTTP/2 client may take: sizes, rates and memory, stream by stream. Its other streams notice nothing.

use crate::support::frames::{
    self, CANCEL, DATA, END_STREAM, HEADERS, RST_STREAM, Raw, WINDOW_UPDATE, block, fields, frame,
};
use crate::support::running::{Running, Setup};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::wait_until;
use std::time::Duration;

const SECRET: &str = "Bearer sk_live_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn held(gateway: &Running) -> f64 {
    gateway.metrics().sum("tollgate_buffer_bytes", &[])
}

fn answered(gateway: &Running, status: &str) -> f64 {
    gateway.metrics().sum("tollgate_requests_total", &[("status", status)])
}

#[track_caller]
fn assert_served(raw: &mut Raw, stream: u32) {
    raw.head(stream, &fields("GET", "/v1/charges", SECRET), true);
    assert_eq!(raw.body(stream), "ok");
}

#[test]
fn a_body_that_is_too_long_is_refused_and_the_connection_serves_on() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server("max_body_bytes = \"1000B\"").start();
    let mut raw = Raw::begin(gateway.address, &[]);
    let told = [&fields("POST", "/v1/charges", SECRET)[..], &[("content-length", "1001")]].concat();
    raw.head(1, &told, false);
    assert!(raw.body(1).contains("too large"));
    assert!(upstream.requests().is_empty());
    // One that grows, and one that just fits.
    raw.head(3, &fields("POST", "/v1/charges", SECRET), false);
    raw.send(frame(DATA, 0, 3, &[b'x'; 500]));
    raw.send(frame(DATA, 0, 3, &[b'x'; 501]));
    assert!(raw.body(3).contains("too large"));
    raw.head(5, &fields("POST", "/v1/charges", SECRET), false);
    raw.send(frame(DATA, END_STREAM, 5, &[b'x'; 1000]));
    assert_eq!(raw.body(5), "ok");
    assert_eq!(answered(&gateway, "413"), 2.0);
    wait_until("everything is given back", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn a_body_that_trickles_is_given_up() {
    let upstream = Upstream::fine();
    let lines = "body_timeout = \"200ms\"\nmin_body_rate = \"100KiB\"";
    let by_form = "[[limits]]\nname = \"l\"\nstage = \"resource\"\nrate = \"100/s\"\nper = [\"form.a\"]\n\
                   when = { endpoint = \"payouts.create\" }\n";
    let gateway = Setup::new(upstream.address()).server(lines).with(by_form).start();
    // Streamed to the upstream, and read ahead for a limit.
    for path in ["/v1/charges", "/v1/payouts"] {
        let mut raw = Raw::begin(gateway.address, &[]);
        raw.head(1, &[&fields("POST", path, SECRET)[..], &[FORM]].concat(), false);
        let (mut writer, (stop, stopped)) = (raw.writer(), std::sync::mpsc::channel::<()>());
        let dripping = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(20)).is_err() {
                if writer.try_send(frame(DATA, 0, 1, b"x")).is_err() {
                    return;
                }
            }
        });
        assert!(raw.body(1).contains("in time"), "{path}");
        // Who is gone already needs no word.
        let _ = stop.send(());
        dripping.join().unwrap();
    }
    assert_eq!(answered(&gateway, "408"), 2.0);
    wait_until("everything is given back", || gateway.metrics().in_flight() == 0.0);
}

/// Answers that one client takes by the spoonful, `streams` at once; what became of the first stream.
fn spooned(gateway: &Running, streams: u32, spoon: u32) -> (frames::Frame, usize) {
    let mut raw = Raw::begin(gateway.address, &[(4, 0)]);
    for turn in 0..streams {
        raw.head(1 + 2 * turn, &fields("GET", "/v1/charges", SECRET), true);
    }
    let (mut writer, (stop, stopped)) = (raw.writer(), std::sync::mpsc::channel::<()>());
    let spooning = std::thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_millis(10)).is_err() {
            for turn in 0..streams {
                if writer.try_send(frame(WINDOW_UPDATE, 0, 1 + 2 * turn, &spoon.to_be_bytes())).is_err() {
                    return;
                }
            }
        }
    });
    let mut taken = 0;
    let end = loop {
        let frame = raw.next().expect("an end of the first stream");
        if frame.stream == 1 && frame.kind == DATA {
            taken += frame.payload.len();
        }
        if frame.stream == 1 && (frame.kind == RST_STREAM || frame.ends_stream()) {
            break frame;
        }
    };
    let _ = stop.send(());
    spooning.join().unwrap();
    (end, taken)
}

#[test]
fn a_client_that_reads_by_the_spoonful_is_given_up() {
    let upstream = Upstream::answering(|_| ok(&"x".repeat(1 << 20)));
    let lines = "write_timeout = \"300ms\"\nmin_write_rate = \"1MiB\"";
    let gateway = Setup::new(upstream.address()).server(lines).start();
    let (end, taken) = spooned(&gateway, 1, 10);
    assert_eq!((end.kind, end.code()), (RST_STREAM, Some(CANCEL)));
    assert!(taken < 1 << 20);
    wait_until("everything is given back", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn streams_share_the_rate_that_their_client_must_keep() {
    // A byte each 10 ms is too slow for one alone; four each are enough for each of sixty.
    let upstream = Upstream::answering(|_| ok(&"x".repeat(400)));
    let lines = "write_timeout = \"300ms\"\nmin_write_rate = \"4KiB\"";
    let gateway = Setup::new(upstream.address()).server(lines).start();
    let (end, taken) = spooned(&gateway, 1, 1);
    assert_eq!((end.kind, taken < 400), (RST_STREAM, true), "{end:?}");
    let (end, taken) = spooned(&gateway, 60, 4);
    assert_eq!((end.kind, taken), (DATA, 400), "{end:?}");
    wait_until("everything is given back", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn answers_that_wait_are_charged_until_they_are_taken() {
    const BODY_BYTES: usize = 50_000;
    let upstream = Upstream::answering(|_| ok(&"x".repeat(BODY_BYTES)));
    let gateway = Setup::new(upstream.address()).start();
    let mut raw = Raw::begin(gateway.address, &[(4, 0)]);
    wait_until("it is here", || held(&gateway) > 0.0);
    let before = held(&gateway);
    for turn in 0..8 {
        raw.head(1 + 2 * turn, &fields("GET", "/v1/charges", SECRET), true);
        raw.until(|frame| frame.kind == HEADERS).unwrap();
    }
    // Of each at least a part is here, and waits.
    wait_until("they are charged", || held(&gateway) >= before + 8_000.0);
    for turn in 0..8 {
        raw.send(frame(RST_STREAM, 0, 1 + 2 * turn, &CANCEL.to_be_bytes()));
    }
    wait_until("they are given back", || held(&gateway) <= before);
    drop(raw);
    wait_until("nobody is left", || held(&gateway) == 0.0);
}

/// Bodies that nobody reads yet: their requests wait for their turn at an object.
#[test]
fn bodies_that_wait_are_charged_and_a_full_budget_takes_no_more() {
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let upstream = Upstream::scripted(move |wire, head| {
        if head.target().starts_with("/v1/payment_intents") {
            let _ = told.lock().unwrap().recv();
        }
        let _ = wire.try_send(ok("ok"));
    });
    let lock = "[[endpoints]]\nmatch = \"POST /v1/payment_intents/{intent}\"\n\
                lock = { per = [\"path.intent\"], wait = \"20s\" }\n";
    let lines = "max_buffer_memory = \"1MiB\"\nhttp2_connection_window = \"4MiB\"";
    let gateway = Setup::new(upstream.address()).server(lines).with(lock).start();
    let mut raw = Raw::begin(gateway.address, &[]);
    let post = fields("POST", "/v1/payment_intents/pi_1", SECRET);
    raw.head(1, &post, true);
    wait_until("one holds the object", || upstream.requests().len() == 1);
    let mut turns = 0;
    while answered(&gateway, "503") == 0.0 {
        turns += 1;
        raw.head(1 + 2 * turns, &post, false);
        for _ in 0..6 {
            raw.send(frame(DATA, 0, 1 + 2 * turns, &[b'x'; 10_000]));
        }
        let whole = 60_000.0 * f64::from(turns);
        wait_until("it is held, or refused", || held(&gateway) >= whole || answered(&gateway, "503") > 0.0);
    }
    assert!((16..=18).contains(&turns), "{turns} bodies of 60,000 bytes for 1 MiB");
    raw.head(51, &post, false);
    assert!(raw.body(51).contains("short of memory"));
    assert_eq!(answered(&gateway, "503"), 2.0);
    assert_served(&mut raw, 101);
    for turn in 1..=turns {
        raw.send(frame(RST_STREAM, 0, 1 + 2 * turn, &CANCEL.to_be_bytes()));
    }
    wait_until("it is given back", || held(&gateway) < 100_000.0);
    tell.send(()).unwrap();
    drop(raw);
    wait_until("nobody is left", || held(&gateway) == 0.0 && gateway.metrics().in_flight() == 0.0);
}

#[test]
fn half_heads_hold_no_more_memory_than_they_may() {
    const MOST: f64 = (2 << 20) as f64;
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server("max_buffer_memory = \"2MiB\"").start();
    let long = block(&[("x", &"x".repeat(16_000))]);
    let hostile: Vec<Raw> = (0..60)
        .map(|_| {
            let mut raw = Raw::open(gateway.address);
            // Who finds no room may see the connection break.
            let _ = raw.try_send([frames::PREFACE, &frame(4, 0, 0, &[])].concat());
            let _ = raw.try_send(frame(HEADERS, 0, 1, &long));
            raw
        })
        .collect();
    // 60 × (8 KiB + 32 KiB + 16 KB) is more than there is.
    wait_until("the bound is met", || held(&gateway) > MOST - 100_000.0);
    assert!(held(&gateway) <= MOST);
    drop(hostile);
    wait_until("it is given back", || held(&gateway) == 0.0);
    assert_served(&mut Raw::begin(gateway.address, &[]), 1);
}

/// Row 63.
#[test]
fn a_head_that_is_too_large_is_told_so() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server("max_header_bytes = \"8KiB\"").start();
    let large = "x".repeat(8 * 1024);
    let mut raw = Raw::begin(gateway.address, &[]);
    raw.head(1, &[&fields("GET", "/v1/charges", SECRET)[..], &[("x", large.as_str())]].concat(), true);
    assert!(raw.body(1).contains("headers are too large"));
    assert_eq!(answered(&gateway, "431"), 1.0);
    assert_served(&mut raw, 3);
}
