//! The wire guard: a strict reader between the socket and hyper's HTTP/1 server.
//!
//! hyper reads leniently (bare LF, authority-form, a dropped fragment, two `Host`) and answers what it refuses with an empty
//! body. The guard follows the framing of every request itself and lets bytes through only as far as they are good, so hyper
//! sees good requests only, and every refusal is ours to answer, in JSON.
//!
//! Invariants, each held by a test:
//! 1. Whatever passes is byte for byte what was read. Nothing is repaired.
//! 2. A head, and a trailer section, pass whole or not at all. Body bytes pass at once.
//! 3. The verdict depends on the bytes alone, never on how they were cut into reads.
//! 4. What is held back is bounded by [`WireLimits::max_head_bytes`] and [`WireLimits::max_trailer_bytes`], or by hyper's read
//!    buffer where one read brings more.
//! 5. A head is looked at only when every request before it is answered and flushed. So those are answered as if a bad one
//!    behind them had not come.
//! 6. While a request is in flight, the end of the connection is seen even behind pipelined requests, up to the bound of 4. hyper
//!    alone would not see it, and a client that is gone would hold its slots until the upstream answers.
//!
//! The owner tells by [`Answers`] when a response body has ended; without that, a connection's second request waits for ever.
//!
//! How a bad head is answered: the reader reports the end of the connection to hyper, which is idle at that moment and
//! completes, without closing the writing side (the guard sees to that). The owner takes the guard back and sends what it owes
//! with [`refuse()`]:
//!
//! ```text
//! let guarded = Guarded::new(stream, WireLimits::default());
//! let answers = guarded.answers();       // in the service: response.map(|body| answers.follow(body))
//! let mut connection = http1::Builder::new().serve_connection(TokioIo::new(guarded), service);
//! let result = Pin::new(&mut connection).await;       // or polled beside a drain that calls `graceful_shutdown`
//! let guarded = connection.into_parts().io.into_inner();
//! if let Some(fault) = guarded.unanswered() { refuse(&mut guarded.into_inner(), fault, &[], &body).await?; }
//! ```
//!
//! A bad chunk or trailer fails the body instead: its reader gets an [`io::Error`] of kind `InvalidData`, in which
//! [`fault_of`](crate::wire_fault::fault_of) finds the fault, and hyper closes the connection after the answer.
//!
//! A head passes without a copy when one read brings all of it: hyper's own buffer is read into and scanned in place. Only
//! what a read leaves incomplete is moved aside.

mod answers;
mod chunk;

mod field;
mod head;
mod refuse;
mod scan;
mod target;
#[cfg(test)]
mod tests;

pub use crate::wire_fault::WireFault;
pub use answers::{Answers, Followed};
pub(super) use field::{is_never_trailer_name, is_shadow_name};
pub use refuse::{linger, refuse};
pub(super) use target::{check as check_target, check_authority};

use crate::clock::timer_now;
use scan::Scanner;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

/// Bounds of what a client may send besides bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLimits {
    /// Bytes of a request line and its headers. hyper's `max_buf_size` must be larger, and bounds what one read may bring.
    pub max_head_bytes: usize,
    /// Headers of a request, and apart from them its trailers. hyper's `max_headers` must not be smaller.
    pub max_headers: usize,
    /// Bytes of a request target.
    pub max_target_bytes: usize,
    /// Bytes of all chunk extensions of one request. At most 16 KiB, where hyper stops.
    pub max_chunk_extension: usize,
    /// Bytes of a trailer section. At most 16 KiB, where hyper stops.
    pub max_trailer_bytes: usize,
    /// Time from a head's first bytes to its last.
    pub head_timeout: Duration,
}

impl Default for WireLimits {
    fn default() -> WireLimits {
        WireLimits {
            max_head_bytes: 32 * 1024,
            max_headers: 100,
            max_target_bytes: 8 * 1024,
            max_chunk_extension: 4 * 1024,
            max_trailer_bytes: 16 * 1024,
            head_timeout: Duration::from_secs(30),
        }
    }
}

/// Bytes read at once behind bytes that are held back.
const HELD_READ_BYTES: usize = 4 * 1024;

/// A connection whose reads are checked. Writes pass through.
#[derive(Debug)]
pub struct Guarded<IO> {
    io: IO,
    scanner: Scanner,
    max_head_bytes: usize,
    /// Bytes that could not pass when they were read: `held[sent..ready]` may pass now, the rest is incomplete or
    /// its turn has not come.
    held: Vec<u8>,
    ready: usize,
    sent: usize,
    answers: Answers,
    /// How many requests were answered when the writer was last empty.
    flushed: u64,
    head_timeout: Duration,
    /// Runs while a head is incomplete. Heads that come whole never start one.
    head_timer: Option<Pin<Box<Sleep>>>,
    /// Who waits for a request's turn to come.
    waiting: Option<Waker>,
    ended: bool,
}

/// What reading on has brought.
enum Progress {
    /// Bytes for the caller, or the end.
    Done,
    /// Bytes, but none that may pass yet.
    Held,
}

impl<IO> Guarded<IO> {
    /// Guards `io` from its next byte on.
    pub fn new(io: IO, limits: WireLimits) -> Guarded<IO> {
        Guarded {
            io,
            head_timeout: limits.head_timeout,
            head_timer: None,
            scanner: Scanner::new(limits),
            max_head_bytes: limits.max_head_bytes,
            held: Vec::new(),
            ready: 0,
            sent: 0,
            answers: Answers::default(),
            flushed: 0,
            waiting: None,
            ended: false,
        }
    }

    /// Where the owner tells that a request is answered. It must tell so for every request: the next one waits for it.
    #[must_use]
    pub fn answers(&self) -> Answers {
        self.answers.clone()
    }

    /// What is wrong with the connection's bytes, once something is.
    #[must_use]
    pub fn verdict(&self) -> Option<WireFault> {
        self.scanner.fault()
    }

    /// The fault that nobody has answered yet: that of a bad head. The owner then owes [`refuse()`]. `None` for a bad body, which
    /// the service has answered, and behind an answer that closed the connection.
    #[must_use]
    pub fn unanswered(&self) -> Option<WireFault> {
        self.verdict().filter(|_| self.ended)
    }

    /// Whether a request has begun to arrive, its turn has come, and its head is not whole: what tells a slow request from an
    /// idle connection.
    #[must_use]
    pub fn is_mid_head(&self) -> bool {
        !self.held.is_empty() && !self.scanner.is_in_body() && !self.is_waiting()
    }

    /// Requests whose heads have passed.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.scanner.heads()
    }

    /// The connection itself. Bytes held back are dropped.
    pub fn into_inner(self) -> IO {
        self.io
    }

    /// The connection itself, for its address or its TLS session.
    pub fn get_ref(&self) -> &IO {
        &self.io
    }

    /// Hands over what may pass of the held bytes. False when there is nothing.
    fn pass_held(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let waiting = self.held.get(self.sent..self.ready).unwrap_or_default();
        let length = waiting.len().min(buf.remaining());
        if length == 0 {
            return false;
        }
        buf.put_slice(waiting.get(..length).unwrap_or_default());
        self.sent += length;
        if self.sent == self.ready {
            self.held.drain(..self.ready);
            (self.sent, self.ready) = (0, 0);
        }
        if self.held.is_empty() {
            // Connections are idle most of their lives, and then hold nothing.
            self.held = Vec::new();
        }
        true
    }

    fn is_waiting(&self) -> bool {
        self.scanner.is_waiting(self.flushed)
    }

    /// Looks at the held bytes again. True when some may pass, or are bad.
    fn scan_held(&mut self) -> bool {
        self.ready = self.scanner.scan(&self.held, self.flushed);
        let is_bad = self.scanner.fault().is_some();
        if is_bad {
            self.held.truncate(self.ready);
        }
        is_bad || self.ready > 0
    }
}

impl<IO: AsyncRead + Unpin> Guarded<IO> {
    /// Reads into the caller's buffer and leaves there what may pass.
    fn poll_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<Progress>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if fresh.is_empty() {
            return Poll::Ready(Ok(Progress::Done));
        }
        let passed = self.scanner.scan(fresh, self.flushed);
        if passed < fresh.len() && self.scanner.fault().is_none() {
            self.held.extend_from_slice(fresh.get(passed..).unwrap_or_default());
        }
        buf.set_filled(before + passed);
        Poll::Ready(Ok(if passed > 0 { Progress::Done } else { Progress::Held }))
    }

    /// Reads behind the held bytes.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        if self.scan_held() {
            return Poll::Ready(Ok(Progress::Held));
        }
        let before = self.held.len();
        if self.is_waiting() {
            self.waiting = Some(cx.waker().clone());
            if before >= self.max_head_bytes {
                return Poll::Pending;
            }
        }
        self.held.resize(before + HELD_READ_BYTES, 0);
        let mut buf = ReadBuf::new(self.held.get_mut(before..).unwrap_or_default());
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut buf);
        let fresh = buf.filled().len();
        self.held.truncate(before + fresh);
        ready!(polled)?;
        Poll::Ready(Ok(if fresh == 0 { Progress::Done } else { Progress::Held }))
    }

    /// Ready when a head has been arriving for too long.
    fn poll_head_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_mid_head() || self.is_waiting() {
            self.head_timer = None;
            return Poll::Pending;
        }
        let deadline = timer_now() + self.head_timeout;
        let timer = self.head_timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        ready!(timer.as_mut().poll(cx));
        self.held.clear();
        (self.sent, self.ready) = (0, 0);
        self.scanner.give_up(WireFault::HeadTimedOut);
        Poll::Ready(())
    }

    /// What the reader answers once all that may pass has passed: a failed body, or the end in place of a bad head.
    fn answer_fault(&mut self, fault: WireFault) -> io::Result<()> {
        if self.scanner.is_in_body() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
        }
        self.ended = true;
        Ok(())
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        loop {
            if buf.remaining() == 0 || guard.pass_held(buf) {
                return Poll::Ready(Ok(()));
            }
            if let Some(fault) = guard.scanner.fault() {
                return Poll::Ready(guard.answer_fault(fault));
            }
            let progress = if guard.held.is_empty() { guard.poll_direct(cx, buf) } else { guard.poll_held(cx) };
            match progress? {
                Poll::Ready(Progress::Done) => return Poll::Ready(Ok(())),
                Poll::Ready(Progress::Held) => {}
                // A timer that has run out is a fault, which the next turn answers.
                Poll::Pending => ready!(guard.poll_head_timer(cx)),
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// hyper flushes when its write buffer is empty: all that is answered by now is on its way.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        ready!(Pin::new(&mut guard.io).poll_flush(cx))?;
        guard.flushed = guard.answers.count();
        if !guard.is_waiting()
            && let Some(waiting) = guard.waiting.take()
        {
            waiting.wake();
        }
        Poll::Ready(Ok(()))
    }

    /// Leaves the writing side open while an answer is owed.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        if guard.ended { Pin::new(&mut guard.io).poll_flush(cx) } else { Pin::new(&mut guard.io).poll_shutdown(cx) }
    }
}
