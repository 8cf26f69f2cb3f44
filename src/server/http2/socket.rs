//! The bytes of an HTTP/2 connection: frames are counted as they come, and what is written is followed until it has left.

use super::budget::Budget;
use crate::frames::{Frames, Kind};
use crate::gateway::Home;
use crate::upstream::Tick;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is known of a connection's bytes.
pub(super) struct Line {
    home: Rc<Home>,
    budget: RefCell<Budget>,
    is_flooded: Cell<bool>,
    /// Reads that brought something.
    reads: Cell<u64>,
    /// Whether all that was written has left.
    is_clean: Cell<bool>,
}

impl Line {
    pub(super) fn new(home: &Rc<Home>) -> Line {
        let budget = RefCell::new(Budget::new(home.now()));
        let (is_flooded, reads, is_clean) = (Cell::new(false), Cell::new(0), Cell::new(false));
        Line { home: Rc::clone(home), budget, is_flooded, reads, is_clean }
    }

    /// Whether the client has sent more than its budget since it was asked last.
    pub(super) fn take_flood(&self) -> bool {
        self.is_flooded.replace(false)
    }

    /// Changes whenever the client has sent anything.
    pub(super) fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// Whether all that was written has left this process.
    pub(super) fn is_clean(&self) -> bool {
        self.is_clean.get()
    }

    fn spend(&self, kind: Kind) {
        if !self.budget.borrow_mut().spend(kind, || self.home.now()) {
            self.is_flooded.set(true);
        }
    }
}

/// What the HTTP/2 library reads and writes. The owner keeps the connection itself, to close it in its own way.
pub(super) struct Socket<IO> {
    io: Rc<RefCell<IO>>,
    line: Rc<Line>,
    coming: Frames,
    going: Frames,
    /// Whether a request's head has begun and is not whole; nothing else can come before it is.
    is_mid_head: bool,
    /// Bounds the time for a head.
    late: Tick,
    /// Bounds the time that a client takes no byte.
    stalled: Tick,
}

impl<IO> Socket<IO> {
    pub(super) fn new(
        io: &Rc<RefCell<IO>>,
        line: &Rc<Line>,
        header_timeout: Duration,
        write_timeout: Duration,
    ) -> Self {
        Socket {
            io: Rc::clone(io),
            line: Rc::clone(line),
            coming: Frames::after_preface(),
            going: Frames::bare(),
            is_mid_head: false,
            late: Tick::new(header_timeout),
            stalled: Tick::new(write_timeout),
        }
    }

    fn came(&mut self, bytes: &[u8]) {
        self.line.reads.set(self.line.reads.get().wrapping_add(1));
        let (line, is_mid_head) = (&self.line, &mut self.is_mid_head);
        self.coming.scan(bytes, |frame| {
            if matches!(frame.kind, Kind::Headers | Kind::Continuation) {
                *is_mid_head = frame.leaves_head_open();
            }
            line.spend(frame.kind);
        });
    }

    fn went(&mut self, pieces: &[IoSlice<'_>], length: usize) {
        let mut budget = self.line.budget.borrow_mut();
        self.going.scan_pieces(pieces, length, |frame| budget.earn(frame.kind));
    }

    /// What a write came to; an error once the client has taken nothing for too long.
    fn unless_stalled<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(result) => {
                self.stalled.reset();
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.stalled.poll_expired(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Socket<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut *self.io.borrow_mut()).poll_read(cx, buf);
        if polled.is_pending() {
            if self.is_mid_head {
                ready!(self.late.poll_expired(cx));
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "a head does not come to its end")));
            }
            return Poll::Pending;
        }
        let was_mid_head = self.is_mid_head;
        self.came(buf.filled().get(before..).unwrap_or_default());
        if !(was_mid_head && self.is_mid_head) {
            self.late.reset();
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Socket<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.line.is_clean.set(false);
        let polled = Pin::new(&mut *self.io.borrow_mut()).poll_write(cx, bytes);
        let written = ready!(self.unless_stalled(cx, polled))?;
        self.went(&[IoSlice::new(bytes)], written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.line.is_clean.set(false);
        let polled = Pin::new(&mut *self.io.borrow_mut()).poll_write_vectored(cx, pieces);
        let written = ready!(self.unless_stalled(cx, polled))?;
        self.went(pieces, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.borrow().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.is_clean.set(false);
        let polled = Pin::new(&mut *self.io.borrow_mut()).poll_flush(cx);
        ready!(self.unless_stalled(cx, polled))?;
        self.line.is_clean.set(true);
        Poll::Ready(Ok(()))
    }

    /// The owner closes.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
