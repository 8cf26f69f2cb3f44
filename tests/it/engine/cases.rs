//! The engine through every case.

use crate::support::cases::{Admit, Case, Entry, Expected, Refused, cases, classified, configuration, written};
use crate::support::seed;
use std::collections::HashMap;
use std::sync::Arc;
use tollgate::config::Config;
use tollgate::engine::{Engine, Hold, LimitId, Nanos, Outcome, Step};

#[test]
fn the_engine_answers_every_case_as_expected() {
    let cases = cases();
    assert!(cases.len() >= 12, "the cases are there");
    for (file, case) in cases {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        Run::new(&case).through(&name, &case);
    }
}

struct Run {
    engine: Arc<Engine>,
    config: Config,
    holds: HashMap<String, Hold>,
}

impl Run {
    fn new(case: &Case) -> Run {
        let engine = Arc::new(Engine::new(seed(), usize::MAX));
        Run { engine, config: configuration(&case.policy, &seed()), holds: HashMap::new() }
    }

    fn through(mut self, name: &str, case: &Case) {
        assert!(!case.about.is_empty(), "{name}");
        let mut last = Nanos::ZERO;
        for (number, entry) in (1..).zip(&case.timeline) {
            let place = format!("{name}, entry {number}: {}", entry.request.as_deref().unwrap_or_default());
            assert!(entry.at() >= last, "{place}: time goes back");
            last = entry.at();
            self.happen(&place, entry, last);
        }
    }

    fn happen(&mut self, place: &str, entry: &Entry, now: Nanos) {
        if let Some(policy) = &entry.reload {
            self.config = configuration(policy, &seed());
        } else if entry.sweep {
            self.engine.sweep(now);
        } else if let Some(name) = &entry.end {
            drop(self.holds.remove(name).unwrap_or_else(|| panic!("{place}: nobody is called {name}")));
        } else if let Some(name) = &entry.cancel {
            self.holds.remove(name).unwrap_or_else(|| panic!("{place}: nobody is called {name}")).cancel(now);
        } else {
            for time in 1..=entry.times.unwrap_or(1) {
                self.arrive(&format!("{place}, time {time}"), entry, now);
            }
        }
    }

    fn arrive(&mut self, place: &str, entry: &Entry, now: Nanos) {
        let class = classified(entry, &self.config, &seed());
        let policy = &self.config.policy;
        let mut steps = Vec::new();
        let verdict = self.engine.walk(policy, &class, now, &mut steps);
        let got = match &verdict {
            Ok(_) => Expected::Word(Admit::Admit),
            Err(rejection) => Expected::Reject(Refused {
                limit: policy.limit(rejection.limit).name.to_string(),
                reason: rejection.stage.reason().to_owned(),
                retry_after: rejection.retry_at.map(|at| written(at - now)),
            }),
        };
        assert_eq!(Some(&got), entry.expect.as_ref(), "{place}");
        let named = |wanted: fn(&Step) -> Option<LimitId>| -> Vec<&str> {
            steps.iter().filter_map(wanted).map(|id| &*policy.limit(id).name).collect()
        };
        let shadows = named(|step| match step {
            Step::Decided { limit, outcome: Outcome::Rejected { .. }, enforced: false } => Some(*limit),
            _ => None,
        });
        assert_eq!(shadows, entry.shadow, "{place}: shadow limits");
        let candidates = named(|step| match step {
            Step::Tried { limit, outcome: Outcome::Rejected { .. } } => Some(*limit),
            _ => None,
        });
        assert_eq!(candidates, entry.candidate, "{place}: candidates");
        let Ok(mut hold) = verdict else { return };
        match &entry.hold {
            // Not forwarded yet: it may still be cancelled.
            Some(name) => assert!(self.holds.insert(name.clone(), hold).is_none(), "{place}: {name} is in flight"),
            None => hold.commit(),
        }
    }
}
