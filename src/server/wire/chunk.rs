//! Chunked bodies and their trailers.

use super::WireLimits;
use super::field::{self, Lines};
use crate::wire_fault::WireFault;
use std::ops::Range;

/// Where in a chunked body the next byte stands. Chunks pass byte by byte: every prefix of a good chunk is good, so nothing is
/// held back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    place: Place,
    /// Bytes of extensions in this message so far: a bound for each chunk alone would let a million small ones pass.
    extension_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Size { digits: u8, size: u64 },
    Extension { size: u64 },
    SizeFeed { size: u64 },
    Data { left: u64 },
    DataReturn,
    DataFeed,
}

/// How far [`Chunks::advance`] got.
pub(super) enum Reached {
    /// The end of the bytes.
    More,
    /// The end of the last chunk's line, after so many bytes: trailers follow.
    Trailers(usize),
    /// A bad byte, after so many good ones.
    Fault(usize, WireFault),
}

/// Digits of the longest chunk size: 2^64 - 1.
const MAX_SIZE_DIGITS: u8 = 16;

impl Chunks {
    /// Before the first chunk.
    pub(super) fn new() -> Chunks {
        Chunks { place: Place::Size { digits: 0, size: 0 }, extension_bytes: 0 }
    }

    /// Reads on in `bytes`, the next ones of the body, and tells `data` where the chunks' own bytes stand in them.
    pub(super) fn advance(
        &mut self,
        bytes: &[u8],
        limits: &WireLimits,
        data: &mut impl FnMut(Range<usize>),
    ) -> Reached {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let Place::Data { left } = self.place {
                let here = left.min((bytes.len() - at) as u64);
                self.place = if left == here { Place::DataReturn } else { Place::Data { left: left - here } };
                // `here` is at most the length of a slice.
                data(at..at + here as usize);
                at += here as usize;
                continue;
            }
            match self.step(byte, limits) {
                Ok(false) => at += 1,
                Ok(true) => return Reached::Trailers(at + 1),
                Err(fault) => return Reached::Fault(at, fault),
            }
        }
        Reached::More
    }

    /// One byte that is not data. True when it ends the last chunk's line.
    fn step(&mut self, byte: u8, limits: &WireLimits) -> Result<bool, WireFault> {
        self.place = match self.place {
            Place::Size { digits, size } => size_byte(byte, digits, size)?,
            Place::Extension { size } => {
                self.extension_bytes += 1;
                match byte {
                    _ if self.extension_bytes > limits.max_chunk_extension => return Err(WireFault::ChunkExtension),
                    b'\r' => Place::SizeFeed { size },
                    b'\t' | b' '..=0x7e | 0x80.. => Place::Extension { size },
                    _ => return Err(WireFault::ChunkExtension),
                }
            }
            Place::SizeFeed { .. } | Place::DataFeed if byte != b'\n' => return Err(WireFault::ChunkEnd),
            Place::SizeFeed { size: 0 } => return Ok(true),
            Place::SizeFeed { size } => Place::Data { left: size },
            Place::DataReturn if byte != b'\r' => return Err(WireFault::ChunkEnd),
            Place::DataReturn => Place::DataFeed,
            Place::DataFeed => Place::Size { digits: 0, size: 0 },
            Place::Data { left } => Place::Data { left },
        };
        Ok(false)
    }
}

fn size_byte(byte: u8, digits: u8, size: u64) -> Result<Place, WireFault> {
    match (byte, char::from(byte).to_digit(16)) {
        (_, Some(digit)) if digits < MAX_SIZE_DIGITS => {
            Ok(Place::Size { digits: digits + 1, size: size << 4 | u64::from(digit) })
        }
        (b';', _) if digits > 0 => Ok(Place::Extension { size }),
        (b'\r', _) if digits > 0 => Ok(Place::SizeFeed { size }),
        _ => Err(WireFault::ChunkSize),
    }
}

/// What is known of a trailer section so far. Like a head it is held back until it is whole and good.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TrailerScan {
    lines: Lines,
    trailers: usize,
}

impl TrailerScan {
    /// Reads on in `bytes`, which begin with the section's first byte. The section's length when it is whole.
    pub(super) fn advance(&mut self, bytes: &[u8], limits: &WireLimits) -> Result<Option<usize>, WireFault> {
        loop {
            let next = self.lines.next(bytes, limits.max_trailer_bytes);
            let Some(line) = next.map_err(|fault| fault.unwrap_or(WireFault::TrailersTooLarge))? else {
                return Ok(None);
            };
            if line.is_empty() {
                return Ok(Some(self.lines.start));
            }
            self.trailers += 1;
            if self.trailers > limits.max_headers {
                return Err(WireFault::TooManyHeaders);
            }
            if field::is_never_trailer(field::split(line)?.name) {
                return Err(WireFault::TrailerName);
            }
        }
    }
}
