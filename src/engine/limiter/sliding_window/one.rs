//! The counts of a window in which only the newest slice counts, in so few bytes that they need no room of their own.

use super::{Counts, Few, Slices};
use std::num::NonZeroU64;

/// Counts of which only the newest slice's are above 0, in 15 bytes: beside what tells the kinds of rings apart, they lie where the
/// others have a pointer. Whoever looks for a partition has them in the line that it finds.
#[derive(Clone, Copy)]
pub(crate) struct One([u8; 15]);

/// What is kept of each, in bits from the lowest on: with slices of this length, windows of up to 51 days; at those of a second, numbers that are
/// reached in 34 years.
const TAG_BITS: u32 = u32::BITS;
const SLICE_NS_BITS: u32 = 46;
const NEWEST_BITS: u32 = 36;
const COUNT_BITS: u32 = 5;
const CHANGED_BITS: u32 = 1;

const _: () =
    assert!(TAG_BITS + SLICE_NS_BITS + NEWEST_BITS + COUNT_BITS + CHANGED_BITS == 8 * size_of::<One>() as u32);

/// Where each begins.
const SLICE_NS_FROM: u32 = TAG_BITS;
const NEWEST_FROM: u32 = SLICE_NS_FROM + SLICE_NS_BITS;
const COUNT_FROM: u32 = NEWEST_FROM + NEWEST_BITS;
const CHANGED_FROM: u32 = COUNT_FROM + COUNT_BITS;

/// The lowest bits of a word.
const fn low(bits: u32) -> u64 {
    (1 << bits) - 1
}

impl One {
    /// `None`: another slice counts as well, or a number is too large.
    pub(super) fn of(counts: &Counts<Few>) -> Option<One> {
        let slice_ns = counts.slice_ns.get();
        let count = counts.slices.total();
        let fits = slice_ns <= low(SLICE_NS_BITS)
            && counts.newest <= low(NEWEST_BITS)
            && count <= low(COUNT_BITS)
            && count == u64::from(counts.count(counts.newest));
        if !fits {
            return None;
        }
        let word = u128::from(counts.tag)
            | u128::from(slice_ns) << SLICE_NS_FROM
            | u128::from(counts.newest) << NEWEST_FROM
            | u128::from(count) << COUNT_FROM
            | u128::from(counts.changed) << CHANGED_FROM;
        let [bytes @ .., _none_left] = word.to_le_bytes();
        Some(One(bytes))
    }

    fn word(self) -> u128 {
        let mut bytes = [0; 16];
        let [low @ .., _] = &mut bytes;
        *low = self.0;
        u128::from_le_bytes(bytes)
    }

    /// The short name of its limit.
    pub(super) fn tag(self) -> u32 {
        self.word() as u32
    }

    /// Nanoseconds of one slice.
    pub(super) fn slice_ns(self) -> NonZeroU64 {
        // It is never 0.
        NonZeroU64::new((self.word() >> SLICE_NS_FROM) as u64 & low(SLICE_NS_BITS)).unwrap_or(NonZeroU64::MIN)
    }

    /// The same, where a second slice has room.
    pub(super) fn counts(self) -> Counts<Few> {
        let word = self.word();
        let newest = (word >> NEWEST_FROM) as u64 & low(NEWEST_BITS);
        let count = (word >> COUNT_FROM) as u32 & low(COUNT_BITS) as u32;
        Counts {
            newest,
            slice_ns: self.slice_ns(),
            tag: self.tag(),
            changed: word >> CHANGED_FROM & 1 == 1,
            slices: Few::one(Counts::<Few>::place(newest), count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ring, SLICES};
    use super::*;
    use proptest::prelude::*;

    /// Numbers about where there is no longer room for them.
    fn about(bits: u32) -> impl Strategy<Value = u64> {
        prop_oneof![0..3_u64, low(bits) - 2..low(bits) + 3, any::<u64>()]
    }

    proptest! {
        #[test]
        fn what_fits_is_all_there_again(
            tag: u32,
            slice_ns in about(SLICE_NS_BITS),
            newest in about(NEWEST_BITS),
            count in about(COUNT_BITS),
            other in prop_oneof![Just((1, 0)), (0..SLICES as u64, 0_u32..2)],
            changed: bool,
        ) {
            let slice_ns = NonZeroU64::new(slice_ns).unwrap_or(NonZeroU64::MIN);
            let mut counts = Counts::<Few>::new(newest, slice_ns, tag);
            counts.changed = changed;
            let count = count as u32;
            prop_assert!(counts.add(newest, count));
            prop_assert!(counts.add(newest.wrapping_sub(other.0), other.1));
            let fits = slice_ns.get() < 1 << 46
                && newest < 1 << 36
                && counts.slices.total() < 32
                && (other.1 == 0 || newest.wrapping_sub(other.0) % 64 == newest % 64);
            let one = One::of(&counts);
            prop_assert_eq!(one.is_some(), fits);
            let Some(one) = one else { return Ok(()) };
            let again = one.counts();
            let fields = |counts: &Counts<Few>| (counts.tag, counts.slice_ns, counts.newest, counts.changed);
            prop_assert_eq!(fields(&again), fields(&counts));
            for place in 0..SLICES as u8 {
                prop_assert_eq!(again.slices.count(place), counts.slices.count(place));
            }
        }
    }

    #[test]
    fn it_takes_no_more_than_a_pointer_to_others() {
        assert_eq!(size_of::<Ring>(), 16);
    }
}
