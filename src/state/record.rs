//! One saved window as bytes: a checksum over key and rest, then tag, slice length, newest slice, and five bytes a count.

use crate::engine::{PartitionKey, SavedWindow};
use std::num::NonZeroU64;

/// Before the counts.
const HEAD: usize = 4 + 4 + 8 + 8;
/// One count with its age.
const COUNT: usize = 5;

/// Writes a window into `bytes`, whose room is used again.
pub(super) fn encode(key: PartitionKey, window: &SavedWindow, bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&window.tag.to_le_bytes());
    bytes.extend_from_slice(&window.slice_ns.get().to_le_bytes());
    bytes.extend_from_slice(&window.newest.to_le_bytes());
    for &(age, count) in &window.counts {
        bytes.push(age);
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    let sum = checksum(key, bytes.get(4..).unwrap_or_default());
    if let Some(place) = bytes.first_chunk_mut() {
        *place = sum.to_le_bytes();
    }
}

/// The window that the bytes hold; `None` if they are not what was written under this key.
pub(super) fn decode(key: PartitionKey, bytes: &[u8]) -> Option<SavedWindow> {
    let (sum, rest) = bytes.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*sum) != checksum(key, rest) {
        return None;
    }
    let (tag, rest) = rest.split_first_chunk::<4>()?;
    let (slice_ns, rest) = rest.split_first_chunk::<8>()?;
    let (newest, rest) = rest.split_first_chunk::<8>()?;
    let counts = rest.chunks_exact(COUNT).map(|chunk| match chunk {
        &[age, a, b, c, d] => (age, u32::from_le_bytes([a, b, c, d])),
        _ => (0, 0),
    });
    let counts = (bytes.len() - HEAD).is_multiple_of(COUNT).then(|| counts.collect())?;
    let slice_ns = NonZeroU64::new(u64::from_le_bytes(*slice_ns))?;
    Some(SavedWindow { tag: u32::from_le_bytes(*tag), slice_ns, newest: u64::from_le_bytes(*newest), counts })
}

fn checksum(key: PartitionKey, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&key.0);
    hasher.update(rest);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn comes_back_whole_or_not_at_all(
            key: [u8; 16], tag: u32, slice_ns in 1_u64.., newest: u64,
            counts in vec((0_u8..64, 1_u32..), 0..64), at: prop::sample::Index, flip in 1_u8..,
        ) {
            let key = PartitionKey(key);
            let window = SavedWindow { tag, slice_ns: NonZeroU64::new(slice_ns).unwrap(), newest, counts };
            let mut bytes = Vec::new();
            encode(key, &window, &mut bytes);
            prop_assert_eq!(decode(key, &bytes), Some(window));
            prop_assert_eq!(decode(key, &bytes[..at.index(bytes.len())]), None);
            bytes[at.index(HEAD)] ^= flip;
            prop_assert_eq!(decode(key, &bytes), None);
        }
    }
}
