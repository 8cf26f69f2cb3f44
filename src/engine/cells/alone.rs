//! The map for one thread, in which what is idle is free: a new cell takes the place of one that is.
//!
//! So the map stays as small as what is in use without being swept, and requests make and forget their cells in memory that is at
//! hand. As in Google's Swiss tables, a byte of each key is looked for in one word that has those of a whole group; what a full
//! group has no room for goes to the next one.
//!
//! Bounds: as many cells as a map that forgets only when it is swept. Where such a one might be half as full as it may be, by what was
//! made since the last sweep or between the two before, nothing is forgotten before the next. So the bound is met when it is met there,
//! unless the pace doubles from one sweep to the next, or in the first interval. The map for many threads forgets some between sweeps,
//! and mostly meets it later. Of all places an eighth is in use, or a quarter where there are many, unless few ever were; keys that all
//! want one group go on to the next ones, however many, and take no more memory.

use super::cell::Cell;
use super::map::{Entry, Kind, Map, Vacant};
use crate::engine::key::Key;
use crate::engine::time::Nanos;
use std::cell::{Ref, RefCell, RefMut};
use std::hint::black_box;

/// Cells of a group. Their bytes and one of the group itself are one word.
const GROUP: usize = 7;
/// The fewest groups.
const LEAST_GROUPS: usize = 64;
/// Up to so many groups (some 600 KB, of which little is ever used) there are twice as many as soon as one is full, as long as an
/// eighth of all places is in use; from there on as half of them are.
const MANY_GROUPS: usize = 2_048;
/// Groups from its own on that a new key may go to where there are many.
const REACH: usize = 16;
/// A bit in each byte of a word.
const ONES: u64 = 0x0101_0101_0101_0101;
/// Of a group's own byte: some of its keys are in the next one.
const IS_OVER: u64 = 1 << (8 * GROUP);

/// The map for one thread.
pub struct Alone(RefCell<Groups>);

#[derive(Default)]
struct Groups {
    groups: Vec<Group>,
    len: usize,
    max: usize,
    /// Cells that a map would have that forgets only when it is swept, at most.
    since_sweep: usize,
    /// The same when it was swept last.
    before_sweep: usize,
    /// Cells made since those that were idle were last looked for.
    fresh: usize,
    /// Groups that are over, and how many may be before all is put in order: who looks for a key that is not there walks past them.
    over: usize,
    may_be_over: usize,
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
        let may_forget = self.since_sweep.max(self.before_sweep) < self.max / 2;
        let is_kept = |cell: &Cell| !(may_forget && cell.is_idle(now));
        let reach = if self.groups.len() < MANY_GROUPS { 1 } else { REACH };
        let found = self.vacate(key, reach, is_kept).filter(|_| self.over <= self.may_be_over);
        let at = found.or_else(|| self.make_room(key, is_kept));
        if let Some(at) = at {
            self.fill(at, Place { key, cell });
            self.since_sweep += 1;
            self.fresh += 1;
        }
    }

    /// Where many are close to each other: more groups if there are few for what is in use; else a place further on.
    #[cold]
    fn make_room(&mut self, key: Key, is_kept: impl Fn(&Cell) -> bool + Copy) -> Option<At> {
        let places = self.groups.len() * GROUP;
        // Not for each one where it brings nothing.
        if 8 * self.fresh >= places {
            self.sift(|_, cell| is_kept(cell));
            self.fresh = 0;
        }
        let share = if self.groups.len() < MANY_GROUPS { 8 } else { 2 };
        if share * self.len >= places {
            self.rebuild(2 * self.groups.len());
        } else if self.over > self.may_be_over {
            self.rebuild(self.groups.len());
        }
        self.vacate(key, usize::MAX, is_kept)
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
            self.over += usize::from(!group.is_over());
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
        (self.len, self.over) = (0, 0);
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
        self.may_be_over = groups / 8 + 2 * self.over;
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
        Alone(RefCell::new(Groups { max, ..Groups::default() }))
    }

    fn moment(&self, now: Nanos) -> Nanos {
        now
    }

    fn get(&self, _: Kind, key: Key) -> Option<Ref<'_, Cell>> {
        let groups = self.0.borrow();
        let at = groups.find(key)?;
        Ref::filter_map(groups, |groups| groups.get(at)).ok()
    }

    fn get_mut(&self, _: Kind, key: Key) -> Option<RefMut<'_, Cell>> {
        let groups = self.0.borrow_mut();
        let at = groups.find(key)?;
        RefMut::filter_map(groups, |groups| groups.get_mut(at)).ok()
    }

    fn entry(&self, _: Kind, key: Key, now: Nanos) -> Entry<RefMut<'_, Cell>, VacantPlace<'_>> {
        let groups = self.0.borrow_mut();
        let Some(at) = groups.find(key) else { return Entry::Vacant(VacantPlace { groups, key, now }) };
        match RefMut::filter_map(groups, |groups| groups.get_mut(at)) {
            Ok(cell) => Entry::Occupied(cell),
            Err(groups) => Entry::Vacant(VacantPlace { groups, key, now }),
        }
    }

    fn remove(&self, _: Kind, key: Key) -> Option<Cell> {
        let mut groups = self.0.borrow_mut();
        let at = groups.find(key)?;
        groups.take(at)
    }

    fn retain(&self, _: Nanos, keep: impl FnMut(Key, &mut Cell) -> bool) -> usize {
        let mut groups = self.0.borrow_mut();
        let before = groups.len;
        groups.sift(keep);
        let have = groups.groups.len();
        let is_sparse = have * GROUP > 16 * groups.len;
        // Many are not moved without need. To move few costs little, and none of their groups is over afterwards.
        if is_sparse || have <= MANY_GROUPS {
            groups.rebuild(if is_sparse { have / 2 } else { have });
        }
        (groups.before_sweep, groups.since_sweep, groups.fresh) = (groups.since_sweep, groups.len, 0);
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

    fn outgrows_caches(&self, _: Kind) -> bool {
        self.0.borrow().groups.len() > MANY_GROUPS
    }

    fn warm<const N: usize>(&self, keys: &[(Kind, Key)]) {
        let groups = self.0.borrow();
        let found = keys.iter().filter_map(|&(_, key)| groups.get(groups.find(key)?));
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
    fn moment(&self) -> Nanos {
        self.now
    }

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
mod tests;
