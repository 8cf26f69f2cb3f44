//! The store's part, as plainly as it can be written.

use crate::engine::lease::{Answer, Ask};
use crate::engine::limiter::{Gcra, Limiter};
use crate::engine::time::Nanos;
use std::collections::HashMap;

/// One partition in the store.
pub(super) struct Central {
    limiter: Limiter,
    tat: Nanos,
    /// What a window counts: the slice and how many.
    counts: HashMap<u64, u64>,
    /// Slots of each gateway, and until when.
    slots: HashMap<usize, (u64, Nanos)>,
    slot_ttl_ns: u64,
    pub(super) calls: u64,
}

impl Central {
    pub(super) fn new(limiter: Limiter, slot_ttl_ns: u64) -> Central {
        let (counts, slots) = (HashMap::new(), HashMap::new());
        Central { limiter, tat: Nanos::ZERO, counts, slots, slot_ttl_ns, calls: 0 }
    }

    pub(super) fn ask(&mut self, gateway: usize, ask: &Ask, now: Nanos) -> Answer {
        self.calls += 1;
        match self.limiter {
            Limiter::Gcra(figures) => self.bucket(&figures, ask, now),
            Limiter::SlidingWindow(figures) => {
                let slice_ns = figures.slice_ns().get();
                let slice = now.0 / slice_ns;
                self.counts.retain(|&from, _| from + 64 > slice);
                let mut back = ask.back;
                for from in ask.slice..=slice {
                    let count = self.counts.entry(from).or_default();
                    let less = back.min(*count);
                    *count -= less;
                    back -= less;
                }
                let total: u64 = self.counts.values().sum();
                let free = u64::from(figures.limit()).saturating_sub(total);
                let lent = given(free, ask);
                *self.counts.entry(slice).or_default() += lent;
                let first = self.counts.iter().filter(|(_, count)| **count > 0).map(|(slice, _)| *slice).min();
                let wait_ns = first.map_or(0, |first| ((first + 64) * slice_ns).saturating_sub(now.0));
                Answer { lent, lacks: total + lent, slice, wait_ns: if lent == 0 { wait_ns } else { 0 } }
            }
            Limiter::Concurrency(figures) => {
                self.slots.retain(|_, (_, until)| *until > now);
                self.slots.remove(&gateway);
                let others: u64 = self.slots.values().map(|(held, _)| held).sum();
                let lent = given(u64::from(figures.slots).saturating_sub(others + ask.slots), ask);
                self.slots.insert(gateway, (ask.slots + lent, now.saturating_add(self.slot_ttl_ns)));
                Answer { lent, lacks: others + ask.slots + lent, slice: 0, wait_ns: 0 }
            }
            Limiter::Allocation(_) => unreachable!(),
        }
    }

    fn bucket(&mut self, figures: &Gcra, ask: &Ask, now: Nanos) -> Answer {
        let lacks = self.tat.since(now).saturating_add(ask.owed).min(figures.depth_ns()).saturating_sub(ask.back);
        let free = figures.depth_ns().saturating_sub(lacks) / figures.emission_ns();
        let lent = given(free, ask);
        let lacks = lacks + lent * figures.emission_ns().get();
        self.tat = now.saturating_add(lacks);
        Answer { lent, lacks, slice: 0, wait_ns: 0 }
    }
}

fn given(free: u64, ask: &Ask) -> u64 {
    let given = free.min(ask.want);
    if given < ask.least { 0 } else { given }
}
