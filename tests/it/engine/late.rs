//! Requests that have read the clock long before they are decided, while what was idle meanwhile was forgotten.

use crate::support::{LimitSpec, RequestSpec, class, policy, rate, seed};
use std::sync::Arc;
use tollgate::engine::{Engine, Nanos, Policy, Stage};

const MILLISECOND: u64 = 1_000_000;

fn admits(engine: &Arc<Engine>, policy: &Policy, account: &str, millis: u64) -> bool {
    let hold = engine.walk(policy, &class(&RequestSpec::of(account)), Nanos(millis * MILLISECOND), &mut ());
    hold.map(|mut hold| hold.commit()).is_ok()
}

fn engine() -> Arc<Engine> {
    Arc::new(Engine::new(seed(), usize::MAX))
}

#[test]
fn a_late_request_spends_from_a_bucket_of_now() {
    let (engine, policy) = (engine(), policy(&[LimitSpec::new("rate", Stage::GlobalRate, rate(1, 1))]));
    assert!(admits(&engine, &policy, "acct_1", 0));
    assert_eq!(engine.sweep(Nanos(1_500 * MILLISECOND)), 1);
    assert!(admits(&engine, &policy, "acct_1", 500), "there is a token now");
    assert!(!admits(&engine, &policy, "acct_1", 1_600), "and it was taken just now, not half a second ago");
    assert!(!admits(&engine, &policy, "acct_1", 2_480));
    assert!(admits(&engine, &policy, "acct_1", 2_490));
}

/// What others make forgotten is as gone as what a sweep forgets.
#[test]
fn late_requests_spend_no_more_than_there_is_however_often_their_bucket_is_forgotten() {
    let (engine, policy) = (engine(), policy(&[LimitSpec::new("rate", Stage::GlobalRate, rate(3, 1))]));
    let mut admitted = 0;
    for turn in 0..200 {
        // A second passes, in which 60,000 others come and go.
        let now = 10_000 + turn * 5;
        assert!((0..300).all(|other| admits(&engine, &policy, &format!("acct_{turn}_{other}"), now)));
        admitted += usize::from(admits(&engine, &policy, "acct_late", 5_000));
    }
    assert!((2..=4).contains(&admitted), "{admitted} in a second of three");
}

/// As those that have waited for a store, while others keep the map busy.
#[test]
fn requests_that_are_all_late_find_what_there_is() {
    let (engine, policy) = (engine(), policy(&[LimitSpec::new("rate", Stage::GlobalRate, rate(100, 2))]));
    for turn in 0..200 {
        let now = 1_000 + turn * 40;
        engine.sweep(Nanos(now * MILLISECOND));
        for account in ["acct_1", "acct_2"] {
            assert!(admits(&engine, &policy, account, now - 30), "{account} in turn {turn}");
            assert!(admits(&engine, &policy, account, now - 30), "{account} in turn {turn}");
            assert!(!admits(&engine, &policy, account, now - 30), "{account} in turn {turn}");
        }
    }
}
