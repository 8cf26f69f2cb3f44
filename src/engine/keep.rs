//! What a store that outlives the process asks of the engine: what has changed, and to take it back.
//!
//! The engine does not know the store. Windows are handed over on the engine's own time axis and under its own keys, so the
//! engine that takes them back must go on with the same axis and have the same seed.

use super::Engine;
use super::cells::PartitionKey;
use super::limiter::SlidingWindow;
use super::limiter::sliding_window::SavedWindow;
use super::time::Nanos;
use std::time::Duration;

impl Engine {
    /// From now on changes of sliding windows at least `min_window` long are noted for [`export`](Engine::export). Without
    /// this nothing is noted. Costs other limiters nothing.
    pub fn follow_windows(&self, min_window: Duration) {
        self.cells().follow(SlidingWindow::new(1, min_window).slice_ns().get());
    }

    /// Hands every window that has changed since the last call to `each`, as it is now; `None` for one that was forgotten,
    /// as it counts nothing any more. Holds one partition's lock at a time.
    pub fn export(&self, each: impl FnMut(PartitionKey, Option<&SavedWindow>)) {
        self.cells().export(each);
    }

    /// Whether [`export`](Engine::export) has something to tell.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.cells().has_changes()
    }

    /// Has the next [`export`](Engine::export) tell of every window, for a store that has lost what it was told.
    pub fn export_all_next(&self) {
        self.cells().mark_all_changed();
    }

    /// Takes a saved window back. `false` when it was not taken: it counts nothing any more at `now`, no engine has made it,
    /// or the partition has state already. Beyond `max_partitions` it is taken all the same.
    pub fn import(&self, key: PartitionKey, window: &SavedWindow, now: Nanos) -> bool {
        self.cells().import(key, window, now)
    }
}
