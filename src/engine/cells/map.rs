//! Where cells are kept: a map for many threads, or one for a single thread, which need not wait for anybody.

use super::cell::Cell;
use crate::engine::class::IdHasher;
use crate::engine::key::Key;
use crate::engine::limiter::Limiter;
use crate::engine::time::Nanos;
use dashmap::DashMap;
use dashmap::mapref::{entry, one};
use std::hash::BuildHasherDefault;
use std::hint::black_box;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What kind of cell, by how long it is of use. All cells of one limit are of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Slots, while one is taken.
    Slots,
    /// A bucket, until it is full.
    Bucket,
    /// What a window counts, and what a store has lent: for up to a month.
    Long,
}

impl Kind {
    /// Of a limit's own cells.
    pub(in crate::engine) fn of(limiter: &Limiter) -> Kind {
        match limiter {
            Limiter::Concurrency(_) => Kind::Slots,
            Limiter::Gcra(_) => Kind::Bucket,
            Limiter::SlidingWindow(_) | Limiter::Allocation(_) => Kind::Long,
        }
    }
}

/// Keeps cells by their keys.
///
/// At a bound on cells, room is asked for before a cell is made. What a guard stands for stays as it is until the guard is gone;
/// a second one of the same thread must not be asked for meanwhile.
pub trait Map {
    /// A cell that others may look at as well.
    type Seen<'m>: Deref<Target = Cell>
    where
        Self: 'm;
    /// A cell that nobody else sees.
    type Found<'m>: DerefMut<Target = Cell>
    where
        Self: 'm;
    /// Where a cell may be made.
    type Vacant<'m>: Vacant
    where
        Self: 'm;

    /// Whether all is done by one thread.
    const IS_ALONE: bool;
    /// Nanoseconds that requests may be late: what has been idle for less is kept, so that each is answered as of its own moment.
    const SKEW_NS: u64;

    /// A map of at most `max` cells, and those that are made in spite of it.
    fn new(max: usize) -> Self;
    /// The moment as of which a request of `now` is decided: that, or a later one until which cells were forgotten.
    fn moment(&self, now: Nanos) -> Nanos;
    /// A cell, if there is one.
    fn get(&self, kind: Kind, key: Key) -> Option<Self::Seen<'_>>;
    /// The same, to change it.
    fn get_mut(&self, kind: Kind, key: Key) -> Option<Self::Found<'_>>;
    /// A cell to change, or where it may be made. What has been idle until `now` may be forgotten for it.
    fn entry(&self, kind: Kind, key: Key, now: Nanos) -> Entry<Self::Found<'_>, Self::Vacant<'_>>;
    /// Takes a cell out.
    fn remove(&self, kind: Kind, key: Key) -> Option<Cell>;
    /// Forgets cells unless they are to be kept, and gives back memory that too few were there for, or are. Those that are forgotten
    /// have been idle since `until` at the latest. Answers how many.
    fn retain(&self, until: Nanos, keep: impl FnMut(Key, &mut Cell) -> bool) -> usize;
    /// Shows all cells.
    fn each(&self, see: impl FnMut(&Cell));
    /// How many there are.
    fn count(&self) -> usize;
    /// Whether those of a kind no longer fit in a core's own caches.
    fn outgrows_caches(&self, kind: Kind) -> bool;
    /// Reads the cells of up to `N` keys into the core's caches all at once. Nothing is changed, nothing is waited for.
    fn warm<const N: usize>(&self, keys: &[(Kind, Key)]);
}

/// A place in a map that no cell has.
pub trait Vacant {
    /// The moment from which on a cell that is made here counts: that of whoever asked, or a later one ([`Map::moment`]). There may have
    /// been one here, and only since then does a new one give the same answers.
    fn moment(&self) -> Nanos;
    /// Takes room for one more cell, if there is any or the cell is made `in_spite` of the bound.
    fn reserve(&self, in_spite: bool) -> bool;
    /// Makes the cell that room was taken for.
    fn insert(self, cell: Cell);
}

/// A key's place in a map.
pub enum Entry<F, V> {
    /// Its cell.
    Occupied(F),
    /// It has none.
    Vacant(V),
}

/// More shards than cores could use: a sweep holds one shard's lock at a time, and with many it holds it briefly.
const SHARDS: usize = 256;

/// The fewest shards of slots: on one core and with their first room they take 13 KB, so that fewer would not be nearer, and a sweep holds
/// the lock of one sixteenth of them at most.
const LEAST_SLOT_SHARDS: usize = 16;

/// Fewer cells of a shard are not worth looking through each time that they are all.
const FEW: usize = 14;

/// Nanoseconds in which a shard of slots is looked through no more than once. If it is full again by then, it grows.
const SLOTS_LOOK_NS: u64 = 1_000_000;

/// So many cells of one kind still fit in a core's own caches (some 700 KiB).
const WARM_FROM: usize = 8_192;

/// Cells of one kind among threads.
type OfKind = DashMap<Key, Cell, BuildHasherDefault<IdHasher>>;

/// The map for many threads: each shard has a lock, and what decides whether a cell is forgotten is looked at under it.
///
/// Each kind is apart from the others, and a shard of slots or buckets that is full forgets what is idle before it takes more memory (slots once
/// a millisecond at most; if they are full again by then, they grow): among a million accounts that seldom ask, slots are as few as those
/// that are taken and those made within a millisecond, and buckets as those that are not full, where the core's caches reach.
pub struct Shards {
    /// By kind.
    kinds: [OfKind; 3],
    len: AtomicUsize,
    /// How many of them are long.
    long: AtomicUsize,
    max: usize,
    /// When each shard of slots was looked through last.
    slots_looked_at: Box<[AtomicU64]>,
    /// Nanoseconds until which cells that time had made idle have been forgotten. It is raised under a shard's lock, or before that is taken,
    /// so that whoever finds a cell gone under that lock knows it.
    forgotten_until: AtomicU64,
}

/// Four for each core that the process may use when it starts, so that requests seldom wait for each other, and no more, so that they fit in a
/// core's own caches.
fn slot_shards() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (4 * cores).next_power_of_two().clamp(LEAST_SLOT_SHARDS, SHARDS)
}

/// A place in [`Shards`].
pub struct VacantShard<'m> {
    entry: entry::VacantEntry<'m, Key, Cell>,
    shards: &'m Shards,
    kind: Kind,
    now: Nanos,
}

impl Shards {
    fn of(&self, kind: Kind) -> &OfKind {
        let [slots, buckets, long] = &self.kinds;
        match kind {
            Kind::Slots => slots,
            Kind::Bucket => buckets,
            Kind::Long => long,
        }
    }

    /// So many of a kind are no longer there.
    fn left(&self, kind: Kind, count: usize) {
        self.len.fetch_sub(count, Relaxed);
        if kind == Kind::Long {
            self.long.fetch_sub(count, Relaxed);
        }
    }

    /// Whether a full shard of slots may be looked through now: not if it was within a millisecond. To be asked under the shard's lock. One
    /// that never was counts as looked through at the epoch.
    fn begin_look(&self, shard: usize, now: Nanos) -> bool {
        let Some(looked_at) = self.slots_looked_at.get(shard) else { return true };
        let may = now.0.saturating_sub(looked_at.load(Relaxed)) >= SLOTS_LOOK_NS;
        if may {
            looked_at.store(now.0, Relaxed);
        }
        may
    }

    /// Has the shard of a key ready for one more cell. One that is full forgets what is idle, and where that is less than a quarter of
    /// it, it gets twice the room: so each cell is looked at a few times at most. One that is small just grows, as do slots that were
    /// looked through within a millisecond, both when the next cell comes.
    fn make_room(&self, kind: Kind, key: Key, now: Nanos) {
        let map = self.of(kind);
        let number = map.determine_shard(map.hash_usize(&key));
        let Some(shard) = map.shards().get(number) else { return };
        let mut cells = shard.write();
        let full = cells.len();
        if full < cells.capacity().max(FEW) || (kind == Kind::Slots && !self.begin_look(number, now)) {
            return;
        }
        let until = Nanos(now.0.saturating_sub(Shards::SKEW_NS));
        let kept: Vec<_> = cells.drain().filter(|(_, cell)| !cell.get().is_idle(until)).collect();
        self.left(kind, full - kept.len());
        // Slots that are free are so at any moment.
        if kind != Kind::Slots && kept.len() < full {
            self.forgotten_until.fetch_max(until.0, Relaxed);
        }
        let hash = |cell: &(Key, _)| cell.0.hash();
        if 4 * kept.len() > 3 * full {
            cells.reserve(full + 1, hash);
        }
        for cell in kept {
            cells.insert(hash(&cell), cell, hash);
        }
    }
}

impl Map for Shards {
    type Seen<'m> = one::Ref<'m, Key, Cell>;
    type Found<'m> = one::RefMut<'m, Key, Cell>;
    type Vacant<'m> = VacantShard<'m>;

    const IS_ALONE: bool = false;
    /// Threads read the clock, then they may have to wait for a core. Who waits for longer is answered as of a later moment
    /// ([`Map::moment`]).
    const SKEW_NS: u64 = 10_000_000;

    fn new(max: usize) -> Shards {
        let of_kind =
            |shards| DashMap::with_capacity_and_hasher_and_shard_amount(0, BuildHasherDefault::default(), shards);
        let slots = slot_shards();
        let slots_looked_at = std::iter::repeat_with(AtomicU64::default).take(slots).collect();
        let (len, long) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Shards {
            kinds: [slots, SHARDS, SHARDS].map(of_kind),
            slots_looked_at,
            len,
            long,
            max,
            forgotten_until: AtomicU64::new(0),
        }
    }

    fn moment(&self, now: Nanos) -> Nanos {
        now.max(Nanos(self.forgotten_until.load(Relaxed)))
    }

    fn get(&self, kind: Kind, key: Key) -> Option<Self::Seen<'_>> {
        self.of(kind).get(&key)
    }

    fn get_mut(&self, kind: Kind, key: Key) -> Option<Self::Found<'_>> {
        self.of(kind).get_mut(&key)
    }

    fn entry(&self, kind: Kind, key: Key, now: Nanos) -> Entry<Self::Found<'_>, VacantShard<'_>> {
        match self.of(kind).entry(key) {
            entry::Entry::Occupied(cell) => Entry::Occupied(cell.into_ref()),
            entry::Entry::Vacant(entry) => Entry::Vacant(VacantShard { entry, shards: self, kind, now }),
        }
    }

    fn remove(&self, kind: Kind, key: Key) -> Option<Cell> {
        let (_, cell) = self.of(kind).remove(&key)?;
        self.left(kind, 1);
        Some(cell)
    }

    fn retain(&self, until: Nanos, mut keep: impl FnMut(Key, &mut Cell) -> bool) -> usize {
        self.forgotten_until.fetch_max(until.0, Relaxed);
        let mut all = 0;
        for kind in [Kind::Slots, Kind::Bucket, Kind::Long] {
            let cells = self.of(kind);
            let (in_use, mut forgotten) = (cells.len(), 0);
            cells.retain(|&key, cell| {
                let is_kept = keep(key, cell);
                forgotten += usize::from(!is_kept);
                is_kept
            });
            // What was in use until now mostly will be again.
            if cells.capacity() > 4 * in_use {
                cells.shrink_to_fit();
            }
            self.left(kind, forgotten);
            all += forgotten;
        }
        all
    }

    fn each(&self, mut see: impl FnMut(&Cell)) {
        self.kinds.iter().flatten().for_each(|cell| see(cell.value()));
    }

    fn count(&self) -> usize {
        self.len.load(Relaxed)
    }

    fn outgrows_caches(&self, kind: Kind) -> bool {
        let long = self.long.load(Relaxed);
        let of_kind = if kind == Kind::Long { long } else { self.count().saturating_sub(long) };
        of_kind >= WARM_FROM
    }

    /// A shard that somebody writes to is left out.
    fn warm<const N: usize>(&self, keys: &[(Kind, Key)]) {
        let mut shards = [const { None }; N];
        for (shard, (kind, key)) in shards.iter_mut().zip(keys) {
            let cells = self.of(*kind);
            let place = cells.determine_shard(cells.hash_usize(key));
            *shard = cells.shards().get(place).and_then(|shard| shard.try_read());
        }
        let mut seen = 0;
        for (shard, (_, key)) in shards.iter().zip(keys) {
            let Some(shard) = shard else { continue };
            if let Some((_, cell)) = shard.get(key.hash(), |(other, _)| other == key) {
                seen ^= cell.get().word();
            }
        }
        black_box(seen);
    }
}

impl Vacant for VacantShard<'_> {
    fn moment(&self) -> Nanos {
        self.shards.moment(self.now)
    }

    fn reserve(&self, in_spite: bool) -> bool {
        let before = self.shards.len.fetch_add(1, Relaxed);
        if self.kind == Kind::Long {
            self.shards.long.fetch_add(1, Relaxed);
        }
        let room = in_spite || before < self.shards.max;
        if !room {
            self.shards.left(self.kind, 1);
        }
        room
    }

    fn insert(self, cell: Cell) {
        let VacantShard { entry, shards, kind, now } = self;
        let key = *entry.key();
        // Let go of at once: nothing else of the shard may be asked for while it stands.
        drop(entry.insert(cell));
        if kind != Kind::Long {
            shards.make_room(kind, key, now);
        }
    }
}

impl std::fmt::Debug for Shards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shards").field("cells", &self.count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests;
