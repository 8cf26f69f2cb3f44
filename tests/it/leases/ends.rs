//! Gateways that end, and a Redis that forgets: nobody loses a share, and nothing is lent twice.

use super::gateways::{Room, parts, setup};
use crate::support::redis::Redis;
use crate::support::running::{LIVE, Running, Setup, get};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::Scope;

fn is_passed(gateway: &Running) -> bool {
    let status = gateway.ask(get("/v1/charges", LIVE)).status();
    assert!(status == 200 || status == 429, "{status}");
    status == 200
}

/// Entries of the only key that leases have in Redis.
fn entries(redis: &Redis) -> i64 {
    let keys = redis.command(&["KEYS", "*:lease:*"]);
    assert!(keys.list().len() <= 1);
    keys.list().first().map_or(0, |key| redis.command(&["HLEN", key.text().unwrap()]).number())
}

#[test]
fn a_gateway_that_ends_gives_its_tokens_back_at_once() {
    let (upstream, redis) = (Upstream::fine(), Redis::start());
    let setup = setup(&upstream, &redis, "rate = \"1/h\"\nburst = 40\n");
    let (leaving, staying) = (setup.start(), setup.start());
    assert!((0..20).all(|_| is_passed(&leaving)));
    leaving.handle().drain();
    leaving.join();
    assert!((0..20).all(|_| is_passed(&staying)), "what was not spent is there again");
    assert!(!is_passed(&staying));
    assert_eq!(upstream.requests().len(), 40);
    wait_until("the other one has the whole for its part", || parts(&staying) == 1);
}

#[test]
fn a_gateway_that_ends_holds_slots_as_long_as_requests_do_on_any_thread() {
    const SLOTS: usize = 4;
    let (room, upstream) = Room::upstream();
    let redis = Redis::start();
    let setup = Setup { threads: 2, ..setup(&upstream, &redis, &format!("concurrency = {SLOTS}\n")) };
    let (leaving, staying) = (setup.start(), setup.start());
    std::thread::scope(|scope| {
        // Either thread gets some of them.
        let asked: Vec<_> = (0..SLOTS).map(|_| scope.spawn(|| wait_until("a slot", || is_passed(&leaving)))).collect();
        wait_until("all are inside", || room.inside.load(SeqCst) == SLOTS);
        leaving.handle().drain();
        assert!(!is_passed(&staying), "the slots are in use");
        room.set_open(true);
        asked.into_iter().for_each(|asked| asked.join().unwrap());
    });
    leaving.join();
    assert_eq!(entries(&redis), 0, "nothing is held by one that is gone");
    assert_eq!(room.most.load(SeqCst), SLOTS);
}

/// So many requests at once, of which those that pass stay inside.
fn send<'s>(scope: &'s Scope<'s, '_>, gateway: &'s Running, requests: usize) {
    (0..requests).for_each(|_| drop(scope.spawn(|| is_passed(gateway))));
}

#[test]
fn a_redis_that_forgets_lends_no_slot_that_is_held() {
    const SLOTS: usize = 12;
    let (room, upstream) = Room::upstream();
    let mut redis = Redis::start();
    let setup = setup(&upstream, &redis, &format!("concurrency = {SLOTS}\n"));
    let gateways: Vec<_> = (0..3).map(|_| setup.start()).collect();
    wait_until("each has its part", || gateways.iter().all(|gateway| parts(gateway) == 3));
    let is_up = |gateway: &Running| gateway.metrics().sum("tollgate_store_up", &[]) == 1.0;
    std::thread::scope(|scope| {
        // Whatever fails, nobody is left waiting.
        let _open = Opening(&room);
        for _ in 0..SLOTS {
            scope.spawn(|| wait_until("a slot", || is_passed(&gateways[0])));
        }
        wait_until("all slots are the first one's", || room.inside.load(SeqCst) == SLOTS);
        redis.kill9();
        wait_until("all know that it is gone", || !gateways.iter().any(is_up));
        gateways.iter().for_each(|gateway| send(scope, gateway, SLOTS));
        // The first has more in use than its part; the others have a third each.
        let most = SLOTS + 2 * SLOTS / 3;
        wait_until("the others use their parts", || room.inside.load(SeqCst) == most);
        redis.restart();
        wait_until("all ask again, and have told what they hold", || {
            gateways.iter().for_each(|gateway| send(scope, gateway, 1));
            gateways.iter().all(is_up) && entries(&redis) == 3
        });
        gateways.iter().for_each(|gateway| send(scope, gateway, SLOTS));
        assert!(gateways.iter().all(|gateway| !is_passed(gateway)), "all slots are held, and more");
        assert_eq!(room.most.load(SeqCst), most);
    });
}

/// Lets all out at the end.
struct Opening<'r>(&'r Room);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.set_open(true);
    }
}
