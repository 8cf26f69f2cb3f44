//! What goes to a client: short pieces gathered in one buffer, long ones written from where they are.

use super::spares::Spares;
use crate::budget::Charge;
use crate::upstream::{Pace, buffers, room};
use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Pieces up to this many bytes are copied into the buffer: a plain `send` costs the kernel less than a `writev`.
const COPIED_BYTES: usize = 2 * 1024;
/// Bytes gathered before they must go out.
const GATHERED_BYTES: usize = 16 * 1024;

/// The writing side of a connection.
pub(super) struct Outflow {
    /// Goes first: heads, chunk sizes and short pieces.
    buffer: Vec<u8>,
    sent: usize,
    /// Goes next: a long piece.
    long: Bytes,
    /// Goes last: what ends a long piece.
    tail: &'static [u8],
    /// Bounds the time that the client makes an answer wait.
    pace: Pace,
    /// Memory for what waits.
    charge: Charge,
}

impl Outflow {
    pub(super) fn new(pace: Pace, spares: &Spares) -> Outflow {
        Outflow { buffer: Vec::new(), sent: 0, long: Bytes::new(), tail: b"", pace, charge: spares.charge() }
    }

    /// Where to append what is short. Nothing may be appended while it [is full](Outflow::is_full).
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers::take();
        }
        &mut self.buffer
    }

    /// Appends a piece and what ends it.
    pub(super) fn put(&mut self, piece: Bytes, tail: &'static [u8]) {
        if piece.len() <= COPIED_BYTES {
            let buffer = self.buffer();
            buffer.extend_from_slice(&piece);
            buffer.extend_from_slice(tail);
        } else {
            self.long = piece;
            self.tail = tail;
        }
    }

    /// Appends the end of a chunked body without trailers.
    pub(super) fn end_chunks(&mut self) {
        if self.long.is_empty() {
            self.buffer().extend_from_slice(b"0\r\n\r\n");
        } else {
            self.tail = b"\r\n0\r\n\r\n";
        }
    }

    /// Whether what is here must go out before more may come.
    pub(super) fn is_full(&self) -> bool {
        !self.long.is_empty() || !self.tail.is_empty() || self.buffer.len() - self.sent >= GATHERED_BYTES
    }

    /// Whether all of it is in memory of its own, so that it may wait.
    pub(super) fn is_short(&self) -> bool {
        self.long.is_empty()
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.buffer.len() && self.long.is_empty() && self.tail.is_empty()
    }

    /// Writes everything.
    ///
    /// # Errors
    /// When the client is gone, or slower than its pace may be.
    pub(super) fn poll_flush<IO>(&mut self, io: &mut IO, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        IO: AsyncWrite + Unpin,
    {
        while !self.is_empty() {
            let polled = self.poll_write(io, cx);
            match ready!(self.unless_stalled(cx, polled))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => self.advance(length),
            }
        }
        if self.buffer.capacity() > 0 {
            buffers::keep(std::mem::take(&mut self.buffer));
            self.sent = 0;
        }
        let polled = Pin::new(io).poll_flush(cx).map_ok(|()| 0);
        ready!(self.unless_stalled(cx, polled))?;
        self.charge.set(0);
        Poll::Ready(Ok(()))
    }

    /// An answer has ended: the next one has its own time.
    pub(super) fn finish(&mut self) {
        self.pace.restart();
    }

    fn poll_write<IO>(&self, io: &mut IO, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        IO: AsyncWrite + Unpin,
    {
        let first = self.buffer.get(self.sent..).unwrap_or_default();
        match (first, &self.long[..], self.tail) {
            (one, [], []) | ([], one, []) => Pin::new(io).poll_write(cx, one),
            (first, long, tail) => {
                let pieces = [IoSlice::new(first), IoSlice::new(long), IoSlice::new(tail)];
                Pin::new(io).poll_write_vectored(cx, &pieces)
            }
        }
    }

    fn advance(&mut self, length: usize) {
        let first = length.min(self.buffer.len() - self.sent);
        self.sent += first;
        let long = (length - first).min(self.long.len());
        self.long.advance(long);
        self.tail = self.tail.get(length - first - long..).unwrap_or_default();
        if self.long.is_empty() {
            // Even an empty part of it would keep the room that it was read into.
            self.long = Bytes::new();
        }
    }

    /// What a write came to; an error once the client has been too slow.
    fn unless_stalled(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(result) => {
                self.pace.advance(*result.as_ref().unwrap_or(&0));
                Poll::Ready(result)
            }
            Poll::Pending => {
                // It is there already, so there is no asking whether it may be.
                room::settle(&mut self.long);
                self.charge.set(self.buffer.capacity() + self.long.len());
                ready!(self.pace.poll_expired(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its response")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use std::future::poll_fn;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;

    fn outflow(write_timeout: Duration) -> Outflow {
        Outflow::new(Pace::new(write_timeout, 0), &Spares::new(Time::manual().0))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up() {
        let (_client, mut server) = tokio::io::duplex(16);
        let mut outflow = outflow(Duration::from_secs(30));
        outflow.put(Bytes::from_static(&[0; 64]), b"");
        let before = crate::clock::timer_now();
        let error = poll_fn(|cx| outflow.poll_flush(&mut server, cx)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(before.elapsed().as_secs(), 30);
    }

    #[tokio::test]
    async fn pieces_of_every_length_come_out_as_they_went_in() {
        for length in [0, 1, 100, 2047, 2048, 2049, 9000] {
            let piece: Bytes = (0..length).map(|nth| (nth % 251) as u8).collect();
            let (mut near, mut far) = tokio::io::duplex(61);
            let mut outflow = outflow(Duration::from_secs(30));
            let writing = async {
                for _ in 0..3 {
                    outflow.buffer().extend_from_slice(b"head");
                    outflow.put(piece.clone(), b"\r\n");
                    while outflow.is_full() {
                        poll_fn(|cx| outflow.poll_flush(&mut near, cx)).await.unwrap();
                    }
                }
                poll_fn(|cx| outflow.poll_flush(&mut near, cx)).await.unwrap();
                assert!(outflow.is_empty());
                drop(near);
            };
            let mut got = Vec::new();
            let (read, ()) = tokio::join!(far.read_to_end(&mut got), writing);
            read.unwrap();
            assert_eq!(got, [b"head", &piece[..], b"\r\n"].concat().repeat(3), "{length}");
        }
    }
}
