//! One gateway and a store that answers as it is told, on a manual clock.

use super::*;
use crate::engine::class::MAX_VALUES;
use crate::engine::{
    Access, Condition, EndpointClass, EndpointId, Enforce, Gcra, Hold, Mode, Payers, ProfileId, RouteId, Seed,
    WithoutStore,
};
use std::sync::Arc;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;
const SEED: Seed = Seed([1, 2]);

fn rate(count: u64, burst: u64) -> Limiter {
    Limiter::Gcra(Gcra::new(count, Duration::from_secs(1), burst))
}

/// A gateway whose requests meet these limits, of which the store lends; one of two.
struct One {
    engine: Arc<Engine>,
    policy: Policy,
}

impl One {
    fn new(limiters: &[Limiter]) -> One {
        let limit = |(number, limiter): (usize, &Limiter)| Limit {
            name: format!("limit-{number}").into(),
            stage: if let Limiter::Gcra(_) = limiter { Stage::GlobalRate } else { Stage::GlobalConcurrency },
            limiter: *limiter,
            when: Condition::default(),
            except: None,
            fallback: false,
            per: [Part::Account].into(),
            enforce: Enforce::Always,
            candidate: None,
            shared: Some(WithoutStore::Share),
        };
        let limits = limiters.iter().enumerate().map(limit).collect();
        let endpoints = vec![EndpointClass { name: "any".into(), cost: 1, extractors: [].into() }];
        let engine = Arc::new(Engine::new(SEED, 64));
        engine.set_terms(Terms { ttl_ns: SECOND, slot_ttl_ns: 15 * SECOND, gateways: 2 });
        engine.set_portion(Portion { of: 2, place: 0 }, 2);
        One { engine, policy: Policy::new(&SEED, limits, endpoints, Vec::new()) }
    }

    fn consult(&self, at: u64) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        self.engine.consult(&self.policy, &class(), Nanos(at), false, &mut wanted);
        wanted
    }

    /// Asks for what a request needs, and has the store lend all of it and say what is lacking then.
    fn is_lent(&self, at: u64, lacks: u64) {
        for wanted in self.consult(at) {
            let ask = wanted.ask.unwrap();
            let answer = Answer { lent: ask.want, lacks, slice: 0, wait_ns: 0 };
            self.engine.lend(&wanted.partition, &ask, Some(&answer), Nanos(at));
        }
    }

    fn decide(&self, manner: Manner, at: u64) -> Option<Hold> {
        let mut hold = Hold::new(Arc::clone(&self.engine));
        hold.decide_by(manner);
        for stage in Stage::ALL {
            self.engine.stage(&self.policy, stage, &class(), Nanos(at), &mut hold, &mut ()).ok()?;
        }
        Some(hold)
    }

    fn admits(&self, manner: Manner, at: u64) -> bool {
        self.decide(manner, at).is_some_and(|mut hold| {
            hold.commit();
            true
        })
    }
}

fn class() -> RequestClass {
    RequestClass {
        mode: Mode::Live,
        access: Access::Write,
        endpoint: EndpointId(0),
        route: RouteId(0),
        profile: ProfileId::BASE,
        cost: 1,
        account: Id([7, 7]),
        connected: Id::NONE,
        key: Id([1, 1]),
        ip: Id([2, 2]),
        values: [Id::NONE; MAX_VALUES],
        facts: 0,
        payers: Payers::Account,
        lot: 0,
    }
}

#[test]
fn an_outage_is_no_free_burst() {
    let one = One::new(&[rate(10, 40)]);
    // The bucket is empty, four seconds' worth is lacking.
    one.is_lent(10 * SECOND, 4 * SECOND);
    assert!(one.admits(Manner::Lent, 10 * SECOND));
    assert!(!one.admits(Manner::Apart, 10 * SECOND), "the share begins empty as well");
    // A share of 5/s.
    let second = (0..10).filter(|tenth| one.admits(Manner::Apart, 11 * SECOND + tenth * SECOND / 10)).count();
    assert!((9..=10).contains(&second), "{second} within two seconds");
}

#[test]
fn what_nobody_was_seen_to_take_time_brings_back() {
    let one = One::new(&[rate(10, 40)]);
    one.is_lent(9 * SECOND, 4 * SECOND);
    assert!(one.admits(Manner::Lent, 9 * SECOND));
    // Time has given ten tokens since, of which this gateway took all it asked for.
    let ask = one.consult(10 * SECOND)[0].ask.unwrap();
    let lacks = 3 * SECOND + ask.want * SECOND / 10;
    let partition = one.consult(10 * SECOND)[0].partition;
    one.engine.lend(
        &partition,
        &ask,
        Some(&Answer { lent: ask.want, lacks, slice: 0, wait_ns: 0 }),
        Nanos(10 * SECOND),
    );
    let burst = (0..40).filter(|_| one.admits(Manner::Apart, 14 * SECOND)).count();
    assert_eq!(burst, 20, "half of a full bucket");
}

#[test]
fn what_others_took_until_an_outage_they_are_taken_to_go_on_taking() {
    let one = One::new(&[rate(10, 40)]);
    one.is_lent(10 * SECOND, 4 * SECOND);
    assert!(one.admits(Manner::Lent, 10 * SECOND));
    // A second later the bucket is as empty as before: somebody else has taken what time gave.
    one.is_lent(11 * SECOND, 4 * SECOND);
    assert!(one.admits(Manner::Lent, 11 * SECOND));
    let burst = (0..40).filter(|_| one.admits(Manner::Apart, 13 * SECOND)).count();
    assert!(burst <= 2, "{burst} at once, two seconds after the last answer");
}

#[test]
fn slots_in_use_are_a_part_of_the_share() {
    let one = One::new(&[Limiter::Concurrency(Concurrency { slots: 10 })]);
    let mut holds = Vec::new();
    for _ in 0..3 {
        one.is_lent(SECOND, 1);
        holds.push(one.decide(Manner::Lent, SECOND).unwrap());
    }
    for _ in 0..2 {
        holds.push(one.decide(Manner::Apart, SECOND).unwrap());
    }
    assert!(one.decide(Manner::Apart, SECOND).is_none(), "five of ten are its share");
    drop(holds.remove(0));
    assert!(one.decide(Manner::Apart, SECOND).is_some());
    assert_eq!(holds.len(), 4);
}

#[test]
fn what_a_request_meets_is_asked_for_together() {
    let one = One::new(&[rate(1_000, 4_000), rate(1_000, 5_000)]);
    let ask = |at| {
        let wanted = one.consult(at);
        for Wanted { partition, ask, .. } in &wanted {
            let ask = ask.unwrap();
            // The second limit lends a quarter more, so it would be asked for later.
            let more = if partition.limiter == rate(1_000, 5_000) { ask.want / 4 } else { 0 };
            let answer = Answer { lent: ask.want + more, lacks: SECOND / 100, slice: 0, wait_ns: 0 };
            one.engine.lend(partition, &ask, Some(&answer), Nanos(at));
        }
        wanted.len()
    };
    let mut calls = Vec::new();
    for number in 0..500 {
        let at = SECOND + number * SECOND / 1_000;
        calls.extend(Some(ask(at)).filter(|partitions| *partitions > 0));
        assert!(one.admits(Manner::Lent, at));
    }
    assert!(calls.len() >= 5 && calls.iter().all(|partitions| *partitions == 2), "{calls:?}");
}

#[test]
fn what_no_request_uses_can_be_given_up_at_any_time() {
    let one = One::new(&[rate(10, 40), Limiter::Concurrency(Concurrency { slots: 10 })]);
    let at = Nanos(10 * SECOND);
    let wanted = one.consult(at.0);
    for Wanted { partition, ask, .. } in &wanted {
        let answer = Answer { lent: 3, lacks: 4 * SECOND, slice: 0, wait_ns: 0 };
        one.engine.lend(partition, &ask.unwrap(), Some(&answer), at);
    }
    let mut hold = one.decide(Manner::Lent, at.0).unwrap();
    hold.commit();
    let [tokens, slots] = [0, 1].map(|place| wanted[place].partition);
    let back = one.engine.give_up(&tokens, at).unwrap();
    assert_eq!(back.back, 2 * SECOND / 10);
    let told = one.engine.give_up(&slots, at).unwrap();
    assert_eq!(told.slots, 1, "the one in use stays");
    assert!(one.engine.is_held(&slots) && one.engine.is_held(&tokens), "more may be on its way");
    assert!(!one.consult(at.0).iter().any(|wanted| wanted.ask.is_some()), "both answers are under way");
    let nothing = Answer { lent: 0, lacks: 0, slice: 0, wait_ns: 0 };
    one.engine.lend(&tokens, &back, Some(&nothing), at);
    assert!(!one.engine.is_held(&tokens));
    drop(hold);
    assert!(one.engine.is_held(&slots), "it came back when the store had been told that it is in use");
    one.engine.lend(&slots, &told, Some(&nothing), at);
    let told = one.engine.give_up(&slots, at).unwrap();
    one.engine.lend(&slots, &told, Some(&nothing), at);
    assert_eq!((told.slots, one.engine.is_held(&slots)), (0, false));
}
