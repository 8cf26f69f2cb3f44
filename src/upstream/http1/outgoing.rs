//! Bytes on their way to the server: short pieces are put together, long ones go out as they are, in one `writev`.

use super::stream::Stream;
use crate::upstream::{buffers, room};
use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Pieces up to this many bytes are copied behind what goes before them: a plain `send` costs the kernel less than a `writev`.
const COPIED_BYTES: usize = 2 * 1024;
/// Bytes put together before they are written.
const GATHERED_BYTES: usize = 16 * 1024;

/// What has been encoded and not written yet.
pub(super) struct Outgoing {
    /// Short pieces, and where the unwritten ones begin.
    gathered: Vec<u8>,
    at: usize,
    /// A long piece behind them, and what ends it.
    long: Bytes,
    tail: &'static [u8],
    /// Whether any byte has been written.
    pub(super) began: bool,
    needs_flush: bool,
}

impl Outgoing {
    pub(super) fn new() -> Outgoing {
        Outgoing { gathered: Vec::new(), at: 0, long: Bytes::new(), tail: b"", began: false, needs_flush: false }
    }

    /// Where short pieces are appended. Nothing may be appended behind a long piece: see [`Outgoing::has_room`].
    pub(super) fn gathered(&mut self) -> &mut Vec<u8> {
        if self.gathered.capacity() == 0 {
            self.gathered = buffers::take();
        }
        &mut self.gathered
    }

    /// Nothing in it is needed any more.
    fn release(&mut self) {
        self.at = 0;
        buffers::keep(std::mem::take(&mut self.gathered));
    }

    /// Whether more may be put behind what there is.
    pub(super) fn has_room(&self) -> bool {
        self.long.is_empty() && self.tail.is_empty() && self.gathered.len() - self.at < GATHERED_BYTES
    }

    /// Whether all of it is in memory of its own, so that it may wait.
    pub(super) fn is_short(&self) -> bool {
        self.long.is_empty()
    }

    /// Puts a piece and what ends it behind what there is.
    pub(super) fn push(&mut self, piece: Bytes, tail: &'static [u8]) {
        if piece.len() <= COPIED_BYTES {
            let gathered = self.gathered();
            gathered.extend_from_slice(&piece);
            gathered.extend_from_slice(tail);
        } else {
            (self.long, self.tail) = (piece, tail);
        }
    }

    /// Writes all there is.
    pub(super) fn poll_write(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let short = self.gathered.get(self.at..).unwrap_or_default();
            let written = match (short, &self.long[..], self.tail) {
                ([], [], []) => break,
                (one, [], []) | ([], one, []) => Pin::new(&mut *stream).poll_write(cx, one),
                (short, long, tail) => {
                    let pieces = [IoSlice::new(short), IoSlice::new(long), IoSlice::new(tail)];
                    Pin::new(&mut *stream).poll_write_vectored(cx, &pieces)
                }
            };
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => self.advance(written?),
                Poll::Pending => {
                    room::settle(&mut self.long);
                    return Poll::Pending;
                }
            }
        }
        self.release();
        if self.needs_flush {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        self.began = true;
        self.needs_flush = true;
        let short = written.min(self.gathered.len() - self.at);
        self.at += short;
        let long = (written - short).min(self.long.len());
        self.long.advance(long);
        let tail = (written - short - long).min(self.tail.len());
        self.tail = self.tail.get(tail..).unwrap_or_default();
        if self.long.is_empty() {
            // Even an empty part of it would keep the room that it was read into.
            self.long = Bytes::new();
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.release();
    }
}
