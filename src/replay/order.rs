//! Puts the requests of a trace into the order in which they began.
//!
//! Logs are written when requests end, so a slow request stands behind faster ones that began later, and some exports have the
//! newest first. [`MOST`] requests are held back; the earliest of them is handed on when more come. What stands still further
//! from its place has missed its turn; it is told as late and replayed at the moment that the replay has come to.
//!
//! As in a merge sort whose first runs lie in memory one after the other, and of which only those are merged that come out: runs
//! of requests are sorted while the core's second cache has them, and the earliest of their heads is found in a heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// Requests that are held back.
pub const MOST: usize = 262_144;
/// Requests that are sorted together. As many are handed on before the next are read, so that these go where those lay.
const TOGETHER: usize = 4_096;

/// Holds requests back. Those of one moment keep the order of the log.
#[derive(Debug)]
pub struct Order<T> {
    /// Those that came last, as they came: when they began, and their places in `items`.
    fresh: Vec<(u64, u32)>,
    items: Vec<Option<T>>,
    runs: Vec<Run<T>>,
    /// Runs of which nothing is left.
    left: Vec<u32>,
    heads: BinaryHeap<Reverse<Head>>,
    /// Runs so far.
    begun: u32,
    /// Requests in runs.
    held: usize,
    /// So many of these can be handed on.
    ready: usize,
    /// When the one began that was handed on last.
    passed: u64,
    most: usize,
}

/// Requests in the order in which they began, which is the order in memory: when their turn comes they have left the core's
/// caches, and are read one behind the other.
#[derive(Debug)]
struct Run<T> {
    requests: Vec<(u64, Option<T>)>,
    /// How many were handed on.
    passed: usize,
}

/// When the first request of a run began, how many runs are older, and the run's place: one number in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head(u128);

impl Head {
    fn new(at: u64, older: u32, place: u32) -> Head {
        Head(u128::from(at) << 64 | u128::from(older) << 32 | u128::from(place))
    }

    /// The same run with another request first.
    fn moved_to(self, at: u64) -> Head {
        Head(u128::from(at) << 64 | u128::from(self.0 as u64))
    }

    fn at(self) -> u64 {
        (self.0 >> 64) as u64
    }

    fn place(self) -> u32 {
        self.0 as u32
    }
}

impl<T> Order<T> {
    /// Holds back `most` requests, and 4,096 more, or as many again where that is less, until these are sorted.
    pub fn new(most: usize) -> Order<T> {
        Order {
            fresh: Vec::new(),
            items: Vec::new(),
            runs: Vec::new(),
            left: Vec::new(),
            heads: BinaryHeap::new(),
            begun: 0,
            held: 0,
            ready: 0,
            passed: 0,
            most: most.max(1),
        }
    }

    /// Takes a request that began at `at`, while nothing [is ready](Order::is_ready). `false`: it is late, and counts as one that
    /// began at the last moment handed on.
    pub fn push(&mut self, at: u64, item: T) -> bool {
        let place = u32::try_from(self.items.len()).unwrap_or(u32::MAX);
        self.fresh.push((at.max(self.passed), place));
        self.items.push(Some(item));
        at >= self.passed
    }

    /// Whether something can be handed on without reading further.
    pub fn is_ready(&mut self) -> bool {
        if self.ready == 0 && self.fresh.len() >= TOGETHER.min(self.most) {
            self.begin_run();
            self.ready = self.held.saturating_sub(self.most);
        }
        self.ready > 0
    }

    /// Nothing follows: everything can be handed on.
    pub fn end(&mut self) {
        self.begin_run();
        self.ready = self.held;
    }

    /// When the next one began.
    pub fn peek(&self) -> Option<u64> {
        self.heads.peek().filter(|_| self.ready > 0).map(|Reverse(head)| head.at())
    }

    /// Hands on up to `most` of those that are ready and began at a moment that `may` follow, each with that moment.
    pub fn hand_on(&mut self, most: usize, may: impl Fn(u64) -> bool, to: &mut Vec<(u64, T)>) {
        for _ in 0..most.min(self.ready) {
            let Some(mut first) = self.heads.peek_mut() else { return };
            let Reverse(head) = *first;
            let Some(run) = self.runs.get_mut(head.place() as usize) else { return };
            let Some((at, item)) = run.requests.get_mut(run.passed).filter(|(at, _)| may(*at)) else { return };
            let (at, item) = (*at, item.take());
            run.passed += 1;
            if let Some(&(next, _)) = run.requests.get(run.passed) {
                *first = Reverse(head.moved_to(next));
            } else {
                PeekMut::pop(first);
                run.passed = 0;
                run.requests.clear();
                self.left.push(head.place());
            }
            (self.ready, self.held, self.passed) = (self.ready - 1, self.held - 1, at);
            to.extend(item.map(|item| (at, item)));
        }
    }

    /// Gives back the room of what was handed on, where runs of which little is left have more of it than what waits.
    fn tidy(&mut self) {
        let room: usize = self.runs.iter().map(|run| run.requests.capacity()).sum();
        if room <= 2 * (self.most + 2 * TOGETHER) {
            return;
        }
        for run in &mut self.runs {
            run.requests.drain(..run.passed);
            run.requests.shrink_to_fit();
            run.passed = 0;
        }
    }

    /// Sorts those that came last.
    fn begin_run(&mut self) {
        self.tidy();
        // Stable, so that those of one moment keep their order; and not the requests themselves, which are larger.
        self.fresh.sort_by_key(|&(at, _)| at);
        let Some(&(at, _)) = self.fresh.first() else { return };
        let place = self.left.pop().unwrap_or_else(|| {
            self.runs.push(Run { requests: Vec::new(), passed: 0 });
            u32::try_from(self.runs.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(run) = self.runs.get_mut(place as usize) {
            let items = &mut self.items;
            let taken = |place: u32| items.get_mut(place as usize).and_then(Option::take);
            run.requests.reserve_exact(self.fresh.len());
            run.requests.extend(self.fresh.drain(..).scan(taken, |taken, (at, place)| Some((at, taken(place)))));
            self.items.clear();
            self.held += run.requests.len();
            self.heads.push(Reverse(Head::new(at, self.begun, place)));
            self.begun += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The requests in the order they are handed on, and how many were late. No more wait than may.
    fn ordered(most: usize, requests: impl IntoIterator<Item = u64>) -> (Vec<u64>, usize) {
        let mut order = Order::new(most);
        let (mut late, mut out) = (0, Vec::new());
        for at in requests {
            late += usize::from(!order.push(at, at));
            while order.is_ready() {
                out.extend(taken(&mut order, 16));
            }
        }
        let wait = order.held + order.items.len();
        assert!(wait <= most + TOGETHER.min(most), "{wait} wait");
        order.end();
        out.extend(taken(&mut order, usize::MAX));
        assert_eq!((order.held, order.left.len()), (0, order.runs.len()));
        (out, late)
    }

    fn taken(order: &mut Order<u64>, most: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        order.hand_on(most, |_| true, &mut taken);
        taken.into_iter().map(|(_, item)| item).collect()
    }

    #[test]
    fn requests_that_end_late_come_in_their_turn() {
        // One in ten takes up to a minute and a half, at ten a second.
        let took = |number: u64| if number.is_multiple_of(10) { number * 7_919 % 900 } else { 0 };
        let (out, late) = ordered(MOST, (0..20_000).map(|number| number - took(number).min(number)));
        assert_eq!((out.len(), late), (20_000, 0));
        assert!(out.is_sorted());
    }

    #[test]
    fn what_stands_as_far_from_its_place_as_is_held_back_comes_in_its_turn() {
        for most in [100, 5_000, 10_000] {
            let last = 4 * most as u64;
            // Each moves up by one, and the first of all stands behind `most` others.
            let (out, late) = ordered(most, (1..=most as u64).chain([0]).chain(most as u64 + 1..last));
            assert_eq!((out, late), ((0..last).collect(), 0), "{most}");
            let (out, late) = ordered(most, (1..last).chain([0]));
            assert_eq!((out.len() as u64, late), (last, 1), "{most}");
            assert!(out.contains(&0));
            let newest_first = (0..most as u64).rev();
            assert_eq!(ordered(most, newest_first), ((0..most as u64).collect(), 0), "{most}");
        }
    }

    #[test]
    fn any_order_comes_out_sorted_but_for_the_late() {
        let mut random = 1_u64;
        for (most, spread) in [(40, 30), (40, 400), (5_000, 4_000), (5_000, 40_000)] {
            let requests: Vec<u64> = (0..30_000)
                .map(|number| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    number + (random >> 33) % spread
                })
                .collect();
            let mut order = Order::new(most);
            let (mut out, mut late, mut passed) = (Vec::new(), 0, 0);
            for &at in &requests {
                assert_eq!(order.push(at, at), at >= passed);
                late += usize::from(at < passed);
                while order.is_ready() {
                    order.hand_on(7, |_| true, &mut out);
                    passed = out.last().map_or(0, |&(at, _)| at);
                }
            }
            order.end();
            order.hand_on(usize::MAX, |_| true, &mut out);
            assert!(out.is_sorted_by_key(|&(at, _)| at));
            assert_eq!(out.iter().filter(|(at, item)| at != item).count(), late);
            assert_eq!(late > 0, spread > most as u64, "{most} {spread}: {late}");
            let mut items: Vec<u64> = out.into_iter().map(|(_, item)| item).collect();
            let mut all = requests.clone();
            items.sort_unstable();
            all.sort_unstable();
            assert_eq!(items, all);
        }
    }

    #[test]
    fn no_more_is_handed_on_than_was_asked_for() {
        let mut order = Order::new(MOST);
        for at in [3, 1, 4, 1, 5] {
            order.push(at, at);
        }
        assert_eq!((order.peek(), taken(&mut order, 9)), (None, vec![]));
        order.end();
        assert_eq!(taken(&mut order, 1), [1]);
        let mut early = Vec::new();
        order.hand_on(9, |at| at < 4, &mut early);
        assert_eq!((early, order.peek()), (vec![(1, 1), (3, 3)], Some(4)));
        assert_eq!(taken(&mut order, 9), [4, 5]);
        assert_eq!((order.peek(), taken(&mut order, 1)), (None, vec![]));
    }

    #[test]
    fn clocks_that_are_ahead_take_no_memory_but_for_what_waits() {
        const MOST: usize = 20_000;
        let (mut order, mut out) = (Order::new(MOST), Vec::new());
        for number in 0..400_000_u64 {
            let at = if number.is_multiple_of(4_096) { number + (1 << 50) } else { number };
            order.push(at, at);
            while order.is_ready() {
                order.hand_on(16, |_| true, &mut out);
            }
        }
        let room: usize = order.runs.iter().map(|run| run.requests.capacity()).sum();
        assert!(room < 3 * (MOST + 2 * TOGETHER), "room for {room} where {} wait", order.held);
        order.end();
        order.hand_on(usize::MAX, |_| true, &mut out);
        assert!(out.len() == 400_000 && out.is_sorted());
    }

    #[test]
    fn those_of_one_moment_keep_the_order_of_the_log() {
        let mut order = Order::new(100);
        let mut out = Vec::new();
        for item in 0..1_000 {
            order.push(5, item);
            while order.is_ready() {
                out.extend(taken(&mut order, 7));
            }
        }
        order.end();
        out.extend(taken(&mut order, usize::MAX));
        assert_eq!(out, (0..1_000).collect::<Vec<_>>());
    }
}
