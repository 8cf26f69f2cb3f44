//! The framing of a connection: head, body, head, body.

use super::WireLimits;
use super::chunk::{Chunks, Reached, TrailerScan};
use super::head::{Framing, HeadScan};
use super::places::Places;
use crate::wire_fault::WireFault;
use std::ops::Range;

/// Follows the requests of one connection through its bytes. The same bytes give the same answer in any pieces.
#[derive(Debug)]
pub struct Scanner {
    limits: WireLimits,
    phase: Phase,
    places: Places,
}

#[derive(Debug)]
enum Phase {
    Head(HeadScan),
    Body { left: u64 },
    Chunks(Chunks),
    Trailers(TrailerScan),
}

/// One piece of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its length in bytes, at least 1.
    pub length: usize,
    /// What it is.
    pub part: Part,
}

/// What a piece of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A whole head, and how the body after it is framed.
    Head(Framing),
    /// Bytes of a body, with what frames them.
    Body,
    /// A whole trailer section, with which its body ends.
    Trailers,
}

/// A bad byte, and how many good ones stand before it. A bad head or trailer section has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Good bytes before it.
    pub good: usize,
    /// What is wrong.
    pub fault: WireFault,
}

impl Scanner {
    /// At the first byte of a connection.
    #[must_use]
    pub fn new(limits: WireLimits) -> Scanner {
        Scanner { limits, phase: Phase::Head(HeadScan::default()), places: Places::default() }
    }

    /// Where the parts of the last head stand in it, until the next one begins.
    pub(in crate::server) fn places(&self) -> &Places {
        &self.places
    }

    /// Whether the next byte belongs to a request whose head has passed.
    #[must_use]
    pub fn is_in_body(&self) -> bool {
        !matches!(self.phase, Phase::Head(_))
    }

    /// The next piece of the message at the front of `bytes`. `None` while it is incomplete: the same bytes must then be there
    /// at the next call, and more behind them. `data` is told where in `bytes` the body's own bytes stand, in order.
    ///
    /// # Errors
    /// When a byte is bad. Nothing may be asked of the connection any more.
    pub fn step(&mut self, bytes: &[u8], data: &mut impl FnMut(Range<usize>)) -> Result<Option<Step>, Bad> {
        let whole = |fault| Bad { good: 0, fault };
        let step = |length, part| Ok(Some(Step { length, part }));
        match &mut self.phase {
            Phase::Head(head) => {
                let Some(accepted) = head.advance(bytes, &self.limits, &mut self.places).map_err(whole)? else {
                    return Ok(None);
                };
                self.phase = match accepted.framing {
                    Framing::Length(0) => Phase::Head(HeadScan::default()),
                    Framing::Length(left) => Phase::Body { left },
                    Framing::Chunked => Phase::Chunks(Chunks::new()),
                };
                step(accepted.length, Part::Head(accepted.framing))
            }
            _ if bytes.is_empty() => Ok(None),
            Phase::Body { left } => {
                let here = (*left).min(bytes.len() as u64);
                *left -= here;
                if *left == 0 {
                    self.phase = Phase::Head(HeadScan::default());
                }
                // `here` is at most the length of a slice.
                data(0..here as usize);
                step(here as usize, Part::Body)
            }
            Phase::Chunks(chunks) => match chunks.advance(bytes, &self.limits, data) {
                Reached::More => step(bytes.len(), Part::Body),
                Reached::Fault(good, fault) => Err(Bad { good, fault }),
                Reached::Trailers(length) => {
                    self.phase = Phase::Trailers(TrailerScan::default());
                    step(length, Part::Body)
                }
            },
            Phase::Trailers(trailers) => {
                let Some(length) = trailers.advance(bytes, &self.limits).map_err(whole)? else { return Ok(None) };
                self.phase = Phase::Head(HeadScan::default());
                step(length, Part::Trailers)
            }
        }
    }
}
