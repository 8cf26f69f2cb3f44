//! A part of the table: which objects are held, and who waits for each. Plain data under one mutex, no threads of its own.
//!
//! An object has an entry while somebody holds it, and only then. The entry is the two ends of a chain through `waiters`, so a
//! waiter costs no allocation of its own and leaves from anywhere in the chain at once.

use super::LockKey;
use crate::engine::class::IdHasher;
use slab::Slab;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;
use std::task::Waker;

/// Where in the shard's list a waiter is. Fewer than 2^32: [`Bounds::waiters_max`](super::Bounds::waiters_max) is no larger.
pub(super) type Place = u32;

/// Stands for no waiter.
const NOBODY: Place = Place::MAX;

/// Entries that an empty shard keeps room for, so that a burst's memory goes when the burst is over.
const SPARE: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Shard {
    held: HashMap<LockKey, Queue, BuildHasherDefault<IdHasher>>,
    /// Those in a queue, and those who were given their lock and have not noticed yet.
    waiters: Slab<Waiter>,
}

/// Who waits for one object, first come first.
#[derive(Clone, Copy, Debug)]
struct Queue {
    first: Place,
    last: Place,
    length: u32,
}

#[derive(Debug)]
struct Waiter {
    ahead: Place,
    behind: Place,
    state: State,
}

#[derive(Debug)]
enum State {
    /// In a queue. The waker is that of its last poll.
    Waiting(Option<Waker>),
    /// Out of its queue: the lock is its own.
    Granted,
}

impl Shard {
    /// Objects that are held.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes an object that is free (`None`), or joins the end of its queue if `may_wait` agrees, which is told how many wait
    /// already.
    pub(super) fn take<E>(
        &mut self,
        key: LockKey,
        may_wait: impl FnOnce(u32) -> Result<(), E>,
    ) -> Result<Option<Place>, E> {
        let queue = match self.held.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(Queue { first: NOBODY, last: NOBODY, length: 0 });
                return Ok(None);
            }
            Entry::Occupied(held) => held.into_mut(),
        };
        may_wait(queue.length)?;
        let waiter = Waiter { ahead: queue.last, behind: NOBODY, state: State::Waiting(None) };
        let place = self.waiters.insert(waiter) as Place;
        match self.waiters.get_mut(queue.last as usize) {
            Some(last) => last.behind = place,
            None => queue.first = place,
        }
        queue.last = place;
        queue.length += 1;
        Ok(Some(place))
    }

    /// Whether the waiter at `place` has been given its lock: then its place is no more. Else `waker` is told when.
    pub(super) fn poll(&mut self, place: Place, waker: &Waker) -> bool {
        let Some(waiter) = self.waiters.get_mut(place as usize) else { return false };
        if let State::Waiting(known) = &mut waiter.state {
            match known {
                Some(known) => known.clone_from(waker),
                None => *known = Some(waker.clone()),
            }
            return false;
        }
        self.forget(place);
        true
    }

    /// The holder of an object is done: the first in its queue has it, and is to be woken; else it is free.
    pub(super) fn free(&mut self, key: LockKey) -> Option<Waker> {
        let Entry::Occupied(mut held) = self.held.entry(key) else { return None };
        let Some(first) = self.waiters.get_mut(held.get().first as usize) else {
            held.remove();
            if self.held.is_empty() && self.held.capacity() > SPARE {
                self.held = HashMap::default();
            }
            return None;
        };
        let queue = held.get_mut();
        let behind = first.behind;
        let state = std::mem::replace(&mut first.state, State::Granted);
        queue.first = behind;
        queue.length -= 1;
        match self.waiters.get_mut(behind as usize) {
            Some(next) => next.ahead = NOBODY,
            None => queue.last = NOBODY,
        }
        match state {
            State::Waiting(waker) => waker,
            State::Granted => None,
        }
    }

    /// The waiter at `place` waits no longer. If it was given the lock in this very moment, the lock passes on as in
    /// [`free`](Shard::free).
    pub(super) fn leave(&mut self, key: LockKey, place: Place) -> Option<Waker> {
        let waiter = self.forget(place)?;
        if let State::Granted = waiter.state {
            return self.free(key);
        }
        let queue = self.held.get_mut(&key)?;
        queue.length -= 1;
        match self.waiters.get_mut(waiter.ahead as usize) {
            Some(ahead) => ahead.behind = waiter.behind,
            None => queue.first = waiter.behind,
        }
        match self.waiters.get_mut(waiter.behind as usize) {
            Some(behind) => behind.ahead = waiter.ahead,
            None => queue.last = waiter.ahead,
        }
        None
    }

    fn forget(&mut self, place: Place) -> Option<Waiter> {
        let waiter = self.waiters.try_remove(place as usize);
        if self.waiters.is_empty() && self.waiters.capacity() > SPARE {
            self.waiters = Slab::new();
        }
        waiter
    }
}
