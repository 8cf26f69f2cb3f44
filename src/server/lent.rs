//! A connection lent to hyper: the owner gets it back when hyper is done with it, to answer what hyper never saw and to close
//! it in its own way.

use super::wire::Guarded;
use crate::gateway::Peer;
use crate::upstream::Tick;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What hyper reads and writes. hyper has no time-out for a client that does not read, so it is here: a write that waits longer
/// than the bound fails, and with it the connection. Otherwise such a client would hold its slots for ever.
pub(super) struct Lent<IO> {
    guarded: Rc<RefCell<Guarded<IO>>>,
    peer: Rc<Peer>,
    vectored: bool,
    stall: Tick,
}

impl<IO: AsyncWrite + Unpin> Lent<IO> {
    /// Lends `guarded`; no single write to it may wait longer than `write_timeout`.
    pub(super) fn new(guarded: &Rc<RefCell<Guarded<IO>>>, peer: &Rc<Peer>, write_timeout: Duration) -> Lent<IO> {
        let vectored = guarded.borrow().is_write_vectored();
        Lent { guarded: Rc::clone(guarded), peer: Rc::clone(peer), vectored, stall: Tick::new(write_timeout) }
    }
}

impl<IO> Lent<IO> {
    /// Passes a write's outcome on, and bounds how long it may wait.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall.reset();
            return written;
        }
        ready!(self.stall.poll_expired(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<IO> Drop for Lent<IO> {
    fn drop(&mut self) {
        self.peer.let_go();
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Lent<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.guarded.borrow_mut()).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Lent<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.guarded.borrow_mut()).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.guarded.borrow_mut()).poll_write_vectored(cx, pieces);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    /// hyper flushes when it holds nothing more to write: every response that has ended is with the client now, so its slots
    /// go back.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut *self.guarded.borrow_mut()).poll_flush(cx);
        ready!(self.in_time(cx, flushed))?;
        self.peer.let_go();
        Poll::Ready(Ok(()))
    }

    /// The owner closes.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
