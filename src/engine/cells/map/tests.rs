//! Any map against one that forgets nothing, and what only that for many threads does.

use super::*;
use crate::engine::cells::Cells;
use crate::engine::cells::cell::{Bucket, State};
use crate::engine::class::Id;
use crate::engine::key::Place;
use crate::engine::limiter::sliding_window::Spend;
use crate::engine::limiter::{Gcra, SlidingWindow};
use std::collections::HashMap;
use std::time::Duration;

pub(in crate::engine::cells) struct Random(pub(in crate::engine::cells) u64);

impl Random {
    pub(in crate::engine::cells) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

pub(in crate::engine::cells) fn key(number: u64) -> Key {
    Key::from_id(Id([number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number]))
}

/// In use until then.
pub(in crate::engine::cells) fn cell(until: u64) -> Cell {
    Cell(State::Bucket(Bucket::new(0, Nanos(until), &Gcra::new(1, Duration::from_secs(1), 9))))
}

pub(in crate::engine::cells) fn until(cell: &Cell) -> u64 {
    cell.word()
}

fn each(map: &impl Map) -> usize {
    let mut seen = 0;
    map.each(|_| seen += 1);
    seen
}

/// Against a map that forgets nothing: whatever is in use is there, as it was made, and only that need be. Among threads a cell is in
/// use for a while longer than it says.
pub(in crate::engine::cells) fn duel<M: Map>(keys: fn(u64) -> Key, of: u64, lasts: u64) {
    let (map, mut known, mut random) = (M::new(usize::MAX), HashMap::new(), Random(of));
    let unit = M::SKEW_NS / 20 + 1;
    let mut now = M::SKEW_NS;
    for _ in 0..20_000 {
        now += random.below(3) * unit;
        let seen = now - M::SKEW_NS;
        let number = random.below(of);
        let in_use = known.get(&number).copied().filter(|&until| until > seen);
        match random.below(100) {
            0 => {
                let before = map.count();
                let gone = map.retain(Nanos::ZERO, |_, cell| !cell.is_idle(Nanos(seen)));
                assert_eq!(map.count(), before - gone);
                assert_eq!(map.count(), known.values().filter(|&&until| until > seen).count());
                assert!(
                    known
                        .iter()
                        .all(|(&number, &until)| map.get(Kind::Bucket, keys(number)).is_some() == (until > seen))
                );
            }
            1..5 => {
                let taken =
                    map.remove(Kind::Bucket, keys(number)).map(|cell| until(&cell)).filter(|&until| until > seen);
                assert_eq!((taken, map.get(Kind::Bucket, keys(number)).is_none()), (in_use, true));
                known.remove(&number);
            }
            5..40 => {
                assert_eq!(
                    map.get(Kind::Bucket, keys(number)).map(|cell| until(&cell)).filter(|&until| until > seen),
                    in_use
                )
            }
            _ => match map.entry(Kind::Bucket, keys(number), Nanos(now)) {
                Entry::Occupied(mut found) => {
                    if let Some(in_use) = in_use {
                        assert_eq!(until(&found), in_use);
                    }
                    *found = cell(now + 1);
                    known.insert(number, now + 1);
                }
                Entry::Vacant(vacant) => {
                    assert_eq!(in_use, None);
                    let until = now + random.below(lasts) * unit;
                    assert!(vacant.reserve(false));
                    vacant.insert(cell(until));
                    known.insert(number, until);
                }
            },
        }
        assert!(map.get_mut(Kind::Bucket, keys(of)).is_none());
    }
    assert_eq!(each(&map), map.count());
}

/// Makes a cell that is in use until then, if there is room.
pub(in crate::engine::cells) fn make(map: &impl Map, kind: Kind, key: Key, now: u64, until: u64) -> bool {
    let Entry::Vacant(vacant) = map.entry(kind, key, Nanos(now)) else { panic!("it is there already") };
    let has_room = vacant.reserve(false);
    if has_room {
        vacant.insert(cell(until));
    }
    has_room
}

#[test]
fn among_threads_what_is_in_use_is_there_and_what_is_not_may_be() {
    duel::<Shards>(key, 10, 40);
    duel::<Shards>(key, 3_000, 2_000);
    duel::<Shards>(key, 30_000, 60_000);
}

#[test]
fn what_is_brief_takes_the_room_of_a_moment_and_what_is_not_stays() {
    const EACH: u64 = Shards::SKEW_NS / 10_000;
    let shards = Shards::new(usize::MAX);
    // 10,000 in the time that is kept, sixty times, each in use for a moment.
    for number in 0..600_000 {
        let now = Shards::SKEW_NS + number * EACH;
        assert!(make(&shards, Kind::Bucket, key(number), now, now + 1));
    }
    assert!((10_000..40_000).contains(&shards.count()), "{}", shards.count());
    let room = shards.of(Kind::Bucket).capacity();
    assert!(room < 80_000, "{room}");
    assert_eq!(each(&shards), shards.count());
    // Of those that came last, none is missing.
    assert!((590_001..600_000).all(|number| shards.get(Kind::Bucket, key(number)).is_some()));
    for number in 0..10_000 {
        assert!(make(&shards, Kind::Long, key(number), u64::MAX, 0), "idle, but it is for a sweep to say so");
    }
    assert_eq!(shards.of(Kind::Long).len(), 10_000);
    assert_eq!([Kind::Bucket, Kind::Long].map(|kind| shards.outgrows_caches(kind)), [true, true]);
    (0..5_000).for_each(|number| assert!(shards.remove(Kind::Long, key(number)).is_some()));
    assert_eq!([Kind::Bucket, Kind::Long].map(|kind| shards.outgrows_caches(kind)), [true, false]);
    let now = Nanos(Shards::SKEW_NS + 600_000 * EACH);
    let before = shards.count();
    assert_eq!(shards.retain(Nanos::ZERO, |_, cell| !cell.is_idle(now)), before);
    assert_eq!((shards.count(), each(&shards), shards.long.load(Relaxed)), (0, 0, 0));
    let left = shards.of(Kind::Bucket).capacity();
    assert!(left > room / 10 * 9, "who asks as before finds the room that there was: {left} of {room}");
    shards.retain(Nanos::ZERO, |_, _| true);
    assert!(shards.of(Kind::Bucket).capacity() < room / 8, "and who does not, takes none");
}

/// Where nearly all of a full shard is in use, looking through it each time would cost more than its room.
#[test]
fn a_shard_that_is_mostly_in_use_grows() {
    let shards = Shards::new(usize::MAX);
    let map = shards.of(Kind::Bucket);
    let room = || map.shards()[0].read().capacity();
    let of_first_shard = (0..).filter(|&number| map.determine_shard(map.hash_usize(&key(number))) == 0);
    for (turn, number) in (2..1_000).zip(of_first_shard) {
        let now = turn * Shards::SKEW_NS;
        // 12 of 14 at once, and from the middle on 26 of 28.
        let in_use = if turn < 500 { 11 } else { 25 };
        assert!(make(&shards, Kind::Bucket, key(number), now, now + in_use * Shards::SKEW_NS));
        match turn {
            100..500 => assert_eq!(room(), 28, "{turn}"),
            550.. => assert_eq!(room(), 56, "{turn}"),
            _ => {}
        }
    }
}

/// Makes free slots, if nobody has.
fn make_slots(shards: &Shards, number: u64, now: u64) {
    if let Entry::Vacant(vacant) = shards.entry(Kind::Slots, key(number), Nanos(now)) {
        assert!(vacant.reserve(false));
        vacant.insert(Cell::vacant());
    }
}

#[test]
fn slots_are_as_few_as_are_taken() {
    let shards = Shards::new(usize::MAX);
    (0..100_000).for_each(|number| make_slots(&shards, number, number * SLOTS_LOOK_NS / 10));
    assert!(shards.count() <= FEW * shards.slots_looked_at.len(), "{}", shards.count());
    assert_eq!(each(&shards), shards.count());
}

#[test]
fn slots_of_many_at_once_are_not_looked_through_again_and_again() {
    let shards = Shards::new(usize::MAX);
    let start = 5 * SLOTS_LOOK_NS;
    // The first look at each shard forgets the 14 that are there; from then on it grows.
    (0..10_000).for_each(|number| make_slots(&shards, number, start));
    let many = shards.count();
    assert!(many >= 10_000 - FEW * shards.slots_looked_at.len(), "{many}");
    (0..10_000).for_each(|number| make_slots(&shards, number, start + SLOTS_LOOK_NS - 1));
    assert_eq!(shards.count(), 10_000, "all come again");
    let looks: Vec<u64> = shards.slots_looked_at.iter().map(|looked_at| looked_at.load(Relaxed)).collect();
    assert_eq!(looks, vec![start; looks.len()]);
    (10_000..30_000).for_each(|number| make_slots(&shards, number, start + SLOTS_LOOK_NS * number / 1_000));
    assert!(shards.count() < 10_000, "{}", shards.count());
    assert_eq!(each(&shards), shards.count());
}

#[test]
fn a_look_spares_slots_that_are_taken_and_comes_a_millisecond_after_another() {
    let shards = Shards::new(usize::MAX);
    let map = shards.of(Kind::Slots);
    let mut numbers = (0..).filter(|&number| map.determine_shard(map.hash_usize(&key(number))) == 0);
    let first = || (map.shards()[0].read().len(), shards.slots_looked_at[0].load(Relaxed));
    // Cells that are in use for good stand for slots that are taken.
    let taken: Vec<u64> = numbers.by_ref().take(FEW / 2).collect();
    let start = 5 * SLOTS_LOOK_NS;
    taken.iter().for_each(|&number| assert!(make(&shards, Kind::Slots, key(number), start, u64::MAX)));
    let mut make_free = |count, now| numbers.by_ref().take(count).for_each(|number| make_slots(&shards, number, now));
    make_free(FEW - taken.len(), start);
    assert_eq!(first(), (taken.len(), start), "what was free is gone");
    make_free(50, start + SLOTS_LOOK_NS - 1);
    make_free(50, start - 1);
    assert_eq!(first(), (taken.len() + 100, start), "a moment too early, and of a thread that is late");
    make_free(200, start + SLOTS_LOOK_NS);
    let (len, looked_at) = first();
    assert_eq!(looked_at, start + SLOTS_LOOK_NS);
    assert!(len < taken.len() + 200, "{len}");
    assert!(taken.iter().all(|&number| shards.get(Kind::Slots, key(number)).is_some()));
    assert_eq!(each(&shards), shards.count());
}

/// Not of what was made since a sweep: who comes again finds room, however often its cell was forgotten.
#[test]
fn the_bound_is_of_what_there_is() {
    const BOUND: usize = 16_000;
    let shards = Shards::new(BOUND);
    // 24,000 in turn, each long after it came last.
    for number in 0..200_000 {
        let now = Shards::SKEW_NS + number * Shards::SKEW_NS / 8_000;
        match shards.entry(Kind::Bucket, key(number % 24_000), Nanos(now)) {
            Entry::Occupied(mut found) => *found = cell(now + 1),
            Entry::Vacant(vacant) => {
                assert!(vacant.reserve(false), "{number}");
                vacant.insert(cell(now + 1));
            }
        }
    }
    let left = shards.count();
    assert_eq!(each(&shards), left);
    // What stays in use meets it.
    let made =
        (100_000..120_000).filter(|&number| make(&shards, Kind::Bucket, key(number), u64::MAX / 2, u64::MAX)).count();
    assert!((BOUND - left..=BOUND).contains(&made), "{made} beside {left}");
    assert_eq!(shards.count(), BOUND);
    assert!(shards.remove(Kind::Bucket, key(100_001)).is_some());
    assert!(make(&shards, Kind::Bucket, key(7_000_000), 0, u64::MAX), "one was taken out");
    assert!(!make(&shards, Kind::Bucket, key(7_000_001), 0, u64::MAX));
}

#[test]
fn threads_that_forget_for_each_other_lose_nothing_in_use() {
    let shards = Shards::new(usize::MAX);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let shards = &shards;
            scope.spawn(move || {
                for number in 0..50_000 {
                    let now = (number + 2) * Shards::SKEW_NS;
                    // One in ten stays in use.
                    let until = if number.is_multiple_of(10) { u64::MAX } else { 0 };
                    assert!(make(shards, Kind::Bucket, key(thread * 50_000 + number), now, until));
                }
            });
        }
    });
    let stay = |number: u64| number.is_multiple_of(10);
    assert!((0..200_000).filter(|&number| stay(number)).all(|number| shards.get(Kind::Bucket, key(number)).is_some()));
    assert!(shards.count() < 100_000, "{}", shards.count());
    assert_eq!(each(&shards), shards.count());
}

/// Where a cell may be made.
fn moment(map: &impl Map, kind: Kind, number: u64, now: Nanos) -> Nanos {
    let Entry::Vacant(vacant) = map.entry(kind, key(number), now) else { panic!("{number} is there") };
    vacant.moment()
}

#[test]
fn what_was_forgotten_begins_no_earlier_than_it_was() {
    let shards = Shards::new(usize::MAX);
    assert_eq!(moment(&shards, Kind::Bucket, 1, Nanos(5)), Nanos(5), "nothing was forgotten");
    let now = 100 * Shards::SKEW_NS;
    (0..100_000).for_each(|number| assert!(make(&shards, Kind::Bucket, key(number), now, now)));
    assert_eq!(each(&shards), 100_000, "they are idle too briefly");
    (100_000..200_000).for_each(|number| assert!(make(&shards, Kind::Bucket, key(number), 2 * now, 2 * now)));
    let gone = (0..100_000).filter(|&number| shards.get(Kind::Bucket, key(number)).is_none()).count();
    assert!(gone > 10_000, "{gone}");
    for kind in [Kind::Slots, Kind::Bucket, Kind::Long] {
        assert_eq!(moment(&shards, kind, 200_000, Nanos(5)), Nanos(2 * now - Shards::SKEW_NS));
        assert_eq!(moment(&shards, kind, 200_000, Nanos(3 * now)), Nanos(3 * now));
    }
    shards.retain(Nanos(4 * now), |_, _| true);
    assert_eq!(moment(&shards, Kind::Long, 200_000, Nanos(3 * now)), Nanos(4 * now));
}

#[test]
fn a_late_request_counts_in_a_window_of_now() {
    const SECOND: u64 = 1_000_000_000;
    let cells = Cells::<Shards>::new(usize::MAX);
    let figures = SlidingWindow::new(1, Duration::from_secs(63));
    let place = Place { key: key(1), overflow: key(2), tag: 0 };
    let admits =
        |second| matches!(cells.spend(&place, &figures, Nanos(second * SECOND), 1).answer, Spend::Taken { .. });
    assert!(admits(0));
    assert_eq!(cells.sweep(Nanos(70 * SECOND)), 1);
    assert!(admits(10));
    assert!(!admits(80), "it was counted in the 69th second, not in the 10th");
    assert!(!admits(69 + 63));
    assert!(admits(69 + 64));
}
