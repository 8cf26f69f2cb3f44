//! A connection lent to hyper: the owner gets it back when hyper is done with it, to answer what hyper never saw and to close
//! it in its own way.

use super::wire::Guarded;
use crate::budget::Charge;
use crate::gateway::Peer;
use crate::upstream::Pace;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a response that are held for a client that does not take them.
const STALLED_BYTES: usize = 64 * 1024;

/// What hyper reads and writes.
pub(super) struct Lent<IO> {
    guarded: Rc<RefCell<Guarded<IO>>>,
    peer: Rc<Peer>,
    /// Bounds the time that a client makes a response wait.
    pace: Pace,
    /// What is kept for a client meanwhile.
    held: Charge,
    vectored: bool,
}

impl<IO: AsyncWrite + Unpin> Lent<IO> {
    pub(super) fn new(guarded: &Rc<RefCell<Guarded<IO>>>, peer: &Rc<Peer>, pace: Pace, held: Charge) -> Lent<IO> {
        let vectored = guarded.borrow().is_write_vectored();
        Lent { guarded: Rc::clone(guarded), peer: Rc::clone(peer), pace, held, vectored }
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
                self.held.set(STALLED_BYTES);
                ready!(self.pace.poll_expired(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its response")))
            }
        }
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
        let polled = Pin::new(&mut *self.guarded.borrow_mut()).poll_write(cx, bytes);
        self.unless_stalled(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.guarded.borrow_mut()).poll_write_vectored(cx, pieces);
        self.unless_stalled(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    /// hyper flushes when it holds nothing more to write: every response that has ended is with the client now, so its slots
    /// go back.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut *self.guarded.borrow_mut()).poll_flush(cx);
        ready!(self.unless_stalled(cx, polled.map_ok(|()| 0)))?;
        self.held.set(0);
        self.peer.let_go();
        if self.peer.idle_since().is_some() {
            // The response has ended. Within one, being taken piece by piece is no excuse.
            self.pace.restart();
        }
        Poll::Ready(Ok(()))
    }

    /// The owner closes.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::wire::WireLimits;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up() {
        let (_client, server) = tokio::io::duplex(16);
        let guarded = Rc::new(RefCell::new(Guarded::new(server, WireLimits::default())));
        let peer = Rc::new(Peer::new(std::net::Ipv4Addr::LOCALHOST.into(), false));
        let (pace, held) = (Pace::new(Duration::from_secs(30), 0), Charge::none(&crate::budget::Budget::new(1)));
        let mut lent = Lent::new(&guarded, &peer, pace, held);
        let before = crate::clock::timer_now();
        let error = lent.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(before.elapsed().as_secs(), 30);
    }
}
