//! Cells read into the core's caches before they are asked.

use super::{Cells, Key};
use crate::engine::sync::Ordering::Relaxed;
use std::hint::black_box;

/// How many cells [`Cells::warm`] reads at once for one request.
pub(in crate::engine) const WARM: usize = 8;

/// How many it reads at once for several.
pub(in crate::engine) const WARM_AHEAD: usize = 32;

/// So many cells still fit in a core's own caches (some 700 KiB).
const WARM_FROM: usize = 8_192;

impl Cells {
    /// Whether a request's cells are worth reading before it meets them: nobody has done so, and they may be anywhere.
    pub(in crate::engine) fn is_large(&self) -> bool {
        !self.one_thread && self.outgrow_caches()
    }

    /// Whether the cells no longer fit in a core's own caches.
    pub(in crate::engine) fn outgrow_caches(&self) -> bool {
        self.len.load(Relaxed) >= WARM_FROM
    }

    /// Reads the cells of up to `N` keys into the core's caches all at once. Taking from them one after the other would
    /// wait for main memory once a cell: an atomic change lets no later read begin before it. Nothing is changed, nothing is
    /// waited for; a shard that somebody writes to is left out.
    pub(in crate::engine) fn warm<const N: usize>(&self, keys: &[Key]) {
        let mut shards = [const { None }; N];
        for (shard, key) in shards.iter_mut().zip(keys) {
            let place = self.map.determine_shard(self.map.hash_usize(key));
            *shard = self.map.shards().get(place).and_then(|shard| shard.try_read());
        }
        let mut seen = 0;
        for (shard, key) in shards.iter().zip(keys) {
            let Some(shard) = shard else { continue };
            if let Some((_, cell)) = shard.get(key.hash(), |(other, _)| other == key) {
                seen ^= cell.get().word();
            }
        }
        black_box(seen);
    }
}
