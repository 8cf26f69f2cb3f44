//! Cells read into the core's caches before they are asked.

use super::{Cells, Key, Kind, Map};

/// How many cells [`Cells::warm`] reads at once for one request.
pub(in crate::engine) const WARM: usize = 8;

/// How many it reads at once for several.
pub(in crate::engine) const WARM_AHEAD: usize = 32;

impl<M: Map> Cells<M> {
    /// Whether a request's cells are worth reading before it meets them: nobody has done so, and they may be anywhere.
    pub(in crate::engine) fn is_large(&self) -> bool {
        !M::IS_ALONE && self.outgrow_caches()
    }

    /// Whether the cells of some kind no longer fit in a core's own caches.
    pub(in crate::engine) fn outgrow_caches(&self) -> bool {
        self.is_far(Kind::Long) || self.is_far(Kind::Bucket)
    }

    /// Whether the cells of a kind are worth reading ahead. Slots are few wherever there are threads, and at hand.
    pub(in crate::engine) fn is_far(&self, kind: Kind) -> bool {
        (M::IS_ALONE || kind != Kind::Slots) && self.map.outgrows_caches(kind)
    }

    /// Reads the cells of up to `N` keys into the core's caches all at once. Taking from them one after the other would
    /// wait for main memory once a cell: an atomic change lets no later read begin before it.
    pub(in crate::engine) fn warm<const N: usize>(&self, keys: &[(Kind, Key)]) {
        self.map.warm::<N>(keys);
    }
}
