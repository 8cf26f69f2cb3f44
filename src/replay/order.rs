//! Puts the requests of a trace into the order in which they began.
//!
//! Logs are written when requests end, so a slow request stands behind faster ones that began later. Up to [`MOST`] requests
//! are held back until nothing that began before them can follow: the log has come [`WINDOW_NS`] further. What comes later
//! still has missed its turn; it is told as late and replayed at the moment that the replay has come to.

use std::collections::VecDeque;

/// How much longer a request may take than one that began after it and stands before it in the log, in nanoseconds. Longer than
/// the gateway's default `response_timeout`.
pub const WINDOW_NS: u64 = 120 * 1_000_000_000;
/// Requests that are held back.
pub const MOST: usize = 131_072;
/// Requests that are put in order together. As many are handed on before the next are read, so that these fill the places just left,
/// which are still in the core's second cache.
const TOGETHER: usize = 4_096;

/// When a request began, and its place.
type Waiting = (u64, u32);

/// Holds requests back. Those of one moment keep the order of the log.
#[derive(Debug)]
pub struct Order<T> {
    /// Those that came last, as they came.
    fresh: Vec<Waiting>,
    /// All others, in their order.
    sorted: VecDeque<Waiting>,
    /// So many of these can be handed on.
    ready: usize,
    /// Room for those that are put in order anew.
    mixed: Vec<Waiting>,
    items: Vec<Option<T>>,
    vacant: Vec<u32>,
    /// The latest end that was seen.
    log_at: u64,
    /// What was handed on last, or is about to be.
    passed: u64,
    most: usize,
}

impl<T> Order<T> {
    /// Holds back at most `most` requests, and 4,096 more, or as many again where that is less, until they are put in order.
    pub fn new(most: usize) -> Order<T> {
        Order {
            fresh: Vec::new(),
            sorted: VecDeque::new(),
            ready: 0,
            mixed: Vec::new(),
            items: Vec::new(),
            vacant: Vec::new(),
            log_at: 0,
            passed: 0,
            most: most.max(1),
        }
    }

    /// Takes a request that began at `at` and whose line was written at `written`. `false`: it is late, and counts as one that
    /// began at the last moment handed on.
    pub fn push(&mut self, at: u64, written: u64, item: T) -> bool {
        self.log_at = self.log_at.max(written).max(at);
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
        self.fresh.push((at.max(self.passed), place));
        at >= self.passed
    }

    /// Whether something can be handed on without reading further.
    pub fn is_ready(&mut self) -> bool {
        if self.ready == 0 && self.fresh.len() >= TOGETHER.min(self.most) {
            self.release(false);
        }
        self.ready > 0
    }

    /// Nothing follows: everything can be handed on.
    pub fn end(&mut self) {
        self.release(true);
    }

    /// When the next one began.
    pub fn peek(&self) -> Option<u64> {
        self.sorted.front().filter(|_| self.ready > 0).map(|&(at, _)| at)
    }

    /// Hands on up to `most` of those that are ready and began at a moment that `may` follow, each with that moment. They have left
    /// the core's caches, but none has to wait for the one before it.
    pub fn hand_on(&mut self, most: usize, may: impl Fn(u64) -> bool, to: &mut Vec<(u64, T)>) {
        for _ in 0..most.min(self.ready) {
            let Some(&(at, place)) = self.sorted.front().filter(|(at, _)| may(*at)) else { return };
            self.sorted.pop_front();
            self.ready -= 1;
            self.vacant.push(place);
            if let Some(item) = self.items.get_mut(place as usize).and_then(Option::take) {
                to.push((at, item));
            }
        }
    }

    fn release(&mut self, all: bool) {
        self.put_in_order();
        self.ready = if all {
            self.sorted.len()
        } else {
            let in_time = self.log_at.saturating_sub(WINDOW_NS);
            let old = self.sorted.partition_point(|&(at, _)| at < in_time);
            old.max(self.sorted.len().saturating_sub(self.most))
        };
        if let Some(&(at, _)) = self.ready.checked_sub(1).and_then(|last| self.sorted.get(last)) {
            self.passed = at;
        }
    }

    /// Sorts in what came last: mostly it belongs to the end.
    fn put_in_order(&mut self) {
        let Some(earliest) = self.fresh.iter().map(|&(at, _)| at).min() else { return };
        let before = self.sorted.partition_point(|&(at, _)| at <= earliest);
        self.mixed.extend(self.sorted.drain(before..));
        self.mixed.append(&mut self.fresh);
        // Stable, so that those of one moment keep their order.
        self.mixed.sort_by_key(|&(at, _)| at);
        self.sorted.extend(self.mixed.drain(..));
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
                out.extend(taken(&mut order, 16));
            }
        }
        order.end();
        out.extend(taken(&mut order, usize::MAX));
        (out, late)
    }

    fn taken(order: &mut Order<u64>, most: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        order.hand_on(most, |_| true, &mut taken);
        taken.into_iter().map(|(_, item)| item).collect()
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
                taken(&mut order, 1);
            }
            most = most.max(order.items.len());
        }
        assert!(most <= 200, "{most}");
        let (out, late) = ordered(100, &requests);
        assert_eq!((out.len(), late), (301, 1));
        assert!(out.contains(&7));
    }

    #[test]
    fn places_that_were_left_are_filled_again() {
        let mut order = Order::new(40);
        let mut out = Vec::new();
        for at in 0..10_000 {
            order.push(at, at, at);
            // Never all that is ready, so that some is left when more is put in order.
            if order.is_ready() && at % 7 != 3 {
                out.extend(taken(&mut order, 2));
            }
        }
        assert!(order.items.len() < 200, "{}", order.items.len());
        order.end();
        out.extend(taken(&mut order, usize::MAX));
        assert_eq!(out, (0..10_000).collect::<Vec<_>>());
        assert_eq!((order.peek(), taken(&mut order, 1)), (None, vec![]));
    }

    #[test]
    fn no_more_is_handed_on_than_was_asked_for() {
        let mut order = Order::new(MOST);
        for at in [3, 1, 4, 1, 5] {
            order.push(at, at, at);
        }
        assert_eq!((order.peek(), taken(&mut order, 9)), (None, vec![]));
        order.end();
        assert_eq!(taken(&mut order, 1), [1]);
        let mut early = Vec::new();
        order.hand_on(9, |at| at < 4, &mut early);
        assert_eq!((early, order.peek()), (vec![(1, 1), (3, 3)], Some(4)));
        assert_eq!(taken(&mut order, 9), [4, 5]);
    }

    #[test]
    fn those_of_one_moment_keep_the_order_of_the_log() {
        let mut order = Order::new(100);
        let mut out = Vec::new();
        for item in 0..1_000 {
            order.push(5, 5, item);
            while order.is_ready() {
                out.extend(taken(&mut order, 7));
            }
        }
        order.end();
        out.extend(taken(&mut order, usize::MAX));
        assert_eq!(out, (0..1_000).collect::<Vec<_>>());
    }
}
