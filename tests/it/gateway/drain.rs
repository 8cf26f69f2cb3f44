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
    assert_cut_off(&mut client);
    drop(go);
}

/// Its answer had not begun, so it is told, and told not to pay twice.
#[track_caller]
fn assert_cut_off(client: &mut Wire) {
    let answer = client.answer();
    assert_eq!(answer.status(), 503);
    assert!(answer.closes() && answer.message().contains("Whether the request took effect is unknown"));
    assert!(client.is_over());
}

#[test]
fn draining_is_bounded() {
    let Busy { gateway, mut client, go, _upstream } = busy("drain_timeout = \"50ms\"");
    gateway.handle().drain();
    assert_ends(&joining(gateway));
    assert_cut_off(&mut client);
    drop(go);
}

#[test]
fn a_connection_that_was_idle_has_one_more_answer() {
    let Busy { gateway, mut client, go, _upstream } = busy("");
    let mut idle = gateway.connect();
    assert_eq!(idle.ask(get("/v1/charges", "sk_live_nobody")).status(), 401);
    gateway.handle().drain();
    wait_until("new connections are refused", || TcpStream::connect(gateway.address).is_err());
    let last = idle.ask(get("/v1/charges", "sk_live_nobody"));
    assert_eq!(last.status(), 401);
    assert!(last.closes() && idle.is_over());
    go.send(()).unwrap();
    assert_eq!(client.answer().status(), 200);
}

#[test]
fn balancers_have_time_to_notice() {
    let Busy { gateway, mut client, go, _upstream } = busy("drain_delay = \"1h\"");
    gateway.handle().drain();
    assert_eq!(gateway.admin("/readyz").status(), 503);
    let answer = gateway.connect().ask(get("/v1/charges", "sk_live_nobody"));
    assert_eq!(answer.status(), 401, "it goes on accepting");
    assert!(!answer.closes());
    go.send(()).unwrap();
    assert_eq!(client.answer().status(), 200);
    let handle = gateway.handle();
    let ended = joining(gateway);
    handle.stop();
    assert_ends(&ended);
}

#[test]
fn the_delay_ends() {
    let Busy { gateway, mut client, go, _upstream } = busy("drain_delay = \"20ms\"");
    gateway.handle().drain();
    wait_until("new connections are refused", || TcpStream::connect(gateway.address).is_err());
    go.send(()).unwrap();
    let answer = client.answer();
    assert!(answer.status() == 200 && answer.closes());
    assert_ends(&joining(gateway));
}

#[test]
fn an_idle_gateway_drains_soon() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
    gateway.handle().drain();
    assert_ends(&joining(gateway));
    assert!(client.is_over());
}
