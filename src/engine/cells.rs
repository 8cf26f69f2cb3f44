//! Where the counts are: one map for all limits, from a 128-bit partition key to a cell of 24 bytes.
//!
//! Invariants:
//! - A cell changes by compare-exchange under a shard's read lock; it is made, converted to new figures and removed under the
//!   write lock. So nobody sees half a cell, and no request meets a cell that is being forgotten.
//! - A cell is forgotten only when a new one would give the same answers: a bucket full for a second already, no slot taken.
//! - At most `max` cells, and the overflow cells. At that bound a partition that is new shares one overflow cell with all other
//!   new partitions of its limit and mode: strict, never a fresh bucket.
//!
//! Every atomic stands for itself (no other memory is published through it), so all orderings are relaxed.

mod changes;
mod lent;
mod warm;

pub use changes::PartitionKey;
pub(super) use warm::{WARM, WARM_AHEAD};

use super::class::IdHasher;
use super::key::{Key, Place};
use super::lease::Lease;
use super::limiter::gcra::{Draw, Tokens};
use super::limiter::sliding_window::{Ring, Spend};
use super::limiter::{Concurrency, Gcra, SlidingWindow};
use super::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use super::time::Nanos;
use changes::Changes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use dashmap::mapref::one::Ref;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::num::NonZeroU64;
use std::sync::atomic::AtomicUsize;

/// The state of one partition.
enum Cell {
    Bucket(Bucket),
    Counter(Counter),
}

/// The smaller states.
enum Counter {
    Slots(Slots),
    Window(Ring),
    /// Of a partition that a shared store counts.
    Lent(Box<Lease>),
}

// The discriminant costs nothing: it is the value 0 of an emission interval. A million cells are worth watching.
const _: () = assert!(size_of::<Cell>() <= 24 || cfg!(feature = "model-check"));

impl Cell {
    fn word(&self) -> u64 {
        match self {
            Cell::Bucket(bucket) => bucket.tat.load(Relaxed),
            Cell::Counter(Counter::Slots(slots)) => u64::from(slots.taken.load(Relaxed)),
            Cell::Counter(Counter::Window(ring)) => u64::from(ring.tag()),
            Cell::Counter(Counter::Lent(lease)) => u64::from(lease.tag()),
        }
    }

    fn tag(&self) -> u32 {
        match self {
            Cell::Bucket(bucket) => bucket.tag,
            Cell::Counter(Counter::Slots(slots)) => slots.tag,
            Cell::Counter(Counter::Window(ring)) => ring.tag(),
            Cell::Counter(Counter::Lent(lease)) => lease.tag(),
        }
    }

    fn is_idle(&self, now: Nanos) -> bool {
        match self {
            Cell::Bucket(bucket) => bucket.tat.load(Relaxed) <= now.0,
            Cell::Counter(Counter::Slots(slots)) => slots.taken.load(Relaxed) == 0,
            Cell::Counter(Counter::Window(ring)) => ring.is_idle(now),
            Cell::Counter(Counter::Lent(lease)) => lease.is_idle(now),
        }
    }
}

/// A token bucket's state.
struct Bucket {
    tat: AtomicU64,
    /// The figures that `tat` was counted with; others convert it first. Bursts from `u16::MAX` on are not told apart: after a
    /// reload from one such burst to another, what was spent is not cut to the new burst.
    emission_ns: NonZeroU64,
    burst: u16,
    /// How often `tat` was lowered by anything but the undoing of the last draw, see [`Tokens::refund_ns`]. It wraps.
    disturbances: AtomicU16,
    tag: u32,
}

/// What a draw on a bucket did.
pub(super) struct Drawn {
    pub(super) draw: Draw,
    /// The bucket's count of them, read before the draw.
    pub(super) disturbances: u16,
}

impl Bucket {
    fn new(tag: u32, tat: Nanos, figures: &Gcra) -> Bucket {
        Bucket {
            tat: AtomicU64::new(tat.0),
            emission_ns: figures.emission_ns(),
            burst: kept_burst(figures),
            // Begins anywhere, so that a hold on a cell that was forgotten takes a new one for disturbed.
            disturbances: AtomicU16::new((tat.0 ^ tat.0 >> 16 ^ tat.0 >> 32) as u16),
            tag,
        }
    }

    fn has(&self, figures: &Gcra) -> bool {
        self.emission_ns == figures.emission_ns() && self.burst == kept_burst(figures)
    }

    fn convert(&mut self, figures: &Gcra, now: Nanos) {
        let tat = Nanos(self.tat.load(Relaxed));
        self.tat.store(figures.converted(tat, self.emission_ns, now).0, Relaxed);
        self.emission_ns = figures.emission_ns();
        self.burst = kept_burst(figures);
        self.disturbances.fetch_add(1, Relaxed);
    }

    fn draw(&self, figures: &Gcra, now: Nanos, cost: u32) -> Drawn {
        let disturbances = self.disturbances.load(Relaxed);
        let mut seen = self.tat.load(Relaxed);
        loop {
            let draw = figures.draw(Nanos(seen), now, cost);
            let Draw::Taken { tat } = draw else { return Drawn { draw, disturbances } };
            match self.tat.compare_exchange_weak(seen, tat.0, Relaxed, Relaxed) {
                Ok(_) => return Drawn { draw, disturbances },
                Err(newer) => seen = newer,
            }
        }
    }

    fn refund(&self, tokens: &Tokens, disturbances: u16, now: Nanos) {
        let disturbed = self.disturbances.load(Relaxed) != disturbances;
        let refund_ns = tokens.refund_ns(self.emission_ns, now, disturbed);
        if refund_ns == 0 {
            return;
        }
        let before = self.tat.fetch_update(Relaxed, Relaxed, |tat| Some(tat.saturating_sub(refund_ns)));
        // Who drew after this request counts on a `tat` that is lower now. Told after the fact: in the moment between, another
        // refund may not know yet, but none of the time has passed that would make it too generous.
        if before != Ok(tokens.tat_after.0) {
            self.disturbances.fetch_add(1, Relaxed);
        }
    }
}

fn kept_burst(figures: &Gcra) -> u16 {
    u16::try_from(figures.burst()).unwrap_or(u16::MAX)
}

/// A concurrency limit's state.
struct Slots {
    taken: AtomicU32,
    tag: u32,
}

impl Slots {
    /// The count with the new slot, or `None` when all are taken.
    fn take(&self, figures: Concurrency) -> Option<u32> {
        self.taken.fetch_update(Relaxed, Relaxed, |taken| figures.take(taken)).ok().map(|before| before + 1)
    }

    fn release(&self) {
        let _ = self.taken.fetch_update(Relaxed, Relaxed, |taken| taken.checked_sub(1));
    }
}

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
pub(super) struct Cells {
    map: DashMap<Key, Cell, BuildHasherDefault<IdHasher>>,
    len: AtomicUsize,
    max: usize,
    /// Whether all is done by one thread, which reads cells ahead of the requests that meet them.
    one_thread: bool,
    /// How far a request's `now` may lie behind a sweep's.
    skew_ns: u64,
    /// Cells whose room is kept when they are forgotten.
    kept: usize,
    /// Windows that a store has yet to hear of.
    changes: Changes,
}

/// How far a request's `now` may lie behind a sweep's where there are threads: they read the clock, then they may have to wait for a core. A bucket
/// that is full for the sweep but not yet for such a request is kept.
const SKEW_NS: u64 = 1_000_000_000;

/// More shards than cores could use: a sweep holds one shard's lock at a time, and with many it holds it briefly.
const SHARDS: usize = 256;
/// For one thread, which waits for nobody: the locks alone of 256 fill half of a core's first cache.
const SHARDS_OF_ONE_THREAD: usize = 2;
/// What one thread forgets in one moment it makes anew in the next.
const KEPT_BY_ONE_THREAD: usize = 16_384;

impl Cells {
    pub(super) fn new(max: usize) -> Cells {
        Cells::with_shards(max, SHARDS)
    }

    /// For one thread only, whose time never goes back, and which reads them ahead and sweeps often.
    pub(super) fn for_one_thread(max: usize) -> Cells {
        Cells {
            one_thread: true,
            skew_ns: 0,
            kept: KEPT_BY_ONE_THREAD,
            ..Cells::with_shards(max, SHARDS_OF_ONE_THREAD)
        }
    }

    fn with_shards(max: usize, shards: usize) -> Cells {
        let map = DashMap::with_capacity_and_hasher_and_shard_amount(0, BuildHasherDefault::default(), shards);
        let (len, changes) = (AtomicUsize::new(0), Changes::default());
        Cells { map, len, max, one_thread: false, skew_ns: SKEW_NS, kept: 0, changes }
    }

    /// The cell of a partition, under a lock that others may hold as well. One thread keeps nobody waiting: it goes to where cells
    /// are made, which finds those that there are by the same search.
    fn shared(&self, key: Key) -> Option<Ref<'_, Key, Cell>> {
        if self.one_thread { None } else { self.map.get(&key) }
    }

    /// Takes `cost` tokens from a bucket.
    pub(super) fn draw(&self, place: &Place, figures: &Gcra, now: Nanos, cost: u32) -> Answer<Drawn> {
        if let Some(cell) = self.shared(place.key)
            && let Cell::Bucket(bucket) = cell.value()
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
        let draw = figures.draw(Nanos::ZERO, now, cost);
        let fresh = Drawn { draw, disturbances: 0 };
        match self.map.entry(key) {
            Entry::Occupied(mut cell) => {
                let Cell::Bucket(bucket) = cell.get_mut() else { return Answer { key, answer: fresh } };
                // Another thread may have converted it meanwhile: only once, since it rounds.
                if !bucket.has(figures) {
                    bucket.convert(figures, now);
                }
                Answer { key, answer: bucket.draw(figures, now, cost) }
            }
            Entry::Vacant(vacant) => {
                // A cell that would be idle at once is not worth making.
                let Draw::Taken { tat } = draw else { return Answer { key, answer: fresh } };
                if tat <= now {
                    return Answer { key, answer: fresh };
                }
                if !self.reserve(place) {
                    drop(vacant);
                    return self.draw(&place.overflowed(), figures, now, cost);
                }
                let bucket = Bucket::new(place.tag, tat, figures);
                let disturbances = bucket.disturbances.load(Relaxed);
                vacant.insert(Cell::Bucket(bucket));
                Answer { key, answer: Drawn { draw, disturbances } }
            }
        }
    }

    /// Takes one slot; answers the count with it, or `None` when all are taken.
    pub(super) fn take_slot(&self, place: &Place, figures: Concurrency) -> Answer<Option<u32>> {
        if let Some(cell) = self.shared(place.key)
            && let Cell::Counter(Counter::Slots(slots)) = cell.value()
        {
            return Answer { key: place.key, answer: slots.take(figures) };
        }
        self.take_slot_exclusively(place, figures)
    }

    #[inline(never)]
    fn take_slot_exclusively(&self, place: &Place, figures: Concurrency) -> Answer<Option<u32>> {
        let key = place.key;
        match self.map.entry(key) {
            Entry::Occupied(cell) => match cell.get() {
                Cell::Counter(Counter::Slots(slots)) => Answer { key, answer: slots.take(figures) },
                Cell::Bucket(_) | Cell::Counter(_) => Answer { key, answer: None },
            },
            Entry::Vacant(vacant) => {
                let Some(taken) = figures.take(0) else { return Answer { key, answer: None } };
                if !self.reserve(place) {
                    drop(vacant);
                    return self.take_slot(&place.overflowed(), figures);
                }
                let slots = Slots { taken: AtomicU32::new(taken), tag: place.tag };
                vacant.insert(Cell::Counter(Counter::Slots(slots)));
                Answer { key, answer: Some(taken) }
            }
        }
    }

    /// Takes `cost` tokens from a sliding window. Always under the shard's write lock: a ring is more than one word.
    pub(super) fn spend(&self, place: &Place, figures: &SlidingWindow, now: Nanos, cost: u32) -> Answer<Spend> {
        let key = place.key;
        match self.map.entry(key) {
            Entry::Occupied(mut cell) => {
                let Cell::Counter(Counter::Window(ring)) = cell.get_mut() else {
                    return Answer { key, answer: Spend::Refused { retry_at: None } };
                };
                let answer = ring.draw(figures, now, cost);
                self.changes.note(key, ring, matches!(answer, Spend::Taken { .. }) && cost > 0);
                Answer { key, answer }
            }
            Entry::Vacant(vacant) => {
                let mut ring = Ring::new(figures, place.tag);
                let answer = ring.draw(figures, now, cost);
                // A ring that counts nothing is not worth keeping.
                if ring.is_idle(now) {
                    return Answer { key, answer };
                }
                if !self.reserve(place) {
                    drop(vacant);
                    return self.spend(&place.overflowed(), figures, now, cost);
                }
                self.changes.note(key, &mut ring, true);
                vacant.insert(Cell::Counter(Counter::Window(ring)));
                Answer { key, answer }
            }
        }
    }

    /// Gives back what was spent in a slice of a sliding window.
    pub(super) fn unspend(&self, key: Key, slice: u64, slice_ns: NonZeroU64, cost: u32) {
        if let Some(mut cell) = self.map.get_mut(&key)
            && let Cell::Counter(Counter::Window(ring)) = cell.value_mut()
        {
            ring.refund(slice, slice_ns, cost);
            self.changes.note(key, ring, true);
        }
    }

    /// Tokens that a sliding window counts.
    pub(super) fn counted(&self, key: Key, now: Nanos) -> u64 {
        match self.map.get(&key).as_deref() {
            Some(Cell::Counter(Counter::Window(ring))) => ring.counted(now),
            _ => 0,
        }
    }

    /// What a sliding window would say, as it is; nothing is taken.
    pub(super) fn peek_window(&self, key: Key, figures: &SlidingWindow, now: Nanos, cost: u32) -> Spend {
        match self.map.get(&key).as_deref() {
            Some(Cell::Counter(Counter::Window(ring))) => ring.peek(figures, now, cost),
            _ => Ring::new(figures, 0).draw(figures, now, cost),
        }
    }

    /// Gives a slot back.
    pub(super) fn release(&self, key: Key) {
        if let Some(cell) = self.map.get(&key)
            && let Cell::Counter(Counter::Slots(slots)) = cell.value()
        {
            slots.release();
        }
    }

    /// Gives tokens back that were taken when the bucket had counted so many disturbances.
    pub(super) fn refund(&self, key: Key, tokens: &Tokens, disturbances: u16, now: Nanos) {
        if let Some(cell) = self.map.get(&key)
            && let Cell::Bucket(bucket) = cell.value()
        {
            bucket.refund(tokens, disturbances, now);
        }
    }

    /// The bucket's theoretical arrival time with `figures`, as it is; nothing is taken.
    pub(super) fn peek_tat(&self, key: Key, figures: &Gcra, now: Nanos) -> Nanos {
        match self.map.get(&key).as_deref() {
            Some(Cell::Bucket(bucket)) => {
                let tat = Nanos(bucket.tat.load(Relaxed));
                if bucket.has(figures) { tat } else { figures.converted(tat, bucket.emission_ns, now) }
            }
            _ => Nanos::ZERO,
        }
    }

    /// A bucket's theoretical arrival time as it stands, whatever figures it was counted with.
    pub(super) fn raw_tat(&self, key: Key) -> Nanos {
        match self.map.get(&key).as_deref() {
            Some(Cell::Bucket(bucket)) => Nanos(bucket.tat.load(Relaxed)),
            _ => Nanos::ZERO,
        }
    }

    /// Has a bucket stand at `tat`, with these figures: what is known from elsewhere. At the bound a new one is not made.
    pub(super) fn set_tat(&self, place: &Place, figures: &Gcra, now: Nanos, tat: Nanos) {
        if let Some(cell) = self.map.get(&place.key)
            && let Cell::Bucket(bucket) = cell.value()
            && bucket.has(figures)
        {
            bucket.tat.store(tat.0, Relaxed);
            return;
        }
        match self.map.entry(place.key) {
            Entry::Occupied(mut cell) => {
                if let Cell::Bucket(bucket) = cell.get_mut() {
                    *bucket = Bucket::new(place.tag, tat, figures);
                }
            }
            Entry::Vacant(vacant) => {
                if tat > now && self.reserve(place) {
                    vacant.insert(Cell::Bucket(Bucket::new(place.tag, tat, figures)));
                }
            }
        }
    }

    /// Slots taken in a partition.
    pub(super) fn peek_slots(&self, key: Key) -> u32 {
        match self.map.get(&key).as_deref() {
            Some(Cell::Counter(Counter::Slots(slots))) => slots.taken.load(Relaxed),
            _ => 0,
        }
    }

    /// Forgets idle partitions, one shard at a time. Returns how many.
    pub(super) fn sweep(&self, now: Nanos) -> usize {
        let now = Nanos(now.0.saturating_sub(self.skew_ns));
        let mut forgotten = 0;
        self.map.retain(|&key, cell| {
            let idle = cell.is_idle(now);
            forgotten += usize::from(idle);
            if idle && let Cell::Counter(Counter::Window(ring)) = cell {
                self.changes.note(key, ring, true);
            }
            !idle
        });
        self.len.fetch_sub(forgotten, Relaxed);
        if self.map.capacity() > 4 * self.map.len().max(self.kept) {
            self.map.shrink_to_fit();
        }
        forgotten
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Partitions and slots by the short name of their limit.
    pub(super) fn census(&self) -> HashMap<u32, Count> {
        let mut census: HashMap<u32, Count> = HashMap::new();
        for cell in &self.map {
            let in_flight = match cell.value() {
                Cell::Counter(Counter::Slots(slots)) => slots.taken.load(Relaxed),
                Cell::Counter(Counter::Lent(lease)) => lease.used(),
                Cell::Bucket(_) | Cell::Counter(Counter::Window(_)) => 0,
            };
            let count = census.entry(cell.tag()).or_default();
            count.partitions += 1;
            count.in_flight += u64::from(in_flight);
        }
        census
    }

    /// Room for one more cell; overflow cells (one a limit and mode) always have room.
    fn reserve(&self, place: &Place) -> bool {
        let before = self.len.fetch_add(1, Relaxed);
        let room = before < self.max || place.key == place.overflow;
        if !room {
            self.len.fetch_sub(1, Relaxed);
        }
        room
    }
}

impl std::fmt::Debug for Cells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cells").field("partitions", &self.len()).finish_non_exhaustive()
    }
}
