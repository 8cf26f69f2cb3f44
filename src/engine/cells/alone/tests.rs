//! The map for one thread against one that forgets nothing.

use super::*;
use crate::engine::cells::cell::{Bucket, State};
use crate::engine::class::Id;
use crate::engine::limiter::Gcra;
use std::collections::HashMap;
use std::time::Duration;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn key(number: u64) -> Key {
    Key::from_id(Id([number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number]))
}

/// Of one group, and most of one byte, whatever the number.
fn crowded(number: u64) -> Key {
    Key::from_id(Id([(number % 3) << 56 | 5, number]))
}

/// In use until then.
fn cell(until: u64) -> Cell {
    Cell(State::Bucket(Bucket::new(0, Nanos(until), &Gcra::new(1, Duration::from_secs(1), 9))))
}

fn until(cell: &Cell) -> u64 {
    cell.word()
}

fn make(map: &Alone, key: Key, now: u64, until: u64) {
    let Entry::Vacant(vacant) = map.entry(key, Nanos(now)) else { panic!("it is there already") };
    assert!(vacant.reserve(false));
    vacant.insert(cell(until));
}

fn each(map: &Alone) -> usize {
    let mut seen = 0;
    map.each(|_| seen += 1);
    seen
}

/// Against a map that forgets nothing: whatever is in use is there, as it was made, and only that need be.
fn duel(keys: fn(u64) -> Key, of: u64, lasts: u64) {
    let (map, mut known, mut random) = (Alone::new(usize::MAX), HashMap::new(), Random(of));
    let mut now = 0;
    for _ in 0..20_000 {
        now += random.below(3);
        let number = random.below(of);
        let in_use = known.get(&number).copied().filter(|&until| until > now);
        match random.below(100) {
            0 => {
                let before = map.count();
                let gone = map.retain(|_, cell| !cell.is_idle(Nanos(now)));
                assert_eq!(map.count(), before - gone);
                assert_eq!(map.count(), known.values().filter(|&&until| until > now).count());
                assert!(known.iter().all(|(&number, &until)| map.get(keys(number)).is_some() == (until > now)));
            }
            1..5 => {
                let taken = map.remove(keys(number)).map(|cell| until(&cell)).filter(|&until| until > now);
                assert_eq!((taken, map.get(keys(number)).is_none()), (in_use, true));
                known.remove(&number);
            }
            5..40 => {
                assert_eq!(map.get(keys(number)).map(|cell| until(&cell)).filter(|&until| until > now), in_use)
            }
            _ => match map.entry(keys(number), Nanos(now)) {
                Entry::Occupied(mut found) => {
                    if let Some(in_use) = in_use {
                        assert_eq!(until(&found), in_use);
                    }
                    *found = cell(now + 1);
                    known.insert(number, now + 1);
                }
                Entry::Vacant(vacant) => {
                    assert_eq!(in_use, None);
                    let until = now + random.below(lasts);
                    vacant.insert(cell(until));
                    known.insert(number, until);
                }
            },
        }
        assert!(map.get_mut(keys(of)).is_none());
    }
    assert_eq!(each(&map), map.count());
}

#[test]
fn what_is_in_use_is_there_and_what_is_not_may_be() {
    duel(key, 10, 40);
    duel(key, 3_000, 2_000);
    duel(key, 30_000, 60_000);
}

#[test]
fn keys_of_one_group_go_to_the_next_ones() {
    duel(crowded, 20, 40);
    duel(crowded, 300, 300);
}

#[test]
fn it_is_as_small_as_what_is_in_use() {
    let map = Alone::new(usize::MAX);
    // A hundred at a time.
    (0..300_000).for_each(|number| make(&map, key(number), number, number + 100));
    assert!(map.count() < 2_000, "{}", map.count());
    assert!(!map.outgrows_caches());
    // Half a million at a time, and all of them gone again.
    (300_000..800_000).for_each(|number| make(&map, key(number), number, 1_000_000));
    assert!((0..800_000).filter(|&number| map.get(key(number)).is_some()).count() >= 500_000);
    let places = map.0.borrow().groups.len() * GROUP;
    assert!(places < 500_000 * 4, "{places}");
    assert!(map.outgrows_caches());
    map.warm::<2>(&[key(700_000), key(900_000)]);
    for _ in 0..20 {
        map.retain(|_, cell| !cell.is_idle(Nanos(1_000_000)));
    }
    assert_eq!((map.count(), map.0.borrow().groups.len()), (0, LEAST_GROUPS));
}

/// Groups that are looked through for a key that is not there.
fn walk(map: &Alone, key: Key) -> usize {
    let groups = map.0.borrow();
    let mut at = groups.own(key);
    let walked = (1..=groups.groups.len()).find(|_| {
        let is_over = groups.groups[at].is_over();
        at = groups.next(at);
        !is_over
    });
    walked.unwrap_or(usize::MAX)
}

#[test]
fn who_is_not_there_is_soon_known_however_many_come_and_go() {
    for in_use in [1_500, 8_000, 12_000] {
        let (map, mut random) = (Alone::new(usize::MAX), Random(in_use));
        for number in 0..150_000 {
            let key = Key::from_id(Id([random.below(1 << 31) << 33 | random.below(1 << 31), number]));
            make(&map, key, number, number + in_use);
        }
        let walked: usize = (0..1_000).map(|number| walk(&map, key(number))).sum();
        assert!(walked < 4_000, "{in_use}: {walked}");
        let (places, in_use) = (map.0.borrow().groups.len() * GROUP, in_use as usize);
        assert!((2 * in_use..=32 * in_use).contains(&places), "{in_use}: {places}");
    }
}

#[test]
fn keys_of_one_group_take_no_more_memory_than_others() {
    let map = Alone::new(1_000);
    let crowded = |number: u64| Key::from_id(Id([number << 32 | 5, number]));
    (0..900).for_each(|number| make(&map, crowded(number), 0, 1_000));
    assert!((0..900).all(|number| map.get(crowded(number)).is_some()) && map.get(crowded(900)).is_none());
    assert!(map.0.borrow().groups.len() <= 2_048, "{}", map.0.borrow().groups.len());
}

#[test]
fn at_a_pace_above_its_bound_it_meets_it_in_each_interval_but_the_first() {
    let map = Alone::new(1_000);
    let mut refused = [0; 4];
    for (interval, refused) in (0_u64..).zip(&mut refused) {
        for number in 0..1_200 {
            let Entry::Vacant(vacant) = map.entry(key(number), Nanos(interval)) else { panic!("it is new") };
            if vacant.reserve(false) {
                vacant.insert(cell(interval));
            } else {
                *refused += 1;
            }
        }
        map.retain(|_, _| false);
    }
    assert_eq!(refused, [0, 200, 200, 200]);
}

#[test]
fn at_half_its_bound_it_forgets_nothing_before_a_sweep() {
    let map = Alone::new(1_000);
    (0..500).for_each(|number| make(&map, key(number), 0, 0));
    let before = map.count();
    assert!(before < 500, "up to there what was idle made room");
    (500..500 + 1_000 - before as u64).for_each(|number| make(&map, key(number), 0, 0));
    let Entry::Vacant(vacant) = map.entry(key(9_999), Nanos(0)) else { panic!("nobody made it") };
    assert!(!vacant.reserve(false) && vacant.reserve(true));
    drop(vacant);
    assert_eq!((map.count(), map.retain(|_, _| false), map.count()), (1_000, 1_000, 0));
    make(&map, key(0), 0, 0);
}
