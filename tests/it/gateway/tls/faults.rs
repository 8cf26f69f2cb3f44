//! Clients that do not shake hands as they should.

use crate::support::running::{LIVE, Setup, get};
use crate::support::secure::{Authority, Caller, SecureGateway, files};
use crate::support::upstream::Upstream;
use crate::support::wait::{wait_for, wait_until};
use crate::support::wire::Wire;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn gateway(ca: &Authority, upstream: &Upstream, server: &str) -> SecureGateway {
    let setup = Setup::new(upstream.address()).server(server);
    SecureGateway::start_with(setup, &files("a"), &[("a", &ca.issue(&["api.test"]))], &[])
}

/// A record of a handshake.
fn record(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[22, 3, 1][..], &length, payload].concat()
}

#[test]
fn http_on_the_port_of_tls_is_told_so() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let gateway = gateway(&ca, &upstream, "");
    let answer = gateway.running.ask(get("/v1/charges", LIVE));
    assert_eq!(answer.status(), 400);
    assert!(answer.closes() && answer.message().contains("https"), "{answer:?}");
    assert_eq!(gateway.handshakes("plain_http"), 1.0);
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_client_hello_of_a_megabyte_is_cut_off() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let gateway = gateway(&ca, &upstream, "");
    let mut client = TcpStream::connect(gateway.address()).unwrap();
    // A ClientHello that says how long it is, in records as long as they may be.
    let mut first = vec![1, 0x10, 0, 0];
    first.resize(16_384, 0);
    let sent = std::iter::once(first).chain((0..63).map(|_| vec![0; 16_384]));
    let whole = sent.map(|payload| client.write_all(&record(&payload))).collect::<Result<Vec<_>, _>>();
    let mut rest = Vec::new();
    // An alert, or a reset while it was still sending.
    assert!(whole.is_err() || client.read_to_end(&mut rest).is_err() || rest.first() == Some(&21), "{rest:?}");
    wait_until("it has failed", || gateway.handshakes("failed") == 1.0);
    assert_eq!(Caller::new(&ca).ask(gateway.address(), "api.test").unwrap().0, 200);
}

#[test]
fn bytes_that_are_no_handshake_are_closed() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let gateway = gateway(&ca, &upstream, "");
    let garbage: [&[u8]; 4] = [&[0; 64], &[0xff; 64], &[22, 3, 1, 0xff, 0xff, 1], b"\x80\x2e\x01\x03\x01"];
    for bytes in garbage {
        let mut client = TcpStream::connect(gateway.address()).unwrap();
        client.write_all(bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        // Whatever is said, it ends.
        let _ = client.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest[0] == 21, "{rest:?}");
    }
    wait_until("all have failed", || gateway.handshakes("failed") == 4.0);
}

#[test]
fn a_handshake_byte_by_byte_ends_in_time() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let gateway = gateway(&ca, &upstream, "handshake_timeout = \"200ms\"");
    let mut slow = TcpStream::connect(gateway.address()).unwrap();
    slow.write_all(&[22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xf0]).unwrap();
    wait_for("the connection is closed", || slow.write_all(&[0]).err());
    let mut silent = Wire::connect(gateway.address());
    assert!(silent.is_over(), "nothing was said on either side");
    wait_until("both are counted", || gateway.handshakes("timed_out") == 2.0);
    wait_until("nobody is left", || gateway.running.metrics().sum("tollgate_connections", &[]) == 0.0);
}

#[test]
fn handshakes_take_turns() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let gateway = gateway(&ca, &upstream, "max_handshakes = 1\nhandshake_timeout = \"1h\"");
    let caller = Caller::new(&ca);
    // One that says nothing takes no turn.
    let silent = TcpStream::connect(gateway.address()).unwrap();
    assert_eq!(caller.ask(gateway.address(), "api.test").unwrap().0, 200);

    let mut stalled = TcpStream::connect(gateway.address()).unwrap();
    stalled.write_all(&[22, 3, 1, 0x3f, 0xff, 1]).unwrap();
    // Until the stalled one has its turn, others still get theirs.
    let mut waiting = wait_for("the only turn is taken", || {
        let mut next = Caller::new(&ca).connect(gateway.address(), "api.test");
        next.0.sock.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        match next.ask("api.test") {
            Ok(_) => None,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                Some(next)
            }
        }
    });
    drop(stalled);
    waiting.0.sock.set_read_timeout(Some(crate::support::wait::PATIENCE)).unwrap();
    assert_eq!(waiting.ask("api.test").unwrap(), 200, "its turn came");
    drop(silent);
}

/// Whoever floods with handshakes pays for whole ones: what is begun and left takes no turn for long, and leaves nothing.
#[test]
fn a_flood_of_abandoned_handshakes_leaves_nothing_and_disturbs_nobody() {
    const FLOOD: u16 = 400;
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let gateway = gateway(&ca, &upstream, "max_handshakes = 4");
    let caller = Caller::new(&ca);
    let mut inside = caller.connect(gateway.address(), "api.test");
    assert_eq!(inside.ask("api.test").unwrap(), 200);
    for nth in 0..FLOOD {
        let mut leaving = caller.connect(gateway.address(), "api.test");
        leaving.0.conn.write_tls(&mut leaving.0.sock).unwrap();
        drop(leaving);
        if nth % 20 == 0 {
            assert_eq!(inside.ask("api.test").unwrap(), 200, "those inside notice nothing");
        }
    }
    assert_eq!(Caller::new(&ca).ask(gateway.address(), "api.test").unwrap().0, 200, "and others come in");
    drop(inside);
    wait_until("nobody is left", || gateway.running.metrics().sum("tollgate_connections", &[]) == 0.0);
    // Some have the server's part before their end is seen; all are counted once.
    let ends = ["full", "resumed", "failed", "timed_out"].map(|end| gateway.handshakes(end));
    assert_eq!(ends.iter().sum::<f64>(), f64::from(FLOOD) + 2.0, "{ends:?}");
    assert_eq!(gateway.handshakes("timed_out"), 0.0);
}
