//! A count per sliding window: `quota = "1000/h"`.
//!
//! The window is cut into 63 slices; a ring keeps one count for each of them and for the slice that has just begun
//! ([`SLICES`] in all). A request counts from the moment it is admitted until its whole slice has left the window. Hence, with
//! `W` the window and `d = ceil(W / 63)` a slice:
//!
//! - In no span of length `W` are more than the quota admitted: all of them would be counted at the last one's moment, because
//!   a request at `t` in slice `k` counts until `(k + 64) d >= t + W`.
//! - Its place is free again at most `d` after it has aged out, which is less than `W / 60` for windows of a millisecond and
//!   more: `(k + 64) d - (t + W) <= 64 d - W`. A rejection's `retry_at` is exact to the same bound.
//!
//! The ring takes 152 bytes, or 280 for quotas above 65,535, however many requests it has counted; 32 as long as no more than two slices
//! count anything, and none as long as only the newest does, as with most who ask once in a while: a handful of requests is counted in the
//! place of the pointer.

mod one;
mod saved;
mod slices;

use one::One;
pub use saved::SavedWindow;
use slices::{Few, Slices};

use crate::engine::time::{Nanos, nanos_of};
use std::num::NonZeroU64;
use std::time::Duration;

/// Counts in a ring: 63 slices that cover the window, and the one that has begun.
pub const SLICES: usize = 64;

/// A quota's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    limit: u32,
    window: Duration,
    slice_ns: NonZeroU64,
}

impl SlidingWindow {
    /// At most `limit` tokens in any span of length `window`. A limit of 0 admits nothing, ever.
    #[must_use]
    pub fn new(limit: u32, window: Duration) -> SlidingWindow {
        let slice_ns = NonZeroU64::new(nanos_of(window).div_ceil(SLICES as u64 - 1)).unwrap_or(NonZeroU64::MIN);
        SlidingWindow { limit, window, slice_ns }
    }

    /// Tokens in any one window.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The window.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Nanoseconds of one slice: the bound on how late a place is freed.
    #[must_use]
    pub fn slice_ns(&self) -> NonZeroU64 {
        self.slice_ns
    }

    /// The number of the slice that `now` lies in.
    fn slice(&self, now: Nanos) -> u64 {
        now.0 / self.slice_ns
    }

    fn is_wide(&self) -> bool {
        self.limit > u32::from(u16::MAX)
    }
}

/// What a ring says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spend {
    /// Admitted.
    Taken {
        /// The slice it is counted in: what a refund names.
        slice: u64,
        /// Tokens left.
        remaining: u32,
    },
    /// Refused.
    Refused {
        /// When the same request would pass if nothing else happened; `None`: never.
        retry_at: Option<Nanos>,
    },
}

/// One partition's counts. What few slices count lies in less room; quotas that fit are counted in 16 bits.
pub(crate) enum Ring {
    One(One),
    Few(Box<Counts<Few>>),
    Narrow(Box<Counts<[u16; SLICES]>>),
    Wide(Box<Counts<[u32; SLICES]>>),
}

/// The counts of the last [`SLICES`] slices.
pub(crate) struct Counts<S> {
    newest: u64,
    slice_ns: NonZeroU64,
    tag: u32,
    /// Counted in since it was last saved. It lives in what would be padding.
    changed: bool,
    slices: S,
}

/// Says the same of any ring's counts.
macro_rules! of_counts {
    ($ring:expr, $counts:ident => $what:expr) => {
        match $ring {
            Ring::One(one) => {
                let $counts = one.counts();
                $what
            }
            Ring::Few($counts) => $what,
            Ring::Narrow($counts) => $what,
            Ring::Wide($counts) => $what,
        }
    };
}
use of_counts;

/// Does the same to any ring's counts.
macro_rules! change_counts {
    ($ring:expr, $counts:ident => $what:expr) => {
        match $ring {
            Ring::One(one) => {
                let mut few = one.counts();
                let $counts = &mut few;
                let answer = $what;
                *$ring = Ring::of(few);
                answer
            }
            Ring::Few($counts) => $what,
            Ring::Narrow($counts) => $what,
            Ring::Wide($counts) => $what,
        }
    };
}
use change_counts;

impl Ring {
    /// An empty ring of a limit's short name `tag`.
    pub(crate) fn new(figures: &SlidingWindow, tag: u32) -> Ring {
        Ring::of(Counts::new(0, figures.slice_ns, tag))
    }

    fn of(counts: Counts<Few>) -> Ring {
        One::of(&counts).map_or_else(|| Ring::Few(Box::new(counts)), Ring::One)
    }

    /// Takes `cost` tokens at `now`, after turning to these figures if the ring was counted with others: then everything
    /// counted stays counted, at most one slice longer.
    pub(crate) fn draw(&mut self, figures: &SlidingWindow, now: Nanos, cost: u32) -> Spend {
        self.fit(figures, now);
        let drawn = change_counts!(self, counts => counts.draw(figures, now, cost));
        drawn.unwrap_or_else(|| self.spread(figures).draw(figures, now, cost))
    }

    /// What [`draw`](Ring::draw) would say, without taking anything.
    pub(crate) fn peek(&self, figures: &SlidingWindow, now: Nanos, cost: u32) -> Spend {
        let mut copy = Ring::Wide(Box::new(of_counts!(self, counts => counts.converted(counts.slice_ns, now))));
        copy.draw(figures, now, cost)
    }

    /// Gives back what was counted in a slice, as far as it still counts.
    pub(crate) fn refund(&mut self, slice: u64, slice_ns: NonZeroU64, cost: u32) {
        change_counts!(self, counts => counts.refund(slice, slice_ns, cost));
    }

    /// Tokens that count at `now`.
    pub(crate) fn counted(&self, now: Nanos) -> u64 {
        of_counts!(self, counts => counts.counted(now))
    }

    /// Whether nothing counts any more at `now`.
    pub(crate) fn is_idle(&self, now: Nanos) -> bool {
        of_counts!(self, counts => counts.is_idle(now))
    }

    /// Something of all that it keeps.
    pub(crate) fn word(&self) -> u64 {
        of_counts!(self, counts => counts.word())
    }

    /// The short name of its limit.
    pub(crate) fn tag(&self) -> u32 {
        match self {
            Ring::One(one) => one.tag(),
            Ring::Few(counts) => counts.tag,
            Ring::Narrow(counts) => counts.tag,
            Ring::Wide(counts) => counts.tag,
        }
    }

    /// Nanoseconds of one slice.
    pub(crate) fn slice_ns(&self) -> NonZeroU64 {
        match self {
            Ring::One(one) => one.slice_ns(),
            Ring::Few(counts) => counts.slice_ns,
            Ring::Narrow(counts) => counts.slice_ns,
            Ring::Wide(counts) => counts.slice_ns,
        }
    }

    fn fit(&mut self, figures: &SlidingWindow, now: Nanos) {
        let is_too_narrow = figures.is_wide() && matches!(self, Ring::Narrow(_));
        if self.slice_ns() != figures.slice_ns || is_too_narrow {
            *self = Ring::Wide(Box::new(of_counts!(self, counts => counts.converted(figures.slice_ns, now))));
        }
    }

    /// Gives every slice its place. Answers itself.
    #[cold]
    fn spread(&mut self, figures: &SlidingWindow) -> &mut Ring {
        if let Ring::Few(few) = self {
            // There was room in the quota, so that all that counts fits in its width.
            *self = if figures.is_wide() { Ring::Wide(few.spread()) } else { Ring::Narrow(few.spread()) };
        }
        self
    }
}

impl<S: Slices> Counts<S> {
    fn new(newest: u64, slice_ns: NonZeroU64, tag: u32) -> Counts<S> {
        Counts { newest, slice_ns, tag, changed: false, slices: S::NONE }
    }

    fn word(&self) -> u64 {
        u64::from(self.tag) ^ self.slices.word()
    }

    fn place(slice: u64) -> u8 {
        (slice % SLICES as u64) as u8
    }

    fn count(&self, slice: u64) -> u32 {
        self.slices.count(Self::place(slice))
    }

    /// Counts `cost` more. `false`: there is no room for another slice, and nothing was counted.
    #[must_use]
    fn add(&mut self, slice: u64, cost: u32) -> bool {
        let count = self.count(slice).saturating_add(cost);
        self.slices.put(Self::place(slice), count)
    }

    /// The slices that count, the oldest first.
    fn slices(&self) -> impl Iterator<Item = u64> + use<S> {
        self.newest.saturating_sub(SLICES as u64 - 1)..=self.newest
    }

    /// The total of the slices that still count at `now`.
    fn counted(&self, now: Nanos) -> u64 {
        let current = now.0 / self.slice_ns;
        let counts = self.slices().filter(|slice| slice.saturating_add(SLICES as u64) > current);
        counts.map(|slice| u64::from(self.count(slice))).sum()
    }

    /// Begins slices up to `slice` and forgets as many at the other end. An earlier `slice` changes nothing: time does not go
    /// back, but threads may tell it late.
    fn advance(&mut self, slice: u64) {
        if slice <= self.newest {
            return;
        }
        let begun = (slice - self.newest).min(SLICES as u64) as u8;
        self.slices.forget(Self::place(slice), begun);
        self.newest = slice;
    }

    /// `None`: there is no room for another slice.
    fn draw(&mut self, figures: &SlidingWindow, now: Nanos, cost: u32) -> Option<Spend> {
        if cost > figures.limit {
            return Some(Spend::Refused { retry_at: None });
        }
        self.advance(figures.slice(now));
        let after = self.slices.total() + u64::from(cost);
        let limit = u64::from(figures.limit);
        if after > limit {
            return Some(Spend::Refused { retry_at: Some(self.freed_at(after - limit)) });
        }
        let taken = Spend::Taken { slice: self.newest, remaining: u32::try_from(limit - after).unwrap_or(0) };
        self.add(self.newest, cost).then_some(taken)
    }

    /// When `tokens` of those that count will have left.
    fn freed_at(&self, tokens: u64) -> Nanos {
        let mut freed = 0;
        let last = self.slices().find(|&slice| {
            freed += u64::from(self.count(slice));
            freed >= tokens
        });
        let left_at = last.unwrap_or(self.newest).saturating_add(SLICES as u64);
        Nanos(left_at.saturating_mul(self.slice_ns.get()))
    }

    fn refund(&mut self, slice: u64, slice_ns: NonZeroU64, cost: u32) {
        // After a change of figures the slice is not known any more: then the tokens stay spent, which errs to the strict side.
        let counts = slice_ns == self.slice_ns && slice <= self.newest && slice + SLICES as u64 > self.newest;
        if counts {
            self.slices.lower(Self::place(slice), cost);
        }
    }

    fn is_idle(&self, now: Nanos) -> bool {
        let is_over = now.0 / self.slice_ns >= self.newest.saturating_add(SLICES as u64);
        // The newest slice mostly counts something: then a sweep over a million windows need not read the others.
        is_over || (self.count(self.newest) == 0 && self.slices.total() == 0)
    }

    /// The same counts in slices of another length. Each is put where its slice ended, so it counts at least as long.
    fn converted(&self, slice_ns: NonZeroU64, now: Nanos) -> Counts<[u32; SLICES]> {
        // Whoever asks late does not have it leave earlier.
        let now = now.0.max(self.newest.saturating_mul(self.slice_ns.get()));
        let newest = if slice_ns == self.slice_ns { self.newest } else { now / slice_ns };
        let mut other = Counts { changed: self.changed, ..Counts::new(newest, slice_ns, self.tag) };
        for slice in self.slices() {
            let end = slice.saturating_add(1).saturating_mul(self.slice_ns.get()) - 1;
            let there = (end / slice_ns).min(newest);
            if there + SLICES as u64 > newest {
                let _every_slice_has_room = other.add(there, self.count(slice));
            }
        }
        other
    }

    /// The same counts, each slice in a place of its own.
    fn spread<C: Slices>(&self) -> Box<Counts<C>> {
        let mut other = Counts { changed: self.changed, ..Counts::new(self.newest, self.slice_ns, self.tag) };
        for slice in self.slices() {
            let _every_slice_has_room = other.add(slice, self.count(slice));
        }
        Box::new(other)
    }
}

#[cfg(test)]
mod tests;
