//! The state of one partition: a bucket's one word, slots taken, a window, or a lease.

use crate::engine::lease::Lease;
use crate::engine::limiter::gcra::{Draw, Tokens};
use crate::engine::limiter::sliding_window::Ring;
use crate::engine::limiter::{Concurrency, Gcra};
use crate::engine::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use crate::engine::time::Nanos;
use std::num::NonZeroU64;

/// The state of one partition.
pub struct Cell(pub(super) State);

/// What it counts.
pub(super) enum State {
    Bucket(Bucket),
    Counter(Counter),
}

/// The smaller states.
pub(super) enum Counter {
    Slots(Slots),
    Window(Ring),
    /// Of a partition that a shared store counts.
    Lent(Box<Lease>),
}

// The discriminant costs nothing: it is the value 0 of an emission interval. A million cells are worth watching.
const _: () = assert!(size_of::<Cell>() <= 24 || cfg!(feature = "model-check"));

impl Cell {
    /// What stands where no cell is.
    pub(super) fn vacant() -> Cell {
        Cell(State::Counter(Counter::Slots(Slots { taken: AtomicU32::new(0), tag: 0 })))
    }

    /// Something of it, for whoever wants it at hand.
    pub(super) fn word(&self) -> u64 {
        match self {
            Cell(State::Bucket(bucket)) => bucket.tat.load(Relaxed),
            Cell(State::Counter(Counter::Slots(slots))) => u64::from(slots.taken.load(Relaxed)),
            Cell(State::Counter(Counter::Window(ring))) => ring.word(),
            Cell(State::Counter(Counter::Lent(lease))) => u64::from(lease.tag()),
        }
    }

    pub(super) fn tag(&self) -> u32 {
        match self {
            Cell(State::Bucket(bucket)) => bucket.tag,
            Cell(State::Counter(Counter::Slots(slots))) => slots.tag,
            Cell(State::Counter(Counter::Window(ring))) => ring.tag(),
            Cell(State::Counter(Counter::Lent(lease))) => lease.tag(),
        }
    }

    pub(super) fn is_idle(&self, now: Nanos) -> bool {
        match self {
            Cell(State::Bucket(bucket)) => bucket.tat.load(Relaxed) <= now.0,
            Cell(State::Counter(Counter::Slots(slots))) => slots.taken.load(Relaxed) == 0,
            Cell(State::Counter(Counter::Window(ring))) => ring.is_idle(now),
            Cell(State::Counter(Counter::Lent(lease))) => lease.is_idle(now),
        }
    }
}

/// A token bucket's state.
pub(super) struct Bucket {
    pub(super) tat: AtomicU64,
    /// The figures that `tat` was counted with; others convert it first. Bursts from `u16::MAX` on are not told apart: after a
    /// reload from one such burst to another, what was spent is not cut to the new burst.
    pub(super) emission_ns: NonZeroU64,
    burst: u16,
    /// How often `tat` was lowered by anything but the undoing of the last draw, see [`Tokens::refund_ns`]. It wraps.
    pub(super) disturbances: AtomicU16,
    tag: u32,
}

/// What a draw on a bucket did.
pub(in crate::engine) struct Drawn {
    pub(in crate::engine) draw: Draw,
    /// The bucket's count of them, read before the draw.
    pub(in crate::engine) disturbances: u16,
}

impl Bucket {
    pub(super) fn new(tag: u32, tat: Nanos, figures: &Gcra) -> Bucket {
        Bucket {
            tat: AtomicU64::new(tat.0),
            emission_ns: figures.emission_ns(),
            burst: kept_burst(figures),
            // Begins anywhere, so that a hold on a cell that was forgotten takes a new one for disturbed.
            disturbances: AtomicU16::new((tat.0 ^ tat.0 >> 16 ^ tat.0 >> 32) as u16),
            tag,
        }
    }

    pub(super) fn has(&self, figures: &Gcra) -> bool {
        self.emission_ns == figures.emission_ns() && self.burst == kept_burst(figures)
    }

    pub(super) fn convert(&mut self, figures: &Gcra, now: Nanos) {
        let tat = Nanos(self.tat.load(Relaxed));
        self.tat.store(figures.converted(tat, self.emission_ns, now).0, Relaxed);
        self.emission_ns = figures.emission_ns();
        self.burst = kept_burst(figures);
        self.disturbances.fetch_add(1, Relaxed);
    }

    pub(super) fn draw(&self, figures: &Gcra, now: Nanos, cost: u32) -> Drawn {
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

    pub(super) fn refund(&self, tokens: &Tokens, disturbances: u16, now: Nanos) {
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
pub(super) struct Slots {
    pub(super) taken: AtomicU32,
    pub(super) tag: u32,
}

impl Slots {
    /// The count with the new slot, or `None` when all are taken.
    pub(super) fn take(&self, figures: Concurrency) -> Option<u32> {
        self.taken.fetch_update(Relaxed, Relaxed, |taken| figures.take(taken)).ok().map(|before| before + 1)
    }

    pub(super) fn release(&self) {
        let _ = self.taken.fetch_update(Relaxed, Relaxed, |taken| taken.checked_sub(1));
    }
}
