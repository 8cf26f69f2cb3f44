//! The framing of a connection: head, body, answer, head, body, answer.

use super::WireLimits;
use super::chunk::{Chunks, Reached, TrailerScan};
use super::head::{Framing, HeadScan};
use crate::wire_fault::WireFault;

/// Follows the requests of one connection through its bytes. The same bytes give the same answer in any pieces.
#[derive(Debug)]
pub(super) struct Scanner {
    limits: WireLimits,
    phase: Phase,
    heads: u64,
    fault: Option<WireFault>,
}

#[derive(Debug)]
enum Phase {
    Head(HeadScan),
    Body { left: u64 },
    Chunks(Chunks),
    Trailers(TrailerScan),
}

impl Scanner {
    /// At the first byte of a connection.
    pub(super) fn new(limits: WireLimits) -> Scanner {
        Scanner { limits, phase: Phase::Head(HeadScan::default()), heads: 0, fault: None }
    }

    /// Reads `bytes` and answers how many of them, from the first, may pass. What may not stays at the front of the next call's
    /// bytes: it is an incomplete head or trailer section, or belongs to a request whose turn has not come, because fewer than
    /// all before it are `answered`; or it is bad, and then [`fault`](Scanner::fault) is set and nothing passes any more.
    pub(super) fn scan(&mut self, bytes: &[u8], answered: u64) -> usize {
        let mut passed = 0;
        while self.fault.is_none()
            && !self.is_waiting(answered)
            && let Some(rest @ [_, ..]) = bytes.get(passed..)
        {
            match self.step(rest) {
                Ok(0) => break,
                Ok(length) => passed += length,
                Err((length, fault)) => {
                    passed += length;
                    self.fault = Some(fault);
                }
            }
        }
        passed
    }

    /// Whether the next byte begins a request and one before it is not answered.
    pub(super) fn is_waiting(&self, answered: u64) -> bool {
        self.heads > answered && !self.is_in_body()
    }

    /// Refuses whatever comes next: it took too long.
    pub(super) fn give_up(&mut self, fault: WireFault) {
        self.fault.get_or_insert(fault);
    }

    /// What is wrong, once something is.
    pub(super) fn fault(&self) -> Option<WireFault> {
        self.fault
    }

    /// Whether the next byte belongs to a request whose head has passed.
    pub(super) fn is_in_body(&self) -> bool {
        !matches!(self.phase, Phase::Head(_))
    }

    /// Heads that have passed.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// One piece of the message: its length, 0 when it is incomplete, or how much of it is good.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, (usize, WireFault)> {
        match &mut self.phase {
            Phase::Head(head) => {
                let Some(accepted) = head.advance(bytes, &self.limits).map_err(|fault| (0, fault))? else {
                    return Ok(0);
                };
                self.heads += 1;
                self.phase = match accepted.framing {
                    Framing::Length(0) => Phase::Head(HeadScan::default()),
                    Framing::Length(left) => Phase::Body { left },
                    Framing::Chunked => Phase::Chunks(Chunks::new()),
                };
                Ok(accepted.length)
            }
            Phase::Body { left } => {
                let here = (*left).min(bytes.len() as u64);
                *left -= here;
                if *left == 0 {
                    self.phase = Phase::Head(HeadScan::default());
                }
                // `here` is at most the length of a slice.
                Ok(here as usize)
            }
            Phase::Chunks(chunks) => match chunks.advance(bytes, &self.limits) {
                Reached::More => Ok(bytes.len()),
                Reached::Fault(good, fault) => Err((good, fault)),
                Reached::Trailers(length) => {
                    self.phase = Phase::Trailers(TrailerScan::default());
                    Ok(length)
                }
            },
            Phase::Trailers(trailers) => {
                let whole = trailers.advance(bytes, &self.limits).map_err(|fault| (0, fault))?;
                if whole.is_some() {
                    self.phase = Phase::Head(HeadScan::default());
                }
                Ok(whole.unwrap_or(0))
            }
        }
    }
}
