//! `[auth] store = "redis"`: keys made by the command line, seen by all gateways, through outages.

use super::Fleet;
use crate::support::redis::Redis;
use crate::support::running::{Running, get};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;

fn status(gateway: &Running, secret: &str) -> u16 {
    gateway.ask(get("/v1/charges", secret)).status()
}

#[track_caller]
fn becomes(gateways: &[Running], secret: &str, wanted: u16) {
    for gateway in gateways {
        wait_until(&format!("{wanted} for a key"), || status(gateway, secret) == wanted);
    }
}

fn boards_are_up(gateway: &Running) -> bool {
    gateway.metrics().sum("tollgate_store_boards_up", &[]) == 1.0
}

#[test]
fn all_gateways_see_keys_come_and_go() {
    let (redis, upstream) = (Redis::start(), Upstream::fine());
    let fleet = Fleet::new(&redis, upstream.address(), "").with_shared_keys();
    let gateways = [fleet.gateway(), fleet.gateway()];
    // No key was ever made: nobody knows whether a key is good, so nobody is told that it is not.
    let answer = gateways[0].ask(get("/v1/charges", "sk_live_nobody"));
    assert_eq!((answer.status(), answer.head.value("retry-after")), (503, Some("1")));
    assert_eq!(gateways[0].admin("/readyz").status(), 503);
    let first = fleet.key("key_a", "acct_a");
    becomes(&gateways, &first, 200);
    assert_eq!(gateways[0].admin("/readyz").status(), 200);
    assert_eq!(status(&gateways[0], "sk_live_nobody"), 401);
    let second = fleet.key("key_b", "acct_b");
    becomes(&gateways, &second, 200);
    let (fine, _, notes) = fleet.keys(&["revoke", "key_a"]);
    assert!(fine && notes.contains("within a second"), "{notes}");
    becomes(&gateways, &first, 401);
    assert_eq!(status(&gateways[1], &second), 200);
    assert!(fleet.keys(&["revoke", "key_a"]).2.contains("already"));
    let (_, table, _) = fleet.keys(&["list"]);
    let states: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((states[0][0], states[0][4], states[1][0], states[1][4]), ("key_a", "revoked", "key_b", "active"));
}

#[test]
fn mistakes_are_told_and_change_nothing() {
    let (redis, upstream) = (Redis::start(), Upstream::fine());
    let fleet = Fleet::new(&redis, upstream.address(), "").with_shared_keys();
    fleet.key("key_a", "acct_a");
    let refused = |words: &[&str]| {
        let (fine, output, notes) = fleet.keys(words);
        assert!(!fine && output.is_empty());
        notes
    };
    assert!(refused(&["new", "--id", "key_a", "--account", "acct_b"]).contains("already"));
    assert!(refused(&["new", "--account", "acct b"]).contains("an id is"));
    assert!(refused(&["revoke", "key_x"]).contains("no key with the id"));
    assert!(refused(&["revoke", "sk_live_0123456789abcdef0123456789abcdef"]).contains("looks like the secret"));
    drop(redis);
    assert!(refused(&["list"]).contains("cannot be reached"));
}

#[test]
fn an_outage_of_any_length_changes_no_verdict() {
    let (mut redis, upstream) = (Redis::start(), Upstream::fine());
    let fleet = Fleet::new(&redis, upstream.address(), "").with_shared_keys();
    let gateways = [fleet.gateway()];
    let (good, bad) = (fleet.key("key_a", "acct_a"), fleet.key("key_b", "acct_a"));
    fleet.keys(&["revoke", "key_b"]);
    becomes(&gateways, &good, 200);
    becomes(&gateways, &bad, 401);
    redis.kill9();
    wait_until("the outage is noticed", || !boards_are_up(&gateways[0]));
    assert_eq!((status(&gateways[0], &good), status(&gateways[0], &bad)), (200, 401));
    assert_eq!(gateways[0].admin("/readyz").status(), 200);
    // A gateway that starts now knows no key, and says so instead of guessing.
    let late = [fleet.gateway()];
    assert_eq!((status(&late[0], &good), late[0].admin("/readyz").status()), (503, 503));
    // It comes back without its data: that revokes nothing.
    redis.restart();
    redis.command(&["PING"]);
    assert_eq!((status(&gateways[0], &good), status(&gateways[0], &bad)), (200, 401));
    // What is written then is all there is.
    let new = fleet.key("key_c", "acct_a");
    becomes(&gateways, &new, 200);
    becomes(&late, &new, 200);
    assert_eq!((status(&gateways[0], &good), status(&late[0], &good)), (401, 401));
    wait_until("everything is in order", || boards_are_up(&gateways[0]));
}

#[test]
fn a_paused_redis_delays_a_change_and_nothing_else() {
    let (redis, upstream) = (Redis::start(), Upstream::fine());
    let fleet = Fleet::new(&redis, upstream.address(), "").with_shared_keys();
    let gateways = [fleet.gateway()];
    let good = fleet.key("key_a", "acct_a");
    becomes(&gateways, &good, 200);
    redis.pause();
    wait_until("the outage is noticed", || !boards_are_up(&gateways[0]));
    assert_eq!(status(&gateways[0], &good), 200);
    redis.resume();
    let (fine, _, notes) = fleet.keys(&["revoke", "key_a"]);
    assert!(fine, "{notes}");
    becomes(&gateways, &good, 401);
}

#[test]
fn rights_are_settled_anew_when_endpoints_change() {
    let (redis, upstream) = (Redis::start(), Upstream::fine());
    let fleet = Fleet::new(&redis, upstream.address(), "").with_shared_keys();
    let gateway = fleet.gateway();
    let words = ["new", "--kind", "restricted", "--allow", "charges.list", "--account", "acct_a", "--id", "key_a"];
    let secret = fleet.keys(&words).1.trim().to_owned();
    becomes(std::slice::from_ref(&gateway), &secret, 200);
    let path = fleet.folder.path("tollgate.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    fleet.folder.put("tollgate.toml", &text.replace("\"charges.list\"", "\"charges.all\""));
    gateway.handle().reload().unwrap();
    assert_eq!(status(&gateway, &secret), 403);
    // Another key comes: the rights of those that stay are still those of the new endpoints.
    let other = fleet.key("key_b", "acct_a");
    becomes(std::slice::from_ref(&gateway), &other, 200);
    assert_eq!(status(&gateway, &secret), 403);
}

#[test]
fn an_entry_that_nobody_understands_lets_nobody_in() {
    let (redis, upstream) = (Redis::start(), Upstream::fine());
    let fleet = Fleet::new(&redis, upstream.address(), "").with_shared_keys();
    let gateways = [fleet.gateway()];
    let first = fleet.key("key_a", "acct_a");
    let entries = "{tollgate:board:keys}:entries";
    let field = redis.command(&["HKEYS", entries]).list()[0].text().unwrap().to_owned();
    becomes(&gateways, &first, 200);
    redis.command(&["HSET", entries, &field, "[[keys]]\nid = 7\n"]);
    redis.command(&["LPUSH", "{tollgate:board:keys}:log", &format!("2:00:{field}")]);
    becomes(&gateways, &first, 401);
}
