//! A connection lent to hyper: the owner gets it back when hyper is done with it, to answer what hyper never saw and to close
//! it in its own way.

use super::wire::Guarded;
use crate::gateway::Peer;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What hyper reads and writes.
pub(super) struct Lent<IO> {
    guarded: Rc<RefCell<Guarded<IO>>>,
    peer: Rc<Peer>,
    vectored: bool,
}

impl<IO: AsyncWrite + Unpin> Lent<IO> {
    pub(super) fn new(guarded: &Rc<RefCell<Guarded<IO>>>, peer: &Rc<Peer>) -> Lent<IO> {
        let vectored = guarded.borrow().is_write_vectored();
        Lent { guarded: Rc::clone(guarded), peer: Rc::clone(peer), vectored }
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
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.guarded.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.guarded.borrow_mut()).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    /// hyper flushes when it holds nothing more to write: every response that has ended is with the client now, so its slots
    /// go back.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut *self.guarded.borrow_mut()).poll_flush(cx))?;
        self.peer.let_go();
        Poll::Ready(Ok(()))
    }

    /// The owner closes.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
