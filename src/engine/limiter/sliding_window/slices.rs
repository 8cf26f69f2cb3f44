//! Where a window's counts lie: each slice at a place of its own, or a few of them wherever there is room.

use super::SLICES;

/// The counts of [`SLICES`] slices. A slice is known by its place: the remainder of its number.
pub(crate) trait Slices {
    /// Nothing is counted.
    const NONE: Self;

    /// What a slice counts.
    fn count(&self, place: u8) -> u32;
    /// Has a slice count so much, at most what its width can hold. `false`: there is no room for one that counts, and all is as it was.
    #[must_use]
    fn put(&mut self, place: u8, count: u32) -> bool;
    /// Takes away from what a slice counts, down to nothing.
    fn lower(&mut self, place: u8, by: u32);
    /// Forgets what so many slices count, at most all of them: the last at this place, and those before it.
    fn forget(&mut self, last: u8, slices: u8);
    /// What all slices count.
    fn total(&self) -> u64;
    /// Something of all that is kept.
    fn word(&self) -> u64;
}

/// A count's width.
trait Width: Copy + Default + Into<u32> + TryFrom<u32> {
    const NONE: Self;
    const MAX: Self;
}

impl Width for u16 {
    const NONE: u16 = 0;
    const MAX: u16 = u16::MAX;
}

impl Width for u32 {
    const NONE: u32 = 0;
    const MAX: u32 = u32::MAX;
}

impl<C: Width> Slices for [C; SLICES] {
    const NONE: [C; SLICES] = [C::NONE; SLICES];

    fn count(&self, place: u8) -> u32 {
        self[usize::from(place) % SLICES].into()
    }

    fn put(&mut self, place: u8, count: u32) -> bool {
        self[usize::from(place) % SLICES] = C::try_from(count).unwrap_or(C::MAX);
        true
    }

    fn lower(&mut self, place: u8, by: u32) {
        self[usize::from(place) % SLICES] = C::try_from(self.count(place).saturating_sub(by)).unwrap_or_default();
    }

    fn forget(&mut self, last: u8, slices: u8) {
        for before in 0..slices {
            self[usize::from(last.wrapping_sub(before)) % SLICES] = C::NONE;
        }
    }

    fn total(&self) -> u64 {
        self.iter().map(|&count| u64::from(count.into())).sum()
    }

    fn word(&self) -> u64 {
        let [first, .., last] = *self;
        u64::from(first.into()) ^ u64::from(last.into())
    }
}

/// At most two slices that count anything.
pub(crate) struct Few([Counted; FEW]);

/// What one slice counts.
#[derive(Clone, Copy)]
struct Counted {
    place: u8,
    /// 0: there is no slice. In bytes, so that alignment takes no room beside.
    count: [u8; 4],
}

const FEW: usize = 2;

impl Counted {
    const NONE: Counted = Counted { place: 0, count: [0; 4] };

    fn get(self) -> u32 {
        u32::from_ne_bytes(self.count)
    }
}

impl Few {
    /// One slice's count, and room for another's.
    pub(super) fn one(place: u8, count: u32) -> Few {
        Few([Counted { place, count: count.to_ne_bytes() }, Counted::NONE])
    }
}

impl Slices for Few {
    const NONE: Few = Few([Counted::NONE; FEW]);

    fn count(&self, place: u8) -> u32 {
        let of = |counted: Counted| if counted.place == place { counted.get() } else { 0 };
        let [one, other] = self.0;
        of(one) + of(other)
    }

    fn put(&mut self, place: u8, count: u32) -> bool {
        let is_its = |counted: &&mut Counted| counted.place == place && counted.get() > 0;
        let has_its = self.count(place) > 0;
        let mut rooms = self.0.iter_mut();
        let room = if has_its { rooms.find(is_its) } else { rooms.find(|counted| counted.get() == 0) };
        if let Some(room) = room {
            *room = Counted { place, count: count.to_ne_bytes() };
            return true;
        }
        count == 0
    }

    fn lower(&mut self, place: u8, by: u32) {
        for counted in self.0.iter_mut().filter(|counted| counted.place == place) {
            counted.count = counted.get().saturating_sub(by).to_ne_bytes();
        }
    }

    fn forget(&mut self, last: u8, slices: u8) {
        for counted in &mut self.0 {
            if last.wrapping_sub(counted.place) % (SLICES as u8) < slices {
                *counted = Counted::NONE;
            }
        }
    }

    fn total(&self) -> u64 {
        let [one, other] = self.0;
        u64::from(one.get()) + u64::from(other.get())
    }

    fn word(&self) -> u64 {
        self.total()
    }
}
