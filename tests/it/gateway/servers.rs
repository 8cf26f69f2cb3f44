//! Several servers: which one gets a request, and what becomes of requests when servers die and come back.

use crate::support::running::{LIVE, Running, Setup, get, keys, post};
use crate::support::upstream::{Nobody, Upstream, ok};
use crate::support::wait::{wait_for, wait_until};
use crate::support::wire::Wire;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tollgate::process::{Gateway, Source, Surroundings};
use tollgate::upstream::{Lookup, Resolve, Servers};

fn before(addresses: &[SocketAddr]) -> Setup {
    let urls: Vec<String> = addresses.iter().map(|address| format!("http://{address}")).collect();
    let mut setup = Setup::new(addresses[0]);
    setup.upstream = format!("servers = {urls:?}\n");
    setup
}

fn states(gateway: &Running) -> Vec<String> {
    gateway.servers().iter().map(|server| server["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_server_that_fails_is_left_out_and_comes_back() {
    let (bad, good) = (Arc::new(AtomicBool::new(true)), Upstream::fine());
    let ill = {
        let bad = Arc::clone(&bad);
        Upstream::answering(move |_| match bad.load(Ordering::SeqCst) {
            true => b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n".to_vec(),
            false => ok("ok"),
        })
    };
    let lines = "ejection = { failures = 3, base = \"100ms\" }\nbalance = \"round_robin\"";
    let gateway = before(&[ill.address(), good.address()]).upstream(lines).start();
    let mut failed = 0;
    while states(&gateway)[0] == "up" {
        failed += usize::from(gateway.ask(post("/v1/charges", LIVE)).status() == 502);
        assert!(failed <= 3);
    }
    assert_eq!(failed, 3);
    assert_eq!(gateway.metrics().sum("tollgate_upstream_ejections_total", &[("upstream", "api")]), 1.0);
    bad.store(false, Ordering::SeqCst);
    wait_until("it is no longer left out", || states(&gateway)[0] == "up");
    let seen = ill.requests().len();
    wait_until("it is used again", || {
        assert_eq!(gateway.ask(post("/v1/charges", LIVE)).status(), 200);
        ill.requests().len() > seen
    });
}

#[test]
fn who_is_back_serves_though_it_was_left_out_when_the_other_one_dies() {
    let first = Nobody::new();
    // None of its connections outlives it.
    let closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let mut second = Some(Upstream::answering(|_| closing.to_vec()));
    let addresses = [first.address(), second.as_ref().unwrap().address()];
    let lines = "ejection = { failures = 3, base = \"5m\" }\nretries.budget = 1.0";
    let gateway = before(&addresses).upstream(lines).start();
    wait_until("the first is left out", || {
        assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200);
        states(&gateway)[0] == "ejected"
    });
    drop(first);
    let _back = Upstream::answering_at(addresses[0], |_| ok("back"));
    second.take();
    for _ in 0..20 {
        let answer = gateway.ask(get("/v1/charges", LIVE));
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
    wait_until("they have changed places", || {
        assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200);
        states(&gateway) == ["up", "ejected"]
    });
}

#[test]
fn the_only_server_is_never_left_out() {
    let ill = Upstream::answering(|_| b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec());
    let gateway = before(&[ill.address()]).upstream("ejection.failures = 1").start();
    for _ in 0..10 {
        assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 503);
    }
    assert_eq!((states(&gateway), ill.requests().len()), (vec!["up".to_owned()], 10));
}

#[test]
fn health_checks_decide_who_gets_requests() {
    let well = Arc::new(AtomicBool::new(false));
    let checked = {
        let well = Arc::clone(&well);
        Upstream::answering(move |got| {
            assert_eq!(got.head.value("host"), Some("health.test"));
            let is_check = got.head.target() == "/ready?deep=1";
            if is_check && !well.load(Ordering::SeqCst) {
                b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_vec()
            } else {
                ok("ok")
            }
        })
    };
    let health = "health = { path = \"/ready?deep=1\", interval = \"100ms\", unhealthy = 2, host = \"health.test\" }";
    let gateway = before(&[checked.address()]).upstream(health).start();
    wait_until("it is unwell", || states(&gateway) == ["unhealthy"]);
    let ask = || gateway.ask(get("/v1/charges", LIVE).replace("api.test", "health.test")).status();
    assert_eq!(ask(), 200, "where none is well, all are asked");
    let failures = [("upstream", "api"), ("result", "failure")];
    assert!(gateway.metrics().sum("tollgate_upstream_health_checks_total", &failures) >= 1.0);
    assert_eq!(gateway.metrics().sum("tollgate_upstream_servers", &[("state", "unhealthy")]), 1.0);
    well.store(true, Ordering::SeqCst);
    wait_until("it is well again", || states(&gateway) == ["up"]);
    well.store(false, Ordering::SeqCst);
    wait_until("it is unwell again", || states(&gateway) == ["unhealthy"]);
}

#[test]
fn a_server_that_is_unwell_gets_nothing_while_another_is_well() {
    let (nobody, good) = (Nobody::new(), Upstream::fine());
    let health = "health = { path = \"/\", interval = \"100ms\" }\nretries.attempts = 0\nejection.failures = 0";
    let gateway = before(&[nobody.address(), good.address()]).upstream(health).start();
    wait_until("one of two is unwell", || states(&gateway) == ["unhealthy", "up"]);
    for _ in 0..50 {
        assert_eq!(gateway.ask(post("/v1/charges", LIVE)).status(), 200);
    }
}

/// What a name leads to, as the test says.
#[derive(Debug, Default)]
struct Names(Mutex<Option<Vec<IpAddr>>>, AtomicUsize);

impl Names {
    fn say(&self, ips: &[&str]) {
        *self.0.lock().unwrap() = Some(ips.iter().map(|ip| ip.parse().unwrap()).collect());
    }
}

impl Resolve for Names {
    fn resolve(&self, host: &str) -> Lookup {
        assert_eq!(host, "api.internal");
        self.1.fetch_add(1, Ordering::SeqCst);
        let found = self.0.lock().unwrap().clone();
        Box::pin(async { found.ok_or_else(|| std::io::Error::other("no such name")) })
    }
}

#[test]
fn a_name_leads_to_all_its_addresses_and_is_looked_up_anew() {
    let first = Upstream::fine();
    let second = Upstream::answering_at(SocketAddr::from(([127, 0, 0, 2], first.address().port())), |_| ok("ok"));
    let names = Arc::new(Names::default());
    let mut setup = Setup::new(first.address());
    let port = first.address().port();
    setup.upstream = format!("servers = \"http://api.internal:{port}\"\nresolve_interval = \"1s\"\n");
    let source = Source::Text { config: setup.toml(), keys: keys() };
    let gateway = Gateway::start_in(
        source,
        Surroundings { servers: Servers::resolved_by(names.clone()), ..Surroundings::default() },
    )
    .unwrap();
    let gateway = Running::of(gateway);
    let ask = || gateway.ask(get("/v1/charges", LIVE)).status();
    assert_eq!(ask(), 502, "nobody knows the name");

    names.say(&["127.0.0.1", "127.0.0.2", "169.254.169.254"]);
    wait_until("it is found", || gateway.servers().len() == 2);
    wait_until("both addresses are used", || {
        assert_eq!(ask(), 200);
        !first.requests().is_empty() && !second.requests().is_empty()
    });

    names.say(&["127.0.0.2"]);
    wait_until("one has gone", || gateway.servers().len() == 1);
    let seen = first.requests().len();
    for _ in 0..20 {
        assert_eq!(ask(), 200);
    }
    assert_eq!(first.requests().len(), seen, "it gets nothing more");
    *names.0.lock().unwrap() = None;
    let looked = names.1.load(Ordering::SeqCst);
    wait_until("a look-up fails", || names.1.load(Ordering::SeqCst) > looked + 1);
    assert_eq!(ask(), 200, "the last good answer stays");
    let lookups = |result| gateway.metrics().sum("tollgate_upstream_lookups_total", &[("result", result)]);
    assert!(lookups("failure") >= 2.0 && lookups("success") >= 2.0);
}

/// A server in a process of its own, which can be killed.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(listen: SocketAddr) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["mock", "--listen", &listen.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("//").unwrap_or_else(|| panic!("{line:?}")).1.parse().unwrap();
        Process { child, address }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks again and again until told to stop. Returns how many were answered, and how many broke off in mid-answer.
fn load(gateway: &Running, stop: &AtomicBool, answered: &AtomicUsize) -> usize {
    let (mut wire, mut broken) = (gateway.connect(), 0);
    while !stop.load(Ordering::SeqCst) {
        wire.send(get("/v1/charges", LIVE));
        let head = wire.head().expect("an answer");
        assert_eq!(head.status(), 200, "{head:?}");
        if wire.response_body(&head).is_ok() {
            answered.fetch_add(1, Ordering::SeqCst);
        } else {
            broken += 1;
            wire = Wire::connect(gateway.address);
        }
    }
    broken
}

#[test]
fn no_read_fails_when_one_of_two_servers_is_killed_and_comes_back() {
    const CLIENTS: usize = 4;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut servers = [(); 2].map(|()| Process::start(any));
    let lines = "ejection.base = \"100ms\"\nresponse_timeout = \"20s\"";
    let mut setup = before(&[servers[0].address, servers[1].address]).upstream(lines);
    setup.threads = 2;
    let gateway = setup.start();
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let broken: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| load(&gateway, &stop, &answered))).collect();
        let go_on = |count: usize| {
            let until = answered.load(Ordering::SeqCst) + count;
            wait_until("the load goes on", || {
                answered.load(Ordering::SeqCst) >= until || clients.iter().any(|client| client.is_finished())
            });
        };
        for dies in [0, 1, 0] {
            go_on(100);
            servers[dies].kill();
            go_on(200);
            let address = servers[dies].address;
            servers[dies] = Process::start(address);
            let back = || gateway.servers().iter().find(|server| server["address"] == address.to_string()).cloned();
            wait_for("it serves again", || {
                go_on(1);
                back().filter(|server| server["state"] == "up" && server["connections"].as_u64() > Some(0))
            });
        }
        stop.store(true, Ordering::SeqCst);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(broken <= 3 * CLIENTS, "at most what was in mid-answer at a kill: {broken}");
    wait_until("nothing is left in flight", || {
        gateway.metrics().in_flight() == 0.0 && gateway.metrics().sum("tollgate_upstream_in_flight", &[]) == 0.0
    });
}
