//! One stage of limits. Five of these, one a stage, in the order of [`Stage::ALL`].

use super::context::Classified;
use super::refusal::Refusal;
use super::step::Check;
use crate::engine::{self, Outcome, Stage, Witness};
use crate::metrics::LimitCounters;

/// Lets a request meet the limits of one stage.
#[derive(Clone, Copy, Debug)]
pub struct Admit(pub Stage);

impl Check for Admit {
    fn check<B>(&self, classified: &mut Classified<B>) -> Result<(), Refusal> {
        let Classified { exchange, class, held, at, .. } = classified;
        let engine = &exchange.home.shared.engine;
        let snapshot = &exchange.view.snapshot;
        let policy = &snapshot.config.policy;
        let mut counted = Counted { policy, limits: &snapshot.limits };
        // All stages decide at one moment, which was read before the first of them.
        engine.stage(policy, self.0, class, *at, held.hold(), &mut counted).map_err(Refusal::Rejected)
    }
}

/// Counts what each limit said.
struct Counted<'a> {
    policy: &'a engine::Policy,
    limits: &'a [LimitCounters],
}

impl Witness for Counted<'_> {
    fn saw(&mut self, step: engine::Step) {
        let engine::Step::Decided { limit, outcome } = step else { return };
        let Some(counters) = self.limits.get(limit.index()) else { return };
        match outcome {
            Outcome::Admitted { .. } => counters.admit.inc(),
            Outcome::Rejected { .. } if self.policy.limit(limit).enforce => counters.reject.inc(),
            Outcome::Rejected { .. } => counters.shadow_reject.inc(),
        }
    }
}
