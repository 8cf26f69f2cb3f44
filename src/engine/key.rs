//! The key of a partition: 128 bits, made of a limit, a mode, and the ids of what the limit counts by.
//!
//! All of these are outputs of a keyed hash already ([`Seed::id`](super::class::Seed::id)), which nobody outside can choose or
//! see. So they are only mixed here, by two chains of folded 64-bit multiplications that are keyed with a secret of their own:
//! two partitions meet with a chance of about 2^-126, as little as before the mixing, at a tenth of a hash's price.

use super::class::Id;
use std::hash::Hasher;

/// A partition's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(Id);

impl Key {
    pub(super) const ZERO: Key = Key(Id::NONE);

    /// The key of the cell that a limit's new partitions of one mode share when there is no room. No [`Mixer`] makes it.
    pub(super) fn overflow(salt: Id, mode: u8) -> Key {
        Key(Id([salt.0[0], salt.0[1] ^ u64::from(mode)]))
    }

    /// The key with these bits: one that an engine of the same seed has made.
    pub(super) fn from_id(id: Id) -> Key {
        Key(id)
    }

    /// The key of the transactions that earn a partition's allocation. As far from all others as they are from each other.
    pub(super) fn of_transactions(self) -> Key {
        Key(Id([self.0.0[0] ^ 0x7472_616e_7361_6374, self.0.0[1].rotate_left(17) ^ 0x696f_6e73_6561_726e]))
    }

    /// The key of what a shared store has lent of a partition. As far from all others as they are from each other.
    pub(super) fn of_lease(self) -> Key {
        Key(Id([self.0.0[0] ^ 0x6c65_6e74_2062_7920, self.0.0[1].rotate_left(29) ^ 0x7468_6520_7374_6f72]))
    }

    /// The partition's own key, from that of its lease.
    pub(super) fn of_lent(self) -> Key {
        Key(Id([self.0.0[0] ^ 0x6c65_6e74_2062_7920, (self.0.0[1] ^ 0x7468_6520_7374_6f72).rotate_right(29)]))
    }

    /// Its bits.
    pub(super) fn id(self) -> Id {
        self.0
    }

    /// What the map places the key by.
    pub(super) fn hash(self) -> u64 {
        self.0.0[0]
    }
}

impl std::hash::Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(Key::hash(*self));
    }
}

/// A partition of one limit, as the engine looks for it.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its key.
    pub(super) key: Key,
    /// The key of the overflow cell of its limit and mode.
    pub(super) overflow: Key,
    /// Its limit's short name.
    pub(super) tag: u32,
}

impl Place {
    /// Where the transactions of an allocation are.
    pub(super) fn of_transactions(&self) -> Place {
        Place { key: self.key.of_transactions(), overflow: self.overflow.of_transactions(), tag: self.tag }
    }

    /// Where what is lent of it is.
    pub(super) fn of_lease(&self) -> Place {
        Place { key: self.key.of_lease(), overflow: self.overflow.of_lease(), tag: self.tag }
    }

    /// Whether it is the overflow cell's, of which there is one for each limit and mode.
    pub(super) fn is_overflow(&self) -> bool {
        self.key == self.overflow
    }

    pub(super) fn overflowed(&self) -> Place {
        Place { key: self.overflow, ..*self }
    }
}

/// Makes a partition's key, part by part; their order counts.
pub(super) struct Mixer {
    secret: Id,
    lanes: [u64; 2],
}

impl Mixer {
    /// Begins with the limit and the mode.
    pub(super) fn new(secret: Id, salt: Id, mode: u8) -> Mixer {
        let mut mixer = Mixer { secret, lanes: salt.0 };
        mixer.push(Id([1, u64::from(mode)]));
        mixer
    }

    pub(super) fn push(&mut self, part: Id) {
        let [secret, part] = [self.secret.0, part.0];
        self.lanes = [
            folded_product(self.lanes[0] ^ part[0], secret[0] ^ part[1]),
            folded_product(self.lanes[1] ^ part[1], secret[1] ^ part[0]),
        ];
    }

    pub(super) fn key(self) -> Key {
        Key(Id(self.lanes))
    }
}

/// Both halves of the 128-bit product, put together.
fn folded_product(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SECRET: Id = Id([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);
    const SALT: Id = Id([0x1111_2222_3333_4444, 0x5555_6666_7777_8888]);

    fn key(mode: u8, parts: &[u64]) -> Key {
        let mut mixer = Mixer::new(SECRET, SALT, mode);
        parts.iter().for_each(|&part| mixer.push(Id([part.wrapping_mul(0x9e37_79b9_7f4a_7c15), !part])));
        mixer.key()
    }

    #[test]
    fn mode_parts_their_number_and_their_order_all_count() {
        let keys = [
            key(0, &[]),
            key(1, &[]),
            key(0, &[1]),
            key(1, &[1]),
            key(0, &[1, 2]),
            key(0, &[2, 1]),
            key(0, &[1, 1]),
            Key::overflow(SALT, 0),
            Key::overflow(SALT, 1),
            key(0, &[1]).of_lease(),
        ];
        assert_eq!(key(0, &[1]).of_lease().of_lent(), key(0, &[1]));
        for (place, one) in keys.iter().enumerate() {
            assert!(keys[..place].iter().all(|other| other != one));
        }
    }

    /// Shards are chosen by the high bits of a key, places in a shard by its low ones.
    #[test]
    fn many_keys_differ_in_their_high_and_in_their_low_bits() {
        let hashes: Vec<u64> = (0..1 << 16).map(|part| key(0, &[part]).hash()).collect();
        for shift in [0, 32] {
            let distinct = hashes.iter().map(|hash| (hash >> shift) as u32).collect::<HashSet<_>>().len();
            // Of 65,536 random numbers of 32 bits, half a pair is expected to meet.
            assert!(distinct > 65_520, "{distinct}");
        }
    }
}
