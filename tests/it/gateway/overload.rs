//! The bounds of an upstream: what waits, what is refused, and that all places come back.

use crate::support::running::{LIVE, Running, Setup, get};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::wait_until;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

/// An upstream whose requests are answered when the test says so.
struct Held {
    upstream: Upstream,
    go: Sender<()>,
}

impl Held {
    fn new() -> Held {
        let (go, may_go) = channel();
        let may_go = Mutex::new(may_go);
        let upstream = Upstream::answering(move |_| {
            let _ = may_go.lock().unwrap().recv();
            ok("ok")
        });
        Held { upstream, go }
    }

    fn start(&self, lines: &str) -> Running {
        Setup::new(self.upstream.address()).upstream(lines).start()
    }
}

fn gauge(gateway: &Running, name: &str) -> f64 {
    gateway.metrics().sum(&format!("tollgate_upstream_{name}"), &[("upstream", "api")])
}

#[test]
fn beyond_max_in_flight_a_request_is_refused_at_once() {
    let held = Held::new();
    let gateway = held.start("max_in_flight = 1");
    let mut first = gateway.connect();
    first.send(get("/v1/charges", LIVE));
    wait_until("it is in flight", || gauge(&gateway, "in_flight") == 1.0);
    let refused = gateway.ask(get("/v1/charges", LIVE));
    assert_eq!((refused.status(), refused.head.value("retry-after")), (503, Some("1")));
    assert_eq!(refused.error()["type"], "api_error");
    assert!(refused.message().contains("not sent") && !refused.head.has("stripe-should-retry"));
    let overloads = [("upstream", "api"), ("bound", "max_in_flight")];
    assert_eq!(gateway.metrics().sum("tollgate_upstream_overloads_total", &overloads), 1.0);
    held.go.send(()).unwrap();
    assert_eq!(first.answer().status(), 200);
    wait_until("its place is free", || gauge(&gateway, "in_flight") == 0.0);
    held.go.send(()).unwrap();
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200);
}

#[test]
fn at_max_connections_a_request_waits_for_one_and_only_so_many_do() {
    let held = Held::new();
    let gateway = held.start("max_connections = 1\nmax_pending = 1\nconnect_timeout = \"20s\"");
    let mut clients = [(); 2].map(|()| gateway.connect());
    for (nth, client) in clients.iter_mut().enumerate() {
        client.send(get("/v1/charges", LIVE));
        wait_until("it is in flight", || gauge(&gateway, "in_flight") == nth as f64 + 1.0);
    }
    wait_until("the second waits", || gauge(&gateway, "pending") == 1.0);
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 503);
    for client in &mut clients {
        held.go.send(()).unwrap();
        assert_eq!(client.answer().status(), 200);
    }
    assert_eq!(held.upstream.connections(), 1, "one connection, used again");
    assert_eq!(gauge(&gateway, "pending"), 0.0);
    let overloads = [("upstream", "api"), ("bound", "max_pending")];
    assert_eq!(gateway.metrics().sum("tollgate_upstream_overloads_total", &overloads), 1.0);
}

#[test]
fn who_waits_on_one_thread_gets_the_place_of_another_threads_connection() {
    let upstream = Upstream::fine();
    let mut setup = Setup::new(upstream.address()).upstream("max_connections = 1\nconnect_timeout = \"20s\"");
    setup.threads = 4;
    let gateway = setup.start();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = gateway.connect();
                for _ in 0..50 {
                    assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
                }
            });
        }
    });
    assert_eq!(gauge(&gateway, "pending"), 0.0);
    assert!(gauge(&gateway, "connections") <= 1.0);
}

#[test]
fn a_wait_ends_with_connect_timeout_and_when_its_client_leaves() {
    let held = Held::new();
    let gateway = held.start("max_connections = 1\nconnect_timeout = \"50ms\"");
    let mut first = gateway.connect();
    first.send(get("/v1/charges", LIVE));
    wait_until("it is in flight", || gauge(&gateway, "in_flight") == 1.0);
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 503);
    let overloads = [("upstream", "api"), ("bound", "max_connections")];
    assert_eq!(gateway.metrics().sum("tollgate_upstream_overloads_total", &overloads), 1.0);
    let mut gone = gateway.connect();
    gone.send(get("/v1/charges", LIVE));
    drop(gone);
    wait_until("only the first is left", || gauge(&gateway, "in_flight") == 1.0 && gauge(&gateway, "pending") == 0.0);
    held.go.send(()).unwrap();
    assert_eq!(first.answer().status(), 200);
}
