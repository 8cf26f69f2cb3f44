//! Limits whose tokens and slots a shared store lends: what a request needs of it, and what becomes of its answers.
//!
//! The engine does not know the store. [`Engine::consult`] says what to ask before a request is decided, [`Engine::lend`] takes
//! the answer, [`Engine::look_after`] says what to tell when a lease's time has come. Whoever asks must hand over each answer, or
//! that there is none: until then nobody else asks for that partition.

#[cfg(test)]
mod tests;

use super::cells::PartitionKey;
use super::class::{Id, Payer, RequestClass};
use super::decision::Outcome;
use super::hold::{Hold, Taken, What};
use super::key::{Key, Place};
use super::lease::{Answer, Ask, Drawn, Due, Lease, Need, Terms};
use super::limiter::{Concurrency, Limiter};
use super::policy::{Limit, LimitId, Part, Policy, Stage, Which};
use super::time::Nanos;
use super::told::Portion;
use super::{Engine, Map, Query, payers};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Whose counts decide about limits that several gateways share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// This engine's alone.
    #[default]
    Alone,
    /// What the store has lent.
    Lent,
    /// The store cannot be asked: each limit goes on as its [`WithoutStore`](super::WithoutStore) says.
    Apart,
}

/// One partition that a shared store lends of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its key: the same on all gateways whose engines have the same seed.
    pub key: PartitionKey,
    /// Partitions of one group belong in one place of the store.
    pub group: Id,
    /// The figures in force.
    pub limiter: Limiter,
}

impl Partition {
    /// So many tokens are given by an [`Ask`] or an [`Answer`] in the partition's own units; `None`: these are slots.
    #[must_use]
    pub fn tokens(&self, units: u64) -> Option<u64> {
        match self.limiter {
            Limiter::Gcra(figures) => Some(units / figures.emission_ns()),
            Limiter::SlidingWindow(_) | Limiter::Allocation(_) => Some(units),
            Limiter::Concurrency(_) => None,
        }
    }
}

/// Something that a request needs of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of what.
    pub partition: Partition,
    /// What must be asked; `None`: somebody has, and the answer is under way.
    pub ask: Option<Ask>,
    /// Whether the request must wait for the answer.
    pub waits: bool,
}

/// [`Terms`] that change while requests are decided.
#[derive(Debug)]
pub(super) struct LiveTerms {
    ttl_ns: AtomicU64,
    slot_ttl_ns: AtomicU64,
    gateways: AtomicU32,
    /// What this gateway goes on with when the store is gone: one of so many parts.
    parts: AtomicU32,
    /// Which one.
    place: AtomicU32,
    in_force: AtomicBool,
}

impl Default for LiveTerms {
    fn default() -> LiveTerms {
        let second_ns = 1_000_000_000;
        LiveTerms {
            ttl_ns: AtomicU64::new(second_ns),
            slot_ttl_ns: AtomicU64::new(15 * second_ns),
            gateways: AtomicU32::new(1),
            parts: AtomicU32::new(1),
            place: AtomicU32::new(0),
            in_force: AtomicBool::new(false),
        }
    }
}

impl LiveTerms {
    fn read(&self) -> Terms {
        Terms {
            ttl_ns: self.ttl_ns.load(Relaxed),
            slot_ttl_ns: self.slot_ttl_ns.load(Relaxed),
            gateways: self.gateways.load(Relaxed),
        }
    }
}

impl<M: Map> Engine<M> {
    /// What holds for leases.
    #[must_use]
    pub fn terms(&self) -> Terms {
        self.terms.read()
    }

    /// From now on a store lends, on these terms.
    pub fn set_terms(&self, terms: Terms) {
        self.terms.in_force.store(true, Relaxed);
        self.terms.ttl_ns.store(terms.ttl_ns, Relaxed);
        self.terms.slot_ttl_ns.store(terms.slot_ttl_ns, Relaxed);
        self.terms.gateways.store(terms.gateways, Relaxed);
    }

    /// This gateway's share of what is counted together.
    #[must_use]
    pub fn portion(&self) -> Portion {
        Portion { of: self.terms.parts.load(Relaxed).max(1), place: self.terms.place.load(Relaxed) }
    }

    /// From now on this is its share, of so many gateways.
    pub fn set_portion(&self, portion: Portion, gateways: u32) {
        self.terms.gateways.store(gateways, Relaxed);
        self.terms.parts.store(portion.of, Relaxed);
        self.terms.place.store(portion.place, Relaxed);
    }

    /// How requests are decided unless they are told otherwise.
    #[must_use]
    pub fn manner(&self) -> Manner {
        if self.terms.in_force.load(Relaxed) { Manner::Lent } else { Manner::Alone }
    }

    /// What `class` needs of the store before it meets its limits, added to `wanted`: `again` where it has waited before. What must
    /// be asked is to be asked in any case. Where a limit is sure to refuse, later ones are not looked at.
    pub fn consult(&self, policy: &Policy, class: &RequestClass, now: Nanos, again: bool, wanted: &mut Vec<Wanted>) {
        let query = Query { policy, class, now, manner: Manner::Lent, told: &[] };
        let terms = self.terms();
        for (id, payer) in met_together(policy, class) {
            let limit = policy.limit(id);
            let place = self.place(&query, id, Which::InForce, payer.account).of_lease();
            let limiter = policy.limiter(id, payer.profile);
            if self.cells.is_lease_ready(place.key, &limiter, now, class.cost, &terms) {
                continue;
            }
            let need = |lease: &mut Lease| lease.need(&limiter, now, class.cost, again, &terms);
            let found = self.cells.with_lease(&place, &limiter, need);
            let key = PartitionKey::from(found.key);
            let partition = Partition { key, group: group(limit, payer.account, key), limiter };
            match found.answer.map(|ask| self.with_owed(&partition, ask, now)) {
                Need::Nothing => {}
                Need::Soon(ask) => wanted.push(Wanted { partition, ask: Some(ask), waits: false }),
                Need::Now(ask) => wanted.push(Wanted { partition, ask: Some(ask), waits: true }),
                Need::Asked => wanted.push(Wanted { partition, ask: None, waits: true }),
                Need::InVain if limit.enforce.is_for(class) => return,
                Need::InVain => {}
            }
        }
        if wanted.iter().any(|wanted| wanted.ask.is_some()) {
            self.fill_up(&query, wanted);
        }
    }

    /// Where something is asked for in any case, what else the request meets and is half spent is asked for with it: one call
    /// now for two.
    fn fill_up(&self, query: &Query<'_>, wanted: &mut Vec<Wanted>) {
        let terms = self.terms();
        for (id, payer) in met_together(query.policy, query.class) {
            let place = self.place(query, id, Which::InForce, payer.account).of_lease();
            let limiter = query.policy.limiter(id, payer.profile);
            let ask = self.cells.lease(place.key, |lease| lease.fill_up(&limiter, query.now, &terms)).flatten();
            let Some(ask) = ask else { continue };
            let key = PartitionKey::from(place.key);
            let partition = Partition { key, group: group(query.policy.limit(id), payer.account, key), limiter };
            let ask = self.with_owed(&partition, ask, query.now);
            wanted.push(Wanted { partition, ask: Some(ask), waits: false });
        }
    }

    /// Whether the store has been asked about a partition and has not answered.
    #[must_use]
    pub fn is_asked(&self, partition: &Partition) -> bool {
        self.cells.is_lease_asked(partition.key.into())
    }

    /// Takes what the store has answered; `None`: no answer came. Answers whether somebody must [look after](Engine::look_after)
    /// the partition from now on.
    pub fn lend(&self, partition: &Partition, ask: &Ask, answer: Option<&Answer>, now: Nanos) -> bool {
        let terms = self.terms();
        let taken = self.cells.lease(partition.key.into(), |lease| match answer {
            Some(answer) => lease.answered(&partition.limiter, ask, answer, now, &terms),
            None => {
                lease.unanswered(ask);
                false
            }
        });
        taken.unwrap_or_default()
    }

    /// Looks after a partition whose time may have come: says what to tell the store, and when to look again.
    pub fn look_after(&self, partition: &Partition, now: Nanos) -> Due {
        let terms = self.terms();
        let due = self.cells.lease(partition.key.into(), |lease| lease.due(&partition.limiter, now, &terms));
        match due {
            Some(Due::Tell(ask)) => Due::Tell(self.with_owed(partition, ask, now)),
            Some(due) => due,
            None => Due::Done,
        }
    }

    /// Takes from a partition what no request uses, to give it back before its time: what to tell the store.
    pub fn give_up(&self, partition: &Partition, now: Nanos) -> Option<Ask> {
        let terms = self.terms();
        let give_up = |lease: &mut Lease| lease.give_up(&partition.limiter, now, &terms);
        let ask = self.cells.lease(partition.key.into(), give_up).flatten()?;
        Some(self.with_owed(partition, ask, now))
    }

    /// What to tell the store of the slots that a partition holds, where it holds any: it may have forgotten them.
    pub fn claim(&self, partition: &Partition, now: Nanos) -> Option<Ask> {
        let ask = self.cells.lease(partition.key.into(), |lease| lease.claim(&partition.limiter, now)).flatten()?;
        Some(self.with_owed(partition, ask, now))
    }

    /// Tokens that were lent of a partition and lost to everybody, since this was last asked.
    pub fn take_stranded(&self, partition: &Partition) -> u64 {
        self.cells.lease(partition.key.into(), Lease::take_stranded).unwrap_or_default()
    }

    /// Whether anything that was lent of a partition is here, in use or come back since the store was told, or is on its way.
    #[must_use]
    pub fn is_held(&self, partition: &Partition) -> bool {
        self.cells.lease(partition.key.into(), |lease| lease.is_held() || lease.is_asking()).unwrap_or_default()
    }

    /// An ask that tells as well what was counted while the store could not be asked.
    fn with_owed(&self, partition: &Partition, ask: Ask, now: Nanos) -> Ask {
        let own = Key::from(partition.key).of_lent();
        let (owed, slots) = self.cells.take_owed(own, &partition.limiter, now);
        Ask { owed: ask.owed.saturating_add(owed), slots: ask.slots.saturating_add(slots), ..ask }
    }

    /// Has this gateway's share begin where the whole stood when it was last heard of: no outage is a free burst. A bucket lacks as
    /// many nanoseconds, whole or a share, and others have gone on taking from it; of slots, those that were lent and are in use are
    /// a part of the share. Answers the figures to go by.
    pub(super) fn begin_apart(&self, place: &Place, share: Limiter, now: Nanos) -> Limiter {
        match share {
            Limiter::Gcra(figures) if self.cells.raw_tat(place.key) <= now => {
                let lacking = self.cells.lease(place.key.of_lease(), |lease| lease.lacking_likely(now));
                if let Some(lacking_ns @ 1..) = lacking {
                    let tat = now.saturating_add(lacking_ns.min(figures.depth_ns()));
                    self.cells.set_tat(place, &figures, now, tat);
                }
                share
            }
            Limiter::Concurrency(figures) => {
                let used = self.cells.lease(place.key.of_lease(), |lease| lease.used()).unwrap_or_default();
                Limiter::Concurrency(Concurrency { slots: figures.slots.saturating_sub(used) })
            }
            share => share,
        }
    }

    /// Asks what was lent of a limit.
    pub(super) fn ask_lent(&self, query: &Query<'_>, place: &Place, limiter: &Limiter, hold: &mut Hold<M>) -> Outcome {
        let (now, cost, terms) = (query.now, query.class.cost, self.terms());
        let drawn = self.cells.with_lease(place, limiter, |lease| lease.draw(limiter, now, cost, &terms));
        let (tokens, remaining) = match drawn.answer {
            Drawn::Taken { tokens, remaining } => (tokens, remaining),
            Drawn::Refused { retry_at } => return Outcome::Rejected { retry_at },
        };
        let what = match (tokens, limiter) {
            (Some((tokens, disturbances)), _) => What::LentTokens(tokens, disturbances),
            (None, Limiter::Concurrency(_)) => What::LentSlot,
            (None, _) => What::LentCounts(cost),
        };
        hold.push(Taken { key: drawn.key, what });
        Outcome::Admitted { remaining }
    }

    /// What a lease would say, as it is: where nothing is lent yet, what an untouched limit would.
    pub(super) fn peek_lent(&self, query: &Query<'_>, place: &Place, limiter: &Limiter) -> Option<Outcome> {
        let (now, cost, terms) = (query.now, query.class.cost, self.terms());
        self.cells.lease(place.key, |lease| lease.peek(limiter, now, cost, &terms))
    }
}

/// The limits that a request meets and gateways share, with who pays, in the order in which they are met.
fn met_together<'a>(policy: &'a Policy, class: &'a RequestClass) -> impl Iterator<Item = (LimitId, Payer)> + 'a {
    let met = Stage::ALL.into_iter().flat_map(|stage| policy.meeting(stage, class));
    let shared = met.filter(|(id, applies)| applies.is_ok() && policy.limit(*id).shared.is_some());
    shared.flat_map(|(id, _)| {
        let (first, second) = payers(policy.limit(id), class);
        std::iter::once(first).chain(second).map(move |payer| (id, payer))
    })
}

/// What counts by account is kept together with all else of the account; the rest stands for itself.
pub(super) fn group(limit: &Limit, account: Id, key: PartitionKey) -> Id {
    if limit.per.contains(&Part::Account) {
        return account;
    }
    let whole = u128::from_be_bytes(key.0);
    Id([(whole >> 64) as u64, whole as u64])
}
