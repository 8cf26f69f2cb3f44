//! How many clients are inside, all threads together, and how many of one address.

use crate::clock::timer_now;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Maps of addresses: enough that threads seldom meet at one.
const SHARDS: usize = 16;

/// The clients of the process. The map has as many addresses as there are connections at most.
pub(super) struct Crowd {
    /// More connections than this the process may not open.
    room: usize,
    inside: AtomicUsize,
    waiting: AtomicUsize,
    left: Notify,
    hasher: RandomState,
    addresses: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
    complaints: Mutex<Complaints>,
}

/// A connection counted by its client's address, until it is dropped.
pub(super) struct Counted {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

/// Somebody waits to come in, until this is dropped.
pub(super) struct Waiting<'a>(&'a Crowd);

/// Warnings that would come by the thousand.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    unsaid: u64,
}

impl Crowd {
    /// Nobody yet, and `room` connections at most.
    pub(super) fn new(room: usize) -> Crowd {
        Crowd {
            room,
            inside: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            left: Notify::new(),
            hasher: RandomState::new(),
            addresses: Default::default(),
            complaints: Mutex::default(),
        }
    }

    /// Counts one more, unless there are `max` already, or as many as the process may open.
    pub(super) fn try_enter(&self, max: usize) -> bool {
        let max = max.min(self.room);
        let more = |inside: usize| (inside < max).then_some(inside + 1);
        self.inside.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts one more in any case.
    pub(super) fn enter(&self) {
        self.inside.fetch_add(1, Ordering::Relaxed);
    }

    /// One is gone; somebody who waits may look again.
    pub(super) fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::Relaxed);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.left.notify_one();
        }
    }

    /// Tells that somebody waits.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// Whether somebody waits, on any thread.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Waits until somebody has left, or for `at_most`: room comes in other ways too.
    pub(super) async fn left(&self, at_most: Duration) {
        // Whichever it was, the caller looks again.
        let _ = tokio::time::timeout(at_most, self.left.notified()).await;
    }

    /// Counts a connection of `address`, unless it has `max` already.
    pub(super) fn count(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<Counted> {
        let address = whole(address);
        let mut shard = self.shard(address).lock().unwrap_or_else(PoisonError::into_inner);
        let count = shard.entry(address).or_insert(0);
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Counted { crowd: Arc::clone(self), address })
    }

    /// How many complaints to speak of now: one a second speaks for all since the last.
    pub(super) fn complain(&self) -> Option<u64> {
        const EVERY: Duration = Duration::from_secs(1);
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.unsaid += 1;
        let now = timer_now();
        if complaints.last.is_some_and(|last| now - last < EVERY) {
            return None;
        }
        complaints.last = Some(now);
        Some(std::mem::take(&mut complaints.unsaid))
    }

    fn shard(&self, address: IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        let hash = self.hasher.hash_one(address);
        // In bounds: a remainder of the array's length.
        &self.addresses[(hash % SHARDS as u64) as usize]
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut shard = self.crowd.shard(self.address).lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = shard.entry(self.address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What counts as one client: an IPv4 address, or the /64 that an IPv6 client has to itself.
fn whole(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_gets_them_back() {
        let crowd = Arc::new(Crowd::new(10));
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let inside: Vec<_> = (0..2).map(|_| crowd.count(address("10.0.0.1"), 2).unwrap()).collect();
        assert!(crowd.count(address("::ffff:10.0.0.1"), 2).is_none(), "the same in other clothing");
        assert!(crowd.count(address("10.0.0.2"), 2).is_some());
        drop(inside);
        assert!(crowd.count(address("10.0.0.1"), 2).is_some());
        let _one = crowd.count(address("2001:db8::1"), 1).unwrap();
        assert!(crowd.count(address("2001:db8::ffff:2"), 1).is_none(), "one /64 is one client");
        assert!(crowd.count(address("2001:db8:0:1::1"), 1).is_some());
    }

    #[test]
    fn addresses_leave_nothing_behind() {
        let crowd = Arc::new(Crowd::new(10));
        for last in 0..=255 {
            drop(crowd.count([10, 0, 0, last].into(), 1));
        }
        assert!(crowd.addresses.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn there_is_room_for_so_many() {
        let crowd = Crowd::new(2);
        assert!(crowd.try_enter(5) && crowd.try_enter(5) && !crowd.try_enter(5));
        crowd.leave();
        assert!(!crowd.try_enter(1) && crowd.try_enter(2));
    }

    #[tokio::test(start_paused = true)]
    async fn complaints_come_once_a_second() {
        let crowd = Crowd::new(1);
        assert_eq!((crowd.complain(), crowd.complain(), crowd.complain()), (Some(1), None, None));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((crowd.complain(), crowd.complain()), (Some(3), None));
    }
}
