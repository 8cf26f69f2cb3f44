//! The map for one thread, in which what is idle is free: a new cell takes the place of one that is.
//!
//! So the map stays as small as what is in use without being swept, and requests make and forget their cells in memory that is at
//! hand. As in Google's Swiss tables, a byte of each key is looked for in one word that has those of a whole group; what a full
//! group has no room for goes to the next one.
//!
//! Bounds: as many cells as a map that forgets only when it is swept. Once so many have been made since the last sweep that such a
//! one might be half as full as it may be, nothing is forgotten before the next. So the bound is met when it is there, unless the
//! pace doubles from one sweep to the next.

use super::cell::Cell;
use super::map::{Entry, Map, Vacant};
use crate::engine::key::Key;
use crate::engine::time::Nanos;
use std::cell::{Ref, RefCell, RefMut};
use std::hint::black_box;

/// Cells of a group. Their bytes and one of the group itself are one word.
const GROUP: usize = 7;
/// The fewest groups.
const LEAST_GROUPS: usize = 64;
/// Up to so many groups (some 600 KB, of which little is ever used) there are twice as many as soon as one is full.
const MANY_GROUPS: usize = 2_048;
/// Groups from its own on that a new key may go to where there are many.
const REACH: usize = 16;
/// A bit in each byte of a word.
const ONES: u64 = 0x0101_0101_0101_0101;
/// Of a group's own byte: some of its keys are in the next one.
const IS_OVER: u64 = 1 << (8 * GROUP);

/// The map for one thread.
pub struct Alone(RefCell<Groups>);

struct Groups {
    groups: Vec<Group>,
    len: usize,
    max: usize,
    /// Cells that a map would have that forgets only when it is swept, at most.
    since_sweep: usize,
}

struct Group {
    /// From the lowest byte on what the cells' keys are known by, 0 where there is none; and the group's own.
    word: u64,
    places: [Place; GROUP],
}

struct Place {
    key: Key,
    cell: Cell,
}

/// A group, and a place in it.
type At = (usize, usize);

impl Place {
    fn vacant() -> Place {
        Place { key: Key::ZERO, cell: Cell::vacant() }
    }
}

impl Group {
    fn vacant() -> Group {
        Group { word: 0, places: std::array::from_fn(|_| Place::vacant()) }
    }

    /// Where a key's cell is.
    fn find(&self, key: Key) -> Option<usize> {
        // A byte of this is 0 where the key's is found. What comes after such a byte may be found in error.
        let other = self.word ^ (byte(key) * ONES);
        let mut found = other.wrapping_sub(ONES) & !other & (ONES << 7) & (IS_OVER - 1);
        while found != 0 {
            let number = found.trailing_zeros() as usize / 8;
            if self.places.get(number).is_some_and(|place| place.key == key) {
                return Some(number);
            }
            found &= found - 1;
        }
        None
    }

    fn has(&self, number: usize) -> bool {
        self.word >> (8 * number) & 0xff != 0
    }

    fn is_over(&self) -> bool {
        self.word & IS_OVER != 0
    }

    /// Puts a cell in a place, or nothing. Answers what was there.
    fn put(&mut self, number: usize, byte: u64, place: Place) -> Option<Place> {
        let was = self.places.get_mut(number)?;
        self.word = self.word & !(0xff << (8 * number)) | byte << (8 * number);
        Some(std::mem::replace(was, place))
    }
}

/// What a key is known by in its group: never 0.
fn byte(key: Key) -> u64 {
    (key.hash() >> 56).max(1)
}

impl Groups {
    /// The group that a key is in, or that is before the one that it is in.
    fn own(&self, key: Key) -> usize {
        key.hash() as usize & self.groups.len().wrapping_sub(1)
    }

    /// The group after this one.
    fn next(&self, group: usize) -> usize {
        (group + 1) & self.groups.len().wrapping_sub(1)
    }

    /// Where a key's cell is.
    fn find(&self, key: Key) -> Option<At> {
        let mut at = self.own(key);
        for _ in 0..self.groups.len() {
            let group = self.groups.get(at)?;
            if let Some(number) = group.find(key) {
                return Some((at, number));
            }
            if !group.is_over() {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    fn get(&self, (group, number): At) -> Option<&Cell> {
        Some(&self.groups.get(group)?.places.get(number)?.cell)
    }

    fn get_mut(&mut self, (group, number): At) -> Option<&mut Cell> {
        Some(&mut self.groups.get_mut(group)?.places.get_mut(number)?.cell)
    }

    /// Makes a cell for a key that has none.
    fn insert(&mut self, key: Key, cell: Cell, now: Nanos) {
        let may_forget = self.since_sweep < self.max / 2;
        let is_kept = |cell: &Cell| !(may_forget && cell.is_idle(now));
        let at = loop {
            let reach = if self.groups.len() < MANY_GROUPS { 1 } else { REACH };
            if let Some(at) = self.vacate(key, reach, is_kept) {
                break at;
            }
            self.sift(|_, cell| is_kept(cell));
            self.rebuild(2 * self.groups.len());
        };
        self.fill(at, Place { key, cell });
        self.since_sweep += 1;
    }

    /// The first place for a key where no cell is, or one that need not be kept.
    fn vacate(&mut self, key: Key, reach: usize, is_kept: impl Fn(&Cell) -> bool) -> Option<At> {
        let mut at = self.own(key);
        for _ in 0..reach.min(self.groups.len()) {
            let group = self.groups.get_mut(at)?;
            for (number, place) in group.places.iter().enumerate() {
                if !group.has(number) || !is_kept(&place.cell) {
                    return Some((at, number));
                }
            }
            group.word |= IS_OVER;
            at = self.next(at);
        }
        None
    }

    /// Puts a cell in a place that was found for it.
    fn fill(&mut self, (group, number): At, place: Place) {
        if let Some(group) = self.groups.get_mut(group) {
            self.len += usize::from(!group.has(number));
            group.put(number, byte(place.key), place);
        }
    }

    fn take(&mut self, (group, number): At) -> Option<Cell> {
        let taken = self.groups.get_mut(group)?.put(number, 0, Place::vacant())?;
        self.len -= 1;
        Some(taken.cell)
    }

    /// Shows every cell, and forgets those that are not to be kept.
    fn sift(&mut self, mut keep: impl FnMut(Key, &mut Cell) -> bool) {
        for group in &mut self.groups {
            for number in 0..GROUP {
                let is_cell = group.has(number);
                let Some(place) = group.places.get_mut(number) else { continue };
                if is_cell && !keep(place.key, &mut place.cell) {
                    group.put(number, 0, Place::vacant());
                    self.len -= 1;
                }
            }
        }
    }

    /// Puts all cells into `least` groups, or as many as leave half of all places free.
    fn rebuild(&mut self, least: usize) {
        let groups = (2 * self.len / GROUP + 1).max(least).max(LEAST_GROUPS).next_power_of_two();
        let fresh = std::iter::repeat_with(Group::vacant).take(groups).collect();
        self.len = 0;
        for group in std::mem::replace(&mut self.groups, fresh) {
            let Group { word, places } = group;
            for (number, place) in places.into_iter().enumerate() {
                if word >> (8 * number) & 0xff != 0
                    && let Some(at) = self.vacate(place.key, usize::MAX, |_| true)
                {
                    self.fill(at, place);
                }
            }
        }
    }
}

impl Map for Alone {
    type Seen<'m> = Ref<'m, Cell>;
    type Found<'m> = RefMut<'m, Cell>;
    type Vacant<'m> = VacantPlace<'m>;

    const IS_ALONE: bool = true;
    /// Its time never goes back.
    const SKEW_NS: u64 = 0;

    fn new(max: usize) -> Alone {
        Alone(RefCell::new(Groups { groups: Vec::new(), len: 0, max, since_sweep: 0 }))
    }

    fn get(&self, key: Key) -> Option<Ref<'_, Cell>> {
        let groups = self.0.borrow();
        let at = groups.find(key)?;
        Ref::filter_map(groups, |groups| groups.get(at)).ok()
    }

    fn get_mut(&self, key: Key) -> Option<RefMut<'_, Cell>> {
        let groups = self.0.borrow_mut();
        let at = groups.find(key)?;
        RefMut::filter_map(groups, |groups| groups.get_mut(at)).ok()
    }

    fn entry(&self, key: Key, now: Nanos) -> Entry<RefMut<'_, Cell>, VacantPlace<'_>> {
        let groups = self.0.borrow_mut();
        let Some(at) = groups.find(key) else { return Entry::Vacant(VacantPlace { groups, key, now }) };
        match RefMut::filter_map(groups, |groups| groups.get_mut(at)) {
            Ok(cell) => Entry::Occupied(cell),
            Err(groups) => Entry::Vacant(VacantPlace { groups, key, now }),
        }
    }

    fn remove(&self, key: Key) -> Option<Cell> {
        let mut groups = self.0.borrow_mut();
        let at = groups.find(key)?;
        groups.take(at)
    }

    fn retain(&self, keep: impl FnMut(Key, &mut Cell) -> bool) -> usize {
        let mut groups = self.0.borrow_mut();
        let before = groups.len;
        groups.sift(keep);
        let have = groups.groups.len();
        let is_sparse = have * GROUP > 16 * groups.len;
        // Many are not moved without need. To move few costs little, and none of their groups is over afterwards.
        if is_sparse || have <= MANY_GROUPS {
            groups.rebuild(if is_sparse { have / 2 } else { have });
        }
        groups.since_sweep = groups.len;
        before - groups.len
    }

    fn each(&self, mut see: impl FnMut(&Cell)) {
        let mut groups = self.0.borrow_mut();
        groups.sift(|_, cell| {
            see(cell);
            true
        });
    }

    fn count(&self) -> usize {
        self.0.borrow().len
    }

    fn outgrows_caches(&self) -> bool {
        self.0.borrow().groups.len() > MANY_GROUPS
    }

    fn warm<const N: usize>(&self, keys: &[Key]) {
        let groups = self.0.borrow();
        let found = keys.iter().filter_map(|&key| groups.get(groups.find(key)?));
        black_box(found.fold(0, |seen, cell| seen ^ cell.word()));
    }
}

/// Where [`Alone`] has no cell for a key.
pub struct VacantPlace<'m> {
    groups: RefMut<'m, Groups>,
    key: Key,
    now: Nanos,
}

impl Vacant for VacantPlace<'_> {
    fn reserve(&self, in_spite: bool) -> bool {
        in_spite || self.groups.len < self.groups.max
    }

    fn insert(mut self, cell: Cell) {
        let (key, now) = (self.key, self.now);
        self.groups.insert(key, cell, now);
    }
}

impl std::fmt::Debug for Alone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alone").field("cells", &self.count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::{Bucket, State};
    use super::*;
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
}
