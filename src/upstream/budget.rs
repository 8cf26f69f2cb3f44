//! How many retries an upstream may get: a share of its requests of the last ten seconds, and a few that are free.
//!
//! So a dead or failing upstream gets at most (1 + share) times its traffic, whatever its clients and the number of tries are.
//! Requests are counted with one atomic each; retries, which are few, under a lock that also makes the sum exact.

use crate::config::Share;
use crate::engine::Nanos;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Seconds that count.
const WINDOW_SECONDS: u32 = 10;
/// Retries a second that need no traffic to justify them.
const FREE_PER_SECOND: u64 = 10;
/// One second more than counts: the newest is still being filled.
const SLOTS: usize = WINDOW_SECONDS as usize + 1;

/// Retries that are free within the window.
pub(super) const FREE: u64 = FREE_PER_SECOND * WINDOW_SECONDS as u64;

/// The requests and retries of an upstream.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// By second: its number in the upper half, its requests in the lower.
    requests: [AtomicU64; SLOTS],
    /// The same for retries.
    retries: Mutex<[u64; SLOTS]>,
}

/// A second's number and its count in one word. Seconds are counted from 1, so that an empty slot belongs to none.
fn second_of(now: Nanos) -> u32 {
    u32::try_from(now.0 / 1_000_000_000).unwrap_or(u32::MAX - 1) + 1
}

fn pack(second: u32, count: u32) -> u64 {
    u64::from(second) << 32 | u64::from(count)
}

/// What a slot counts that is within the window ending with `second`.
fn counted(slot: u64, second: u32) -> u64 {
    let age = second.wrapping_sub((slot >> 32) as u32);
    if age < WINDOW_SECONDS { slot & u64::from(u32::MAX) } else { 0 }
}

impl Budget {
    /// Counts a request, once however often it is tried.
    pub(super) fn request(&self, now: Nanos) {
        let second = second_of(now);
        let Some(slot) = self.requests.get(second as usize % SLOTS) else { return };
        let newer = |slot: u64| match ((slot >> 32) as u32).cmp(&second) {
            std::cmp::Ordering::Less => Some(pack(second, 1)),
            std::cmp::Ordering::Equal => Some(slot.saturating_add(1)),
            // It began so long ago that its second no longer counts.
            std::cmp::Ordering::Greater => None,
        };
        if (slot.load(Relaxed) >> 32) as u32 == second {
            slot.fetch_add(1, Relaxed);
        } else {
            // The first of its second: another one may be first too.
            let _ = slot.fetch_update(Relaxed, Relaxed, newer);
        }
    }

    /// Takes one retry, if there is one.
    pub(super) fn retry(&self, share: Share, now: Nanos) -> bool {
        let second = second_of(now);
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let spent: u64 = retries.iter().map(|slot| counted(*slot, second)).sum();
        let requests: u64 = self.requests.iter().map(|slot| counted(slot.load(Relaxed), second)).sum();
        if spent >= share.of(requests).saturating_add(FREE) {
            return false;
        }
        if let Some(slot) = retries.get_mut(second as usize % SLOTS) {
            *slot = if (*slot >> 32) as u32 == second { slot.saturating_add(1) } else { pack(second, 1) };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Nanos {
        Nanos(seconds * 1_000_000_000)
    }

    /// Retries to be had now, all taken.
    fn take_all(budget: &Budget, share: u32, now: Nanos) -> u64 {
        (0..100_000).take_while(|_| budget.retry(Share(share), now)).count() as u64
    }

    #[test]
    fn a_share_of_ten_seconds_and_a_few_for_free() {
        let budget = Budget::default();
        assert_eq!(take_all(&budget, 200, at(0)), FREE);
        for second in 20..25 {
            (0..1_000).for_each(|_| budget.request(at(second)));
        }
        assert_eq!(take_all(&budget, 200, at(25)), 1_000 + FREE);
        assert!(!budget.retry(Share(200), at(29)), "they are spent");
        assert!(!budget.retry(Share(200), at(34)));
        assert_eq!(take_all(&budget, 200, at(35)), FREE, "all requests and retries are forgotten");
        assert_eq!(take_all(&budget, 0, at(60)), FREE, "without a share the free ones are left");
    }

    #[test]
    fn every_window_holds_whatever_comes() {
        let (budget, mut log) = (Budget::default(), Vec::new());
        for step in 0_u64..60_000 {
            let now = Nanos(step * 1_000_000);
            // Bursts and pauses.
            let requests = if (step / 700) % 3 == 0 { 2 } else { 0 };
            (0..requests).for_each(|_| budget.request(now));
            let retries = (0..3).filter(|_| budget.retry(Share(100), now)).count() as u64;
            log.push((step, requests, retries));
        }
        // Over whole seconds, as the budget counts.
        for end in 10..=60_u64 {
            let inside = |step: u64| step < end * 1_000 && step >= (end - 10) * 1_000;
            let (requests, retries) = log
                .iter()
                .filter(|(step, ..)| inside(*step))
                .fold((0, 0), |(all, again), (_, requests, retries)| (all + requests, again + retries));
            assert!(retries <= requests / 10 + FREE, "{retries} retries of {requests} requests");
        }
    }

    #[test]
    fn threads_take_no_more_than_there_is() {
        let budget = Budget::default();
        (0..10_000).for_each(|_| budget.request(at(5)));
        let taken: u64 = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4).map(|_| scope.spawn(|| take_all(&budget, 100, at(5)))).collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000 + FREE);
    }
}
