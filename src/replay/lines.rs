//! Lines of a file of any size, in bounded memory.

use std::io::{self, ErrorKind, Read};
use std::ops::Range;

/// The longest line that is looked at, in bytes. Longer ones are skipped and counted.
pub const MAX_LINE_BYTES: usize = 1024 * 1024;
/// Bytes read at once: few enough to stay in a core's second cache beside what a replay keeps there.
const CHUNK_BYTES: usize = 64 * 1024;

/// Reads lines. Holds at most a line and a chunk.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// What is in the buffer and was not handed on.
    unread: Range<usize>,
    /// The line handed on last, from 1 on.
    number: u64,
    ended: bool,
}

/// The next line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It stands here in [`Lines::bytes`], without its line feed. `whole` is false for a last line without one.
    Line {
        /// Where.
        at: Range<usize>,
        /// Whether it ended in a line feed.
        whole: bool,
    },
    /// It was too long.
    Long,
    /// There is none.
    End,
}

impl<R: Read> Lines<R> {
    /// Reads the lines of `reader`.
    pub fn new(reader: R) -> Lines<R> {
        let buffer = vec![0; MAX_LINE_BYTES + CHUNK_BYTES];
        Lines { reader, buffer, unread: 0..0, number: 0, ended: false }
    }

    /// The number of the line handed on last, from 1 on.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The bytes of a line, until the next is asked for.
    pub fn bytes(&self, at: &Range<usize>) -> &[u8] {
        self.buffer.get(at.clone()).unwrap_or_default()
    }

    /// Finds the next line.
    ///
    /// # Errors
    /// The file cannot be read on. What was read of the line before is lost.
    pub fn advance(&mut self) -> io::Result<Next> {
        let mut looked = 0;
        let mut long = false;
        loop {
            let unread = self.buffer.get(self.unread.clone()).unwrap_or_default();
            if let Some(end) = unread.get(looked..).and_then(|rest| memchr::memchr(b'\n', rest)) {
                let at = self.unread.start..self.unread.start + looked + end;
                self.unread.start = at.end + 1;
                return Ok(self.found(at, true, long));
            }
            looked = unread.len();
            if looked > MAX_LINE_BYTES {
                (long, looked) = (true, 0);
                self.unread = 0..0;
            }
            if self.ended {
                let at = self.unread.clone();
                self.unread.start = at.end;
                return Ok(if at.is_empty() && !long { Next::End } else { self.found(at, false, long) });
            }
            self.fill()?;
        }
    }

    fn found(&mut self, at: Range<usize>, whole: bool, long: bool) -> Next {
        self.number += 1;
        if long || at.len() > MAX_LINE_BYTES { Next::Long } else { Next::Line { at, whole } }
    }

    fn fill(&mut self) -> io::Result<()> {
        // Over and over into the same few pages, whose lines were read, and not through all of the buffer. The beginning of a line
        // that is longer than a chunk is moved only for want of room, so that reading it stays linear.
        if self.unread.len() < CHUNK_BYTES || self.buffer.len() - self.unread.end < CHUNK_BYTES {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        let room = self.buffer.get_mut(self.unread.end..self.unread.end + CHUNK_BYTES).unwrap_or_default();
        loop {
            match self.reader.read(room) {
                Ok(read) => {
                    self.ended = read == 0;
                    self.unread.end += read;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = true;
                    self.unread = 0..0;
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(room.len());
            let (now, later) = self.0.split_at(count);
            room[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn lines(text: &[u8], step: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines::new(Drip(text, step));
        let mut found = Vec::new();
        loop {
            match lines.advance().unwrap() {
                Next::Line { at, .. } => found.push(Some(lines.bytes(&at).to_vec())),
                Next::Long => found.push(None),
                Next::End => return found,
            }
            assert_eq!(lines.number(), found.len() as u64);
        }
    }

    #[test]
    fn lines_in_any_cut_of_reads() {
        for step in [1, 2, 3, 1 << 20] {
            let wanted = [&b"a"[..], b"", b"bc", b"d"].map(|line| Some(line.to_vec()));
            assert_eq!(lines(b"a\n\nbc\nd", step), wanted);
            assert_eq!(lines(b"", step), []);
            assert_eq!(lines(b"\n", step), [Some(Vec::new())]);
        }
    }

    #[test]
    fn long_lines_are_skipped_whole() {
        let most = vec![b'x'; MAX_LINE_BYTES];
        let long = vec![b'y'; 10 * MAX_LINE_BYTES + 7];
        let text = [b"a\n", &long[..], b"\nb\n", &most[..], b"\n", &long[..]].concat();
        for step in [100_003, 1 << 24] {
            assert_eq!(lines(&text, step), [Some(b"a".to_vec()), None, Some(b"b".to_vec()), Some(most.clone()), None]);
        }
    }
}
