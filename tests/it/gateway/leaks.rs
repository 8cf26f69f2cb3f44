//! Thousands of requests that end in every way there is leave nothing behind: no exchange, no slot, and every bucket as a
//! plain count says.
//!
//! `TOLLGATE_LEAK_REQUESTS` sets how many; panics are in `stack`.

use crate::support::running::{LIVE, OTHER, RESTRICTED, Running, Setup, TEST, UNKNOWN, get, post, request};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::wait_until;
use crate::support::wire::{Head, Wire};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tollgate::engine::class::MAX_VALUES;
use tollgate::engine::{Access, Clock, Id, IdKind, Mode, Outcome, Payers, ProfileId, RequestClass, RouteId};

const CLIENTS: usize = 16;
/// Tokens of the account that is counted; more than any run spends.
const BUDGET: usize = 1_000_000;

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Read,
    Write,
    GoneWhileWaiting,
    GoneInUpload,
    GoneInDownload,
    UpstreamResets,
    UpstreamCutsShort,
    UpstreamSilent,
    UnknownKey,
    Forbidden,
    NoRoute,
    Malformed,
    GlobalRate,
    GlobalConcurrency,
    EndpointRate,
    EndpointConcurrency,
    Resource,
}

const ENDS: [End; 17] = [
    End::Read,
    End::Write,
    End::GoneWhileWaiting,
    End::GoneInUpload,
    End::GoneInDownload,
    End::UpstreamResets,
    End::UpstreamCutsShort,
    End::UpstreamSilent,
    End::UnknownKey,
    End::Forbidden,
    End::NoRoute,
    End::Malformed,
    End::GlobalRate,
    End::GlobalConcurrency,
    End::EndpointRate,
    End::EndpointConcurrency,
    End::Resource,
];

/// How a request ends. Neighbors in time differ, and each client meets every end; those that use up a connection are rarer, since
/// a machine has so many ports only.
fn end_of(id: usize) -> End {
    let turn = id / CLIENTS + id;
    let end = ENDS[turn % ENDS.len()];
    let uses_up = matches!(end.verdict().0, 0 | 400 | 502 | 504);
    if uses_up && !(turn / ENDS.len()).is_multiple_of(4) { ENDS[turn % 2] } else { end }
}

impl End {
    /// Whether it takes a token of the counted account.
    fn is_admitted(self) -> bool {
        ENDS.iter().position(|end| *end == self).unwrap() < 8
    }

    /// The status and the reason where the answer is the gateway's own or whole.
    fn verdict(self) -> (u16, Option<&'static str>) {
        match self {
            End::Read | End::Write => (200, None),
            End::UpstreamResets => (502, None),
            End::UpstreamSilent => (504, None),
            End::UnknownKey => (401, None),
            End::Forbidden => (403, None),
            End::NoRoute => (404, None),
            End::Malformed => (400, None),
            End::GlobalRate => (429, Some("global-rate")),
            End::GlobalConcurrency => (429, Some("global-concurrency")),
            End::EndpointRate => (429, Some("endpoint-rate")),
            End::EndpointConcurrency => (429, Some("endpoint-concurrency")),
            End::Resource => (429, Some("resource-specific")),
            End::GoneWhileWaiting | End::GoneInUpload | End::GoneInDownload | End::UpstreamCutsShort => (0, None),
        }
    }
}

const POLICY: &str = r#"
[[endpoints]]
match = "GET /v1/busy"
name = "busy"
[upstreams.silent]
servers = ["SERVER"]
response_timeout = "15ms"
[[routes]]
name = "silent"
hosts = ["api.test"]
path_prefix = "/silent"
upstream = "silent"
[[routes]]
name = "main"
hosts = ["api.test"]
upstream = "api"
[[limits]]
name = "budget"
stage = "global"
rate = "1/h"
burst = 1000000
when = { mode = "live" }
[[limits]]
name = "spent"
stage = "global"
rate = "1/24h"
burst = 1
when = { mode = "test" }
[[limits]]
name = "in-flight"
stage = "global"
concurrency = 1000
[[limits]]
name = "payouts"
stage = "endpoint"
rate = "1/24h"
burst = 1
when = { endpoint = "payouts.create" }
[[limits]]
name = "busy"
stage = "endpoint"
concurrency = 1
when = { endpoint = "busy" }
[[limits]]
name = "all-endpoints"
stage = "endpoint"
concurrency = 1000
fallback = true
[[limits]]
name = "one-file"
stage = "resource"
rate = "1/24h"
burst = 1
when = { endpoint = "files.retrieve" }
per = ["account", "path.file"]
[accounts.acct_b]
limits.in-flight = { concurrency = 1 }
"#;

/// The requests that the upstream has seen and that clients wait for, by their `x-id`.
type Arrived = Arc<Mutex<HashSet<String>>>;

fn serve(wire: &mut Wire, first: Head, arrived: &Arrived, count: &AtomicUsize) {
    let mut next = Some(first);
    while let Some(head) = next {
        count.fetch_add(1, Ordering::SeqCst);
        if let Some(id) = head.value("x-id") {
            arrived.lock().unwrap().insert(id.to_owned());
        }
        if wire.body(&head).is_err() || !deed(wire, head.target()) {
            return;
        }
        next = wire.head();
    }
}

/// Does what the path says; whether the connection stays open.
fn deed(wire: &mut Wire, path: &str) -> bool {
    const LONG: &str = "HTTP/1.1 200 OK\r\ncontent-length: 8388608\r\n\r\n";
    match path {
        "/v1/hold" | "/v1/busy" | "/silent" => while !wire.is_over() {},
        "/v1/flood" => {
            let piece = vec![b'x'; 1 << 16];
            let _ = wire.try_send(LONG);
            while wire.try_send(&piece).is_ok() {}
        }
        "/v1/cut" => drop(wire.try_send(format!("{LONG}short"))),
        "/v1/reset" => wire.writer().reset(),
        _ => return wire.try_send(ok("fine")).is_ok(),
    }
    false
}

/// One client: a connection that is made anew whenever it is used up.
struct Client<'a> {
    gateway: &'a Running,
    arrived: &'a Arrived,
    wire: Option<Wire>,
}

impl Client<'_> {
    fn run(&mut self, end: End, id: usize) {
        let mark = format!("x-id: {id}\r\n");
        match end {
            End::Read => self.ask(end, get("/v1/charges", LIVE)),
            End::Write => self.ask(end, post("/v1/charges", LIVE)),
            // A write: a read would be tried again.
            End::UpstreamResets => self.ask(end, post("/v1/reset", LIVE)),
            End::UpstreamSilent => self.ask(end, get("/silent", LIVE)),
            End::UnknownKey => self.ask(end, post("/v1/charges", UNKNOWN)),
            End::Forbidden => self.ask(end, post("/v1/payouts", RESTRICTED)),
            End::NoRoute => self.ask(end, get("/v1/charges", LIVE).replace("api.test", "nowhere.test")),
            End::Malformed => self.ask(end, get("/v1/charges%00", LIVE)),
            End::GlobalRate => self.ask(end, get("/v1/charges", TEST)),
            End::GlobalConcurrency => self.ask(end, get("/v1/charges", OTHER)),
            End::EndpointRate => self.ask(end, post("/v1/payouts", LIVE)),
            End::EndpointConcurrency => self.ask(end, get("/v1/busy", LIVE)),
            End::Resource => self.ask(end, get("/v1/files/f_1", LIVE)),
            End::GoneWhileWaiting => self.leave(id, request("GET", "/v1/hold", LIVE, &mark)),
            End::GoneInUpload => {
                self.leave(id, request("POST", "/v1/charges", LIVE, &format!("{mark}content-length: 99\r\n")) + "part");
            }
            End::GoneInDownload | End::UpstreamCutsShort => self.break_off(end),
        }
    }

    fn wire(&mut self) -> Wire {
        self.wire.take().unwrap_or_else(|| self.gateway.connect())
    }

    fn ask(&mut self, end: End, request: String) {
        let mut wire = self.wire();
        let answer = wire.ask(request);
        let got = (answer.status(), answer.head.value("stripe-rate-limited-reason"));
        assert_eq!(got, end.verdict(), "{end:?}: {answer:?}");
        if !answer.closes() {
            self.wire = Some(wire);
        }
    }

    /// Leaves once the upstream has the request; every other time with a reset.
    fn leave(&mut self, id: usize, request: String) {
        let mut wire = self.wire();
        wire.send(request);
        wait_until("the upstream has it", || self.arrived.lock().unwrap().remove(&id.to_string()));
        if id.is_multiple_of(2) {
            wire.reset();
        }
    }

    /// Reads the head of an answer that never becomes whole.
    fn break_off(&mut self, end: End) {
        let mut wire = self.wire();
        wire.send(get(if end == End::GoneInDownload { "/v1/flood" } else { "/v1/cut" }, LIVE));
        let head = wire.head().unwrap();
        assert_eq!(head.status(), 200);
        if end == End::UpstreamCutsShort {
            assert!(wire.response_body(&head).is_err(), "never ended cleanly");
        }
    }
}

/// Takes what the refusals need to be refused: single tokens, and slots by requests that stay.
fn occupy(gateway: &Running, arrived: &Arrived) -> [Wire; 2] {
    for request in [post("/v1/payouts", LIVE), get("/v1/files/f_1", LIVE), get("/v1/charges", TEST)] {
        assert_eq!(gateway.ask(request).status(), 200);
    }
    ["/v1/busy", "/v1/hold"].map(|path| {
        let mut wire = gateway.connect();
        let secret = if path == "/v1/busy" { LIVE } else { OTHER };
        wire.send(request("GET", path, secret, &format!("x-id: {path}\r\n")));
        wait_until("it is in flight", || arrived.lock().unwrap().remove(path));
        wire
    })
}

#[test]
fn nothing_is_left_of_requests_however_they_ended() {
    let total = std::env::var("TOLLGATE_LEAK_REQUESTS").map_or(5_000, |count| count.parse::<usize>().unwrap());
    let (arrived, count) = (Arrived::default(), Arc::new(AtomicUsize::new(0)));
    let upstream = {
        let (arrived, count) = (Arc::clone(&arrived), Arc::clone(&count));
        Upstream::scripted(move |wire, head| serve(wire, head, &arrived, &count))
    };
    let mut setup = Setup::new(upstream.address());
    setup = setup.with(&POLICY.replace("SERVER", &format!("http://{}", upstream.address())));
    setup.threads = 2;
    let gateway = setup.start();
    let occupants = occupy(&gateway, &arrived);
    let before = count.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        for first in 0..CLIENTS {
            let (gateway, arrived) = (&gateway, &arrived);
            scope.spawn(move || {
                let mut client = Client { gateway, arrived, wire: None };
                for id in (first..total).step_by(CLIENTS) {
                    client.run(end_of(id), id);
                }
            });
        }
    });
    drop(occupants);
    wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
    let snapshot = gateway.gateway().shared().current();
    let policy = &snapshot.config.policy;
    let census = gateway.gateway().shared().engine.census(policy);
    assert!(census.values().all(|count| count.in_flight == 0), "{census:?}");

    let admitted = (0..total).filter(|id| end_of(*id).is_admitted()).count();
    assert_eq!(count.load(Ordering::SeqCst) - before, admitted, "what was admitted was forwarded, once");
    // Two single tokens and one slot were taken before the run by the counted account.
    assert_eq!(left(&gateway), BUDGET - admitted - 3, "and spent a token, once");
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("tollgate_panics_total", &[]), 0.0);
    let counted = metrics.sum("tollgate_requests_total", &[]);
    assert_eq!(counted, (total + 5) as f64, "all of the run, and the five before it, once");
    wait_until("no connection is left", || gateway.metrics().sum("tollgate_connections", &[]) == 0.0);
}

/// Tokens that the counted account has left, as the bucket itself says.
fn left(gateway: &Running) -> usize {
    let shared = gateway.gateway().shared();
    let (seed, snapshot) = (shared.engine.seed(), shared.current());
    let policy = &snapshot.config.policy;
    let id = policy.limits().find(|(_, limit)| &*limit.name == "budget").unwrap().0;
    let class = RequestClass {
        mode: Mode::Live,
        access: Access::Read,
        endpoint: snapshot.config.other(Access::Read),
        route: RouteId(0),
        profile: ProfileId::BASE,
        cost: 0,
        account: seed.id(IdKind::Account, b"acct_a"),
        connected: Id::NONE,
        key: Id::NONE,
        ip: Id::NONE,
        values: [Id::NONE; MAX_VALUES],
        facts: 0,
        payers: Payers::Account,
        lot: 0,
    };
    match shared.engine.peek(policy, id, &class, shared.time.now()) {
        Outcome::Admitted { remaining } => usize::try_from(remaining).unwrap(),
        Outcome::Rejected { .. } => 0,
    }
}
