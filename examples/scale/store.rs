//! The store's part: one token bucket that lends.

use tollgate::engine::{Answer, Ask, Gcra, Nanos};

pub(crate) struct Store {
    figures: Gcra,
    /// When the bucket would be full.
    full_at: Nanos,
    pub(crate) calls: u64,
}

impl Store {
    pub(crate) fn new(figures: Gcra) -> Store {
        Store { figures, full_at: Nanos::ZERO, calls: 0 }
    }

    pub(crate) fn ask(&mut self, ask: &Ask, now: Nanos) -> Answer {
        self.calls += 1;
        let (depth_ns, emission_ns) = (self.figures.depth_ns(), self.figures.emission_ns().get());
        let lacks = self.full_at.since(now).saturating_add(ask.owed).min(depth_ns).saturating_sub(ask.back);
        let free = (depth_ns - lacks) / emission_ns;
        let given = free.min(ask.want);
        let lent = if given < ask.least { 0 } else { given };
        let lacks = lacks + lent * emission_ns;
        self.full_at = now.saturating_add(lacks);
        Answer { lent, lacks, slice: 0, wait_ns: 0 }
    }
}
