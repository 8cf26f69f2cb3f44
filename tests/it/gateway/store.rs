//! A gateway whose counts are in Redis, and what becomes of its requests when that dies, hangs, is full or forgets.

use crate::support::redis::{Options, Redis, Reply};
use crate::support::running::{LIVE, OTHER, Running, Setup, get};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tollgate::clock::Time;
use tollgate::engine::Clock as _;

/// Hardly a token comes back while a test runs, so what is admitted is what the buckets held.
const LIMITS: &str = "
[[limits]]
name = 'tokens'
stage = 'global'
rate = '1/h'
burst = 40
[[limits]]
name = 'slots'
stage = 'global'
concurrency = 5
";

fn store(redis: &Redis, more: &str) -> String {
    format!("[store]\nkind = 'redis'\nmode = 'exact'\nurls = '{}'\n{more}\n{LIMITS}", redis.url())
}

/// A gateway in front of `upstream`; the time-out is long enough for a machine that is busy with other things.
fn gateway(upstream: &Upstream, redis: &Redis, more: &str) -> Running {
    let gateway =
        Setup::new(upstream.address()).with(&store(redis, &format!("command_timeout = '5s'\n{more}"))).start();
    wait_until("the gateway has said that it is there", || {
        gateway.metrics().sum("tollgate_store_gateways", &[]) >= 1.0
    });
    gateway
}

/// How many of so many requests pass; the others are refused by a limit. Anything else is a failure.
#[track_caller]
fn passed(gateway: &Running, key: &str, requests: usize) -> usize {
    let mut client = gateway.connect();
    let statuses: Vec<u16> = (0..requests).map(|_| client.ask(get("/v1/charges", key)).status()).collect();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    statuses.iter().filter(|status| **status == 200).count()
}

fn is_up(gateway: &Running) -> bool {
    gateway.metrics().sum("tollgate_store_up", &[]) == 1.0
}

/// Slots that Redis counts as held.
fn held(redis: &Redis) -> usize {
    let Reply::List(keys) = redis.command(&["KEYS", "{tollgate:*}:*"]) else { panic!("a list of keys") };
    let of = |key: &Reply| match redis.command(&["ZCARD", key.text().unwrap()]) {
        Reply::Number(count) => usize::try_from(count).unwrap(),
        _ => 0,
    };
    keys.iter().map(of).sum()
}

#[test]
fn two_gateways_count_as_one() {
    let (upstream, redis) = (Upstream::fine(), Redis::start());
    let [first, second] = [(); 2].map(|()| gateway(&upstream, &redis, ""));
    assert_eq!(passed(&first, LIVE, 15) + passed(&second, LIVE, 15), 30);
    assert_eq!(passed(&second, LIVE, 30) + passed(&first, LIVE, 10), 10);
    assert_eq!(passed(&first, OTHER, 5), 5, "somebody else's bucket is somebody else's");
    assert_eq!(upstream.requests().len(), 45);
    wait_until("every slot is back", || held(&redis) == 0);
    let scrapes = [first.metrics(), second.metrics()];
    assert!(scrapes.iter().all(|scrape| scrape.sum("tollgate_store_fallbacks_total", &[]) == 0.0));
    assert!(scrapes.iter().all(|scrape| scrape.in_flight() == 0.0));
}

#[test]
fn scripts_survive_being_forgotten() {
    let (upstream, redis) = (Upstream::fine(), Redis::start());
    let gateway = gateway(&upstream, &redis, "");
    for _ in 0..4 {
        assert_eq!(passed(&gateway, LIVE, 5), 5);
        redis.command(&["SCRIPT", "FLUSH"]);
    }
    assert_eq!(passed(&gateway, LIVE, 30), 20);
    assert_eq!(gateway.metrics().sum("tollgate_store_errors_total", &[]), 0.0);
    wait_until("every slot is back", || held(&redis) == 0);
}

/// A gateway that is alone has the whole limit as its share, and what Redis forgets it tells it again: an outage gives nobody a
/// second burst.
#[test]
fn a_redis_that_dies_again_and_again_gives_no_free_burst() {
    let (upstream, mut redis) = (Upstream::fine(), Redis::start());
    let gateway = gateway(&upstream, &redis, "");
    let mut admitted = passed(&gateway, LIVE, 10);
    for _ in 0..3 {
        redis.kill9();
        admitted += passed(&gateway, LIVE, 5);
        wait_until("it is not asked any more", || !is_up(&gateway));
        redis.restart();
        wait_until("it is asked again", || is_up(&gateway));
        admitted += passed(&gateway, LIVE, 5);
    }
    assert_eq!(admitted, 40);
    assert_eq!(passed(&gateway, LIVE, 10), 0);
    assert_eq!(gateway.admin("/readyz").status(), 200);
    wait_until("every slot is back", || held(&redis) == 0 && gateway.metrics().in_flight() == 0.0);
}

#[test]
fn a_redis_that_hangs_holds_up_a_handful_for_one_time_out() {
    let (upstream, redis) = (Upstream::fine(), Redis::start());
    let gateway = Setup::new(upstream.address()).with(&store(&redis, "command_timeout = '50ms'")).start();
    wait_until("it is asked", || passed(&gateway, OTHER, 1) == 1 && is_up(&gateway));
    assert_eq!(passed(&gateway, LIVE, 10), 10);
    redis.pause();
    assert_eq!(passed(&gateway, LIVE, 100), 30, "the rest of the bucket, and nobody waits for ever");
    wait_until("it is not asked any more", || !is_up(&gateway));
    let waited = gateway.metrics().sum("tollgate_store_errors_total", &[("cause", "timeout")]);
    assert!((1.0..20.0).contains(&waited), "{waited} calls ran into their time-out");
    redis.resume();
    wait_until("it is asked again", || is_up(&gateway));
    assert_eq!(passed(&gateway, LIVE, 10), 0);
    wait_until("every slot is back", || held(&redis) == 0 && gateway.metrics().in_flight() == 0.0);
}

/// Redis says how long to wait when it is asked at last, and the answer takes its time: it is not taken off twice.
#[test]
fn a_redis_that_answers_late_sends_nobody_back_too_early() {
    let (upstream, redis) = (Upstream::fine(), Redis::start());
    let limits = "[[limits]]\nname = 'slow'\nstage = 'global'\nrate = '1/4s'\nburst = 1\n";
    let store =
        format!("[store]\nkind = 'redis'\nmode = 'exact'\nurls = '{}'\ncommand_timeout = '10s'\n{limits}", redis.url());
    let gateway = Setup::new(upstream.address()).with(&store).start();
    wait_until("it is asked", || is_up(&gateway));
    let mut client = gateway.connect();
    let time = Time::system();
    let began = time.now();
    assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
    redis.pause();
    let (refused, told) = std::thread::scope(|scope| {
        // So long it hangs: not a wait for something.
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(1_600));
            redis.resume();
        });
        (client.ask(get("/v1/charges", LIVE)), time.now())
    });
    assert_eq!(refused.status(), 429);
    let seconds: u64 = refused.head.values("retry-after")[0].parse().unwrap();
    let waited = told - began;
    assert!(waited + Duration::from_secs(seconds) >= Duration::from_secs(4), "{seconds} s after {waited:?}");
}

#[test]
fn a_redis_that_is_full_or_a_replica_is_out_of_order() {
    let (upstream, redis) = (Upstream::fine(), Redis::start());
    let gateway = gateway(&upstream, &redis, "");
    assert_eq!(passed(&gateway, LIVE, 5), 5);
    let out_of_order = |words: &[&str]| {
        redis.command(words);
        wait_until("it is not asked any more", || !is_up(&gateway));
        assert_eq!(passed(&gateway, LIVE, 5), 5, "limits go on");
    };
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    out_of_order(&["CONFIG", "SET", "maxmemory", "1"]);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    wait_until("it is asked again", || is_up(&gateway));
    assert_eq!(passed(&gateway, LIVE, 5), 5);
    let other = Options::default().start();
    let [host, port] = [other.address().ip().to_string(), other.address().port().to_string()];
    out_of_order(&["REPLICAOF", &host, &port]);
    redis.command(&["REPLICAOF", "NO", "ONE"]);
    wait_until("it is asked again", || is_up(&gateway));
    assert_eq!(passed(&gateway, LIVE, 30), 20);
}

#[test]
fn without_redis_limits_do_what_they_are_told_to() {
    let (upstream, mut redis) = (Upstream::fine(), Redis::start());
    let limit = |on: &str| {
        format!("[[limits]]\nname = '{on}'\nstage = 'global'\nrate = '1/h'\nburst = 1\non_store_failure = '{on}'\n")
    };
    let start = |on: &str| {
        let rest = format!("[store]\nkind = 'redis'\nmode = 'exact'\nurls = '{}'\n{}", redis.url(), limit(on));
        Setup::new(upstream.address()).with(&rest).start()
    };
    let gateways = ["open", "closed", "local-share"].map(start);
    for gateway in &gateways {
        wait_until("it counts in Redis", || is_up(gateway));
    }
    redis.kill9();
    for gateway in &gateways {
        wait_until("it is not asked any more", || !is_up(gateway));
    }
    assert_eq!(gateways.each_ref().map(|gateway| passed(gateway, LIVE, 3)), [3, 0, 1]);
    let refused = gateways[1].ask(get("/v1/charges", LIVE));
    assert_eq!(refused.head.values("retry-after"), ["1"]);
}

/// While Redis dies and comes back, clients come without a pause: none is answered anything but 200 or 429, the upstream never
/// has more at once than there are slots, and nothing is left behind.
#[test]
fn under_load_no_outage_is_seen_by_anybody() {
    let (upstream, mut redis) = (Upstream::fine(), Redis::start());
    let rest = store(&redis, "command_timeout = '200ms'").replace("'1/h'", "'500/s'");
    let gateway = Setup { threads: 2, ..Setup::new(upstream.address()) }.with(&rest).start();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = || {
            let mut asked = 0;
            while !over.load(Relaxed) {
                asked += 1;
                passed(&gateway, LIVE, 20);
            }
            asked
        };
        let clients = [(); 4].map(|()| scope.spawn(load));
        for round in 0..3 {
            wait_until("it is asked", || is_up(&gateway));
            if round % 2 == 0 {
                redis.kill9()
            } else {
                redis.pause()
            }
            wait_until("it is not asked any more", || !is_up(&gateway));
            std::thread::sleep(Duration::from_millis(50));
            if round % 2 == 0 { redis.restart() } else { redis.resume() }
        }
        wait_until("it is asked again", || is_up(&gateway));
        over.store(true, Relaxed);
        assert!(clients.into_iter().all(|client| client.join().unwrap() > 0));
    });
    wait_until("every slot is back", || held(&redis) == 0 && gateway.metrics().in_flight() == 0.0);
}
