//! Where the counts are: a map for all limits, by kinds of cells, from a 128-bit partition key to a cell of 24 bytes. What is counted and how is
//! decided here, for any number of threads; where a cell is found, in the map for many threads or for one.
//!
//! Invariants:
//! - Among threads a cell changes by compare-exchange under a shard's read lock; it is made, converted to new figures and removed
//!   under the write lock. So nobody sees half a cell, and no request meets a cell that is being forgotten.
//! - A cell is forgotten only when a new one would give the same answers: no slot taken, a bucket full, nothing counted. A request
//!   whose moment lies before that gets a new one as of then ([`Vacant::moment`]).
//! - At most `max` cells, and the overflow cells. At that bound a partition that is new shares one overflow cell with all other
//!   new partitions of its limit and mode: strict, never a fresh bucket.
//!
//! Every atomic stands for itself (no other memory is published through it), so all orderings are relaxed.

mod alone;
mod cell;
mod changes;
mod lent;
mod map;
mod warm;

pub use alone::Alone;
pub use changes::PartitionKey;
pub(super) use map::Kind;
pub use map::{Map, Shards};
pub(super) use warm::{WARM, WARM_AHEAD};

use super::key::{Key, Place};
use super::limiter::gcra::{Draw, Tokens};
use super::limiter::sliding_window::{Ring, Spend};
use super::limiter::{Concurrency, Gcra, SlidingWindow};
use super::sync::{AtomicU32, Ordering::Relaxed};
use super::time::Nanos;
use cell::{Bucket, Cell, Counter, Drawn, Slots, State};
use changes::Changes;
use map::{Entry, Vacant};
use std::collections::HashMap;
use std::num::NonZeroU64;

/// What [`Cells::draw`] and [`Cells::take_slot`] did, and in which cell: the partition's own or the overflow cell.
pub(super) struct Answer<T> {
    pub(super) key: Key,
    pub(super) answer: T,
}

/// What one limit's partitions add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Partitions with state.
    pub partitions: u64,
    /// Slots taken.
    pub in_flight: u64,
}

/// All partitions of all limits.
pub(super) struct Cells<M> {
    map: M,
    /// Windows that a store has yet to hear of.
    changes: Changes,
}

impl<M: Map> Cells<M> {
    pub(super) fn new(max: usize) -> Cells<M> {
        Cells { map: M::new(max), changes: Changes::default() }
    }

    /// The moment as of which a request of `now` meets its limits. One that is late, after cells were forgotten, meets all of them as of one later
    /// moment: those that were made anew and those that were not, so that it finds what there is and no more.
    pub(super) fn moment(&self, now: Nanos) -> Nanos {
        self.map.moment(now)
    }

    /// The cell of a partition, under a lock that others may hold as well. One thread keeps nobody waiting: it goes to where cells
    /// are made, which finds those that there are by the same search.
    fn shared(&self, kind: Kind, key: Key) -> Option<M::Seen<'_>> {
        if M::IS_ALONE { None } else { self.map.get(kind, key) }
    }

    /// Takes `cost` tokens from a bucket.
    pub(super) fn draw(&self, place: &Place, figures: &Gcra, now: Nanos, cost: u32) -> Answer<Drawn> {
        if let Some(cell) = self.shared(Kind::Bucket, place.key)
            && let Cell(State::Bucket(bucket)) = &*cell
            && bucket.has(figures)
        {
            return Answer { key: place.key, answer: bucket.draw(figures, now, cost) };
        }
        self.draw_exclusively(place, figures, now, cost)
    }

    /// The cold path where there are threads: a new partition, or one whose limit has other figures now.
    #[inline(never)]
    fn draw_exclusively(&self, place: &Place, figures: &Gcra, now: Nanos, cost: u32) -> Answer<Drawn> {
        let key = place.key;
        let fresh = |now| Drawn { draw: figures.draw(Nanos::ZERO, now, cost), disturbances: 0 };
        match self.map.entry(Kind::Bucket, key, now) {
            Entry::Occupied(mut cell) => {
                let Cell(State::Bucket(bucket)) = &mut *cell else { return Answer { key, answer: fresh(now) } };
                // Another thread may have converted it meanwhile: only once, since it rounds.
                if !bucket.has(figures) {
                    bucket.convert(figures, now);
                }
                Answer { key, answer: bucket.draw(figures, now, cost) }
            }
            Entry::Vacant(vacant) => {
                let moment = vacant.moment();
                let fresh = fresh(moment);
                // A cell that would be idle at once is not worth making.
                let Draw::Taken { tat } = fresh.draw else { return Answer { key, answer: fresh } };
                if tat <= moment {
                    return Answer { key, answer: fresh };
                }
                if !vacant.reserve(place.is_overflow()) {
                    drop(vacant);
                    return self.draw(&place.overflowed(), figures, now, cost);
                }
                let bucket = Bucket::new(place.tag, tat, figures);
                let disturbances = bucket.disturbances.load(Relaxed);
                vacant.insert(Cell(State::Bucket(bucket)));
                Answer { key, answer: Drawn { disturbances, ..fresh } }
            }
        }
    }

    /// Takes one slot; answers the count with it, or `None` when all are taken.
    pub(super) fn take_slot(&self, place: &Place, figures: Concurrency, now: Nanos) -> Answer<Option<u32>> {
        if let Some(cell) = self.shared(Kind::Slots, place.key)
            && let Cell(State::Counter(Counter::Slots(slots))) = &*cell
        {
            return Answer { key: place.key, answer: slots.take(figures) };
        }
        self.take_slot_exclusively(place, figures, now)
    }

    #[inline(never)]
    fn take_slot_exclusively(&self, place: &Place, figures: Concurrency, now: Nanos) -> Answer<Option<u32>> {
        let key = place.key;
        match self.map.entry(Kind::Slots, key, now) {
            Entry::Occupied(cell) => match &*cell {
                Cell(State::Counter(Counter::Slots(slots))) => Answer { key, answer: slots.take(figures) },
                Cell(State::Bucket(_)) | Cell(State::Counter(_)) => Answer { key, answer: None },
            },
            Entry::Vacant(vacant) => {
                let Some(taken) = figures.take(0) else { return Answer { key, answer: None } };
                if !vacant.reserve(place.is_overflow()) {
                    drop(vacant);
                    return self.take_slot(&place.overflowed(), figures, now);
                }
                let slots = Slots { taken: AtomicU32::new(taken), tag: place.tag };
                vacant.insert(Cell(State::Counter(Counter::Slots(slots))));
                Answer { key, answer: Some(taken) }
            }
        }
    }

    /// Takes `cost` tokens from a sliding window. Always under the shard's write lock: a ring is more than one word.
    pub(super) fn spend(&self, place: &Place, figures: &SlidingWindow, now: Nanos, cost: u32) -> Answer<Spend> {
        let key = place.key;
        match self.map.entry(Kind::Long, key, now) {
            Entry::Occupied(mut cell) => {
                let Cell(State::Counter(Counter::Window(ring))) = &mut *cell else {
                    return Answer { key, answer: Spend::Refused { retry_at: None } };
                };
                let answer = ring.draw(figures, now, cost);
                self.changes.note(key, ring, matches!(answer, Spend::Taken { .. }) && cost > 0);
                Answer { key, answer }
            }
            Entry::Vacant(vacant) => {
                let moment = vacant.moment();
                let mut ring = Ring::new(figures, place.tag);
                let answer = ring.draw(figures, moment, cost);
                // A ring that counts nothing is not worth keeping.
                if ring.is_idle(moment) {
                    return Answer { key, answer };
                }
                if !vacant.reserve(place.is_overflow()) {
                    drop(vacant);
                    return self.spend(&place.overflowed(), figures, now, cost);
                }
                self.changes.note(key, &mut ring, true);
                vacant.insert(Cell(State::Counter(Counter::Window(ring))));
                Answer { key, answer }
            }
        }
    }

    /// Gives back what was spent in a slice of a sliding window.
    pub(super) fn unspend(&self, key: Key, slice: u64, slice_ns: NonZeroU64, cost: u32) {
        if let Some(mut cell) = self.map.get_mut(Kind::Long, key)
            && let Cell(State::Counter(Counter::Window(ring))) = &mut *cell
        {
            ring.refund(slice, slice_ns, cost);
            self.changes.note(key, ring, true);
        }
    }

    /// Tokens that a sliding window counts.
    pub(super) fn counted(&self, key: Key, now: Nanos) -> u64 {
        match self.map.get(Kind::Long, key).as_deref() {
            Some(Cell(State::Counter(Counter::Window(ring)))) => ring.counted(now),
            _ => 0,
        }
    }

    /// What a sliding window would say, as it is; nothing is taken.
    pub(super) fn peek_window(&self, key: Key, figures: &SlidingWindow, now: Nanos, cost: u32) -> Spend {
        match self.map.get(Kind::Long, key).as_deref() {
            Some(Cell(State::Counter(Counter::Window(ring)))) => ring.peek(figures, now, cost),
            _ => Ring::new(figures, 0).draw(figures, now, cost),
        }
    }

    /// Gives a slot back.
    pub(super) fn release(&self, key: Key) {
        if let Some(cell) = self.map.get(Kind::Slots, key)
            && let Cell(State::Counter(Counter::Slots(slots))) = &*cell
        {
            slots.release();
        }
    }

    /// Gives tokens back that were taken when the bucket had counted so many disturbances.
    pub(super) fn refund(&self, key: Key, tokens: &Tokens, disturbances: u16, now: Nanos) {
        if let Some(cell) = self.map.get(Kind::Bucket, key)
            && let Cell(State::Bucket(bucket)) = &*cell
        {
            bucket.refund(tokens, disturbances, now);
        }
    }

    /// The bucket's theoretical arrival time with `figures`, as it is; nothing is taken.
    pub(super) fn peek_tat(&self, key: Key, figures: &Gcra, now: Nanos) -> Nanos {
        match self.map.get(Kind::Bucket, key).as_deref() {
            Some(Cell(State::Bucket(bucket))) => {
                let tat = Nanos(bucket.tat.load(Relaxed));
                if bucket.has(figures) { tat } else { figures.converted(tat, bucket.emission_ns, now) }
            }
            _ => Nanos::ZERO,
        }
    }

    /// A bucket's theoretical arrival time as it stands, whatever figures it was counted with.
    pub(super) fn raw_tat(&self, key: Key) -> Nanos {
        match self.map.get(Kind::Bucket, key).as_deref() {
            Some(Cell(State::Bucket(bucket))) => Nanos(bucket.tat.load(Relaxed)),
            _ => Nanos::ZERO,
        }
    }

    /// Has a bucket stand at `tat`, with these figures: what is known from elsewhere. At the bound a new one is not made.
    pub(super) fn set_tat(&self, place: &Place, figures: &Gcra, now: Nanos, tat: Nanos) {
        if let Some(cell) = self.map.get(Kind::Bucket, place.key)
            && let Cell(State::Bucket(bucket)) = &*cell
            && bucket.has(figures)
        {
            bucket.tat.store(tat.0, Relaxed);
            return;
        }
        match self.map.entry(Kind::Bucket, place.key, now) {
            Entry::Occupied(mut cell) => {
                if let Cell(State::Bucket(bucket)) = &mut *cell {
                    *bucket = Bucket::new(place.tag, tat, figures);
                }
            }
            Entry::Vacant(vacant) => {
                let tat = tat.saturating_add(vacant.moment().since(now));
                if tat > vacant.moment() && vacant.reserve(place.is_overflow()) {
                    vacant.insert(Cell(State::Bucket(Bucket::new(place.tag, tat, figures))));
                }
            }
        }
    }

    /// Slots taken in a partition.
    pub(super) fn peek_slots(&self, key: Key) -> u32 {
        match self.map.get(Kind::Slots, key).as_deref() {
            Some(Cell(State::Counter(Counter::Slots(slots)))) => slots.taken.load(Relaxed),
            _ => 0,
        }
    }

    /// Forgets idle partitions, one shard at a time. Returns how many.
    pub(super) fn sweep(&self, now: Nanos) -> usize {
        let until = Nanos(now.0.saturating_sub(M::SKEW_NS));
        self.map.retain(until, |key, cell| {
            let idle = cell.is_idle(until);
            if idle && let Cell(State::Counter(Counter::Window(ring))) = cell {
                self.changes.note(key, ring, true);
            }
            !idle
        })
    }

    pub(super) fn len(&self) -> usize {
        self.map.count()
    }

    /// Partitions and slots by the short name of their limit.
    pub(super) fn census(&self) -> HashMap<u32, Count> {
        let mut census: HashMap<u32, Count> = HashMap::new();
        self.map.each(|cell| {
            let in_flight = match cell {
                Cell(State::Counter(Counter::Slots(slots))) => slots.taken.load(Relaxed),
                Cell(State::Counter(Counter::Lent(lease))) => lease.used(),
                Cell(State::Bucket(_)) | Cell(State::Counter(Counter::Window(_))) => 0,
            };
            let count = census.entry(cell.tag()).or_default();
            count.partitions += 1;
            count.in_flight += u64::from(in_flight);
        });
        census
    }
}

impl<M: std::fmt::Debug> std::fmt::Debug for Cells<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cells").field("map", &self.map).finish_non_exhaustive()
    }
}
