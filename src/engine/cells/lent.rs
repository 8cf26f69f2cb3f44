//! Cells of leases. Always under their shard's write lock, as a lease is more than one word; only whether there is enough is
//! looked up under the read lock.

use super::cell::{Cell, Counter, State};
use super::map::{Entry, Kind, Map, Vacant};
use super::{Answer, Cells};
use crate::engine::key::{Key, Place};
use crate::engine::lease::{Lease, Terms};
use crate::engine::limiter::Limiter;
use crate::engine::limiter::gcra::{Tokens, scale_up};
use crate::engine::sync::Ordering::Relaxed;
use crate::engine::time::Nanos;

impl<M: Map> Cells<M> {
    /// Whether a lease has enough, and will have for a while.
    pub(in crate::engine) fn is_lease_ready(
        &self,
        key: Key,
        limiter: &Limiter,
        now: Nanos,
        cost: u32,
        terms: &Terms,
    ) -> bool {
        matches!(self.map.get(Kind::Long, key).as_deref(),
            Some(Cell(State::Counter(Counter::Lent(lease)))) if lease.is_ready(limiter, now, cost, terms))
    }

    /// Whether the store has been asked about a lease and has not answered.
    pub(in crate::engine) fn is_lease_asked(&self, key: Key) -> bool {
        matches!(self.map.get(Kind::Long, key).as_deref(), Some(Cell(State::Counter(Counter::Lent(lease)))) if lease.is_asking())
    }

    /// Looks at or changes a lease; it is made where there is none.
    pub(in crate::engine) fn with_lease<T>(
        &self,
        place: &Place,
        limiter: &Limiter,
        act: impl FnOnce(&mut Lease) -> T,
    ) -> Answer<T> {
        let key = place.key;
        // The caller knows no moment; at the first of all, nothing but slots that are free makes room, and among threads no lease looks for any.
        match self.map.entry(Kind::Long, key, Nanos::ZERO) {
            Entry::Occupied(mut cell) => {
                let answer = match &mut *cell {
                    Cell(State::Counter(Counter::Lent(lease))) => act(lease),
                    // No key of another kind is a lease's.
                    Cell(State::Bucket(_)) | Cell(State::Counter(_)) => act(&mut Lease::new(limiter, place.tag)),
                };
                Answer { key, answer }
            }
            Entry::Vacant(vacant) => {
                if !vacant.reserve(place.is_overflow()) {
                    drop(vacant);
                    return self.with_lease(&place.overflowed(), limiter, act);
                }
                let mut lease = Box::new(Lease::new(limiter, place.tag));
                let answer = act(&mut lease);
                vacant.insert(Cell(State::Counter(Counter::Lent(lease))));
                Answer { key, answer }
            }
        }
    }

    /// Changes a lease that there is.
    pub(in crate::engine) fn lease<T>(&self, key: Key, act: impl FnOnce(&mut Lease) -> T) -> Option<T> {
        match self.map.get_mut(Kind::Long, key).as_deref_mut() {
            Some(Cell(State::Counter(Counter::Lent(lease)))) => Some(act(lease)),
            _ => None,
        }
    }

    /// What a partition has been counting for itself: forgets its tokens, and answers what the store must be told of, in units of `emission_ns`
    /// for a bucket; and its slots, which stay.
    pub(in crate::engine) fn take_owed(&self, key: Key, limiter: &Limiter, now: Nanos) -> (u64, u64) {
        // Their cell stays: another thread may be making it now, with a slot that is taken.
        if let Limiter::Concurrency(_) = limiter {
            return (0, self.peek_slots(key).into());
        }
        let Some(cell) = self.map.remove(Kind::of(limiter), key) else { return (0, 0) };
        let owed = match (cell, limiter) {
            (Cell(State::Bucket(bucket)), Limiter::Gcra(figures)) => {
                scale_up(Nanos(bucket.tat.load(Relaxed)).since(now), figures.emission_ns(), bucket.emission_ns)
            }
            (Cell(State::Counter(Counter::Window(ring))), _) => ring.counted(now),
            _ => 0,
        };
        (owed, 0)
    }

    pub(in crate::engine) fn return_slot(&self, key: Key) {
        self.lease(key, Lease::release);
    }

    pub(in crate::engine) fn return_tokens(&self, key: Key, tokens: &Tokens, disturbances: u16, now: Nanos) {
        self.lease(key, |lease| lease.refund(tokens, disturbances, now));
    }

    pub(in crate::engine) fn return_counts(&self, key: Key, cost: u32) {
        self.lease(key, |lease| lease.unspend(cost));
    }
}
