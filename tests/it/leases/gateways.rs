//! Several gateways in this process that share one Redis.

use crate::support::RealClock;
use crate::support::redis::Redis;
use crate::support::running::{LIVE, OTHER, Running, Setup, get};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use crate::support::wire::Wire;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tollgate::engine::{Clock, Nanos};

pub(super) fn setup(upstream: &Upstream, redis: &Redis, limit: &str) -> Setup {
    let store = format!("[store]\nkind = \"redis\"\nurls = \"{}\"\ncommand_timeout = \"10s\"\n", redis.url());
    Setup::new(upstream.address()).with(&store).with("[[limits]]\nname = \"shared\"\nstage = \"global\"\n").with(limit)
}

fn start(upstream: &Upstream, redis: &Redis, limit: &str, gateways: usize) -> Vec<Running> {
    let setup = setup(upstream, redis, limit);
    (0..gateways).map(|_| setup.start()).collect()
}

/// Calls of scripts that Redis has taken.
fn calls(redis: &Redis) -> f64 {
    let stats = redis.command(&["INFO", "commandstats"]);
    let calls = |name: &str| {
        let line = stats.text().unwrap().lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        line.map_or(0.0, |line| line.split(['=', ',']).nth(1).unwrap().parse().unwrap())
    };
    calls("cmdstat_evalsha:") + calls("cmdstat_eval:")
}

/// Into how many parts a gateway cuts limits if Redis fails.
pub(super) fn parts(gateway: &Running) -> u32 {
    gateway.gateway().shared().engine.portion().of
}

/// Whether Redis was asked about leases since it started.
fn lends(redis: &Redis) -> bool {
    !redis.command(&["KEYS", "*:lease:*"]).list().is_empty()
}

#[test]
fn a_burst_is_one_burst_on_any_number_of_gateways() {
    let (upstream, redis) = (Upstream::fine(), Redis::start());
    let gateways = start(&upstream, &redis, "rate = \"1/h\"\nburst = 40\n", 3);
    let mut clients: Vec<_> = gateways.iter().map(Running::connect).collect();
    let mut admitted = 0;
    for number in 0..150 {
        let status = clients[number % 3].ask(get("/v1/charges", LIVE)).status();
        assert!(status == 200 || status == 429);
        admitted += usize::from(status == 200);
    }
    assert_eq!((admitted, upstream.requests().len()), (40, 40));
    // Another account has a bucket of its own, which a request waits for where nothing is lent yet.
    assert!(clients.iter_mut().all(|client| client.ask(get("/v1/charges", OTHER)).status() == 200));
}

#[test]
fn a_flood_admits_what_is_due_within_the_bound_and_costs_few_calls() {
    const GATEWAYS: usize = 3;
    const FLOOD: Duration = Duration::from_secs(2);
    let (rate, burst) = (20.0, 300);
    let (upstream, redis) = (Upstream::fine(), Redis::start());
    let gateways = start(&upstream, &redis, &format!("rate = \"{rate}/s\"\nburst = {burst}\n"), GATEWAYS);
    let clock = RealClock::start();
    let (before, calls_before) = (clock.now(), calls(&redis));
    let requests = AtomicUsize::new(0);
    let ask = |client: &mut Wire| {
        requests.fetch_add(1, Ordering::Relaxed);
        drop(client.ask(get("/v1/charges", LIVE)));
    };
    std::thread::scope(|scope| {
        // One sends ten times as many as each of the others, and all for as long as it: what is lent to a gateway that
        // no longer asks is not admitted by any.
        let mut turns = Vec::new();
        for gateway in &gateways[1..] {
            let (turn, taken) = std::sync::mpsc::sync_channel(1);
            let mut client = gateway.connect();
            scope.spawn(move || taken.iter().for_each(|()| ask(&mut client)));
            turns.push(turn);
        }
        let mut client = gateways[0].connect();
        while clock.now() - before < FLOOD {
            (0..10).for_each(|_| ask(&mut client));
            turns.iter().for_each(|turn| turn.send(()).unwrap());
        }
    });
    let seconds = (clock.now() - before).as_secs_f64();
    let admitted = upstream.requests().len() as f64;
    let due = f64::from(burst) + rate * seconds;
    let lent = (GATEWAYS as f64) * f64::from(burst) / 4.0;
    assert!(admitted <= due + lent, "{admitted} of {due} and {lent}");
    assert!(admitted >= 0.9 * due, "{admitted} of {due} in {seconds} s");
    let asked = calls(&redis) - calls_before;
    let requests = requests.into_inner();
    assert!(asked <= 0.15 * requests as f64, "{asked} calls for {requests} requests");
}

#[test]
fn a_refused_flood_asks_seldom() {
    let (upstream, redis) = (Upstream::fine(), Redis::start());
    let gateways = start(&upstream, &redis, "rate = \"1/h\"\nburst = 1\n", 2);
    let mut clients: Vec<_> = gateways.iter().map(Running::connect).collect();
    for number in 0..400 {
        clients[number % 2].ask(get("/v1/charges", LIVE));
    }
    assert_eq!(upstream.requests().len(), 1);
    assert!(calls(&redis) <= 10.0, "{} calls", calls(&redis));
    let refused = clients[0].ask(get("/v1/charges", LIVE));
    assert_eq!(refused.head.values("stripe-rate-limited-reason"), ["global-rate"]);
    let after: u64 = refused.head.values("retry-after")[0].parse().unwrap();
    assert!((3_000..=3_600).contains(&after), "{after}");
}

#[test]
fn unused_tokens_go_back_for_others() {
    let (upstream, redis) = (Upstream::fine(), Redis::start());
    let gateways = start(&upstream, &redis, "rate = \"1/h\"\nburst = 40\n", 2);
    let mut clients: Vec<_> = gateways.iter().map(Running::connect).collect();
    // So many at once that the first gateway provides for more of them.
    assert!((0..20).all(|_| clients[0].ask(get("/v1/charges", LIVE)).status() == 200));
    let mut admitted = 20;
    wait_until("the rest is lent to the second", || {
        admitted += usize::from(clients[1].ask(get("/v1/charges", LIVE)).status() == 200);
        admitted >= 40
    });
    assert_eq!(upstream.requests().len(), 40);
}

/// An upstream that counts who is inside, and lets them go when it is told to.
pub(super) struct Room {
    pub(super) inside: AtomicUsize,
    pub(super) most: AtomicUsize,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Room {
    pub(super) fn upstream() -> (Arc<Room>, Upstream) {
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let room = Arc::new(Room { inside, most, open: Mutex::new(false), opened: Condvar::new() });
        let own = Arc::clone(&room);
        let upstream = Upstream::answering(move |_| {
            own.most.fetch_max(own.inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let open = own.open.lock().unwrap();
            drop(own.opened.wait_while(open, |open| !*open).unwrap());
            own.inside.fetch_sub(1, Ordering::SeqCst);
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()
        });
        (room, upstream)
    }

    pub(super) fn set_open(&self, open: bool) {
        *self.open.lock().unwrap() = open;
        self.opened.notify_all();
    }
}

#[test]
fn slots_are_shared_and_come_back() {
    const SLOTS: usize = 8;
    let (room, upstream) = Room::upstream();
    let redis = Redis::start();
    let gateways = start(&upstream, &redis, &format!("concurrency = {SLOTS}\n"), 3);
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..24 {
            let (gateway, refused) = (&gateways[number % 3], &refused);
            scope.spawn(move || {
                let status = gateway.ask(get("/v1/charges", LIVE)).status();
                refused.fetch_add(usize::from(status == 429), Ordering::SeqCst);
            });
        }
        wait_until("the rest is refused", || {
            let inside = room.inside.load(Ordering::SeqCst);
            inside > 0 && inside + refused.load(Ordering::SeqCst) == 24
        });
        room.set_open(true);
    });
    assert!(room.most.load(Ordering::SeqCst) <= SLOTS);
    room.set_open(false);
    // Idle slots go back, so that a single gateway can have them all.
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..SLOTS)
            .map(|_| {
                scope.spawn(|| {
                    wait_until("a slot", || gateways[0].ask(get("/v1/charges", LIVE)).status() == 200);
                })
            })
            .collect();
        wait_until("all slots are the first gateway's", || room.inside.load(Ordering::SeqCst) == SLOTS);
        assert_eq!(gateways[1].ask(get("/v1/charges", LIVE)).status(), 429);
        room.set_open(true);
        asked.into_iter().for_each(|asked| asked.join().unwrap());
    });
    assert!(room.most.load(Ordering::SeqCst) <= SLOTS);
}

#[test]
fn slots_of_a_gateway_that_is_gone_come_back_in_their_time() {
    let (upstream, redis) = (Upstream::fine(), Redis::start());
    let setup = setup(&upstream, &redis, "concurrency = 1\n").with("");
    let config = setup.toml().replace("command_timeout", "lease_ttl = \"2s\"\ncommand_timeout");
    let start = || Running::start(tollgate::process::Source::Text { config: config.clone(), keys: setup.keys.clone() });
    let gateway = start();
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200);
    let keys = redis.command(&["KEYS", "*:lease:*"]);
    let key = keys.list()[0].text().unwrap().to_owned();
    wait_until("the slot is given back", || redis.command(&["HLEN", &key]).number() == 0);
    // Another gateway takes it and is not heard of any more.
    let clock = RealClock::start();
    let time = redis.command(&["TIME"]);
    let now_us = time.list()[0].text().unwrap().parse::<u64>().unwrap() * 1_000_000;
    redis.command(&["HSET", &key, "gone", &format!("1 {} 1", now_us + 3_000_000)]);
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 429);
    wait_until("the slot comes back", || gateway.ask(get("/v1/charges", LIVE)).status() == 200);
    assert!(clock.now() - Nanos(0) >= std::time::Duration::from_secs(1));
}

#[test]
fn without_redis_each_gateway_goes_on_with_its_share_and_no_burst_is_free() {
    let (upstream, mut redis) = (Upstream::fine(), Redis::start());
    let setup = setup(&upstream, &redis, "rate = \"1/h\"\nburst = 40\n");
    let config = setup.toml().replace("\"10s\"", "\"500ms\"");
    let start =
        |_| Running::start(tollgate::process::Source::Text { config: config.clone(), keys: setup.keys.clone() });
    let gateways: Vec<_> = (0..2).map(start).collect();
    wait_until("each has half for its part", || gateways.iter().all(|gateway| parts(gateway) == 2));
    let ask = |gateway: &Running| {
        let status = gateway.ask(get("/v1/charges", LIVE)).status();
        assert!(status == 200 || status == 429, "{status}");
        status == 200
    };
    assert_eq!((0..60).filter(|number| ask(&gateways[number % 2])).count(), 40);
    redis.kill9();
    // Both have heard that the bucket is empty, and so their shares begin.
    assert_eq!((0..200).filter(|number| ask(&gateways[number % 2])).count(), 0);
    redis.restart();
    wait_until("leases are asked for again", || {
        let _ = gateways.iter().filter(|gateway| ask(gateway)).count();
        lends(&redis)
    });
    assert_eq!((0..200).filter(|number| ask(&gateways[number % 2])).count(), 0);
    assert_eq!(upstream.requests().len(), 40);
}
