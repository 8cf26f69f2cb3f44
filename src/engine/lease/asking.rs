//! When the store is asked, and for how much: as seldom as can be without leaving what is due to nobody.

use super::{Ask, Lease, Terms};
use crate::engine::limiter::{Gcra, Limiter};
use crate::engine::time::Nanos;

/// Under a flood that the store cannot serve, so many requests are seen for each time it is asked.
pub(super) const REQUESTS_PER_ASK: u32 = 32;

/// Where all slots are taken, few requests ask again so soon.
const SLOTS_GAP_NS: u64 = 50_000_000;

impl Terms {
    /// How long to wait before a store that had too little is asked again for few requests. A gateway that is alone knows
    /// when there is something; among many, each leaves time for tokens to come, at most `most_ns`.
    fn gap_ns(&self, most_ns: u64) -> u64 {
        const ALONE_NS: u64 = 10_000_000;
        const EACH_NS: u64 = 60_000_000;
        const MOST_NS: u64 = 500_000_000;
        let gap_ns = if self.gateways <= 1 { ALONE_NS } else { (EACH_NS * u64::from(self.gateways)).min(MOST_NS) };
        gap_ns.min(most_ns)
    }
}

impl Lease {
    /// When the store should be asked for a price that is more than what is free; `None`: never. Not later than `now`: it should
    /// be asked now.
    pub(super) fn wait_for(
        &self,
        limiter: &Limiter,
        now: Nanos,
        price: u64,
        free: u64,
        terms: &Terms,
    ) -> Option<Nanos> {
        let missing = price.saturating_sub(free);
        let (at, gap_ns) = match limiter {
            Limiter::Gcra(figures) => {
                if price > figures.depth_ns() {
                    return None;
                }
                let over_ns = self.lacking(now).saturating_add(missing).saturating_sub(figures.depth_ns());
                // Never so long that a bucket runs over.
                (now.saturating_add(over_ns), terms.gap_ns(figures.depth_ns() / 2))
            }
            Limiter::SlidingWindow(figures) => {
                if price > u64::from(figures.limit()) {
                    return None;
                }
                let at = if missing >= self.refused { self.until } else { Nanos::ZERO };
                (at, terms.gap_ns(figures.slice_ns().get() / 4))
            }
            Limiter::Concurrency(figures) if figures.slots == 0 => return None,
            Limiter::Concurrency(_) => (Nanos::ZERO, terms.gap_ns(SLOTS_GAP_NS)),
            Limiter::Allocation(_) => return None,
        };
        let is_spaced = !self.is_short || self.seen >= REQUESTS_PER_ASK;
        Some(if is_spaced { at } else { at.max(self.asked_at.saturating_add(gap_ns)) })
    }

    /// An ask for the waiting requests and for what will be needed soon, at most the share: of what is here, so many tokens are as
    /// good as spent.
    pub(super) fn ask(&self, limiter: &Limiter, now: Nanos, spent: u32, least: u64, terms: &Terms) -> Ask {
        let free = (self.free(limiter, now, terms) / self.unit).saturating_sub(spent.into());
        let waiting = u64::from(self.waiting);
        let (whole, ahead) = match limiter {
            Limiter::Gcra(figures) => (figures.burst(), self.ahead(figures, now)),
            Limiter::SlidingWindow(figures) => (u64::from(figures.limit()), part(self.demand.tokens(now))),
            Limiter::Concurrency(figures) => (u64::from(figures.slots), u64::from(self.used) / 8),
            Limiter::Allocation(_) => (0, 0),
        };
        let most = terms.share(whole).max(least);
        let want =
            ahead.saturating_add(waiting).saturating_sub(free).clamp(least, most.saturating_sub(free).max(least));
        Ask { want, least, ..self.word(now) }
    }

    /// What to ask for by the way, while the store is asked about something else: nothing unless half is spent of what there is
    /// enough of.
    pub(in crate::engine) fn fill_up(&mut self, limiter: &Limiter, now: Nanos, terms: &Terms) -> Option<Ask> {
        self.fit(limiter, now);
        if self.is_asking || self.is_short || self.free(limiter, now, terms) >= self.low.saturating_mul(2) {
            return None;
        }
        let ask = self.ask(limiter, now, 0, 0, terms);
        (ask.want > 0).then(|| self.send(now, ask))
    }

    /// Lets go of all that no request uses: what to tell the store, if there is anything.
    pub(in crate::engine) fn give_up(&mut self, limiter: &Limiter, now: Nanos, terms: &Terms) -> Option<Ask> {
        self.fit(limiter, now);
        if self.is_asking || self.held == 0 {
            return None;
        }
        let is_slots = matches!(limiter, Limiter::Concurrency(_));
        let back = match limiter {
            Limiter::Gcra(_) => self.free(limiter, now, terms).min(self.lacking(now)),
            Limiter::Concurrency(_) => 0,
            _ => self.held,
        };
        if !is_slots {
            self.strand(self.held.saturating_sub(back));
        }
        (self.held, self.low, self.spare) = (0, 0, 0);
        let word = self.word(now);
        (is_slots || back > 0).then(|| self.send(now, Ask { back, ..word }))
    }

    /// Tokens of a bucket to have ahead. Where there are plenty, rather too many than to ask twice: what is over flows back to a
    /// bucket that is nearly full. Elsewhere rather too few, as others may be short of them.
    fn ahead(&self, figures: &Gcra, now: Nanos) -> u64 {
        let demand = self.demand.tokens(now);
        let is_plenty = self.lacking(now) < figures.depth_ns() / 4;
        if is_plenty && demand > 1 { demand.saturating_add(demand / 4) } else { part(demand) }
    }

    /// What every ask tells.
    pub(super) fn word(&self, now: Nanos) -> Ask {
        let known = if self.answered_at == Nanos::ZERO { 0 } else { self.lacking(now) };
        let slots = self.held.saturating_add(self.used.into());
        Ask { want: 0, least: 0, back: 0, slice: self.slice, known, owed: self.owed, slots, asked_at: now }
    }

    /// Notes that this is being asked.
    pub(super) fn send(&mut self, now: Nanos, ask: Ask) -> Ask {
        // The store tells words apart by the microsecond.
        let now = now.max(self.asked_at.saturating_add(1_000));
        let ask = Ask { asked_at: now, ..ask };
        self.is_changed = false;
        (self.is_asking, self.asked_at, self.seen, self.waiting, self.owed) = (true, now, 0, 0, 0);
        ask
    }
}

/// Of a demand, what is asked for where others may need it: so few that most of it is spent before it grows old.
fn part(demand: u64) -> u64 {
    demand - demand.div_ceil(4)
}
