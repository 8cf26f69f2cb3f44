//! What the frames of a connection to an upstream tell that the HTTP/2 library keeps to itself: that the upstream is about to
//! leave, and which requests have never been written.
//!
//! A server that leaves says by GOAWAY which requests it has not looked at, and closes. Where the close is met by a write before that frame
//! has been read, the library would only hear that the connection is broken, and nobody could say whether a request had an effect. So a
//! write that fails is not told before what has come has been read.

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
        Watching { io, watched: Rc::clone(self), coming: Frames::bare(), going: Frames::after_preface(), broken: None }
    }
}

/// A connection whose frames are watched.
pub(super) struct Watching<IO> {
    io: IO,
    watched: Rc<Watched>,
    coming: Frames,
    going: Frames,
    /// Why nothing can be written any more, until what has come is read.
    broken: Option<io::Error>,
}

impl<IO> Watching<IO> {
    /// How much of these pieces counts as taken. A write that failed looks as if it had taken all, though nothing of it counts as
    /// written; the next reading that finds nothing fails for it.
    fn took(&mut self, cx: &Context<'_>, pieces: &[IoSlice<'_>], result: io::Result<usize>) -> usize {
        match result {
            Ok(length) => {
                let watched = &self.watched;
                self.going.scan_pieces(pieces, length, |frame| {
                    if frame.kind == Kind::Headers {
                        watched.written.set(watched.written.get().max(frame.stream));
                    }
                });
                length
            }
            Err(error) => {
                self.broke(cx, error);
                pieces.iter().map(|piece| piece.len()).sum()
            }
        }
    }

    fn broke(&mut self, cx: &Context<'_>, error: io::Error) {
        self.watched.retire();
        self.broken = Some(error);
        // Whoever writes may have read before, and found nothing.
        cx.waker().wake_by_ref();
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watching<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let watching = &mut *self;
        match (Pin::new(&mut watching.io).poll_read(cx, buf), &mut watching.broken) {
            (Poll::Pending, broken) => return broken.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
            (Poll::Ready(result), _) => result?,
        }
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
        let result = ready!(Pin::new(&mut self.io).poll_write(cx, bytes));
        Poll::Ready(Ok(self.took(cx, &[IoSlice::new(bytes)], result)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, pieces));
        Poll::Ready(Ok(self.took(cx, pieces, result)))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Err(error) = ready!(Pin::new(&mut self.io).poll_flush(cx)) {
            self.broke(cx, error);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{Future as _, poll_fn};
    use std::task::Waker;

    /// A socket whose other end goes: from then on a write fails, and what that end has said lies there to be read.
    struct Leaving {
        left: &'static [u8],
        has_gone: Rc<Cell<bool>>,
        has_failed: bool,
    }

    impl Leaving {
        fn new(left: &'static [u8]) -> (Leaving, Rc<Cell<bool>>) {
            let has_gone = Rc::new(Cell::new(false));
            (Leaving { left, has_gone: Rc::clone(&has_gone), has_failed: false }, has_gone)
        }
    }

    impl AsyncRead for Leaving {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            // It arrives when the last read has just found nothing.
            let length = if self.has_failed { self.left.len().min(buf.remaining()) } else { 0 };
            let (now, later) = self.left.split_at(length);
            self.left = later;
            buf.put_slice(now);
            if now.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
        }
    }

    impl AsyncWrite for Leaving {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.has_failed = self.has_gone.get();
            Poll::Ready(if self.has_failed { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) })
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(if self.has_failed { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) })
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_write_that_fails_is_told_when_all_that_has_come_is_read() {
        let watched = Rc::new(Watched::default());
        let (socket, has_gone) = Leaving::new(b"settings and a farewell");
        let mut io = watched.watch(socket);
        has_gone.set(true);
        let mut cx = Context::from_waker(Waker::noop());
        let head = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x01\x01\x05\0\0\0\x01\x82";
        let pieces = [IoSlice::new(&head[..24]), IoSlice::new(&head[24..])];
        assert!(matches!(Pin::new(&mut io).poll_write_vectored(&mut cx, &pieces), Poll::Ready(Ok(34))));
        assert!(matches!(Pin::new(&mut io).poll_flush(&mut cx), Poll::Ready(Ok(()))));
        assert!(watched.is_retired() && !watched.has_written(1), "nothing of it has left");
        let mut room = [0; 8];
        let mut seen = Vec::new();
        let error = loop {
            let mut buf = ReadBuf::new(&mut room);
            match Pin::new(&mut io).poll_read(&mut cx, &mut buf) {
                Poll::Ready(Ok(())) => seen.extend_from_slice(buf.filled()),
                Poll::Ready(Err(error)) => break error,
                Poll::Pending => panic!("the failure is forgotten"),
            }
        };
        assert_eq!((&*seen, error.kind()), (&b"settings and a farewell"[..], io::ErrorKind::BrokenPipe));
    }

    /// The library's view of it: what the server's GOAWAY leaves out is known not to have been looked at.
    #[tokio::test]
    async fn a_farewell_behind_a_broken_write_is_heard() {
        // SETTINGS, and GOAWAY: no stream has been looked at, no error.
        const FAREWELL: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let (socket, has_gone) = Leaving::new(FAREWELL);
        let watched = Rc::new(Watched::default());
        let (mut sender, mut connection) = h2::client::handshake(watched.watch(socket)).await.unwrap();
        let request = http::Request::post("http://a/").body(()).unwrap();
        let (response, mut body) = sender.send_request(request, false).unwrap();
        // The head leaves; the rest of the body meets an end that is gone.
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll(cx).is_pending())).await);
        assert!(watched.has_written(1));
        has_gone.set(true);
        body.send_data(vec![0; 100].into(), true).unwrap();
        let ended = connection.await;
        let error = response.await.unwrap_err();
        assert!(error.is_go_away() && error.is_remote(), "{error} after {ended:?}");
    }
}
