//! Which windows have changed since they were last saved, for a store that outlives the process.
//!
//! A changed window's key is listed once, when the first change makes it so: a save visits what has changed and nothing else.
//! Only sliding windows that are long enough are followed. Buckets and slots never come here.
//!
//! The list is locked last: whoever holds it takes no shard's lock. It holds at most one key for each window there is, and
//! one for each that was forgotten since the last save.

use super::cell::{Cell, Counter, State};
use super::map::{Entry, Kind, Map, Vacant};
use super::{Cells, Key, Ring};
use crate::engine::class::Id;
use crate::engine::limiter::sliding_window::SavedWindow;
use crate::engine::time::Nanos;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// A partition's key as a store keeps it. It means something only to an engine of the same seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey(pub [u8; 16]);

impl From<Key> for PartitionKey {
    fn from(key: Key) -> PartitionKey {
        let [high, low] = key.id().0;
        PartitionKey(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
    }
}

impl From<PartitionKey> for Key {
    fn from(key: PartitionKey) -> Key {
        let whole = u128::from_be_bytes(key.0);
        Key::from_id(Id([(whole >> 64) as u64, whole as u64]))
    }
}

/// What has changed.
pub(super) struct Changes {
    /// Windows with slices at least this long are followed.
    min_slice_ns: AtomicU64,
    keys: Mutex<Vec<Key>>,
}

impl Default for Changes {
    fn default() -> Changes {
        Changes { min_slice_ns: AtomicU64::new(u64::MAX), keys: Mutex::default() }
    }
}

impl Changes {
    /// Notes that a window has changed, when it is one that is followed.
    pub(super) fn note(&self, key: Key, ring: &mut Ring, changed: bool) {
        if changed && self.follows(ring) && !ring.set_changed(true) {
            self.keys.lock().unwrap_or_else(PoisonError::into_inner).push(key);
        }
    }

    fn follows(&self, ring: &Ring) -> bool {
        ring.slice_ns().get() >= self.min_slice_ns.load(Relaxed)
    }

    fn take(&self) -> Vec<Key> {
        std::mem::take(&mut *self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<M: Map> Cells<M> {
    /// From now on windows with slices of at least `min_slice_ns` are followed.
    pub(in crate::engine) fn follow(&self, min_slice_ns: u64) {
        self.changes.min_slice_ns.store(min_slice_ns, Relaxed);
    }

    /// Hands every change since the last call to `each`: the window as it is now, or nothing where it was forgotten.
    pub(in crate::engine) fn export(&self, mut each: impl FnMut(PartitionKey, Option<&SavedWindow>)) {
        let mut saved = SavedWindow::default();
        for key in self.changes.take() {
            let window = self.map.get_mut(Kind::Long, key).is_some_and(|mut cell| match &mut *cell {
                Cell(State::Counter(Counter::Window(ring))) => {
                    ring.set_changed(false);
                    ring.save(&mut saved);
                    true
                }
                Cell(State::Bucket(_)) | Cell(State::Counter(_)) => false,
            });
            each(key.into(), window.then_some(&saved));
        }
    }

    /// Whether there is anything to export.
    pub(in crate::engine) fn has_changes(&self) -> bool {
        !self.changes.keys.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Counts every followed window as changed, for a store that has lost track. One shard at a time.
    pub(in crate::engine) fn mark_all_changed(&self) {
        // Nothing is forgotten.
        self.map.retain(Nanos::ZERO, |key, cell| {
            if let Cell(State::Counter(Counter::Window(ring))) = cell {
                self.changes.note(key, ring, true);
            }
            true
        });
    }

    /// Puts a saved window in its place. `false`: it counts nothing any more, is not sound, or its place is taken.
    pub(in crate::engine) fn import(&self, key: PartitionKey, saved: &SavedWindow, now: Nanos) -> bool {
        let Some(ring) = Ring::restored(saved, now).filter(|ring| !ring.is_idle(now)) else { return false };
        let Entry::Vacant(vacant) = self.map.entry(Kind::Long, key.into(), now) else { return false };
        // Whatever was saved had room once. Leaving some of it out would free it.
        vacant.reserve(true);
        vacant.insert(Cell(State::Counter(Counter::Window(ring))));
        true
    }
}
