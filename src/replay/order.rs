//! Puts the requests of a trace into the order in which they began.
//!
//! Logs are written when requests end, so a slow request stands behind faster ones that began later. Up to [`MOST`] requests
//! are held back until nothing that began before them can follow: the log has come [`WINDOW_NS`] further. What comes later
//! still has missed its turn; it is told as late and replayed at the moment that the replay has come to.

use std::collections::VecDeque;
use std::hint::black_box;

/// How much longer a request may take than one that began after it and stands before it in the log, in nanoseconds. Longer than
/// the gateway's default `response_timeout`.
pub const WINDOW_NS: u64 = 120 * 1_000_000_000;
/// Requests that are held back.
pub const MOST: usize = 131_072;
/// Requests that are looked at together before the first of them is handed on, and places before the first of them is filled: by then
/// they have left the core's caches, and one after the other each would be waited for.
const TOGETHER: usize = 16;

/// Holds requests back. Those of one moment keep the order of the log.
#[derive(Debug)]
pub struct Order<T> {
    waiting: Vec<(u64, u32)>,
    ready: VecDeque<(u64, u32)>,
    items: Vec<Option<T>>,
    vacant: Vec<u32>,
    /// The latest end that was seen.
    log_at: u64,
    /// What was handed on last, or is about to be.
    passed: u64,
    /// So many of those that come next were looked at.
    at_hand: usize,
    /// So many of the vacant places that are filled next were looked at, or were left just now.
    vacant_at_hand: usize,
    most: usize,
}

impl<T> Order<T> {
    /// Holds back at most `most` requests, and as many again while they are sorted.
    pub fn new(most: usize) -> Order<T> {
        Order {
            waiting: Vec::new(),
            ready: VecDeque::new(),
            items: Vec::new(),
            vacant: Vec::new(),
            log_at: 0,
            passed: 0,
            at_hand: 0,
            vacant_at_hand: 0,
            most: most.max(1),
        }
    }

    /// Takes a request that began at `at` and whose line was written at `written`. `false`: it is late, and counts as one that
    /// began at the last moment handed on.
    pub fn push(&mut self, at: u64, written: u64, item: T) -> bool {
        self.log_at = self.log_at.max(written).max(at);
        if self.vacant_at_hand == 0 {
            self.vacant_at_hand = self.look_at(self.vacant.iter().rev().copied());
        }
        self.vacant_at_hand = self.vacant_at_hand.saturating_sub(1);
        let place = match self.vacant.pop() {
            Some(place) => place,
            None => {
                self.items.push(None);
                u32::try_from(self.items.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(vacant) = self.items.get_mut(place as usize) {
            *vacant = Some(item);
        }
        self.waiting.push((at.max(self.passed), place));
        at >= self.passed
    }

    /// Whether something can be handed on without reading further.
    pub fn is_ready(&mut self) -> bool {
        if self.ready.is_empty() && self.is_due() {
            self.release(false);
        }
        !self.ready.is_empty()
    }

    /// Nothing follows: everything can be handed on.
    pub fn end(&mut self) {
        self.release(true);
    }

    /// When the next one began.
    pub fn peek(&self) -> Option<u64> {
        self.ready.front().map(|&(at, _)| at)
    }

    /// The next one, and the moment it counts as having begun.
    pub fn pop(&mut self) -> Option<(u64, T)> {
        if self.at_hand == 0 {
            self.at_hand = self.look_at(self.ready.iter().map(|&(_, place)| place));
        }
        let (at, place) = self.ready.pop_front()?;
        self.at_hand -= 1;
        let item = self.items.get_mut(place as usize)?.take()?;
        self.vacant.push(place);
        Some((at, item))
    }

    /// Has the first of these places at hand, at least one where there is one; answers how many.
    fn look_at(&self, places: impl ExactSizeIterator<Item = u32>) -> usize {
        let places = places.take(TOGETHER);
        let count = places.len();
        let is_held = |&place: &u32| self.items.get(place as usize).is_some_and(Option::is_some);
        black_box(places.filter(is_held).count());
        count
    }

    /// Sorting pays when about half of what waits can go.
    fn is_due(&self) -> bool {
        const FEW: usize = 1_024;
        let full = self.waiting.len() >= self.most.saturating_mul(2);
        let old = |first: &(u64, u32)| self.log_at.saturating_sub(first.0) > 2 * WINDOW_NS;
        full || (self.waiting.len() >= FEW.min(self.most) && self.waiting.first().is_some_and(old))
    }

    fn release(&mut self, all: bool) {
        // Stable, so that those of one moment keep their order.
        self.waiting.sort_by_key(|&(at, _)| at);
        let in_time = self.log_at.saturating_sub(WINDOW_NS);
        let count = if all {
            self.waiting.len()
        } else {
            let old = self.waiting.partition_point(|&(at, _)| at < in_time);
            old.max(self.waiting.len().saturating_sub(self.most))
        };
        if let Some(&(at, _)) = count.checked_sub(1).and_then(|last| self.waiting.get(last)) {
            self.passed = at;
        }
        self.ready.extend(self.waiting.drain(..count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The requests in the order they are handed on, and how many were late.
    fn ordered(most: usize, requests: &[(u64, u64)]) -> (Vec<u64>, usize) {
        let mut order = Order::new(most);
        let (mut late, mut out) = (0, Vec::new());
        for &(at, written) in requests {
            late += usize::from(!order.push(at, written, at));
            while order.is_ready() {
                out.extend(order.pop().map(|(_, item)| item));
            }
        }
        order.end();
        out.extend(std::iter::from_fn(|| order.pop().map(|(_, item)| item)));
        (out, late)
    }

    #[test]
    fn requests_that_end_late_come_in_their_turn() {
        const SECOND_NS: u64 = 1_000_000_000;
        let requests: Vec<(u64, u64)> = (0..20_000_u64)
            .map(|number| {
                // One in ten takes up to a minute and a half.
                let took = if number % 10 == 0 { (number * 7_919) % 90 } else { 0 };
                ((number * SECOND_NS / 10).saturating_sub(took * SECOND_NS), number * SECOND_NS / 10)
            })
            .collect();
        let (out, late) = ordered(MOST, &requests);
        assert_eq!((out.len(), late), (requests.len(), 0));
        assert!(out.is_sorted());
    }

    #[test]
    fn what_is_held_back_is_bounded_and_what_comes_too_late_is_told() {
        let mut requests: Vec<(u64, u64)> = (100..400).map(|at| (at, at)).collect();
        requests.push((7, 400));
        let mut order = Order::new(100);
        let mut most = 0;
        for &(at, written) in &requests {
            order.push(at, written, at);
            while order.is_ready() {
                order.pop();
            }
            most = most.max(order.items.len());
        }
        assert!(most <= 200, "{most}");
        let (out, late) = ordered(100, &requests);
        assert_eq!((out.len(), late), (301, 1));
        assert!(out.contains(&7));
    }

    #[test]
    fn what_was_looked_at_ahead_is_handed_on_and_nothing_else() {
        let mut order = Order::new(40);
        let mut out = Vec::new();
        for at in 0..1_000 {
            order.push(at, at, at);
            // Never all that is ready, so that what was looked at is left over when more is put in order.
            let ready = order.ready.len();
            if order.is_ready() && ready % 7 != 3 {
                out.extend(order.pop().map(|(_, item)| item));
            }
            assert!(order.at_hand <= order.ready.len(), "{} of {}", order.at_hand, order.ready.len());
            assert!(order.vacant_at_hand < TOGETHER, "{}", order.vacant_at_hand);
        }
        order.end();
        out.extend(std::iter::from_fn(|| order.pop().map(|(_, item)| item)));
        assert_eq!(out, (0..1_000).collect::<Vec<_>>());
        assert_eq!((order.at_hand, order.pop()), (0, None));
    }

    #[test]
    fn those_of_one_moment_keep_the_order_of_the_log() {
        let mut order = Order::new(MOST);
        for item in 0..100 {
            order.push(5, 5, item);
        }
        order.end();
        assert_eq!(
            std::iter::from_fn(|| order.pop()).map(|(_, item)| item).collect::<Vec<_>>(),
            (0..100).collect::<Vec<_>>()
        );
    }
}
