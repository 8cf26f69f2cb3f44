//! What a rate promises, straight from its definition: in no span of time does a partition spend more than
//! `burst + rate * time`, whatever was taken and given back in between, and whenever.

use super::strategies::{Ending, rate};
use crate::support::{Figures, LimitSpec, RequestSpec, class, policy, seed};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use std::sync::Arc;
use tollgate::engine::{Engine, Hold, LimitId, Limiter, Nanos, Stage};

/// One thing that happens to the one bucket.
#[derive(Clone, Debug)]
enum Event {
    Draw {
        cost: u32,
    },
    End {
        place: usize,
        how: Ending,
    },
    /// In quarters of the emission interval.
    Pass {
        quarters: u64,
    },
    Sweep,
}

fn event() -> impl Strategy<Value = Event> {
    let how = select(vec![Ending::Committed, Ending::Cancelled, Ending::Cancelled, Ending::Dropped]);
    prop_oneof![
        6 => (1_u32..=3).prop_map(|cost| Event::Draw { cost }),
        5 => (0_usize..8, how).prop_map(|(place, how)| Event::End { place, how }),
        3 => (1_u64..=12).prop_map(|quarters| Event::Pass { quarters }),
        1 => Just(Event::Sweep),
    ]
}

/// A request that took its tokens, and when.
struct Spent {
    cost: u32,
    at_ns: u64,
    hold: Option<Hold>,
    given_back: bool,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3_000, failure_persistence: None, rng_seed: RngSeed::Fixed(3), ..ProptestConfig::default()
    })]

    #[test]
    fn no_span_of_time_spends_more_than_its_rate_and_burst(figures in rate(), events in vec(event(), 1..=60)) {
        let spent = run(figures, &events);
        let Limiter::Gcra(bucket) = figures.limiter() else { unreachable!("a rate") };
        let kept: Vec<&Spent> = spent.iter().filter(|spent| !spent.given_back).collect();
        for (first, start) in kept.iter().enumerate() {
            let mut tokens = 0;
            for end in &kept[first..] {
                tokens += u128::from(end.cost);
                let worth_ns = tokens * u128::from(bucket.emission_ns().get());
                let allowed_ns = u128::from(bucket.depth_ns()) + u128::from(end.at_ns - start.at_ns);
                prop_assert!(worth_ns <= allowed_ns, "{tokens} tokens from {} to {}", start.at_ns, end.at_ns);
            }
        }
    }
}

fn run(figures: Figures, events: &[Event]) -> Vec<Spent> {
    let policy = policy(&[LimitSpec::new("rate", Stage::GlobalRate, figures)]);
    let Limiter::Gcra(bucket) = policy.limiter(LimitId(0), class(&RequestSpec::of("acct_1")).profile) else {
        unreachable!("a rate")
    };
    let engine = Arc::new(Engine::new(seed(), usize::MAX));
    let quarter_ns = (bucket.emission_ns().get() / 4).clamp(1, 1 << 50);
    let (mut now, mut spent) = (Nanos::ZERO, Vec::<Spent>::new());
    for event in events {
        match *event {
            Event::Draw { cost } => {
                let class = class(&RequestSpec { cost, ..RequestSpec::of("acct_1") });
                if let Ok(hold) = engine.walk(&policy, &class, now, &mut ()) {
                    spent.push(Spent { cost, at_ns: now.0, hold: Some(hold), given_back: false });
                }
            }
            Event::End { place, how } => {
                let mut pending: Vec<&mut Spent> = spent.iter_mut().filter(|spent| spent.hold.is_some()).collect();
                let count = pending.len().max(1);
                let Some(one) = pending.get_mut(place % count) else { continue };
                let Some(mut hold) = one.hold.take() else { continue };
                match how {
                    Ending::Committed => hold.commit(),
                    Ending::Cancelled => hold.cancel(now),
                    Ending::Dropped => {}
                }
                one.given_back = matches!(how, Ending::Cancelled);
            }
            Event::Pass { quarters } => now = now.saturating_add(quarters * quarter_ns),
            Event::Sweep => {
                engine.sweep(now);
            }
        }
    }
    spent
}
