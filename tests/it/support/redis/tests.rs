//! The harness itself: what a test relies on when it kills, pauses and restarts Redis.

use super::{Cluster, MASTER_NAME, Options, Redis, Reply, Sentinel};
use crate::support::secure::Authority;
use crate::support::wait::wait_until;

fn text(text: &str) -> Reply {
    Reply::Text(text.to_owned())
}

#[test]
fn a_server_is_killed_and_comes_back_empty_on_its_port() {
    let mut redis = Redis::start();
    let address = redis.address();
    assert_eq!(redis.command(&["SET", "a", "1"]), text("OK"));
    let before = redis.commands_processed();
    assert!(redis.commands_processed() > before);
    redis.kill9();
    assert!(redis.try_command(&["PING"]).is_err());
    redis.restart();
    assert_eq!((redis.address(), redis.command(&["GET", "a"])), (address, Reply::Nil));
    assert_eq!(redis.url(), format!("redis://{address}"));
}

#[test]
fn a_paused_server_answers_when_it_goes_on() {
    let redis = Redis::start();
    redis.pause();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", redis.pid().as_raw_nonzero())).unwrap();
    wait_until("it is stopped", || state().contains(") T "));
    redis.resume();
    assert_eq!(redis.command(&["PING"]), text("PONG"));
}

#[test]
fn users_tls_and_bounds_of_memory_are_as_asked_for() {
    let options = Options::default().user("gateway", "secret", "~tollgate* &* +@all -@dangerous").max_memory("3mb");
    let redis = options.tls(&Authority::new("redis")).start();
    assert_eq!(redis.command(&["ACL", "WHOAMI"]), text("observer"));
    assert!(redis.command(&["ACL", "LIST"]).list().iter().any(|user| user.text().unwrap().contains("user gateway on")));
    assert!(redis.tls_url().starts_with("rediss://127.0.0.1:"));
    let large = "x".repeat(1 << 20);
    wait_until("its memory is full", || {
        let key = redis.command(&["DBSIZE"]).number().to_string();
        matches!(redis.command(&["SET", &key, &large]), Reply::Error(error) if error.starts_with("OOM"))
    });
}

#[test]
fn a_cluster_has_its_slots_and_its_replicas_take_over() {
    let mut cluster = Cluster::start_replicated();
    assert_eq!(cluster.urls().len(), 3);
    let index = cluster.primary_of("{a}:1");
    assert_eq!(cluster.primaries[index].command(&["SET", "{a}:1", "x"]), text("OK"));
    cluster.primaries[index].kill9();
    wait_until("the replica is a primary", || cluster.replicas[index].command(&["SET", "{a}:2", "x"]) == text("OK"));
    assert!(Cluster::start().replicas.is_empty());
}

#[test]
fn a_sentinel_names_the_replica_when_the_primary_is_gone() {
    let mut sentinel = Sentinel::start();
    assert_eq!(sentinel.current(), sentinel.primary.address());
    assert!(sentinel.url().starts_with("redis://") && !MASTER_NAME.is_empty());
    sentinel.primary.kill9();
    wait_until("the replica is named", || sentinel.current() == sentinel.replica.address());
    wait_until("it takes writes", || sentinel.replica.command(&["SET", "a", "1"]) == text("OK"));
}
