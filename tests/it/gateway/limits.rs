//! Refusals that limits make: each reason with its headers and words, what a refused request costs, and slots over real
//! connections.

use crate::support::running::{Folder, LIVE, OTHER, Running, Setup, TEST, get, post, request};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use crate::support::wire::{Answer, Wire};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use tollgate::process::Source;

/// A limit on payouts: one in a while, so that figures stand still while a test looks at them.
fn one_in_ten_seconds(stage: &str, per: &str) -> String {
    format!("[[limits]]\nname = \"slow\"\nstage = \"{stage}\"\nrate = \"1/10s\"\nburst = 1\nper = [{per}]\n")
}

#[track_caller]
fn assert_rejected(answer: &Answer, reason: &str, limit: &str) {
    assert_eq!(answer.status(), 429, "{answer:?}");
    assert_eq!(answer.head.values("stripe-rate-limited-reason"), [reason]);
    assert_eq!(answer.head.values("content-type"), ["application/json"]);
    assert_eq!(answer.head.values("cache-control"), ["no-store"]);
    assert_eq!(answer.head.values("request-id").len(), 1);
    assert!(!answer.head.has("stripe-should-retry"));
    let error = answer.error();
    assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "doc_url", "message", "type"]);
    assert_eq!((&error["code"], &error["type"]), (&"rate_limit".into(), &"invalid_request_error".into()));
    assert!(answer.message().contains(&format!("'{limit}'")), "{}", answer.message());
}

#[test]
fn each_rate_gives_its_reason_and_the_time_to_come_back() {
    let stages = [
        ("global", "global-rate", "\"account\""),
        ("endpoint", "endpoint-rate", "\"account\", \"endpoint\""),
        ("resource", "resource-specific", "\"account\", \"path.file\""),
    ];
    for (stage, reason, per) in stages {
        let upstream = Upstream::fine();
        let limit = one_in_ten_seconds(stage, per)
            + if stage == "resource" { "when = { endpoint = \"files.retrieve\" }\n" } else { "" };
        let gateway = Setup::new(upstream.address()).with(&limit).start();
        let mut client = gateway.connect();
        assert_eq!(client.ask(get("/v1/files/f_1", LIVE)).status(), 200);
        let refused = client.ask(get("/v1/files/f_1", LIVE));
        assert_rejected(&refused, reason, "slow");
        assert_eq!(refused.head.values("retry-after"), ["10"]);
        assert_eq!(refused.head.values("ratelimit"), ["\"slow\";r=0;t=10"]);
        assert_eq!(refused.head.values("ratelimit-policy"), ["\"slow\";q=1;w=10"]);
        assert!(!refused.closes());
        // Somebody else's bucket is somebody else's.
        assert_eq!(client.ask(get("/v1/files/f_1", OTHER)).status(), 200);
        assert_eq!(client.ask(get("/v1/files/f_1", TEST)).status(), 200);
        assert_eq!(client.ask(get("/v1/files/f_2", LIVE)).status() == 200, stage == "resource");
        let metrics = gateway.metrics();
        let labels = [("reason", reason), ("limit", "slow"), ("mode", "live")];
        assert!(metrics.sum("tollgate_rejections_total", &labels) >= 1.0);
        assert_eq!(
            metrics.sum("tollgate_decisions_total", &[("limit", "slow"), ("verdict", "admit")]),
            upstream.requests().len() as f64
        );
    }
}

#[test]
fn headers_are_as_configured() {
    let upstream = Upstream::fine();
    let responses = "[responses]\nreason_header = \"X-Reason\"\nretry_after = false\nratelimit_headers = false\n\
                     should_retry = \"true\"\n";
    let setup = Setup::new(upstream.address()).with(&one_in_ten_seconds("global", "\"account\"")).with(responses);
    let gateway = setup.start();
    let mut client = gateway.connect();
    client.ask(get("/v1/charges", LIVE));
    let refused = client.ask(get("/v1/charges", LIVE));
    assert_eq!(refused.head.values("x-reason"), ["global-rate"]);
    assert_eq!(refused.head.values("stripe-should-retry"), ["true"]);
    for absent in ["stripe-rate-limited-reason", "retry-after", "ratelimit", "ratelimit-policy"] {
        assert!(!refused.head.has(absent), "{absent}");
    }
}

#[test]
fn hammering_one_endpoint_costs_nothing_elsewhere() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address())
        .with("[[limits]]\nname = \"all\"\nstage = \"global\"\nrate = \"1/h\"\nburst = 20\n")
        .with("[[limits]]\nname = \"payouts\"\nstage = \"endpoint\"\nrate = \"1/h\"\nburst = 3\n")
        .with("when = { endpoint = \"payouts.create\" }\n")
        .start();
    let mut client = gateway.connect();
    let statuses: Vec<u16> = (0..200).map(|_| client.ask(post("/v1/payouts", LIVE)).status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 3);
    let left = (0..100).take_while(|_| client.ask(get("/v1/charges", LIVE)).status() == 200).count();
    assert_eq!(left, 17, "20 less the 3 that were admitted");
    assert_eq!(upstream.requests().len(), 20);
}

/// An upstream that holds every request until it is told what to do with it.
struct Holding {
    upstream: Upstream,
    arrived: Receiver<()>,
    go: Sender<Ending>,
}

/// How a held request ends.
#[derive(Clone, Copy)]
enum Ending {
    Answer,
    Reset,
    /// Answers the head and more body than any buffer holds.
    Flood,
}

const FLOOD: usize = 64 << 20;

impl Holding {
    fn new() -> Holding {
        let (tell, arrived) = channel();
        let (go, told) = channel();
        let (tell, told) = (Mutex::new(tell), Mutex::new(told));
        let upstream = Upstream::scripted(move |wire: &mut Wire, head| {
            if wire.body(&head).is_err() {
                return;
            }
            tell.lock().unwrap().send(()).unwrap();
            match told.lock().unwrap().recv() {
                Ok(Ending::Answer) => {
                    // It says that it closes, so that nothing is sent on this connection while it does.
                    let _ = wire.try_send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nlate");
                }
                Ok(Ending::Flood) => {
                    let _ = wire.try_send(format!("HTTP/1.1 200 OK\r\ncontent-length: {FLOOD}\r\n\r\n"));
                    let _ = wire.try_send(vec![b'x'; FLOOD]);
                }
                Ok(Ending::Reset) => wire.writer().reset(),
                Err(_) => {}
            }
        });
        Holding { upstream, arrived, go }
    }

    fn gateway(&self, stage: &str) -> Running {
        let limit = format!("[[limits]]\nname = \"slots\"\nstage = \"{stage}\"\nconcurrency = 1\n");
        Setup::new(self.upstream.address()).with(&limit).start()
    }
}

fn slots(gateway: &Running) -> f64 {
    gateway.metrics().in_flight() - gateway.metrics().sum("tollgate_in_flight", &[("stage", "all")])
}

#[test]
fn a_slot_is_held_while_a_request_is_in_flight() {
    for (stage, reason) in [("global", "global-concurrency"), ("endpoint", "endpoint-concurrency")] {
        let holding = Holding::new();
        let gateway = holding.gateway(stage);
        let (mut first, mut second) = (gateway.connect(), gateway.connect());
        first.send(get("/v1/charges", LIVE));
        holding.arrived.recv().unwrap();
        let refused = second.ask(get("/v1/charges", LIVE));
        assert_rejected(&refused, reason, "slots");
        assert_eq!(refused.head.values("retry-after"), ["1"]);
        assert_eq!(refused.head.values("ratelimit-policy"), ["\"slots\";q=1;qu=\"concurrent-requests\""]);
        assert_eq!(gateway.metrics().sum("tollgate_in_flight", &[("stage", reason)]), 1.0);
        holding.go.send(Ending::Answer).unwrap();
        assert_eq!(first.answer().text(), "late");
        // The answer is whole at the client: its slot is free, at once.
        holding.go.send(Ending::Answer).unwrap();
        assert_eq!(second.ask(get("/v1/charges", LIVE)).text(), "late");
        wait_until("the slot is free", || slots(&gateway) == 0.0);
    }
}

#[test]
fn a_slot_is_held_until_a_slow_reader_has_the_last_byte() {
    let holding = Holding::new();
    let gateway = holding.gateway("global");
    let (mut slow, mut other) = (gateway.connect(), gateway.connect());
    holding.go.send(Ending::Flood).unwrap();
    slow.send(get("/v1/charges", LIVE));
    let head = slow.head().unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(other.ask(get("/v1/charges", LIVE)).status(), 429);
    assert_eq!(slow.response_body(&head).unwrap().len(), FLOOD);
    holding.go.send(Ending::Answer).unwrap();
    wait_until("the slot is free", || other.ask(get("/v1/charges", LIVE)).status() == 200);
}

#[test]
fn a_slot_comes_back_however_its_request_ends() {
    let holding = Holding::new();
    let gateway = holding.gateway("global");
    let free = |what: &str| wait_until(what, || slots(&gateway) == 0.0);

    let mut gone = gateway.connect();
    gone.send(get("/v1/charges", LIVE));
    holding.arrived.recv().unwrap();
    assert_eq!(slots(&gateway), 1.0);
    drop(gone);
    free("a client that leaves while it waits");
    holding.go.send(Ending::Answer).unwrap();

    let mut gone = gateway.connect();
    gone.send(get("/v1/charges", LIVE) + &get("/v1/charges", LIVE));
    holding.arrived.recv().unwrap();
    drop(gone);
    free("a client that leaves a pipelined request behind");
    holding.go.send(Ending::Answer).unwrap();

    let mut gone = gateway.connect();
    holding.go.send(Ending::Flood).unwrap();
    gone.send(get("/v1/charges", LIVE));
    assert_eq!(gone.head().unwrap().status(), 200);
    assert_eq!(slots(&gateway), 1.0);
    gone.reset();
    free("a client that leaves in the middle of a download");

    let mut gone = gateway.connect();
    gone.send(request("POST", "/v1/charges", LIVE, "content-length: 1000\r\n") + "part");
    wait_until("it is in flight", || slots(&gateway) == 1.0);
    drop(gone);
    free("a client that leaves in the middle of an upload");
    while holding.arrived.try_recv().is_ok() {}

    let mut stays = gateway.connect();
    holding.go.send(Ending::Reset).unwrap();
    assert_eq!(stays.ask(post("/v1/charges", LIVE)).status(), 502);
    free("an upstream that resets");
}

#[test]
fn a_reader_that_stands_still_is_given_up() {
    let holding = Holding::new();
    let limit = "[[limits]]\nname = \"slots\"\nstage = \"global\"\nconcurrency = 1\n";
    let gateway = Setup::new(holding.upstream.address()).with(limit).server("write_timeout = \"100ms\"").start();
    holding.go.send(Ending::Flood).unwrap();
    let mut client = gateway.connect();
    client.send(get("/v1/charges", LIVE));
    let head = client.head().unwrap();
    wait_until("the slot is free", || slots(&gateway) == 0.0);
    assert!(client.response_body(&head).is_err(), "the answer broke off");
}

#[test]
fn a_refusal_tells_the_figures_of_the_account_it_refuses() {
    let upstream = Upstream::fine();
    let figures = "[tiers.small.limits]\nslow = { rate = \"1/20s\", burst = 1 }\n[accounts.acct_a]\ntier = \"small\"\n";
    let limit = one_in_ten_seconds("global", "\"account\"") + figures;
    let gateway = Setup::new(upstream.address()).with(&limit).start();
    let mut client = gateway.connect();
    let mut refused = |key| {
        assert_eq!(client.ask(get("/v1/charges", key)).status(), 200);
        client.ask(get("/v1/charges", key))
    };
    let (small, other) = (refused(LIVE), refused(OTHER));
    assert_eq!(small.head.values("ratelimit-policy"), ["\"slow\";q=1;w=20"]);
    assert!(small.message().contains("1 request per 20s"), "{}", small.message());
    assert_eq!(other.head.values("ratelimit-policy"), ["\"slow\";q=1;w=10"]);
}

#[test]
fn slots_in_flight_outlive_a_reload() {
    let holding = Holding::new();
    let folder = Folder::new();
    let setup = Setup::new(holding.upstream.address());
    let put = |slots: &str| {
        let rest = format!("[[limits]]\nname = \"slots\"\nstage = \"global\"\n{slots}\n");
        folder.put("tollgate.toml", &setup.clone().with(&rest).toml());
    };
    folder.put("keys.toml", &setup.keys);
    put("concurrency = 1");
    let gateway = Running::start(Source::File(folder.path("tollgate.toml")));
    let mut clients = [gateway.connect(), gateway.connect(), gateway.connect()];
    clients[0].send(get("/v1/charges", LIVE));
    holding.arrived.recv().unwrap();
    assert_eq!(clients[1].ask(get("/v1/charges", LIVE)).status(), 429);

    put("concurrency = 2");
    gateway.handle().reload().unwrap();
    clients[1].send(get("/v1/charges", LIVE));
    holding.arrived.recv().unwrap();
    assert_eq!(clients[2].ask(get("/v1/charges", LIVE)).status(), 429, "the first is in flight still");

    put("rate = \"1000/s\"");
    gateway.handle().reload().unwrap();
    for client in &mut clients[..2] {
        holding.go.send(Ending::Answer).unwrap();
        assert_eq!(client.answer().status(), 200);
    }
    put("concurrency = 1");
    gateway.handle().reload().unwrap();
    wait_until("every slot is back", || slots(&gateway) == 0.0);
    holding.go.send(Ending::Answer).unwrap();
    assert_eq!(clients[2].ask(get("/v1/charges", LIVE)).status(), 200);
}
