//! Object locks over real sockets: one request at a time at one object, the others in the order in which they came.

use crate::support::running::{Folder, LIVE, OTHER, Running, Setup, TEST, request};
use crate::support::upstream::{Got, Upstream, ok};
use crate::support::wait::{PATIENCE, wait_until};
use crate::support::wire::Wire;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

/// Updates and captures of one payment intent exclude each other, refunds have a lock of their own.
const LOCKS: &str = r#"
[[endpoints]]
match = "POST /v1/payment_intents/{intent}"
name = "intents.update"
lock = { per = ["path.intent"], wait = "20s" }
[[endpoints]]
match = "POST /v1/payment_intents/{intent}/capture"
name = "intents.capture"
lock = { per = ["path.intent"], wait = "20s" }
[[endpoints]]
match = "POST /v1/impatient/{intent}"
name = "intents.impatient"
lock = { per = ["path.intent"], wait = "50ms" }
[[endpoints]]
match = "POST /v1/refunds/{refund}"
name = "refunds.update"
lock = { per = ["path.refund", "header.x-part"], name = "refund" }
"#;

const INTENT: &str = "/v1/payment_intents/pi_1";

/// Where the scripted upstream keeps requests until the test lets them go, one by one.
#[derive(Default)]
struct Gate {
    state: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Default)]
struct Inside {
    /// The header `x-tag` of all that came, in order.
    came: Vec<String>,
    permits: usize,
    /// Now and at most, by the object's id.
    busy: BTreeMap<String, (usize, usize)>,
}

impl Gate {
    fn pass(&self, got: &Got) -> Vec<u8> {
        let object = got.head.target().split('/').nth(3).unwrap_or_default().to_owned();
        let mut inside = self.state.lock().unwrap();
        inside.came.push(got.head.value("x-tag").unwrap_or_default().to_owned());
        let busy = inside.busy.entry(object.clone()).or_default();
        busy.0 += 1;
        busy.1 = busy.1.max(busy.0);
        let (mut inside, timeout) =
            self.changed.wait_timeout_while(inside, PATIENCE, |inside| inside.permits == 0).unwrap();
        if timeout.timed_out() {
            return Vec::new();
        }
        inside.permits -= 1;
        inside.busy.get_mut(&object).unwrap().0 -= 1;
        ok(&object)
    }

    fn release(&self, permits: usize) {
        self.state.lock().unwrap().permits += permits;
        self.changed.notify_all();
    }

    fn came(&self) -> Vec<String> {
        self.state.lock().unwrap().came.clone()
    }

    /// The most requests that were at one object at once.
    fn peak(&self) -> usize {
        self.state.lock().unwrap().busy.values().map(|busy| busy.1).max().unwrap_or(0)
    }
}

/// A gateway in front of a gate.
struct House {
    gate: Arc<Gate>,
    gateway: Running,
    _upstream: Upstream,
}

impl House {
    fn new(change: impl FnOnce(Setup) -> Setup) -> House {
        let gate = Arc::new(Gate::default());
        let inner = Arc::clone(&gate);
        let upstream = Upstream::answering(move |got| inner.pass(got));
        let gateway = change(Setup::new(upstream.address()).with(LOCKS)).start();
        House { gate, gateway, _upstream: upstream }
    }

    /// Sends a write on a connection of its own, without reading the answer.
    fn send(&self, path: &str, secret: &str, tag: &str, lines: &str) -> Wire {
        let mut client = self.gateway.connect();
        client.send(write(path, secret, tag, lines));
        client
    }

    fn waiters(&self) -> f64 {
        self.gateway.metrics().sum("tollgate_lock_waiters", &[])
    }

    fn wait_for_waiters(&self, count: usize) {
        wait_until("so many wait", || self.waiters() == count as f64);
    }

    fn wait_for_inside(&self, count: usize) {
        wait_until("so many came", || self.gate.came().len() == count);
    }

    /// Sends a first request, and then others of which each finds the ones before in the queue.
    fn line_up(&self, tags: &[&str]) -> Vec<Wire> {
        let mut clients = Vec::new();
        for (place, tag) in tags.iter().enumerate() {
            clients.push(self.send(INTENT, LIVE, tag, ""));
            match place {
                0 => self.wait_for_inside(1),
                place => self.wait_for_waiters(place),
            }
        }
        clients
    }

    fn assert_idle(&self) {
        wait_until("nothing is left", || {
            let metrics = self.gateway.metrics();
            metrics.in_flight() == 0.0
                && metrics.sum("tollgate_lock_waiters", &[]) == 0.0
                && metrics.sum("tollgate_locks_held", &[]) == 0.0
        });
    }
}

fn write(path: &str, secret: &str, tag: &str, lines: &str) -> String {
    request("POST", path, secret, &format!("content-length: 8\r\nx-tag: {tag}\r\n{lines}")) + "amount=1"
}

fn two_threads(mut setup: Setup) -> Setup {
    setup.threads = 2;
    setup
}

#[test]
fn requests_at_one_object_take_turns_in_the_order_of_arrival() {
    for threads in [1, 2] {
        let house = House::new(|setup| Setup { threads, ..setup });
        let tags = ["a", "b", "c", "d", "e", "f"];
        let mut clients = house.line_up(&tags);
        assert_eq!(house.gate.came(), ["a"]);
        for (turn, client) in clients.iter_mut().enumerate() {
            house.gate.release(1);
            assert_eq!(client.answer().status(), 200);
            house.wait_for_inside((turn + 2).min(tags.len()));
        }
        assert_eq!((house.gate.came(), house.gate.peak()), (tags.map(str::to_owned).into(), 1));
        house.assert_idle();
        let metrics = house.gateway.metrics();
        assert_eq!(metrics.sum("tollgate_lock_wait_seconds_count", &[]), 5.0);
        assert_eq!(metrics.sum("tollgate_lock_timeouts_total", &[]), 0.0);
    }
}

#[test]
fn under_load_on_both_threads_one_is_at_the_object() {
    const CLIENTS: usize = 8;
    const EACH: usize = 25;
    let house = House::new(two_threads);
    house.gate.release(CLIENTS * EACH);
    let address = house.gateway.address;
    let hammer = move || {
        // A connection each round, so that the kernel spreads them over both threads.
        let ask = || Wire::connect(address).ask(write(INTENT, LIVE, "", "")).status();
        (0..EACH).filter(|_| ask() == 200).count()
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| std::thread::spawn(hammer)).collect();
    let answered: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!((answered, house.gate.came().len(), house.gate.peak()), (CLIENTS * EACH, CLIENTS * EACH, 1));
    house.assert_idle();
}

/// Sends both; whether they are at the upstream together.
fn run_together(one: [&str; 3], other: [&str; 3]) -> bool {
    let house = House::new(|setup| setup);
    let mut first = house.send(one[0], one[1], "1", one[2]);
    house.wait_for_inside(1);
    let mut second = house.send(other[0], other[1], "2", other[2]);
    wait_until("it waits or is there", || house.waiters() == 1.0 || house.gate.came().len() == 2);
    let together = house.gate.came().len() == 2;
    house.gate.release(2);
    assert_eq!([first.answer().status(), second.answer().status()], [200, 200]);
    house.assert_idle();
    together
}

#[test]
fn what_names_an_object() {
    const CAPTURE: &str = "/v1/payment_intents/pi_1/capture";
    const FOR_OTHER: &str = "stripe-account: acct_b\r\n";
    let own = [INTENT, LIVE, ""];
    assert!(!run_together(own, own));
    assert!(!run_together(own, ["//v1/./payment_intents/%70i_1", LIVE, ""]), "one path, however it is written");
    assert!(!run_together(own, [CAPTURE, LIVE, ""]), "another endpoint, the same object");
    assert!(!run_together([INTENT, LIVE, FOR_OTHER], [INTENT, OTHER, ""]), "one account, whoever acts for it");
    assert!(run_together(own, ["/v1/payment_intents/pi_2", LIVE, ""]), "two objects");
    assert!(run_together(own, [INTENT, TEST, ""]), "live and test");
    assert!(run_together(own, [INTENT, OTHER, ""]), "two accounts");
    assert!(run_together(own, [INTENT, LIVE, FOR_OTHER]), "its own and one acted for");
    assert!(run_together(own, ["/v1/refunds/pi_1", LIVE, ""]), "two locks");
    assert!(run_together(["/v1/charges", LIVE, ""], ["/v1/charges", LIVE, ""]), "no lock");
    let refund = "/v1/refunds/re_1";
    assert!(run_together([refund, LIVE, "x-part: 1\r\n"], [refund, LIVE, "x-part: 2\r\n"]));
    assert!(!run_together([refund, LIVE, ""], [refund, LIVE, ""]), "a value left out dodges nothing");
}

#[test]
fn who_waits_too_long_is_told_so_in_stripe_s_words_and_pays_nothing() {
    let limit = "[[limits]]\nname = \"all\"\nstage = \"global\"\nrate = \"1/h\"\nburst = 3\n";
    let house = House::new(|setup| setup.with(limit));
    let mut holder = house.send(INTENT, LIVE, "1", "");
    house.wait_for_inside(1);
    for _ in 0..4 {
        let answer = house.gateway.ask(write("/v1/impatient/pi_1", LIVE, "2", ""));
        assert_eq!(answer.status(), 429);
        assert_eq!(
            answer.text(),
            "{\"error\":{\"code\":\"lock_timeout\",\"doc_url\":\"https://stripe.com/docs/error-codes/lock-timeout\",\
             \"message\":\"This object cannot be accessed right now because another API request or Stripe process is \
             currently accessing it. If you see this error intermittently, retry the request. If you see this error \
             frequently and are making multiple concurrent requests to a single object, make your requests serially or \
             at a lower rate.\",\"type\":\"invalid_request_error\"}}"
        );
        assert_eq!(answer.head.values("stripe-should-retry"), ["true"]);
        assert_eq!(answer.head.values("content-type"), ["application/json"]);
        assert_eq!(answer.head.values("cache-control"), ["no-store"]);
        assert!(answer.head.has("request-id"));
        for absent in ["stripe-rate-limited-reason", "retry-after", "ratelimit", "ratelimit-policy"] {
            assert!(!answer.head.has(absent), "{absent}: {answer:?}");
        }
    }
    let timeouts = [("endpoint", "intents.impatient"), ("cause", "waited")];
    assert_eq!(house.gateway.metrics().sum("tollgate_lock_timeouts_total", &timeouts), 4.0);
    house.gate.release(3);
    assert_eq!(holder.answer().status(), 200);
    // Of three tokens the holder has spent one, those who gave up none.
    let later: Vec<u16> = (0..3).map(|_| house.gateway.ask(write(INTENT, LIVE, "3", "")).status()).collect();
    assert_eq!(later, [200, 200, 429]);
    assert_eq!(house.gate.came(), ["1", "3", "3"]);
    house.assert_idle();
}

#[test]
fn a_full_queue_refuses_at_once() {
    for (line, cause) in [("lock_queue_max = 1", "queue_full"), ("lock_waiters_max = 1", "too_many_waiters")] {
        let folder = Folder::new();
        let log = folder.path("access.jsonl");
        let logged = format!("[log]\naccess = \"{}\"\n", log.display());
        let house = House::new(|setup| setup.server(line).with(&logged));
        let mut clients = house.line_up(&["a", "b"]);
        let answer = house.gateway.ask(write(INTENT, LIVE, "c", ""));
        assert_eq!((answer.status(), answer.error()["code"].as_str()), (429, Some("lock_timeout")));
        let timeouts = [("endpoint", "intents.update"), ("cause", cause)];
        assert_eq!(house.gateway.metrics().sum("tollgate_lock_timeouts_total", &timeouts), 1.0);
        house.gate.release(2);
        assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
        house.assert_idle();
        let read = || std::fs::read_to_string(&log).unwrap_or_default();
        wait_until("every line is written", || read().lines().count() == 3);
        let text = read();
        let refused = text.lines().find(|line| line.contains("\"status\":429")).unwrap();
        let refused: serde_json::Value = serde_json::from_str(refused).unwrap();
        assert_eq!((&refused["reason"], &refused["lock_timeout"]), (&"lock-timeout".into(), &cause.into()));
        assert_eq!((refused.get("limit"), text.matches("lock_timeout").count()), (None, 1));
    }
}

#[test]
fn a_request_that_a_limit_refuses_never_waits() {
    let limit = "[[limits]]\nname = \"one\"\nstage = \"global\"\nconcurrency = 2\n";
    let house = House::new(|setup| setup.with(limit));
    let mut clients = house.line_up(&["a", "b"]);
    let answer = house.gateway.ask(write(INTENT, LIVE, "c", ""));
    assert_eq!(answer.head.values("stripe-rate-limited-reason"), ["global-concurrency"], "who waits holds its slot");
    house.gate.release(2);
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    house.assert_idle();
}

#[test]
fn a_waiter_whose_client_leaves_is_forgotten_at_once() {
    let house = House::new(|setup| setup);
    let mut clients = house.line_up(&["a", "b", "c", "d"]);
    drop(clients.remove(1));
    house.wait_for_waiters(2);
    clients.remove(2).reset();
    house.wait_for_waiters(1);
    house.gate.release(2);
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    assert_eq!(house.gate.came(), ["a", "c"]);
    house.assert_idle();
}

#[test]
fn a_holder_whose_client_leaves_passes_its_turn_on() {
    let house = House::new(|setup| setup);
    let mut clients = house.line_up(&["a", "b"]);
    drop(clients.remove(0));
    house.wait_for_inside(2);
    house.gate.release(2);
    assert_eq!(clients[0].answer().status(), 200);
    house.assert_idle();
}

#[test]
fn an_upstream_that_fails_passes_the_turn_on() {
    let upstream = Upstream::scripted(|wire, mut head| {
        // The first ones are answered by a reset, the others well.
        loop {
            let _ = wire.body(&head);
            match head.value("x-tag") {
                Some("good") => wire.send(ok("ok")),
                _ => return wire.writer().reset(),
            }
            let Some(next) = wire.head() else { return };
            head = next;
        }
    });
    let gateway = two_threads(Setup::new(upstream.address()).with(LOCKS)).start();
    let send = |tag: &str| {
        let mut client = gateway.connect();
        client.send(write(INTENT, LIVE, tag, ""));
        client
    };
    let mut clients: Vec<Wire> = ["bad", "good", "bad", "bad", "good"].into_iter().map(send).collect();
    let statuses: Vec<u16> = clients.iter_mut().map(|client| client.answer().status()).collect();
    assert_eq!(statuses, [502, 200, 502, 502, 200]);
    wait_until("nothing is held", || gateway.metrics().sum("tollgate_locks_held", &[]) == 0.0);
}

#[test]
fn a_turn_lasts_until_the_last_byte_of_the_answer() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let upstream = Upstream::scripted(move |wire, mut head| {
        loop {
            let _ = wire.body(&head);
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha");
            let _ = gone.lock().unwrap().recv_timeout(PATIENCE);
            wire.send("lf");
            let Some(next) = wire.head() else { return };
            head = next;
        }
    });
    let gateway = Setup::new(upstream.address()).with(LOCKS).start();
    let mut clients: Vec<Wire> = (0..2).map(|_| gateway.connect()).collect();
    clients[0].send(write(INTENT, LIVE, "1", ""));
    let head = clients[0].head().unwrap();
    assert_eq!(head.status(), 200);
    clients[1].send(write(INTENT, LIVE, "2", ""));
    wait_until("it waits", || gateway.metrics().sum("tollgate_lock_waiters", &[]) == 1.0);
    assert_eq!(upstream.connections(), 1, "half an answer is no end");
    go.send(()).unwrap();
    assert_eq!(clients[0].response_body(&head).unwrap(), b"half");
    go.send(()).unwrap();
    assert_eq!(clients[1].answer().text(), "half");
}

#[test]
fn a_drain_lets_those_who_wait_have_their_turn() {
    let house = House::new(two_threads);
    let mut clients = house.line_up(&["a", "b", "c"]);
    house.gateway.handle().drain();
    house.gate.release(3);
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    let House { gateway, gate, .. } = house;
    gateway.join();
    assert_eq!(gate.came(), ["a", "b", "c"]);
}

#[test]
fn a_stop_does_not_wait_for_them() {
    let house = House::new(two_threads);
    let clients = house.line_up(&["a", "b", "c"]);
    let House { gateway, gate, .. } = house;
    gateway.handle().stop();
    gateway.join();
    gate.release(3);
    drop(clients);
}

/// The body is looked into for a lock alone, without any limit that asks for it.
#[test]
fn an_object_may_be_named_in_the_body() {
    let lock =
        "[[endpoints]]\nmatch = \"POST /v1/invoices\"\nlock = { per = [\"form.subscription\"], wait = \"20s\" }\n";
    let house = House::new(|setup| setup.with(lock));
    let send = |subscription: &str| {
        let body = format!("subscription={subscription}");
        let lines = format!(
            "content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\nx-tag: {subscription}\r\n",
            body.len()
        );
        let mut client = house.gateway.connect();
        client.send(request("POST", "/v1/invoices", LIVE, &lines) + &body);
        client
    };
    let first = send("sub_1");
    house.wait_for_inside(1);
    let second = send("sub_1");
    house.wait_for_waiters(1);
    let other = send("sub_2");
    house.wait_for_inside(2);
    assert_eq!(house.gate.came(), ["sub_1", "sub_2"], "another object is not waited for");
    house.gate.release(3);
    for mut client in [first, second, other] {
        assert_eq!(client.answer().status(), 200);
    }
    house.assert_idle();
}
