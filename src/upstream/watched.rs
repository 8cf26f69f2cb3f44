//! What the frames of a connection to an upstream tell that the HTTP/2 library keeps to itself: that the upstream is about to
//! leave, and which requests have never been written.

use crate::frames::{Frames, Kind};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is known of a connection.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// No new request may go on it.
    is_retired: Cell<bool>,
    /// The newest stream whose head has begun to be written. Streams are opened in the order of their numbers.
    written: Cell<u32>,
}

impl Watched {
    pub(super) fn retire(&self) {
        self.is_retired.set(true);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.get()
    }

    /// Whether any of the request of this stream has been handed to the socket.
    pub(super) fn has_written(&self, stream: u32) -> bool {
        stream <= self.written.get()
    }

    /// Watches what is read from and written to `io`.
    pub(super) fn watch<IO>(self: &Rc<Self>, io: IO) -> Watching<IO> {
        Watching { io, watched: Rc::clone(self), coming: Frames::bare(), going: Frames::after_preface() }
    }
}

/// A connection whose frames are watched.
pub(super) struct Watching<IO> {
    io: IO,
    watched: Rc<Watched>,
    coming: Frames,
    going: Frames,
}

impl<IO> Watching<IO> {
    fn wrote(&mut self, pieces: &[IoSlice<'_>], length: usize) {
        let watched = &self.watched;
        self.going.scan_pieces(pieces, length, |frame| {
            if frame.kind == Kind::Headers {
                watched.written.set(watched.written.get().max(frame.stream));
            }
        });
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watching<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let watching = &mut *self;
        ready!(Pin::new(&mut watching.io).poll_read(cx, buf))?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if fresh.is_empty() {
            watching.watched.retire();
        }
        let watched = &watching.watched;
        watching.coming.scan(fresh, |frame| {
            if frame.kind == Kind::GoAway {
                watched.retire();
            }
        });
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watching<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.wrote(&[IoSlice::new(bytes)], written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, pieces))?;
        self.wrote(pieces, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
