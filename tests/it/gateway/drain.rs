//! The end of a gateway: what is in flight ends first, and a second word ends it at once.

use crate::support::running::{LIVE, Running, Setup, get};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::wait_until;
use crate::support::wire::Wire;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A gateway with one request in flight.
struct Busy {
    gateway: Running,
    client: Wire,
    go: Sender<()>,
    _upstream: Upstream,
}

fn busy(server: &str) -> Busy {
    let (go, told): (Sender<()>, Receiver<()>) = channel();
    let (tell, arrived) = channel();
    let (tell, told) = (Mutex::new(tell), Mutex::new(told));
    let upstream = Upstream::scripted(move |wire, _| {
        tell.lock().unwrap().send(()).unwrap();
        if told.lock().unwrap().recv().is_ok() {
            let _ = wire.try_send(ok("late"));
        }
    });
    let gateway = Setup::new(upstream.address()).server(server).start();
    let mut client = gateway.connect();
    client.send(get("/v1/charges", LIVE));
    arrived.recv().unwrap();
    Busy { gateway, client, go, _upstream: upstream }
}

/// Joins on a thread of its own; the channel ends when it is through.
fn joining(gateway: Running) -> Receiver<()> {
    let (tell, ended) = channel();
    std::thread::spawn(move || {
        gateway.join();
        drop(tell);
    });
    ended
}

#[track_caller]
fn assert_ends(ended: &Receiver<()>) {
    assert_eq!(
        ended.recv_timeout(crate::support::wait::PATIENCE),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected),
        "it has ended"
    );
}

#[test]
fn what_is_in_flight_ends_and_nothing_new_begins() {
    let Busy { gateway, mut client, go, _upstream } = busy("");
    let mut idle = gateway.connect();
    // Served once, so that it is known to be accepted.
    assert_eq!(idle.ask(get("/v1/charges", "sk_live_nobody")).status(), 401);
    let address = gateway.address;
    assert_eq!(gateway.admin("/readyz").status(), 200);
    gateway.handle().drain();
    assert!(idle.is_over(), "an idle connection is closed");
    wait_until("new connections are refused", || TcpStream::connect(address).is_err());
    let ready = gateway.admin("/readyz");
    assert_eq!((ready.status(), gateway.admin("/healthz").status()), (503, 200));
    let ended = joining(gateway);
    assert!(ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty), "the request is still in flight");
    go.send(()).unwrap();
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text()), (200, "late"));
    assert!(answer.closes());
    assert!(client.is_over());
    assert_ends(&ended);
}

#[test]
fn a_second_word_ends_it_at_once() {
    let Busy { gateway, mut client, go, _upstream } = busy("");
    let handle = gateway.handle();
    handle.drain();
    let ended = joining(gateway);
    handle.stop();
    assert_ends(&ended);
    assert!(client.is_over());
    drop(go);
}

#[test]
fn draining_is_bounded() {
    let Busy { gateway, mut client, go, _upstream } = busy("drain_timeout = \"50ms\"");
    gateway.handle().drain();
    assert_ends(&joining(gateway));
    assert!(client.is_over());
    drop(go);
}

#[test]
fn an_idle_gateway_drains_at_once() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
    gateway.handle().drain();
    assert_ends(&joining(gateway));
    assert!(client.is_over());
}
