//! For random policies and timelines the engine and the reference agree on every verdict, on the limit that refuses, on the
//! moment to come back, on what remains, and on the slots that are taken.

use super::reference::{Reference, Said, Took, Verdict};
use super::strategies::{Ending, Event, limits, timeline};
use crate::support::{Figures, LimitSpec, ManualClock, RequestSpec, class, policy, seed};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::sync::Arc;
use tollgate::engine::{Clock, Engine, Hold, Map, Nanos, Outcome, Policy, Rejection, RequestClass, Stage, Step};

proptest! {
    #![proptest_config(repeatable(500))]

    /// Up to twelve limits: more than a hold keeps inside itself.
    #[test]
    fn engine_and_reference_agree(limits in limits(12), events in timeline(60)) {
        duel(&limits, &events);
    }

    /// Two limits, so that long timelines wear few partitions down.
    #[test]
    fn engine_and_reference_agree_on_worn_partitions(limits in limits(2), events in timeline(200)) {
        duel(&limits, &events);
    }
}

/// An engine for many threads and one for a single thread: there is one answer.
fn duel(limits: &[LimitSpec], events: &[Event]) {
    Duel::new(limits.to_vec(), Engine::new(seed(), usize::MAX)).run(events);
    Duel::new(limits.to_vec(), Engine::for_one_thread(seed(), usize::MAX)).run(events);
}

/// The same cases in every run.
fn repeatable(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(2), ..ProptestConfig::default() }
}

/// The engine and the reference through the same timeline.
struct Duel<M: Map> {
    limits: Vec<LimitSpec>,
    policy: Policy,
    engine: Arc<Engine<M>>,
    reference: Reference,
    clock: ManualClock,
    arrived: u64,
    under_way: Vec<(Hold<M>, Vec<Took>)>,
}

impl<M: Map> Duel<M> {
    fn new(limits: Vec<LimitSpec>, engine: Engine<M>) -> Duel<M> {
        Duel {
            policy: policy(&limits),
            limits,
            engine: Arc::new(engine),
            reference: Reference::default(),
            clock: ManualClock::default(),
            arrived: 0,
            under_way: Vec::new(),
        }
    }

    fn run(mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Arrive { request, by_walk } => self.arrive(request, *by_walk),
                Event::End { place, how } => self.end(*place, *how),
                Event::Pass { by_ns } => self.clock.advance(*by_ns),
                Event::Sweep => {
                    self.engine.sweep(self.clock.now());
                }
                Event::Reload { rates, slots } => self.reload(rates, slots),
            }
            self.compare_slots();
        }
        self.wind_up();
    }

    fn arrive(&mut self, request: &RequestSpec, by_walk: bool) {
        let (class, now) = (class(request), self.clock.now());
        let mut steps = Vec::new();
        let got = if by_walk {
            self.engine.walk(&self.policy, &class, now, &mut steps)
        } else {
            self.stages(&class, now, &mut steps)
        };
        let want = self.reference.request(&self.limits, request, self.arrived, now.0);
        self.arrived += 1;
        self.compare(&steps, got.as_ref().err(), &want);
        match got {
            Ok(hold) => self.under_way.push((hold, want.taken)),
            Err(rejection) => self.check_retry(&rejection, &class, now),
        }
    }

    /// As the gateway does it, all stages in one call.
    fn stages(&self, class: &RequestClass, now: Nanos, steps: &mut Vec<Step>) -> Result<Hold<M>, Rejection> {
        let mut hold = Hold::new(Arc::clone(&self.engine));
        let verdict = self.engine.stages(&self.policy, Stage::ALL, class, now, &mut hold, steps);
        assert!(verdict.is_ok() || hold.is_empty(), "a refused request holds nothing");
        verdict.map(|()| hold)
    }

    fn compare(&self, steps: &[Step], rejection: Option<&Rejection>, want: &Verdict) {
        let name = |limit| self.policy.limit(limit).name.to_string();
        let said = |outcome: Outcome| match outcome {
            Outcome::Admitted { remaining } => Said::Yes { remaining },
            Outcome::Rejected { retry_at } => Said::No { retry_at_ns: retry_at.map(|at| at.0) },
        };
        let got_said: Vec<(String, Said)> = steps
            .iter()
            .filter_map(|step| match *step {
                Step::Decided { limit, outcome, .. } => Some((name(limit), said(outcome))),
                Step::Tried { .. } | Step::Skipped { .. } => None,
            })
            .collect();
        assert_eq!(got_said, want.said);
        let got_refused =
            rejection.map(|rejection| (name(rejection.limit), rejection.stage, rejection.retry_at.map(|at| at.0)));
        assert_eq!(got_refused, want.refused);
    }

    /// `retry_at` is the first moment at which the limit lets the request pass.
    fn check_retry(&self, rejection: &Rejection, class: &RequestClass, now: Nanos) {
        let peek = |at| self.engine.peek(&self.policy, rejection.limit, class, at);
        assert!(matches!(peek(now), Outcome::Rejected { retry_at } if retry_at == rejection.retry_at));
        if let Some(at) = rejection.retry_at {
            assert!(at > now);
            assert!(matches!(peek(at), Outcome::Admitted { .. }), "nothing but time must pass until {at:?}");
            assert!(matches!(peek(Nanos(at.0 - 1)), Outcome::Rejected { .. }), "{at:?} is the first such moment");
        }
    }

    fn end(&mut self, place: usize, how: Ending) {
        if self.under_way.is_empty() {
            return;
        }
        let (mut hold, taken) = self.under_way.swap_remove(place % self.under_way.len());
        match how {
            Ending::Committed => hold.commit(),
            Ending::Cancelled => hold.cancel(self.clock.now()),
            Ending::Dropped => {}
        }
        drop(hold);
        self.reference.end(&taken, matches!(how, Ending::Cancelled), self.clock.now().0);
    }

    fn reload(&mut self, rates: &[(usize, Figures)], slots: &[(usize, Figures)]) {
        for &(place, figures) in rates.iter().chain(slots) {
            let place = place % self.limits.len();
            let limit = &mut self.limits[place];
            if limit.figures.is_rate() == figures.is_rate() {
                limit.figures = figures;
            }
        }
        self.policy = policy(&self.limits);
    }

    fn compare_slots(&self) {
        let census = self.engine.census(&self.policy);
        for (id, limit) in self.policy.limits() {
            let got = census.get(&id).map_or(0, |count| count.in_flight);
            assert_eq!(got, self.reference.in_flight(&limit.name) as u64, "slots of {}", limit.name);
        }
    }

    /// When everything has ended and time has passed, nothing is left.
    fn wind_up(mut self) {
        while !self.under_way.is_empty() {
            self.end(0, Ending::Committed);
        }
        self.compare_slots();
        self.clock.advance(1 << 60);
        self.engine.sweep(self.clock.now());
        assert_eq!(self.engine.partitions(), 0);
    }
}
