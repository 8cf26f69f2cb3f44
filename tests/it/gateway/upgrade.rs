//! Clients and upstreams that go on in another protocol.

use crate::support::running::{LIVE, Setup, get, request};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::wait_until;
use crate::support::wire::{Head, Wire};
use std::sync::Mutex;
use std::sync::mpsc::channel;

const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: WebSocket\r\nx-accept: 1\r\n\r\n";

fn upgrade(protocol: &str) -> String {
    request("GET", "/v1/socket", LIVE, &format!("connection: upgrade, x-gone\r\nupgrade: {protocol}\r\nx-gone: 1\r\n"))
}

/// Switches, then sends back four bytes at a time in capitals until the client ends, says goodbye and ends too. Whoever asks
/// for nothing gets an ordinary answer.
fn echo() -> Upstream {
    Upstream::scripted(|wire: &mut Wire, mut head: Head| {
        while !head.has("upgrade") {
            wire.send(ok("plain"));
            let Some(next) = wire.head() else { return };
            head = next;
        }
        wire.send(format!("{SWITCH}hello"));
        while let Ok(word) = wire.exactly(4) {
            if wire.try_send(word.to_ascii_uppercase()).is_err() {
                return;
            }
        }
        let _ = wire.try_send("bye");
    })
}

#[test]
fn bytes_go_both_ways_and_each_end_is_passed_on() {
    let upstream = echo();
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    // Bytes that come before the 101 wait for it.
    client.send(upgrade("websocket") + "firs");
    let head = client.head().unwrap();
    assert_eq!((head.status(), head.value("upgrade"), head.value("x-accept")), (101, Some("websocket"), Some("1")));
    assert_eq!(head.values("connection"), ["upgrade"]);
    assert!(!head.has("content-length") && !head.has("transfer-encoding"), "{head:?}");
    let asked = upstream.last();
    assert_eq!((asked.value("upgrade"), asked.value("connection")), (Some("websocket"), Some("upgrade")));
    assert!(!asked.has("x-gone"), "{asked:?}");
    assert_eq!(client.exactly(9).unwrap(), b"helloFIRS");
    for _ in 0..3 {
        client.send("seco");
        assert_eq!(client.exactly(4).unwrap(), b"SECO");
    }
    client.finish_writing();
    assert_eq!(client.exactly(3).unwrap(), b"bye");
    assert!(client.is_over());
    wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
    assert_eq!(gateway.metrics().sum("tollgate_requests_total", &[("status", "101")]), 1.0);
}

#[test]
fn much_goes_through_unchanged() {
    let upstream = Upstream::scripted(|wire: &mut Wire, _: Head| {
        wire.send(SWITCH);
        let got = wire.exactly(3_000_000).unwrap();
        wire.send(got);
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    client.send(upgrade("websocket"));
    assert_eq!(client.head().unwrap().status(), 101);
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|nth| (nth % 251) as u8).collect();
    client.send(&bytes);
    assert!(client.exactly(bytes.len()).unwrap() == bytes);
    assert!(client.is_over());
}

#[test]
fn a_slot_is_held_until_the_tunnel_ends() {
    let limit = "[[limits]]\nname = \"slots\"\nstage = \"global\"\nconcurrency = 1\n";
    let upstream = echo();
    let gateway = Setup::new(upstream.address()).with(limit).start();
    let mut client = gateway.connect();
    client.send(upgrade("websocket"));
    assert_eq!(client.head().unwrap().status(), 101);
    assert_eq!(client.exactly(5).unwrap(), b"hello");
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 429);
    drop(client);
    wait_until("the slot is free", || gateway.ask(get("/v1/charges", LIVE)).status() == 200);
}

#[test]
fn what_a_server_does_not_take_is_charged_for_as_long() {
    const LOTS: usize = 24 << 20;
    let (tell, told) = channel::<()>();
    let told = Mutex::new(told);
    let upstream = Upstream::scripted(move |wire: &mut Wire, _: Head| {
        wire.send(SWITCH);
        // Reads nothing until it is told to.
        let _ = told.lock().unwrap().recv();
        let read = (0..).take_while(|_| wire.exactly(LOTS / 16).is_ok()).count();
        let _ = wire.try_send(format!("{read:02}"));
    });
    let gateway = Setup::new(upstream.address()).start();
    let held = || gateway.metrics().sum("tollgate_buffer_bytes", &[]);
    let mut client = gateway.connect();
    client.send(upgrade("websocket"));
    assert_eq!(client.head().unwrap().status(), 101);
    let idle = held();
    std::thread::scope(|scope| {
        let mut writer = client.writer();
        scope.spawn(move || {
            writer.send(vec![b'x'; LOTS]);
            writer.finish_writing();
        });
        wait_until("something is on its way that nobody takes", || held() > idle);
        assert!(held() <= idle + 80.0 * 1024.0, "{} beyond {idle}", held());
        tell.send(()).unwrap();
        assert_eq!(client.exactly(2).unwrap(), b"16", "and nothing is lost");
    });
    assert!(client.is_over());
    wait_until("nothing is left", || held() == 0.0 && gateway.metrics().in_flight() == 0.0);
}

#[test]
fn a_silent_tunnel_is_given_up() {
    let upstream = echo();
    let gateway = Setup::new(upstream.address()).server("tunnel_idle_timeout = \"80ms\"").start();
    let mut client = gateway.connect();
    client.send(upgrade("websocket"));
    assert_eq!(client.head().unwrap().status(), 101);
    assert_eq!(client.exactly(5).unwrap(), b"hello");
    assert!(client.is_over());
    wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn a_refused_upgrade_leaves_clean_connections() {
    let upstream = Upstream::answering(|_| ok("no"));
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    for _ in 0..2 {
        assert_eq!(client.ask(upgrade("websocket")).text(), "no");
        assert_eq!(client.ask(get("/v1/charges", LIVE)).text(), "no");
    }
    assert_eq!((upstream.connections(), upstream.requests().len()), (1, 4));
    // What was sent for the other protocol is no request, and reaches nobody.
    client.send(upgrade("websocket") + "\u{1}frame");
    assert_eq!(client.answer().text(), "no");
    assert_eq!(client.answer().status(), 400);
    assert!(client.is_over());
    assert_eq!(upstream.requests().len(), 5);
}

#[test]
fn only_what_the_route_lets_and_the_client_asked_for() {
    let routes = "[[routes]]\nname = \"none\"\nupgrades = []\npath_prefix = \"/v1/none\"\n\
                  [[routes]]\nname = \"some\"\nupgrades = [\"chat/2\"]\n";
    let upstream = echo();
    let gateway = Setup::new(upstream.address()).with(routes).start();
    let ask = |path: &str, lines: &str| gateway.ask(request("GET", path, LIVE, lines)).text().to_owned();
    assert_eq!(ask("/v1/none/x", "connection: upgrade\r\nupgrade: websocket\r\n"), "plain");
    assert_eq!(ask("/v1/x", "connection: upgrade\r\nupgrade: websocket\r\n"), "plain");
    assert_eq!(ask("/v1/x", "upgrade: chat/2\r\n"), "plain", "not hop by hop");
    assert_eq!(ask("/v1/x", "connection: upgrade\r\nupgrade: chat/2, h2c\r\n"), "plain");
    assert_eq!(ask("/v1/x", "connection: upgrade\r\nupgrade: chat/2\r\nupgrade: h2c\r\n"), "plain");
    assert!(upstream.requests().iter().all(|head| !head.has("upgrade") && !head.has("connection")));
    let answer = gateway.ask(request("GET", "/v1/x", LIVE, "connection: upgrade\r\nupgrade: Chat/2\r\n"));
    assert_eq!(answer.status(), 502, "the upstream goes on in another one: {answer:?}");
    wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
}
