//! Limits that a shared store decides request by request: what to ask it, and how its answers take the place of this engine's own
//! counts.
//!
//! The engine does not know the store. [`Engine::questions`] lists what to ask for a request, in the order in which its limits are
//! met; what was answered goes into the request's [`Hold`](super::Hold) and is what the limit says when its turn comes. So order,
//! reasons, shadows and candidates are those of an engine that counts alone.
//!
//! What is answered is noted in the engine's own cells as well, so that it has something to go by when the store is gone: a bucket
//! lacks what it lacked there, a window counts what was admitted here, and slots are those held here. In nanoseconds a bucket
//! lacks the same whether it is whole or a share of it, so the cell holds the share's figures at all times.

use super::cells::PartitionKey;
use super::class::{Id, RequestClass};
use super::decision::Outcome;
use super::hold::{Hold, Taken, What};
use super::key::Place;
use super::leasing::{Manner, Partition, group};
use super::limiter::sliding_window::Spend;
use super::limiter::{Concurrency, Limiter, SlidingWindow};
use super::policy::{LimitId, Policy, Stage, Which, WithoutStore};
use super::time::Nanos;
use super::{Engine, Map, Query, payers};

/// One gateway's share of what several hold together: one of `of`, its place among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// How many there are, at least 1.
    pub of: u32,
    /// Which one this is, from 0.
    pub place: u32,
}

impl Portion {
    /// All of it.
    pub const WHOLE: Portion = Portion { of: 1, place: 0 };

    /// No slot, nothing of a quota, and of a bucket a single request.
    pub const NEXT_TO_NOTHING: Portion = Portion { of: u32::MAX, place: u32::MAX };

    /// This gateway's part of `whole`: the parts of all gateways add up to it.
    fn part(self, whole: u64) -> u64 {
        let of = u64::from(self.of.max(1));
        whole / of + u64::from(u64::from(self.place) < whole % of)
    }

    /// This gateway's part of a limit. A bucket's holds at least `cost`, or such requests could never pass; all else adds up to the
    /// whole.
    fn of_limiter(self, limiter: &Limiter, cost: u32) -> Limiter {
        match limiter {
            Limiter::Gcra(figures) => {
                let period = figures.period().checked_mul(self.of.max(1)).unwrap_or(std::time::Duration::MAX);
                let burst = self.part(figures.burst()).max(u64::from(cost.max(1))).min(figures.burst());
                Limiter::Gcra(super::Gcra::new(figures.count(), period, burst))
            }
            Limiter::SlidingWindow(figures) => {
                let limit = u32::try_from(self.part(figures.limit().into())).unwrap_or(u32::MAX);
                Limiter::SlidingWindow(SlidingWindow::new(limit, figures.window()))
            }
            Limiter::Concurrency(figures) => {
                let slots = u32::try_from(self.part(figures.slots.into())).unwrap_or(u32::MAX);
                Limiter::Concurrency(Concurrency { slots })
            }
            Limiter::Allocation(figures) => Limiter::Allocation(*figures),
        }
    }
}

/// What to ask a store about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose.
    pub limit: LimitId,
    /// Who pays: which of the answers is meant where two do.
    pub account: Id,
    /// Of what.
    pub partition: Partition,
    /// Whether a refusal ends the request; otherwise the limit is a shadow.
    pub enforced: bool,
    /// It is the second of two that pay for one limit: where it has no room, the first gives nothing either.
    pub second: bool,
    /// What this engine knows of it: nanoseconds that the bucket lacks, or tokens that the window counts.
    pub known: u64,
}

/// What a store has said about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whose.
    pub limit: LimitId,
    /// Who pays.
    pub account: Id,
    /// What it said.
    pub outcome: Outcome,
    /// Nanoseconds that a bucket lacks now.
    pub lacking_ns: u64,
}

/// What to ask about a request.
#[derive(Debug, Default)]
pub struct Questions {
    /// In the order in which the limits are met.
    pub asked: Vec<Question>,
    /// A limit of this engine's own refuses: nothing is to be taken, and nothing after it is asked.
    pub in_vain: Option<Told>,
}

impl<M: Map> Engine<M> {
    /// What to ask a store before `class` meets its limits. Nothing is taken.
    #[must_use]
    pub fn questions(&self, policy: &Policy, class: &RequestClass, now: Nanos) -> Questions {
        let query = Query { policy, class, now, manner: Manner::Alone, told: &[] };
        let mut questions = Questions::default();
        for (id, applies) in Stage::ALL.into_iter().flat_map(|stage| policy.meeting(stage, class)) {
            let limit = policy.limit(id);
            if applies.is_err() {
                continue;
            }
            let enforced = limit.enforce.is_for(class);
            let (first, second) = payers(limit, class);
            for (payer, is_second) in std::iter::once((first, false)).chain(second.map(|second| (second, true))) {
                let limiter = policy.limiter(id, payer.profile);
                if limit.shared.is_none() {
                    let outcome = if enforced { self.peek_payer(&query, id, Which::InForce, payer) } else { continue };
                    if let Outcome::Rejected { .. } = outcome {
                        questions.in_vain = Some(Told { limit: id, account: payer.account, outcome, lacking_ns: 0 });
                        return questions;
                    }
                    continue;
                }
                let place = self.place(&query, id, Which::InForce, payer.account);
                let key = PartitionKey::from(place.key);
                let partition = Partition { key, group: group(limit, payer.account, key), limiter };
                questions.asked.push(Question {
                    limit: id,
                    account: payer.account,
                    partition,
                    enforced,
                    second: is_second,
                    known: self.known(&place, &limiter, now),
                });
            }
        }
        questions
    }

    fn known(&self, place: &Place, limiter: &Limiter, now: Nanos) -> u64 {
        match limiter {
            Limiter::Gcra(_) => self.cells.raw_tat(place.key).since(now),
            Limiter::SlidingWindow(_) => self.cells.counted(place.key, now),
            Limiter::Concurrency(_) | Limiter::Allocation(_) => 0,
        }
    }

    /// What a limit says that was asked elsewhere, noted here.
    pub(super) fn repeat(
        &self,
        query: &Query<'_>,
        told: &Told,
        place: &Place,
        limiter: &Limiter,
        hold: &mut Hold<M>,
    ) -> Outcome {
        let (now, admitted) = (query.now, matches!(told.outcome, Outcome::Admitted { .. }));
        match limiter {
            Limiter::Gcra(_) => {
                let Limiter::Gcra(share) = self.portion().of_limiter(limiter, query.class.cost) else {
                    return told.outcome;
                };
                self.cells.set_tat(place, &share, now, now.saturating_add(told.lacking_ns));
            }
            Limiter::SlidingWindow(figures) if admitted => {
                let figures = SlidingWindow::new(u32::MAX, figures.window());
                let spent = self.cells.spend(place, &figures, now, query.class.cost);
                if let Spend::Taken { slice, .. } = spent.answer {
                    let what = What::Counted { cost: query.class.cost, slice, slice_ns: figures.slice_ns() };
                    hold.push(Taken { key: spent.key, what });
                }
            }
            Limiter::Concurrency(_) if admitted => {
                let taken = self.cells.take_slot(place, Concurrency { slots: u32::MAX }, now);
                if taken.answer.is_some() {
                    hold.push(Taken { key: taken.key, what: What::Slot });
                }
            }
            Limiter::SlidingWindow(_) | Limiter::Concurrency(_) | Limiter::Allocation(_) => {}
        }
        told.outcome
    }

    /// What a shared limit says without its store; `Err` are the figures to go by here.
    pub(super) fn without_store(
        &self,
        query: &Query<'_>,
        without: WithoutStore,
        limiter: &Limiter,
    ) -> Result<Outcome, Limiter> {
        match without {
            WithoutStore::Share => Err(self.portion().of_limiter(limiter, query.class.cost)),
            WithoutStore::Open => Ok(Outcome::Admitted { remaining: 0 }),
            // It may be back any moment: the longest pause between two probes is a good time to come again.
            WithoutStore::Closed => Ok(Outcome::Rejected { retry_at: Some(query.now.saturating_add(RETRY_NS)) }),
        }
    }
}

/// When to come again while a limit is closed.
const RETRY_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn portions_add_up_to_the_whole() {
        for (whole, of) in [(30, 8), (1, 16), (0, 3), (7, 7), (100, 1), (5, 4)] {
            let parts: u64 = (0..of).map(|place| Portion { of, place }.part(whole)).sum();
            assert_eq!(parts, whole);
        }
    }

    #[test]
    fn a_portion_of_a_bucket_has_its_rate_and_room_for_the_dearest_request() {
        let whole = Limiter::Gcra(super::super::Gcra::new(100, Duration::from_secs(1), 40));
        let portion = Portion { of: 4, place: 3 };
        let Limiter::Gcra(part) = portion.of_limiter(&whole, 1) else { panic!("a bucket") };
        assert_eq!((part.burst(), part.emission_ns().get()), (10, 40_000_000));
        let Limiter::Gcra(part) = portion.of_limiter(&whole, 25) else { panic!("a bucket") };
        assert_eq!(part.burst(), 25);
        let slots = Limiter::Concurrency(Concurrency { slots: 2 });
        let parts = [0, 1, 2].map(|place| Portion { of: 3, place }.of_limiter(&slots, 1));
        assert_eq!(parts, [1, 1, 0].map(|slots| Limiter::Concurrency(Concurrency { slots })));
    }
}
