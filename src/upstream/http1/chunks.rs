//! A chunked body and its trailers (RFC 9112 §7.1).

use super::section::{self, Search};
use super::{MAX_EXTENSION_BYTES, MAX_TRAILER_BYTES, Malformed};
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

/// Where in a chunked body the next byte stands.
#[derive(Debug)]
pub(super) struct Chunks {
    place: Place,
    /// Of this message so far: a bound for each chunk alone would let a million small ones pass.
    extension_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Size { digits: u8, size: u64 },
    Extension { size: u64 },
    SizeFeed { size: u64 },
    Data { left: u64 },
    DataReturn,
    DataFeed,
    Trailers(Search),
    Done,
}

/// What the bytes there are hold.
#[derive(Debug)]
pub(super) enum Decoded {
    /// A piece of data, never empty.
    Data(Bytes),
    /// The end, with trailers.
    Trailers(HeaderMap),
    /// The end.
    End,
    /// Nothing until more bytes come.
    More,
}

/// Digits of the longest chunk size: 2^64 - 1.
const MAX_SIZE_DIGITS: u8 = 16;

impl Chunks {
    /// Before the first chunk.
    pub(super) fn new() -> Chunks {
        Chunks { place: Place::Size { digits: 0, size: 0 }, extension_bytes: 0 }
    }

    /// Takes the next piece off the front of `bytes`.
    pub(super) fn decode(&mut self, bytes: &mut BytesMut) -> Result<Decoded, Malformed> {
        let mut at = 0;
        let decoded = loop {
            match &mut self.place {
                Place::Data { left } => {
                    bytes.advance(at);
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= here as u64;
                    if *left == 0 {
                        self.place = Place::DataReturn;
                    }
                    return Ok(if here == 0 { Decoded::More } else { Decoded::Data(bytes.split_to(here).freeze()) });
                }
                Place::Trailers(search) => {
                    bytes.advance(at);
                    let Some(length) = search.end(bytes, MAX_TRAILER_BYTES)? else { return Ok(Decoded::More) };
                    self.place = Place::Done;
                    return trailers(&bytes.split_to(length).freeze());
                }
                Place::Done => break Decoded::End,
                _ => {}
            }
            let Some(&byte) = bytes.get(at) else { break Decoded::More };
            self.step(byte)?;
            at += 1;
        };
        bytes.advance(at);
        Ok(decoded)
    }

    /// Takes what stands between two chunks off the front of `bytes`, and the end where it has no trailers: then there is no
    /// next piece.
    pub(super) fn is_over(&mut self, bytes: &mut BytesMut) -> Result<bool, Malformed> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.place {
                Place::Data { .. } | Place::Done => break,
                Place::Trailers(_) => {
                    if bytes.get(at..at + 2) == Some(b"\r\n") {
                        self.place = Place::Done;
                        at += 2;
                    }
                    break;
                }
                _ => self.step(byte)?,
            }
            at += 1;
        }
        bytes.advance(at);
        Ok(matches!(self.place, Place::Done))
    }

    /// One byte that is neither data nor of a trailer.
    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        self.place = match self.place {
            Place::Size { digits, size } => match (byte, char::from(byte).to_digit(16)) {
                (_, Some(digit)) if digits < MAX_SIZE_DIGITS => {
                    Place::Size { digits: digits + 1, size: size << 4 | u64::from(digit) }
                }
                (b';', _) if digits > 0 => Place::Extension { size },
                (b'\r', _) if digits > 0 => Place::SizeFeed { size },
                _ => return Err(Malformed::Chunk),
            },
            Place::Extension { size } => {
                self.extension_bytes += 1;
                match byte {
                    _ if self.extension_bytes > MAX_EXTENSION_BYTES => return Err(Malformed::Chunk),
                    b'\r' => Place::SizeFeed { size },
                    b'\t' | b' '..=0x7e | 0x80.. => Place::Extension { size },
                    _ => return Err(Malformed::Chunk),
                }
            }
            Place::SizeFeed { size: 0 } if byte == b'\n' => Place::Trailers(Search::default()),
            Place::SizeFeed { size } if byte == b'\n' => Place::Data { left: size },
            Place::DataReturn if byte == b'\r' => Place::DataFeed,
            Place::DataFeed if byte == b'\n' => Place::Size { digits: 0, size: 0 },
            _ => return Err(Malformed::Chunk),
        };
        Ok(())
    }
}

/// The end of a message, with those of its trailers that may go on.
fn trailers(section: &Bytes) -> Result<Decoded, Malformed> {
    let mut trailers = HeaderMap::new();
    section::fields(section, 0, |name, value| {
        if !section::is_never_trailer(&name) {
            trailers.append(name, value);
        }
        Ok(())
    })?;
    Ok(if trailers.is_empty() { Decoded::End } else { Decoded::Trailers(trailers) })
}
