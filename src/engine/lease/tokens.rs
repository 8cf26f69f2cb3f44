//! Leases of tokens: of a bucket, and of a sliding window.

use super::{Answer, Ask, Due, Lease, Terms, unit_of};
use crate::engine::limiter::Limiter;
use crate::engine::limiter::gcra::{Tokens, scale_down, scale_up};
use crate::engine::time::Nanos;

impl Lease {
    /// What the partition lacks by now, as far as is known here: others may have taken more since the last answer.
    pub(in crate::engine) fn lacking(&self, now: Nanos) -> u64 {
        if self.is_bucket { self.lacked.saturating_sub(now.since(self.answered_at)) } else { self.lacked }
    }

    /// Turns to other figures after a reload: tokens stay tokens.
    pub(super) fn fit(&mut self, limiter: &Limiter, now: Nanos) {
        let (old, new) = (self.unit, unit_of(limiter));
        let Limiter::Gcra(figures) = limiter else { return };
        let lacking = self.lacking(now);
        if old == new && lacking <= figures.depth_ns() {
            return;
        }
        // What was spent comes first: of a bucket that has become smaller there may be nothing left to hold.
        let spent = scale_up(lacking.saturating_sub(self.held), new, old);
        self.lacked = scale_up(lacking, new, old).min(figures.depth_ns());
        self.held = scale_down(self.held, new, old).min(self.lacked.saturating_sub(spent));
        self.answered_at = now;
        self.unit = new;
        (self.low, self.is_short, self.is_changed) = (0, false, true);
        self.disturbances = self.disturbances.wrapping_add(1);
    }

    /// What a bucket is likely to lack by now, if other gateways have gone on taking from it as before: for one who cannot ask.
    pub(in crate::engine) fn lacking_likely(&self, now: Nanos) -> u64 {
        if !self.is_bucket {
            return self.lacked;
        }
        let passed_ns = u128::from(now.since(self.answered_at));
        let refilled_ns = passed_ns * u128::from(1_000_u16.saturating_sub(self.others)) / 1_000;
        self.lacked.saturating_sub(u64::try_from(refilled_ns).unwrap_or(u64::MAX))
    }

    pub(super) fn lent_tokens(&mut self, depth_ns: u64, free: u64, ask: &Ask, answer: &Answer, now: Nanos) {
        let lent = self.units(answer.lent);
        let expected = self.lacking(now).saturating_add(lent);
        // Less than was to be expected: another gateway has given tokens back.
        if answer.lacks < expected {
            self.disturbances = self.disturbances.wrapping_add(1);
        }
        let taken_ns = u128::from(answer.lacks.saturating_add(ask.back).saturating_sub(expected));
        // In more time than fills the bucket they may have taken more than shows.
        let passed_ns = u128::from(now.since(self.answered_at).clamp(1, depth_ns.max(1)));
        self.others = (taken_ns * 1_000 / passed_ns).min(1_000) as u16;
        self.held = free.saturating_add(lent);
        (self.lacked, self.answered_at) = (answer.lacks, now);
    }

    pub(super) fn lent_counts(&mut self, free: u64, ask: &Ask, answer: &Answer, now: Nanos) {
        if self.held == 0 {
            self.slice = answer.slice;
        }
        self.held = free.saturating_add(answer.lent);
        (self.lacked, self.answered_at) = (answer.lacks, now);
        if ask.want > 0 && answer.lent == 0 {
            (self.refused, self.until) = (ask.least, now.saturating_add(answer.wait_ns));
        } else {
            (self.refused, self.until) = (0, Nanos::ZERO);
        }
    }

    /// Gives tokens of a bucket back that were taken when the lease had seen so many disturbances.
    pub(in crate::engine) fn refund(&mut self, tokens: &Tokens, disturbances: u16, now: Nanos) {
        let disturbed = self.disturbances != disturbances;
        let refund_ns = tokens.refund_ns(self.unit, now, disturbed);
        if refund_ns == 0 {
            return;
        }
        let tat = now.saturating_add(self.lacking(now).saturating_sub(self.held));
        self.held = self.held.saturating_add(refund_ns);
        if tat != tokens.tat_after {
            self.disturbances = self.disturbances.wrapping_add(1);
        }
    }

    /// Gives tokens of a window back. When they are here no longer than others they go back with those.
    pub(in crate::engine) fn unspend(&mut self, cost: u32) {
        self.held = self.held.saturating_add(cost.into());
    }

    pub(super) fn tokens_due(&mut self, limiter: &Limiter, now: Nanos, terms: &Terms) -> Due {
        let at = self.answered_at.saturating_add(terms.ttl_ns);
        if self.is_asking || at > now {
            // Its answer begins the time anew.
            return Due::Later(at.max(now.saturating_add(terms.ttl_ns)));
        }
        let free = self.free(limiter, now, terms);
        let back = if self.is_bucket { free.min(self.lacking(now)) } else { self.held };
        if self.is_kept(now, free, back, terms) {
            return Due::Later(now.saturating_add(terms.ttl_ns));
        }
        self.drop_but(back);
        if back == 0 {
            return Due::Done;
        }
        let word = self.word(now);
        Due::Tell(self.send(now, Ask { back, ..word }))
    }

    /// Lets go of all that is held; `back` of it goes back to the store.
    pub(super) fn drop_but(&mut self, back: u64) {
        self.strand(self.held.saturating_sub(back));
        (self.held, self.low) = (0, 0);
    }

    /// Notes what was lent and is of use to nobody any more.
    pub(super) fn strand(&mut self, units: u64) {
        self.stranded = self.stranded.saturating_add(units);
    }

    /// Whole tokens that were lost since this was last asked.
    pub(in crate::engine) fn take_stranded(&mut self) -> u64 {
        let tokens = self.stranded / self.unit;
        self.stranded %= self.unit;
        tokens
    }

    /// Whether tokens stay a while longer, though it is some time ago that they were lent: somebody asks for such still; or what
    /// would go back is no more than what time brings back by itself meanwhile, so to tell the store of it would help nobody.
    fn is_kept(&self, now: Nanos, free: u64, back: u64, terms: &Terms) -> bool {
        let is_in_demand = free >= self.unit.get() && self.demand.tokens(now) > 0;
        if !self.is_bucket {
            return is_in_demand && now.since(self.answered_at) < terms.ttl_ns.saturating_mul(2);
        }
        is_in_demand || (back > 0 && self.lacking(now) <= terms.ttl_ns)
    }
}
