//! What one request has taken so far.

use super::key::Key;
use super::leasing::Manner;
use super::limiter::gcra::Tokens;
use super::time::Nanos;
use super::told::Told;
use super::{Engine, Map, Shards};
use std::num::NonZeroU64;
use std::sync::Arc;

/// Everything that one request has taken from limits, in order.
///
/// - [`commit`](Hold::commit) when the request is forwarded: its tokens are spent, its slots stay taken until drop.
/// - [`cancel`](Hold::cancel) when it is refused or given up before: tokens and slots go back.
/// - Dropped: slots go back, always and exactly once. Tokens of an uncommitted hold do not: how many are due depends on the
///   time, which a drop does not know. Edges that may drop one wrap it with their clock.
///
/// Up to [`INLINE`] entries live inside; more spill to the heap.
#[must_use = "a hold that is dropped gives its slots back"]
#[derive(Debug)]
pub struct Hold<M: Map = Shards> {
    engine: Arc<Engine<M>>,
    inline: [Taken; INLINE],
    used: usize,
    spilled: Vec<Taken>,
    committed: bool,
    manner: Manner,
    /// What a shared store has said, until all stages have heard it.
    told: Option<Box<[Told]>>,
}

/// Entries a hold keeps without allocating.
pub const INLINE: usize = 6;

/// One thing taken from one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) key: Key,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The second is the bucket's count of disturbances at that time.
    Tokens(Tokens, u16),
    /// Counted in a slice of a sliding window.
    Counted {
        cost: u32,
        slice: u64,
        slice_ns: NonZeroU64,
    },
    Slot,
    /// Tokens of a bucket that were lent, and the lease's disturbances.
    LentTokens(Tokens, u16),
    /// Tokens of a window that were lent.
    LentCounts(u32),
    LentSlot,
}

impl Taken {
    const VACANT: Taken = Taken { key: Key::ZERO, what: What::Slot };
}

impl<M: Map> Hold<M> {
    /// A hold on nothing yet.
    pub fn new(engine: Arc<Engine<M>>) -> Hold<M> {
        let manner = engine.manner();
        Hold {
            engine,
            inline: [Taken::VACANT; INLINE],
            used: 0,
            spilled: Vec::new(),
            committed: false,
            manner,
            told: None,
        }
    }

    /// From now on limits that gateways share are decided in this manner.
    pub fn decide_by(&mut self, manner: Manner) {
        self.manner = manner;
    }

    /// What a shared store has said: limits that are told of say this.
    pub fn tell(&mut self, told: Box<[Told]>) {
        self.told = Some(told);
    }

    pub(super) fn take_told(&mut self) -> Option<Box<[Told]>> {
        self.told.take()
    }

    pub(super) fn keep_told(&mut self, told: Option<Box<[Told]>>) {
        self.told = told;
    }

    /// In which manner limits that gateways share are decided.
    #[must_use]
    pub fn manner(&self) -> Manner {
        self.manner
    }

    /// The engine that the hold takes from.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine<M>> {
        &self.engine
    }

    /// Spends the tokens for good and keeps the slots until the hold is dropped.
    pub fn commit(&mut self) {
        self.committed = true;
        self.told = None;
    }

    /// Whether [`commit`](Hold::commit) was called.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        self.committed
    }

    /// Slots held now.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.entries().filter(|taken| matches!(taken.what, What::Slot | What::LentSlot)).count()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0 && self.spilled.is_empty()
    }

    /// Gives everything back, tokens as far as time has not refilled them by `now`. The hold is empty afterwards. The tokens
    /// of a committed hold stay spent.
    pub fn cancel(&mut self, now: Nanos) {
        self.give_back(Some(now));
    }

    /// Spends the tokens for good and gives the slots back. The hold is empty afterwards.
    pub(super) fn settle(&mut self) {
        self.give_back(None);
    }

    /// As new, for another request, in the place where it is: what it held comes back as if it had been dropped.
    pub fn renew(&mut self) {
        self.give_back(None);
        (self.committed, self.told, self.manner) = (false, None, self.engine.manner());
    }

    /// How many things are held.
    pub(super) fn len(&self) -> usize {
        self.used + self.spilled.len()
    }

    /// Gives back what was taken after the first `kept` things, as [`cancel`](Hold::cancel) does.
    pub(super) fn cancel_from(&mut self, kept: usize, now: Nanos) {
        let now = Some(now).filter(|_| !self.committed);
        for taken in self.entries().skip(kept) {
            self.give_one_back(taken, now);
        }
        self.used = self.used.min(kept);
        self.spilled.truncate(kept.saturating_sub(INLINE));
    }

    pub(super) fn push(&mut self, taken: Taken) {
        match self.inline.get_mut(self.used) {
            Some(place) => {
                *place = taken;
                self.used += 1;
            }
            None => self.spilled.push(taken),
        }
    }

    fn entries(&self) -> impl Iterator<Item = &Taken> {
        self.inline[..self.used].iter().chain(&self.spilled)
    }

    fn give_back(&mut self, now: Option<Nanos>) {
        let now = now.filter(|_| !self.committed);
        for taken in self.entries() {
            self.give_one_back(taken, now);
        }
        self.used = 0;
        self.spilled.clear();
    }

    /// Without `now`, slots only.
    fn give_one_back(&self, taken: &Taken, now: Option<Nanos>) {
        match taken.what {
            What::Slot => self.engine.cells().release(taken.key),
            What::LentSlot => self.engine.cells().return_slot(taken.key),
            What::LentTokens(tokens, disturbances) => {
                if let Some(now) = now {
                    self.engine.cells().return_tokens(taken.key, &tokens, disturbances, now);
                }
            }
            What::LentCounts(cost) => {
                if now.is_some() {
                    self.engine.cells().return_counts(taken.key, cost);
                }
            }
            What::Tokens(tokens, disturbances) => {
                if let Some(now) = now {
                    self.engine.cells().refund(taken.key, &tokens, disturbances, now);
                }
            }
            What::Counted { cost, slice, slice_ns } => {
                if now.is_some() {
                    self.engine.cells().unspend(taken.key, slice, slice_ns, cost);
                }
            }
        }
    }
}

impl<M: Map> Drop for Hold<M> {
    fn drop(&mut self) {
        self.give_back(None);
    }
}
