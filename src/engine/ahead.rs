//! Cells read into the core's caches before they are asked. Nothing is decided here, and no answer depends on it.

use super::cells::{Kind, Map, WARM, WARM_AHEAD};
use super::key::Key;
use super::leasing::Manner;
use super::limiter::Limiter;
use super::policy::{Policy, Stage, Which};
use super::{Engine, Query, payers};
use crate::engine::class::RequestClass;
use crate::engine::time::Nanos;

impl<M: Map> Engine<M> {
    /// Has the cells that these requests are about to meet at hand, so that they wait for main memory together. Requests that
    /// begin within microseconds of each other gain by it, others lose nothing but the time.
    pub fn read_ahead(&self, policy: &Policy, classes: impl Iterator<Item = RequestClass>) {
        if !self.cells.outgrow_caches() {
            return;
        }
        let mut keys = [(Kind::Slots, Key::ZERO); WARM_AHEAD];
        let mut used = 0;
        for class in classes {
            let query = Query { policy, class: &class, now: Nanos::ZERO, manner: Manner::Alone, told: &[] };
            for key in self.keys(&query) {
                if let Some(place) = keys.get_mut(used) {
                    *place = key;
                    used += 1;
                }
            }
            if used + WARM > WARM_AHEAD {
                self.cells.warm::<WARM_AHEAD>(keys.get(..used).unwrap_or_default());
                used = 0;
            }
        }
        self.cells.warm::<WARM_AHEAD>(keys.get(..used).unwrap_or_default());
    }

    /// Has the cells of all stages at hand before the first is asked, so that a request among millions of accounts waits for
    /// main memory once.
    pub(super) fn warm(&self, query: &Query<'_>) {
        if !self.cells.is_large() {
            return;
        }
        let mut keys = [(Kind::Slots, Key::ZERO); WARM];
        let mut used = 0;
        for (place, key) in keys.iter_mut().zip(self.keys(query)) {
            *place = key;
            used += 1;
        }
        self.cells.warm::<WARM>(keys.get(..used).unwrap_or_default());
    }

    /// The partitions of all stages that a request meets, as far as they are not at hand.
    fn keys<'q>(&'q self, query: &'q Query<'q>) -> impl Iterator<Item = (Kind, Key)> + 'q {
        let listed = Stage::ALL.into_iter().flat_map(|stage| query.policy.listed(stage, query.class));
        let apply = listed.filter(|&&id| query.policy.applies(id, query.class).is_ok());
        let asked = apply.flat_map(|&id| {
            let (first, second) = payers(query.policy.limit(id), query.class);
            std::iter::once(first).chain(second).map(move |payer| (id, payer.account))
        });
        asked.flat_map(move |(id, account)| {
            let limiter = &query.policy.limit(id).limiter;
            let kind = Some(Kind::of(limiter)).filter(|&kind| self.cells.is_far(kind));
            let own = kind.map(|kind| (kind, self.place(query, id, Which::InForce, account).key));
            let earned = own.filter(|_| matches!(limiter, Limiter::Allocation(_)));
            own.into_iter().chain(earned.map(|(kind, key)| (kind, key.of_transactions())))
        })
    }
}
