//! FLOOR 1: HTTP/2 frames as they pass.
//!
//! The heads of frames are read from the bytes of a connection, in either direction, without holding a byte back and without
//! looking into any payload: 9 bytes a frame. Whoever drives the connection learns from it what its HTTP/2 library does not
//! tell.

use std::io::IoSlice;

/// What a client sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEAD_BYTES: usize = 9;

/// What a frame is, as far as anybody here asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A piece of a body.
    Data,
    /// The beginning of a head or of trailers.
    Headers,
    /// Ends a stream.
    RstStream,
    /// Ends a connection.
    GoAway,
    /// More of a head.
    Continuation,
    /// Anything that belongs to no exchange: settings, pings, windows, priorities, and what nobody knows.
    Control,
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Bytes of its payload.
    pub length: u32,
    /// The stream it belongs to; 0: the connection.
    pub stream: u32,
    flags: u8,
}

impl Frame {
    fn read(head: [u8; HEAD_BYTES]) -> Frame {
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Headers,
            3 => Kind::RstStream,
            7 => Kind::GoAway,
            9 => Kind::Continuation,
            _ => Kind::Control,
        };
        let length = u32::from_be_bytes([0, high, middle, low]);
        Frame { kind, length, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, flags }
    }

    /// Whether more of a head must follow this frame.
    #[must_use]
    pub fn leaves_head_open(&self) -> bool {
        const END_HEADERS: u8 = 4;
        matches!(self.kind, Kind::Headers | Kind::Continuation) && self.flags & END_HEADERS == 0
    }
}

/// Where one direction of a connection is among its frames.
#[derive(Clone, Debug)]
pub struct Frames {
    /// Bytes that are no frame's: what is left of the preface, or of a payload.
    skip: usize,
    head: [u8; HEAD_BYTES],
    /// How much of `head` is there.
    have: usize,
}

impl Frames {
    /// A direction that begins with the preface: a client's.
    #[must_use]
    pub fn after_preface() -> Frames {
        Frames { skip: PREFACE.len(), ..Frames::bare() }
    }

    /// A direction that begins with a frame: a server's.
    #[must_use]
    pub fn bare() -> Frames {
        Frames { skip: 0, head: [0; HEAD_BYTES], have: 0 }
    }

    /// Reads on, and tells of every frame whose head is whole.
    pub fn scan(&mut self, mut bytes: &[u8], mut saw: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            let wanted = self.head.get_mut(self.have..).unwrap_or_default();
            let taken = wanted.len().min(bytes.len());
            let (now, rest) = bytes.split_at(taken);
            wanted.get_mut(..taken).unwrap_or_default().copy_from_slice(now);
            self.have += taken;
            bytes = rest;
            if self.have == HEAD_BYTES {
                let frame = Frame::read(self.head);
                self.have = 0;
                self.skip = usize::try_from(frame.length).unwrap_or(usize::MAX);
                saw(frame);
            }
        }
    }

    /// The same for the first `length` bytes of several pieces.
    pub fn scan_pieces(&mut self, pieces: &[IoSlice<'_>], mut length: usize, mut saw: impl FnMut(Frame)) {
        for piece in pieces {
            let now = piece.len().min(length);
            self.scan(piece.get(..now).unwrap_or_default(), &mut saw);
            length -= now;
        }
    }

    /// Whether a frame has begun and is not whole.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        self.have > 0 || self.skip > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn seen(frames: &mut Frames, bytes: &[u8]) -> Vec<Frame> {
        let mut seen = Vec::new();
        frames.scan(bytes, |frame| seen.push(frame));
        seen
    }

    proptest! {
        #[test]
        fn every_frame_is_seen_in_any_cut(
            given in prop::collection::vec((0u8..12, 0u8..=8, 0u32..0x7fff_ffff, 0usize..40), 0..20),
            cuts in prop::collection::vec(1usize..30, 1..50),
        ) {
            let mut bytes = PREFACE.to_vec();
            for (kind, flags, stream, length) in &given {
                bytes.extend(frame(*kind, *flags, *stream, &vec![9; *length]));
            }
            let whole = seen(&mut Frames::after_preface(), &bytes);
            prop_assert_eq!(whole.len(), given.len());
            for (frame, (_, _, stream, length)) in whole.iter().zip(&given) {
                prop_assert_eq!((frame.stream, frame.length as usize), (*stream, *length));
            }
            let (mut frames, mut rest, mut pieces) = (Frames::after_preface(), &bytes[..], Vec::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.extend(seen(&mut frames, piece));
                rest = after;
            }
            prop_assert_eq!(pieces, whole);
            prop_assert!(!frames.is_mid_frame());
        }
    }

    #[test]
    fn a_head_stays_open_until_it_ends() {
        let mut frames = Frames::bare();
        let open = [frame(1, 0, 1, b"ab"), frame(9, 0, 1, b""), frame(9, 4, 1, b"c")].concat();
        let heads: Vec<_> = seen(&mut frames, &open).iter().map(Frame::leaves_head_open).collect();
        assert_eq!(heads, [true, true, false]);
        assert_eq!(seen(&mut frames, &frame(7, 0, 0, &[0; 8]))[0].kind, Kind::GoAway);
        assert_eq!(seen(&mut frames, &frame(3, 0, 1, &[0; 4])[..10])[0].kind, Kind::RstStream);
        assert!(frames.is_mid_frame());
    }
}
