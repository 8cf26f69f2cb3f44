//! At `max_partitions`: what is known keeps its own cell, what is new shares one, and nothing is lost or loosened.

use crate::support::{LimitSpec, RequestSpec, class, policy, rate, seed, slots};
use std::sync::Arc;
use tollgate::engine::{Engine, Hold, LimitId, Map, Mode, Nanos, Policy, RequestClass, Stage};

const HOUR: Nanos = Nanos(3_600_000_000_000);

fn account(number: usize) -> RequestClass {
    class(&RequestSpec::of(&format!("acct_{number}")))
}

fn bounded(max_partitions: usize) -> Arc<Engine> {
    Arc::new(Engine::new(seed(), max_partitions))
}

/// Whether a request is admitted; its tokens are spent.
fn admits<M: Map>(engine: &Arc<Engine<M>>, policy: &Policy, class: &RequestClass) -> bool {
    hold(engine, policy, class).map(|mut hold| hold.commit()).is_some()
}

fn hold<M: Map>(engine: &Arc<Engine<M>>, policy: &Policy, class: &RequestClass) -> Option<Hold<M>> {
    engine.walk(policy, class, Nanos::ZERO, &mut ()).ok()
}

#[test]
fn new_partitions_share_one_bucket() {
    new_ones_share(&bounded(3));
    #[expect(clippy::arc_with_non_send_sync, reason = "a hold knows its engine in this way, whatever map it has")]
    new_ones_share(&Arc::new(Engine::for_one_thread(seed(), 3)));
}

fn new_ones_share<M: Map>(engine: &Arc<Engine<M>>) {
    let policy = policy(&[LimitSpec::new("rate", Stage::GlobalRate, rate(1, 2))]);
    for number in 0..3 {
        assert!(admits(engine, &policy, &account(number)));
    }
    let admitted = (3..1_000).filter(|&number| admits(engine, &policy, &account(number))).count();
    assert_eq!(admitted, 2, "the burst of one bucket, not of a thousand");
    assert_eq!(engine.partitions(), 4);
    for number in 0..3 {
        assert!(admits(engine, &policy, &account(number)), "a known partition keeps its own bucket");
        assert!(!admits(engine, &policy, &account(number)));
    }
}

#[test]
fn each_limit_and_mode_shares_its_own() {
    let mut endpoint = LimitSpec::new("endpoint", Stage::EndpointRate, rate(1, 1));
    endpoint.when.endpoints = Some(vec!["payouts.create"]);
    let policy = policy(&[LimitSpec::new("global", Stage::GlobalRate, rate(1, 3)), endpoint]);
    let engine = bounded(0);
    let payout = |number| RequestClass { endpoint: class(&payouts()).endpoint, ..account(number) };
    assert!(admits(&engine, &policy, &payout(1)));
    assert!(!admits(&engine, &policy, &payout(2)), "the endpoint's shared bucket is empty");
    assert!(admits(&engine, &policy, &account(3)), "and the global one has got its token back");
    assert!(admits(&engine, &policy, &account(4)));
    assert!(!admits(&engine, &policy, &account(5)));
    let test_mode = RequestClass { mode: Mode::Test, ..account(5) };
    assert!(admits(&engine, &policy, &test_mode), "live traffic takes nothing from test traffic");
}

fn payouts() -> RequestSpec {
    RequestSpec { endpoint: "payouts.create", ..RequestSpec::of("acct_1") }
}

#[test]
fn shared_slots_and_tokens_come_back() {
    let policy = policy(&[
        LimitSpec::new("rate", Stage::GlobalRate, rate(1, 2)),
        LimitSpec::new("slots", Stage::GlobalConcurrency, slots(2)),
    ]);
    let engine = bounded(0);
    let (mut first, second) = (hold(&engine, &policy, &account(1)).unwrap(), hold(&engine, &policy, &account(2)));
    assert!(hold(&engine, &policy, &account(3)).is_none());
    first.cancel(Nanos::ZERO);
    assert_eq!(in_flight(&engine, &policy), 1);
    let third = hold(&engine, &policy, &account(3));
    assert!(third.is_some(), "token and slot are back");
    assert_eq!(in_flight(&engine, &policy), 2);
    drop((first, second, third));
    assert_eq!(in_flight(&engine, &policy), 0);
}

fn in_flight(engine: &Engine, policy: &Policy) -> u64 {
    engine.census(policy).get(&LimitId(1)).map_or(0, |count| count.in_flight)
}

#[test]
fn a_sweep_makes_room_again() {
    let (engine, policy) = (bounded(2), policy(&[LimitSpec::new("rate", Stage::GlobalRate, rate(1, 1))]));
    assert_eq!((0..10).filter(|&number| admits(&engine, &policy, &account(number))).count(), 3);
    assert_eq!(engine.sweep(HOUR), 3);
    assert_eq!(engine.partitions(), 0);
    let later = |number| engine.walk(&policy, &account(number), HOUR, &mut ()).is_ok();
    assert_eq!((10..20).filter(|&number| later(number)).count(), 3, "two of their own and the shared one");
}

#[test]
fn a_refused_or_free_request_takes_no_room() {
    let policy = policy(&[
        LimitSpec::new("rate", Stage::GlobalRate, rate(1, 5)),
        LimitSpec::new("closed", Stage::GlobalConcurrency, slots(0)),
    ]);
    let engine = bounded(1_000);
    for number in 0..100 {
        assert!(!admits(&engine, &policy, &RequestClass { cost: 0, ..account(number) }));
        assert!(!admits(&engine, &policy, &RequestClass { cost: 6, ..account(number) }));
    }
    assert_eq!(engine.partitions(), 0);
}

/// Cells that are idle make room for others, and are made anew: the bound is of what there is, not of what was made.
#[test]
fn who_comes_again_and_again_takes_the_room_of_once() {
    let policy = policy(&[LimitSpec::new("slots", Stage::GlobalConcurrency, slots(1))]);
    let engine = bounded(25_000);
    for _ in 0..5 {
        assert!((0..20_000).all(|number| admits(&engine, &policy, &account(number))));
    }
    let held: Vec<_> = (0..20_000).filter_map(|number| hold(&engine, &policy, &account(number))).collect();
    assert_eq!((held.len(), engine.partitions()), (20_000, 20_000), "each has a slot of its own");
    drop(held);
    assert!(admits(&engine, &policy, &account(30_000)));
}

/// The same while time goes by, so that what is free makes room and its slots are made anew.
#[test]
fn who_comes_again_and_again_finds_room_though_slots_are_forgotten() {
    let policy = policy(&[LimitSpec::new("slots", Stage::GlobalConcurrency, slots(1))]);
    let engine = bounded(15_000);
    for turn in 0..100_000_usize {
        let now = Nanos(turn as u64 * 100_000);
        let held = engine.walk(&policy, &account(turn % 20_000), now, &mut ());
        assert!(held.is_ok(), "{turn}");
        assert!(engine.walk(&policy, &account(turn % 20_000), now, &mut ()).is_err(), "it is taken: {turn}");
    }
    assert!(engine.partitions() < 5_000, "{}", engine.partitions());
    let held: Vec<_> = (0..10_000).filter_map(|number| hold(&engine, &policy, &account(number))).collect();
    assert_eq!(held.len(), 10_000, "each has a slot of its own");
}

/// Beyond 8,192 cells a request's cells are read together before they are asked; more limits than are read so must not matter.
#[test]
fn many_partitions_change_no_verdict() {
    let mut limits: Vec<LimitSpec> = (0..9)
        .map(|number| LimitSpec::new(&format!("rate-{number}"), Stage::EndpointRate, rate(1, 3 + number)))
        .collect();
    limits.push(LimitSpec::new("slots", Stage::Resource, slots(1)));
    let (engine, policy) = (bounded(usize::MAX), policy(&limits));
    for number in 0..1_000 {
        assert!(admits(&engine, &policy, &account(number)));
    }
    assert_eq!(engine.partitions(), 10_000);
    for number in 0..1_010 {
        let held = hold(&engine, &policy, &account(number)).unwrap();
        let busy = engine.walk(&policy, &account(number), Nanos::ZERO, &mut ()).unwrap_err();
        assert_eq!(busy.stage, Stage::Resource);
        drop(held);
    }
    for number in 0..1_000 {
        assert!(admits(&engine, &policy, &account(number)));
        let empty = engine.walk(&policy, &account(number), Nanos::ZERO, &mut ()).unwrap_err();
        assert_eq!((empty.limit, empty.retry_at), (LimitId(0), Some(Nanos(1_000_000_000))));
    }
}

/// Row 112 of the catalogue of hostile inputs: a limit that is kept, one that changes, and one that goes.
#[test]
fn slots_of_ten_thousand_in_flight_come_back_over_reloads() {
    const IN_FLIGHT: usize = 10_000;
    let of = |kept: u32, changed: u32| {
        let spec = |name: &'static str, most: u32| LimitSpec::new(name, Stage::GlobalConcurrency, slots(most));
        [spec("kept", kept), spec("changed", changed)]
    };
    let [kept, changed] = of(20_000, 20_000);
    let first = policy(&[kept, changed, LimitSpec::new("gone", Stage::EndpointConcurrency, slots(20_000))]);
    let second = policy(&of(20_000, 5));
    let engine = Arc::new(Engine::new(seed(), usize::MAX));
    let holds: Vec<Hold> = (0..IN_FLIGHT).map(|_| hold(&engine, &first, &account(1)).unwrap()).collect();
    assert_eq!(in_flight(&engine, &second), IN_FLIGHT as u64);
    assert!(hold(&engine, &second, &account(1)).is_none(), "far more than 5 are in flight");
    drop(holds);
    for policy in [&first, &second] {
        assert!(engine.census(policy).values().all(|count| count.in_flight == 0));
    }
    let again: Vec<Hold> = (0..9).filter_map(|_| hold(&engine, &second, &account(1))).collect();
    assert_eq!(again.len(), 5);
}
