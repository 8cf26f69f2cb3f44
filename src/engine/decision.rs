//! What the engine answers, and how it tells the story of it.

use super::limiter::Limiter;
use super::policy::{Exempt, LimitId, Stage};
use super::time::Nanos;

/// A refused request: by which limit, and when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The limit that refused.
    pub limit: LimitId,
    /// Its stage, which gives the reason.
    pub stage: Stage,
    /// The figures that were in force: the limit's own, or those of the account's profile.
    pub limiter: Limiter,
    /// Whether those are the figures, and that is the partition, of the account acted for: see
    /// [`Payers`](super::class::Payers).
    pub of_connected: bool,
    /// The first moment at which this limit would admit the same request if nothing else happened. `None` where it cannot be
    /// known (a slot comes back when another request ends) or will never come (rate 0, cost above the burst).
    pub retry_at: Option<Nanos>,
}

/// What one limit said to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It had room.
    Admitted {
        /// Tokens or slots left after this request.
        remaining: u64,
    },
    /// It had none. A shadow limit says so too, but the request goes on.
    Rejected {
        /// As in [`Rejection::retry_at`].
        retry_at: Option<Nanos>,
    },
}

impl Outcome {
    /// What both say together: the refusal, or the smaller rest.
    #[must_use]
    pub fn and(self, other: Outcome) -> Outcome {
        match (self, other) {
            (Outcome::Admitted { remaining: one }, Outcome::Admitted { remaining: other }) => {
                Outcome::Admitted { remaining: one.min(other) }
            }
            (Outcome::Admitted { .. }, refused) | (refused, _) => refused,
        }
    }
}

/// One event of a decision, as a [`Witness`] sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A limit applied and decided.
    Decided {
        /// Which limit.
        limit: LimitId,
        /// What it said.
        outcome: Outcome,
        /// Whether it refuses requests like this one; otherwise it is a shadow.
        enforced: bool,
    },
    /// The candidate of a limit that applied was asked beside it.
    Tried {
        /// Which limit.
        limit: LimitId,
        /// What its candidate said. Nobody is refused by it.
        outcome: Outcome,
    },
    /// A limit did not apply. Live traffic hears this of few limits (most are ruled out by the index); `walk` tells all.
    Skipped {
        /// Which limit.
        limit: LimitId,
        /// Why not.
        exempt: Exempt,
    },
}

/// Watches a decision being made: metrics count, `explain` collects, `()` looks away for free.
pub trait Witness {
    /// Called once a step, in order.
    fn saw(&mut self, step: Step);
}

impl Witness for () {
    fn saw(&mut self, _: Step) {}
}

impl Witness for Vec<Step> {
    fn saw(&mut self, step: Step) {
        self.push(step);
    }
}
