//! How much has been asked for lately.

use crate::engine::time::Nanos;

/// How far back demand is looked at.
pub(super) const HORIZON_NS: u64 = 1_000_000_000;

/// Tokens asked for in the last [`HORIZON_NS`], as two halves of which the older fades out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    since: Nanos,
    recent: u32,
    before: u32,
}

impl Demand {
    /// Somebody asks for `cost` tokens.
    pub(super) fn add(&mut self, now: Nanos, cost: u32) {
        let age_ns = now.since(self.since);
        if age_ns >= HORIZON_NS {
            self.before = if age_ns < 2 * HORIZON_NS { self.recent } else { 0 };
            self.recent = 0;
            self.since = now;
        }
        self.recent = self.recent.saturating_add(cost);
    }

    /// Tokens asked for within the horizon before `now`, about.
    pub(super) fn tokens(&self, now: Nanos) -> u64 {
        let age_ns = now.since(self.since);
        let faded = |tokens: u32, age_ns: u64| {
            let left_ns = HORIZON_NS.saturating_sub(age_ns);
            (u128::from(tokens) * u128::from(left_ns)).div_ceil(u128::from(HORIZON_NS)) as u64
        };
        if age_ns < HORIZON_NS {
            return u64::from(self.recent) + faded(self.before, age_ns);
        }
        faded(self.recent, age_ns - HORIZON_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_fades_within_two_horizons() {
        let mut demand = Demand::default();
        assert_eq!(demand.tokens(Nanos(5)), 0);
        (0..10).for_each(|_| demand.add(Nanos(1_000), 2));
        assert_eq!(demand.tokens(Nanos(1_000)), 20);
        assert_eq!(demand.tokens(Nanos(1_000 + HORIZON_NS + HORIZON_NS / 2)), 10);
        assert_eq!(demand.tokens(Nanos(1_000 + 2 * HORIZON_NS)), 0);
        demand.add(Nanos(1_000 + HORIZON_NS + HORIZON_NS / 2), 1);
        assert_eq!(demand.tokens(Nanos(1_000 + HORIZON_NS + HORIZON_NS / 2)), 21);
        demand.add(Nanos::MAX, u32::MAX);
        assert_eq!(demand.tokens(Nanos::MAX), u64::from(u32::MAX));
    }
}
