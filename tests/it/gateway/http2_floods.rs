//! Floods of HTTP/2: each ends its connection, costs what it forwarded, and leaves nothing behind.

use crate::support::frames::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING, PRIORITY,
    RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, block, fields, frame,
};
use crate::support::running::{Running, Setup};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::wait_until;
use crate::support::wire::Wire;

const SECRET: &str = "Bearer sk_live_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// An upstream that answers nothing.
fn silent() -> Upstream {
    Upstream::scripted(|wire: &mut Wire, _| while !wire.is_over() {})
}

/// Sends what `next` gives until the connection ends, at most `most` times; the code it ends with.
#[track_caller]
fn flood(gateway: &Running, most: u32, next: impl FnMut(u32) -> Vec<u8> + Send) -> Option<u32> {
    let mut raw = Raw::begin(gateway.address, &[]);
    flood_on(&mut raw, most, next)
}

fn flood_on(raw: &mut Raw, most: u32, mut next: impl FnMut(u32) -> Vec<u8> + Send) -> Option<u32> {
    let mut writer = raw.writer();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for turn in 0..most {
                if writer.try_send(next(turn)).is_err() {
                    return;
                }
            }
        });
        raw.goaway()
    })
}

/// The gateway serves on, and nothing of the flood is held.
#[track_caller]
fn assert_calm(gateway: &Running) {
    wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
    wait_until("no connection is left", || gateway.metrics().sum("tollgate_connections", &[]) == 0.0);
    assert_eq!(gateway.metrics().sum("tollgate_panics_total", &[]), 0.0);
}

/// Row 61: a frame of no request, over and over.
#[test]
fn frames_of_no_request_are_rated() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let kinds: [(&str, Vec<u8>); 5] = [
        ("settings", frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 0])),
        ("ping", frame(PING, 0, 0, &[7; 8])),
        ("window update", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("priority", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])),
        ("unknown", frame(0xfa, 0, 0, &[1; 16])),
    ];
    for (name, bytes) in kinds {
        let batch = bytes.repeat(100);
        assert_eq!(flood(&gateway, 2_000, |_| batch.clone()), Some(ENHANCE_YOUR_CALM), "{name}");
    }
    assert_calm(&gateway);
}

#[test]
fn a_client_that_reads_much_may_open_as_many_windows() {
    const LENGTH: usize = 20 << 20;
    let upstream = Upstream::answering(|_| ok(&"x".repeat(LENGTH)));
    let gateway = Setup::new(upstream.address()).start();
    let mut raw = Raw::begin(gateway.address, &[]);
    raw.head(1, &fields("GET", "/v1/charges", SECRET), true);
    let mut got = 0;
    while got < LENGTH {
        let Some(data) = raw.next() else { panic!("it ended at {got}") };
        if data.kind != DATA || data.payload.is_empty() {
            continue;
        }
        got += data.payload.len();
        let by = u32::try_from(data.payload.len()).unwrap().to_be_bytes();
        raw.send(
            [frame(WINDOW_UPDATE, 0, 0, &by), frame(WINDOW_UPDATE, 0, 1, &by), frame(PING, 0, 0, &[0; 8])].concat(),
        );
    }
}

/// Row 56, with time for each request to be forwarded: what is reset was paid for, so that resets are no free load.
#[test]
fn rapid_resets_are_paid_for_and_end() {
    const TOKENS: usize = 50;
    let upstream = silent();
    let limit = format!("[[limits]]\nname = \"l\"\nstage = \"global\"\nrate = \"1/h\"\nburst = {TOKENS}\n");
    let slots = "[[limits]]\nname = \"s\"\nstage = \"global\"\nconcurrency = 1000\n";
    let gateway = Setup::new(upstream.address()).with(&limit).with(slots).start();
    let mut raw = Raw::begin(gateway.address, &[]);
    for nth in 0..TOKENS {
        let stream = 1 + 2 * u32::try_from(nth).unwrap();
        raw.head(stream, &fields("GET", "/v1/charges", SECRET), true);
        wait_until("it is forwarded", || upstream.requests().len() == nth + 1);
        raw.send(frame(RST_STREAM, 0, stream, &frames::CANCEL.to_be_bytes()));
    }
    wait_until("the slots are back", || gateway.metrics().in_flight() == 0.0);
    let next = 1 + 2 * u32::try_from(TOKENS).unwrap();
    raw.head(next, &fields("GET", "/v1/charges", SECRET), true);
    assert!(raw.body(next).contains("rate_limit"), "each was forwarded, so each was charged");
    assert_eq!(upstream.requests().len(), TOKENS);

    // Without a pause, the connection ends.
    let attack = |turn: u32| {
        let stream = next + 2 + 2 * turn;
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields("GET", "/v1/charges", SECRET)));
        [head, frame(RST_STREAM, 0, stream, &frames::CANCEL.to_be_bytes())].concat()
    };
    assert_eq!(flood_on(&mut raw, 20_000, attack), Some(ENHANCE_YOUR_CALM));
    drop(raw);
    assert_calm(&gateway);
    assert_eq!(upstream.requests().len(), TOKENS, "and nothing more was forwarded");
}

/// Row 56 by a client that waits with each reset until its answer began, so that no library counts it.
#[test]
fn patient_resets_end_too() {
    let upstream = Upstream::scripted(|wire, _| {
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n");
        while !wire.is_over() {}
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut raw = Raw::begin(gateway.address, &[]);
    let mut resets = 0;
    // An answered head earns one reset back, one more does not.
    let end = (0..5_000u32).find_map(|turn| {
        let stream = 1 + 2 * turn;
        if raw
            .try_send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields("GET", "/v1/c", SECRET))))
            .is_err()
        {
            return Some(None);
        }
        let frame_or_end = raw.until(|frame| frame.stream == stream || frame.kind == GOAWAY);
        if frame_or_end.as_ref().is_none_or(|frame| frame.kind == GOAWAY) {
            return Some(frame_or_end);
        }
        let reset = frame(RST_STREAM, 0, stream, &frames::CANCEL.to_be_bytes());
        resets += 2;
        raw.try_send(reset.repeat(2)).is_err().then_some(None)
    });
    assert_eq!(end.flatten().and_then(|frame| frame.code()), Some(ENHANCE_YOUR_CALM));
    assert!(resets >= 200, "not after {resets}");
    drop(raw);
    assert_calm(&gateway);
}

/// Row 57: streams that the server resets, because the client makes it.
#[test]
fn made_resets_end() {
    let upstream = silent();
    let gateway = Setup::new(upstream.address()).start();
    let attack = |turn: u32| {
        let stream = 1 + 2 * turn;
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields("GET", "/v1/charges", SECRET)));
        // A window of no size is a stream's error.
        [head, frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
    };
    assert!(flood(&gateway, 20_000, attack).is_some());
    assert_calm(&gateway);
}

/// Row 58.
#[test]
fn endless_heads_end() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let attack = |turn: u32| match turn {
        0 => frame(HEADERS, 0, 1, &block(&fields("GET", "/v1/charges", SECRET))),
        _ => frame(CONTINUATION, 0, 1, &block(&[("x", "y")])).repeat(50),
    };
    assert!(flood(&gateway, 5_000, attack).is_some());
    assert_calm(&gateway);
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_head_that_does_not_come_to_its_end_is_not_waited_for() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server("header_timeout = \"150ms\"").start();
    let mut raw = Raw::begin(gateway.address, &[]);
    raw.send(frame(HEADERS, 0, 1, &block(&fields("GET", "/v1/charges", SECRET))));
    assert!(raw.is_over());
    // Nor is a preface.
    let mut raw = Raw::open(gateway.address);
    raw.send(&frames::PREFACE[..10]);
    assert!(raw.is_over());
    assert_calm(&gateway);
}

/// Rows 59 and 60.
#[test]
fn small_pieces_of_bodies_end() {
    for piece in [&b""[..], b"x"] {
        let upstream = silent();
        let gateway = Setup::new(upstream.address()).start();
        let attack = |turn: u32| match turn {
            0 => frame(HEADERS, END_HEADERS, 1, &block(&fields("POST", "/v1/charges", SECRET))),
            _ => frame(DATA, 0, 1, piece).repeat(100),
        };
        assert!(flood(&gateway, 5_000, attack).is_some(), "{piece:?}");
        assert_calm(&gateway);
    }
}

/// Row 62: one large field, and thousands of references to it.
#[test]
fn a_bomb_of_references_ends() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let mut raw = Raw::begin(gateway.address, &[]);
    let mut first = block(&fields("GET", "/v1/charges", SECRET));
    // Literal with incremental indexing: the newest entry of the table, 62.
    first.push(0x40);
    first.push(1);
    first.push(b'x');
    frames::integer(3_900, &mut first);
    first.extend(vec![b'y'; 3_900]);
    raw.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &first));
    assert_eq!(raw.body(1), "ok");
    let mut bomb = block(&fields("GET", "/v1/charges", SECRET));
    bomb.extend(vec![0x80 | 62; 16_000]);
    raw.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, &bomb));
    let end = raw.stream(3);
    assert!(!end.iter().any(frames::Frame::is_200), "{end:?}");
    assert_eq!(upstream.requests().len(), 1);
    drop(raw);
    assert_calm(&gateway);
}

#[test]
fn a_client_may_not_begin_more_than_its_streams() {
    let upstream = silent();
    let gateway = Setup::new(upstream.address()).server("http2_max_streams = 5").start();
    let mut raw = Raw::begin(gateway.address, &[]);
    for turn in 0..6 {
        raw.head(1 + 2 * turn, &fields("GET", "/v1/charges", SECRET), true);
    }
    let refused = raw.until(|frame| frame.kind == RST_STREAM).unwrap();
    assert_eq!((refused.stream, refused.code()), (11, Some(7)), "REFUSED_STREAM: it may be sent again");
    wait_until("the others are forwarded", || upstream.requests().len() == 5);
    // An answer to a ping comes all the same.
    raw.send(frame(PING, 0, 0, &[3; 8]));
    assert!(raw.until(|frame| frame.kind == PING && frame.flags == ACK).is_some());
}
