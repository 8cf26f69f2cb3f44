//! Where a limit stands for one request, as an engine has it. Looks, and takes nothing.

use crate::engine::{Engine, LimitId, Limiter, Nanos, Outcome, Policy, RequestClass};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Where a limit stands for one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// Whether it has room for this request now.
    pub admits: bool,
    /// Tokens, places in the window or slots left, this request not counted.
    pub left: u64,
    /// Milliseconds until it has room, rounded up; `None`: when another request ends, or never.
    pub next_free_ms: Option<u64>,
    /// Slots taken, of a concurrency limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// Requests that count, of a quota or an allocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted: Option<u64>,
    /// Transactions that count, of an allocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transactions: Option<u64>,
}

/// Where the request of one class stands.
#[derive(Clone, Copy)]
pub(super) struct Standing<'a> {
    pub(super) engine: &'a Engine,
    pub(super) policy: &'a Policy,
    pub(super) class: &'a RequestClass,
    pub(super) now: Nanos,
}

impl Standing<'_> {
    pub(super) fn of(&self, id: LimitId) -> State {
        let peek = |class: &RequestClass| self.engine.peek(self.policy, id, class, self.now);
        let earned = self.engine.earned(self.policy, id, self.class, self.now);
        let limiter = self.policy.limiter(id, self.class.profile);
        let mut state = self.read(&limiter, peek);
        if let (Limiter::Allocation(_), Some(earned)) = (limiter, earned) {
            state.counted = Some(u64::from(earned.allowed).saturating_sub(state.left));
            state.transactions = Some(earned.transactions);
        }
        state
    }

    pub(super) fn of_candidate(&self, id: LimitId) -> Option<State> {
        let limiter = self.policy.candidate(id, self.class.profile)?;
        let none = Outcome::Rejected { retry_at: None };
        let peek = |class: &RequestClass| self.engine.peek_candidate(self.policy, id, class, self.now).unwrap_or(none);
        Some(self.read(&limiter, peek))
    }

    fn read(&self, limiter: &Limiter, peek: impl Fn(&RequestClass) -> Outcome) -> State {
        let outcome = peek(self.class);
        let left = match (limiter, peek(&RequestClass { cost: 0, ..*self.class })) {
            // A slot has no cost: asking for one leaves one less.
            (Limiter::Concurrency(_), Outcome::Admitted { remaining }) => remaining + 1,
            (_, Outcome::Admitted { remaining }) => remaining,
            (_, Outcome::Rejected { .. }) => 0,
        };
        let next_free_ms = match outcome {
            Outcome::Admitted { .. } => Some(0),
            Outcome::Rejected { retry_at } => retry_at.map(|at| milliseconds(at - self.now)),
        };
        let (in_flight, counted) = match limiter {
            Limiter::Concurrency(figures) => (Some(u64::from(figures.slots).saturating_sub(left)), None),
            Limiter::SlidingWindow(figures) => (None, Some(u64::from(figures.limit()).saturating_sub(left))),
            Limiter::Gcra(_) | Limiter::Allocation(_) => (None, None),
        };
        let admits = matches!(outcome, Outcome::Admitted { .. });
        State { admits, left, next_free_ms, in_flight, counted, transactions: None }
    }
}

/// Figures as the configuration writes them.
#[must_use]
pub fn figures(limiter: &Limiter) -> Value {
    match limiter {
        Limiter::Gcra(bucket) => json!({ "rate": per(bucket.count(), bucket.period()), "burst": bucket.burst() }),
        Limiter::SlidingWindow(window) => json!({ "quota": per(window.limit().into(), window.window()) }),
        Limiter::Allocation(earned) => {
            let window = humantime::format_duration(earned.window).to_string();
            let (per_transaction, at_least) = (earned.per_transaction, earned.at_least);
            json!({ "allocation": { "per_transaction": per_transaction, "at_least": at_least, "window": window } })
        }
        Limiter::Concurrency(slots) => json!({ "concurrency": slots.slots }),
    }
}

fn per(count: u64, time: Duration) -> String {
    let time = humantime::format_duration(time).to_string().replace(' ', "");
    format!("{count}/{}", time.strip_prefix('1').filter(|rest| rest.chars().all(char::is_alphabetic)).unwrap_or(&time))
}

/// Rounded up, so that who waits so long does not come too early.
#[must_use]
pub fn milliseconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_the_configuration_has_them() {
        let seconds = Duration::from_secs;
        assert_eq!(per(15, seconds(1)), "15/s");
        assert_eq!(per(5, seconds(10)), "5/10s");
        assert_eq!(per(1, Duration::from_millis(1)), "1/ms");
        assert_eq!(per(3, seconds(3_600)), "3/h");
        assert_eq!(per(9, seconds(5_400)), "9/1h30m");
        assert_eq!(per(1, seconds(30 * 86_400)), "1/30days");
    }
}
