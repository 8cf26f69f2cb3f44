//! Room to read into, one for all connections of a thread.
//!
//! What is read is passed on or copied before the next read mostly, so that the same memory, which the processor has at hand, is
//! read into again and again, and a connection that waits holds none. What stays longer keeps the whole room for as long: heads
//! are copied ([`apart`]), and so are short pieces that wait for a slow reader ([`settle`]).

use bytes::{Bytes, BytesMut};
use std::cell::Cell;

/// Bytes of a room: a head and a body of 64 KiB, which then take one read and one write.
pub const ROOM_BYTES: usize = 80 * 1024;
/// Pieces shorter than this do not keep a room while they wait, so what waits holds at most four times its own length.
const KEEPING_BYTES: usize = ROOM_BYTES / 4;
/// Bytes of the blocks that heads are copied into.
const BLOCK_BYTES: usize = 32 * 1024;

thread_local! {
    static ROOM: Cell<Option<BytesMut>> = const { Cell::new(None) };
    static BLOCK: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// Reads with `read` into at least `least` bytes of room, and answers what was read, apart from the room.
pub fn with_room<T>(least: usize, read: impl FnOnce(&mut BytesMut) -> T) -> (T, BytesMut) {
    let mut room = ROOM.take().unwrap_or_default();
    // All of it where nobody holds a part any more; else what is left, if that is enough.
    if room.capacity() < ROOM_BYTES && !room.try_reclaim(ROOM_BYTES) && room.capacity() < least {
        room.reserve(ROOM_BYTES.max(least));
    }
    let result = read(&mut room);
    let fresh = if room.is_empty() { BytesMut::new() } else { room.split() };
    ROOM.with(|place| place.set(Some(room)));
    (result, fresh)
}

/// The same bytes in memory that they may stay in: many short ones share a block.
#[must_use]
pub fn apart(bytes: &[u8]) -> Bytes {
    let mut block = BLOCK.take().unwrap_or_default();
    if block.capacity() < bytes.len() {
        block.reserve(BLOCK_BYTES.max(bytes.len()));
    }
    block.extend_from_slice(bytes);
    let copied = block.split().freeze();
    BLOCK.with(|place| place.set(Some(block)));
    copied
}

/// A piece has to wait for whoever takes it: a short one no longer keeps the room that it was read into.
pub fn settle(piece: &mut Bytes) {
    if (1..KEEPING_BYTES).contains(&piece.len()) {
        *piece = Bytes::copy_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: usize) -> Bytes {
        with_room(1024, |room| room.extend_from_slice(&vec![7; bytes])).1.freeze()
    }

    #[test]
    fn a_room_is_used_again_from_its_beginning_once_nobody_holds_what_was_read() {
        let first = read(1024).as_ptr();
        assert!((0..100).all(|_| read(70_000).as_ptr() == first), "one room is read into again and again");
        let held = read(9);
        assert!((0..100).all(|_| read(1024).iter().all(|byte| *byte == 7)));
        assert_eq!(held, [7; 9][..], "what is held is not read over");
    }

    #[test]
    fn what_is_apart_or_short_and_settled_keeps_no_room() {
        let first = read(1024).as_ptr();
        let head = apart(&read(300));
        let mut piece = read(3_000);
        settle(&mut piece);
        assert_eq!((read(1).as_ptr(), &head[..], &piece[..]), (first, &[7; 300][..], &[7; 3_000][..]));
        let mut long = read(KEEPING_BYTES);
        let place = long.as_ptr();
        settle(&mut long);
        assert!(long.as_ptr() == place && read(1).as_ptr() != first, "it is not worth a copy");
    }

    #[test]
    fn heads_of_any_length_are_apart() {
        for length in [0, 1, 300, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES] {
            let bytes: Vec<u8> = (0..length).map(|nth| (nth % 251) as u8).collect();
            assert_eq!(apart(&bytes), bytes);
        }
    }
}
