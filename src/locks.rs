//! FLOOR 2: object locks. Requests that name one object run one at a time, in the order in which they came.
//!
//! One table for all threads. Its invariants, each held by a test:
//! 1. An object has at most one [`Lock`] at a time, whatever the number of threads.
//! 2. First come, first served: who finds an object held joins the end of its queue, and nobody overtakes.
//! 3. A lock is freed exactly once, when its [`Lock`] is dropped: at the end, on failure, while a panic unwinds. If somebody
//!    waits, it passes to the first one in that very step; it is never free while somebody waits.
//! 4. A [`Wait`] that is dropped is forgotten at once. If it had just been given the lock, the lock passes on to the next.
//! 5. Nothing is kept for an object that nobody holds.
//!
//! Bounds: [`Bounds`] says how many may wait; beyond, [`Locks::take`] refuses at once. What is held is bounded by the requests
//! in flight. An entry is some 32 bytes, a waiter some 40; an uncontended lock costs one look into a map to take and one to
//! free, each under one of [`SHARDS`] mutexes for well under a microsecond.
//!
//! The table knows no time: a waiter that waits no longer drops its [`Wait`]. Nor does a lock run out: it lasts as long as its
//! request, and that is bounded by the time-outs towards upstream and client. On one node there is no second holder to fence
//! off, as there would be if locks ran out under a holder that lives.

mod shard;
mod sync;
#[cfg(test)]
mod tests;

use crate::engine::class::MAX_VALUES;
use crate::engine::{Id, Mode, Seed};
use shard::{Place, Shard};
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use sync::{AtomicU32, Mutex, MutexGuard, Ordering};

/// Parts of the table with a mutex of their own.
pub const SHARDS: usize = 64;

/// An object, as a keyed hash of all that names it; see [`LockKey::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockKey(Id);

impl LockKey {
    /// The key of the object that `values` name, of the kind of a lock's name, of an owner (the account, and where it is not
    /// enough to tell whose the object is, a second id), in one mode. At most [`MAX_VALUES`] values count.
    #[must_use]
    pub fn new(seed: &Seed, lock: Id, mode: Mode, owner: [Id; 2], values: impl IntoIterator<Item = Id>) -> LockKey {
        const ID_BYTES: usize = 16;
        let mut message = [0; 1 + (3 + MAX_VALUES) * ID_BYTES];
        let (first, rest) = message.split_at_mut(1);
        first.fill(mode as u8);
        let ids = [lock].into_iter().chain(owner).chain(values);
        let mut used = first.len();
        for (place, Id([one, other])) in rest.chunks_exact_mut(ID_BYTES).zip(ids) {
            let (left, right) = place.split_at_mut(ID_BYTES / 2);
            left.copy_from_slice(&one.to_le_bytes());
            right.copy_from_slice(&other.to_le_bytes());
            used += ID_BYTES;
        }
        LockKey(seed.hash(message.get(..used).unwrap_or_default()))
    }
}

impl Hash for LockKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.0[0]);
    }
}

/// How many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// For one object, beside its holder.
    pub queue_max: u32,
    /// For all objects together.
    pub waiters_max: u32,
}

/// Why nobody more may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// [`Bounds::queue_max`] wait for this object.
    Queue,
    /// [`Bounds::waiters_max`] wait in all.
    Table,
}

/// What asking for a lock gives.
#[derive(Debug)]
pub enum Taking {
    /// The object was free.
    Taken(Lock),
    /// It is held.
    Queued(Wait),
}

/// All locks of the process.
#[derive(Debug)]
pub struct Locks {
    shards: Box<[Mutex<Shard>]>,
    waiters: AtomicU32,
}

impl Default for Locks {
    fn default() -> Locks {
        Locks::with_shards(SHARDS)
    }
}

impl Locks {
    /// A table in so many parts, at least one. Models and tests take few.
    #[must_use]
    pub fn with_shards(shards: usize) -> Locks {
        let shards = (0..shards.max(1)).map(|_| Mutex::new(Shard::default())).collect();
        Locks { shards, waiters: AtomicU32::new(0) }
    }

    /// Takes the lock of an object, or a place in its queue.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn take(self: &Arc<Self>, key: LockKey, bounds: Bounds) -> Result<Taking, Crowded> {
        let place = self.shard(key).take(key, |waiting| self.may_wait(waiting, bounds))?;
        let table = Arc::clone(self);
        Ok(match place {
            None => Taking::Taken(Lock { table, key }),
            place => Taking::Queued(Wait { table, key, place }),
        })
    }

    /// Requests that wait now.
    #[must_use]
    pub fn waiters(&self) -> u32 {
        self.waiters.load(Ordering::Relaxed)
    }

    /// Objects that are held now. Visits every shard: for a scrape, not for a request.
    #[must_use]
    pub fn held(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).held()).sum()
    }

    /// Counts one more waiter, if there may be.
    fn may_wait(&self, waiting: u32, bounds: Bounds) -> Result<(), Crowded> {
        if waiting >= bounds.queue_max {
            return Err(Crowded::Queue);
        }
        let more = |waiters: u32| (waiters < bounds.waiters_max).then(|| waiters + 1);
        let counted = self.waiters.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.map(drop).map_err(|_| Crowded::Table)
    }

    /// The part of the table that an object is in. Chosen by bits of the key that its map does not use.
    fn shard(&self, key: LockKey) -> MutexGuard<'_, Shard> {
        let number = key.0.0[1] as usize % self.shards.len();
        // What a panic leaves behind is whole: a shard's steps are plain data, and none of them panics half-way.
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An object's lock. Dropped, it goes to the first who waits, or the object is free.
#[must_use = "a lock that is dropped is free"]
#[derive(Debug)]
pub struct Lock {
    table: Arc<Locks>,
    key: LockKey,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let next = self.table.shard(self.key).free(self.key);
        // Only now that the shard is unlocked: the one who wakes looks into it.
        if let Some(next) = next {
            next.wake();
        }
    }
}

/// A place in an object's queue. Its place counts from [`Locks::take`] on, polled or not.
#[must_use = "who drops its place waits no longer"]
#[derive(Debug)]
pub struct Wait {
    table: Arc<Locks>,
    key: LockKey,
    /// `None` once the lock has been handed out.
    place: Option<Place>,
}

impl Future for Wait {
    type Output = Lock;

    /// Never ready a second time.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Lock> {
        let Some(place) = self.place else { return Poll::Pending };
        if !self.table.shard(self.key).poll(place, cx.waker()) {
            return Poll::Pending;
        }
        self.place = None;
        self.table.waiters.fetch_sub(1, Ordering::Relaxed);
        Poll::Ready(Lock { table: Arc::clone(&self.table), key: self.key })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        let next = self.table.shard(self.key).leave(self.key, place);
        self.table.waiters.fetch_sub(1, Ordering::Relaxed);
        if let Some(next) = next {
            next.wake();
        }
    }
}
