//! Overrides set through one gateway's admin API: in force in all, through restarts and outages.

use super::Fleet;
use crate::support::redis::Redis;
use crate::support::running::Running;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use crate::support::wire::{Answer, Wire};
use serde_json::{Value, json};

const LIMIT: &str = "[[limits]]\nname = \"all\"\nstage = \"global\"\nrate = \"5/s\"\nstore = \"local\"\n";

fn call(gateway: &Running, method: &str, path: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {length}\r\n\r\n");
    Wire::connect(gateway.admin).ask(head + body)
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

fn set(gateway: &Running, account: &str, rate: &str, ttl: &str) -> Answer {
    let body = json!({"account": account, "limit": "all", "rate": rate, "ttl": ttl, "reason": "a launch"});
    call(gateway, "PUT", "/v1/overrides", &body.to_string())
}

/// The rates in force for each account, as the list has them.
fn rates(gateway: &Running) -> Vec<(String, String)> {
    let listed = json_of(&call(gateway, "GET", "/v1/overrides", ""));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut rates: Vec<_> = listed["overrides"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (text(&entry["account"]), text(&entry["rate"])))
        .collect();
    rates.sort();
    rates
}

fn pair(account: &str, rate: &str) -> (String, String) {
    (account.to_owned(), rate.to_owned())
}

#[test]
fn what_one_gateway_is_told_all_know_and_a_restart_too() {
    let (redis, upstream) = (Redis::start(), Upstream::fine());
    let fleet = Fleet::new(&redis, upstream.address(), LIMIT);
    let (one, other) = (fleet.gateway(), fleet.gateway());
    let answer = set(&one, "acct_a", "50/s", "1h");
    assert_eq!((answer.status(), &json_of(&answer)["shared"]), (201, &json!(true)));
    wait_until("the other knows it", || rates(&other) == [pair("acct_a", "50/s")]);
    // The last one set is in force, wherever it was set.
    assert_eq!(set(&other, "acct_a", "70/s", "1h").status(), 200);
    wait_until("the first knows it", || rates(&one) == [pair("acct_a", "70/s")]);
    set(&other, "acct_b", "7/s", "1h");
    drop((one, other));
    let again = fleet.gateway();
    wait_until("a restart knows both", || rates(&again) == [pair("acct_a", "70/s"), pair("acct_b", "7/s")]);
    let listed = json_of(&call(&again, "GET", "/v1/overrides", ""));
    assert_eq!((&listed["shared"], &listed["persisted"]), (&json!(true), &json!(true)));
    let id = listed["overrides"].as_array().unwrap().iter().find(|entry| entry["account"] == "acct_a").unwrap()["id"]
        .clone();
    let last = fleet.gateway();
    assert_eq!(call(&again, "DELETE", &format!("/v1/overrides/{}", id.as_str().unwrap()), "").status(), 200);
    wait_until("it is gone everywhere", || rates(&last) == [pair("acct_b", "7/s")]);
    assert_eq!(rates(&again), [pair("acct_b", "7/s")]);
}

#[test]
fn gateways_that_set_the_same_at_once_agree_on_the_last() {
    let (redis, upstream) = (Redis::start(), Upstream::fine());
    let fleet = Fleet::new(&redis, upstream.address(), LIMIT);
    let (one, other) = (fleet.gateway(), fleet.gateway());
    for round in 0..10 {
        std::thread::scope(|scope| {
            for (gateway, rate) in [(&one, format!("1{round}/s")), (&other, format!("2{round}/s"))] {
                scope.spawn(move || {
                    assert!(set(gateway, "acct_a", &rate, "1h").status() < 300);
                    // In force here, or overtaken by the other already.
                    assert!(rates(gateway)[0].1.ends_with(&format!("{round}/s")), "{round}: {:?}", rates(gateway));
                });
            }
        });
        let last = redis.command(&["HGET", "{tollgate:board:overrides}:entries", "all\nacct_a"]);
        let last: Value = serde_json::from_str(last.text().unwrap()).unwrap();
        let last = [pair("acct_a", last["rate"].as_str().unwrap())];
        wait_until("both have the last", || rates(&one) == last && rates(&other) == last);
    }
}

#[test]
fn what_cannot_be_shared_is_not_done_and_what_was_known_stays() {
    let (mut redis, upstream) = (Redis::start(), Upstream::fine());
    let fleet = Fleet::new(&redis, upstream.address(), LIMIT);
    let gateway = fleet.gateway();
    assert_eq!(set(&gateway, "acct_a", "50/s", "1h").status(), 201);
    redis.kill9();
    let answer = set(&gateway, "acct_b", "50/s", "1h");
    assert_eq!(answer.status(), 503);
    let message = json_of(&answer)["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("could not be shared"), "{message}");
    assert_eq!(rates(&gateway), [pair("acct_a", "50/s")]);
    // Emptied, it ends no override either.
    redis.restart();
    wait_until("it can be shared again", || set(&gateway, "acct_c", "9/s", "1h").status() < 300);
    wait_until("the new board is all there is", || rates(&gateway) == [pair("acct_c", "9/s")]);
}

#[test]
fn an_override_that_ends_by_itself_leaves_the_board() {
    let (redis, upstream) = (Redis::start(), Upstream::fine());
    let fleet = Fleet::new(&redis, upstream.address(), LIMIT);
    let gateway = fleet.gateway();
    assert_eq!(set(&gateway, "acct_a", "50/s", "2s").status(), 201);
    wait_until("it has ended here", || rates(&gateway).is_empty());
    wait_until("it has left the board", || {
        redis.command(&["HLEN", "{tollgate:board:overrides}:entries"]).number() == 0
    });
}

#[test]
fn an_entry_that_nobody_understands_is_not_in_force() {
    let (redis, upstream) = (Redis::start(), Upstream::fine());
    let fleet = Fleet::new(&redis, upstream.address(), LIMIT);
    let gateway = fleet.gateway();
    set(&gateway, "acct_a", "50/s", "1h");
    wait_until("it is on the board", || rates(&gateway) == [pair("acct_a", "50/s")]);
    redis.command(&["HSET", "{tollgate:board:overrides}:entries", "all\nacct_a", "{"]);
    redis.command(&["LPUSH", "{tollgate:board:overrides}:log", "9:00:all\nacct_a"]);
    wait_until("it is not in force", || rates(&gateway).is_empty());
}
