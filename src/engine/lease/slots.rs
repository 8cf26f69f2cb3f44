//! Leases of slots. The store knows how many each gateway holds, and until when: a gateway that is not heard of loses them.

use super::{Answer, Ask, Due, Lease, Terms};
use crate::engine::limiter::Limiter;
use crate::engine::time::Nanos;

/// Slots that were free all the time go back so soon where most are taken; where there are enough, as late as tokens.
const LOOK_NS: u64 = 200_000_000;

/// A gateway tells of its slots so often in their time.
const WORDS_PER_TTL: u64 = 4;

impl Lease {
    pub(super) fn lent_slots(&mut self, ask: &Ask, answer: &Answer, now: Nanos, terms: &Terms) {
        self.held = self.held.saturating_add(answer.lent);
        (self.lacked, self.answered_at) = (answer.lacks, now);
        // The store counts from when it was told, which was later than when this was sent.
        self.until = ask.asked_at.saturating_add(terms.slot_ttl_ns - terms.slot_ttl_ns / 20);
        self.spare = self.held;
        self.low = 0;
    }

    /// Gives a slot back.
    pub(in crate::engine) fn release(&mut self) {
        if let Some(left) = self.used.checked_sub(1) {
            self.used = left;
            self.held = self.held.saturating_add(1);
        }
    }

    /// What is held, told anew.
    pub(in crate::engine) fn claim(&mut self, limiter: &Limiter, now: Nanos) -> Option<Ask> {
        let is_held = self.held > 0 || self.used > 0;
        if self.is_asking || !is_held || !matches!(limiter, Limiter::Concurrency(_)) {
            return None;
        }
        let word = self.word(now);
        Some(self.send(now, word))
    }

    pub(super) fn slots_due(&mut self, slots: u32, now: Nanos, terms: &Terms) -> Due {
        let is_plenty = self.lacked < u64::from(slots) / 2;
        let look_ns = if is_plenty { terms.ttl_ns } else { LOOK_NS };
        let next = now.saturating_add(look_ns.min(terms.slot_ttl_ns / WORDS_PER_TTL));
        if self.is_asking {
            return Due::Later(next);
        }
        // Those that nobody has needed since the last look, go back.
        let surplus = self.spare.min(self.held);
        self.held -= surplus;
        self.spare = self.held;
        let nothing = self.held == 0 && self.used == 0;
        let told_ns = now.since(self.asked_at);
        if surplus == 0 && nothing {
            return Due::Done;
        }
        if surplus == 0 && told_ns < terms.slot_ttl_ns / WORDS_PER_TTL {
            return Due::Later(next);
        }
        let word = self.word(now);
        Due::Tell(self.send(now, word))
    }
}
