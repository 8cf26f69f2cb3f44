//! The map for one thread against one that forgets nothing.

use super::*;
use crate::engine::cells::map::tests::{self, Random, cell, duel, key};
use crate::engine::class::Id;

/// Of one group, and most of one byte, whatever the number.
fn crowded(number: u64) -> Key {
    Key::from_id(Id([(number % 3) << 56 | 5, number]))
}

fn make(map: &Alone, key: Key, now: u64, until: u64) {
    assert!(tests::make(map, Kind::Bucket, key, now, until));
}

#[test]
fn what_is_in_use_is_there_and_what_is_not_may_be() {
    duel::<Alone>(key, 10, 40);
    duel::<Alone>(key, 3_000, 2_000);
    duel::<Alone>(key, 30_000, 60_000);
}

#[test]
fn keys_of_one_group_go_to_the_next_ones() {
    duel::<Alone>(crowded, 20, 40);
    duel::<Alone>(crowded, 300, 300);
}

#[test]
fn it_is_as_small_as_what_is_in_use() {
    let map = Alone::new(usize::MAX);
    // A hundred at a time.
    (0..300_000).for_each(|number| make(&map, key(number), number, number + 100));
    assert!(map.count() < 2_000, "{}", map.count());
    assert!(!map.outgrows_caches(Kind::Bucket));
    // Half a million at a time, and all of them gone again.
    (300_000..800_000).for_each(|number| make(&map, key(number), number, 1_000_000));
    assert!((0..800_000).filter(|&number| map.get(Kind::Bucket, key(number)).is_some()).count() >= 500_000);
    let places = map.0.borrow().groups.len() * GROUP;
    assert!(places < 500_000 * 4, "{places}");
    assert!(map.outgrows_caches(Kind::Bucket));
    map.warm::<2>(&[key(700_000), key(900_000)].map(|key| (Kind::Bucket, key)));
    for _ in 0..20 {
        map.retain(Nanos::ZERO, |_, cell| !cell.is_idle(Nanos(1_000_000)));
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
    assert!(
        (0..900).all(|number| map.get(Kind::Bucket, crowded(number)).is_some())
            && map.get(Kind::Bucket, crowded(900)).is_none()
    );
    assert!(map.0.borrow().groups.len() <= 2_048, "{}", map.0.borrow().groups.len());
}

#[test]
fn at_a_pace_above_its_bound_it_meets_it_in_each_interval_but_the_first() {
    let map = Alone::new(1_000);
    let mut refused = [0; 4];
    for (interval, refused) in (0_u64..).zip(&mut refused) {
        for number in 0..1_200 {
            let Entry::Vacant(vacant) = map.entry(Kind::Bucket, key(number), Nanos(interval)) else {
                panic!("it is new")
            };
            if vacant.reserve(false) {
                vacant.insert(cell(interval));
            } else {
                *refused += 1;
            }
        }
        map.retain(Nanos::ZERO, |_, _| false);
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
    let Entry::Vacant(vacant) = map.entry(Kind::Bucket, key(9_999), Nanos(0)) else { panic!("nobody made it") };
    assert!(!vacant.reserve(false) && vacant.reserve(true));
    drop(vacant);
    assert_eq!((map.count(), map.retain(Nanos::ZERO, |_, _| false), map.count()), (1_000, 1_000, 0));
    make(&map, key(0), 0, 0);
}
