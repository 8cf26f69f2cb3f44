//! The bytes of an HTTP/2 connection: frames are counted as they come, and what is written is followed until it has left.

use super::budget::Budget;
use crate::budget::Charge;
use crate::config::Server;
use crate::frames::{Frames, Kind};
use crate::gateway::Home;
use crate::upstream::{Bodies, Pace, Tick};
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is known of a connection's bytes.
pub(super) struct Line {
    home: Rc<Home>,
    budget: RefCell<Budget>,
    is_flooded: Cell<bool>,
    /// The answers on their way.
    bodies: Rc<Bodies>,
    /// Whether a piece of a body has come since that was asked last.
    has_data: Cell<bool>,
    /// Reads that brought something.
    reads: Cell<u64>,
    /// Whether all that was written has left.
    is_clean: Cell<bool>,
}

impl Line {
    pub(super) fn new(home: &Rc<Home>) -> Line {
        let budget = RefCell::new(Budget::new(home.now()));
        Line {
            home: Rc::clone(home),
            budget,
            is_flooded: Cell::new(false),
            bodies: Rc::default(),
            has_data: Cell::new(false),
            reads: Cell::new(0),
            is_clean: Cell::new(false),
        }
    }

    /// The answers on their way into the connection.
    pub(super) fn bodies(&self) -> &Rc<Bodies> {
        &self.bodies
    }

    /// Whether a piece of a body has come since this was asked last.
    pub(super) fn take_data(&self) -> bool {
        self.has_data.replace(false)
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
    /// Bytes of the head that is not whole.
    head_bytes: usize,
    /// Bounds the time for a head.
    late: Tick,
    /// Bounds the time that the client makes what is written wait.
    pace: Pace,
    /// Memory for a head that is not whole.
    head: Charge,
    /// Memory for what the client does not take.
    waiting: Charge,
}

impl<IO> Socket<IO> {
    pub(super) fn new(io: &Rc<RefCell<IO>>, line: &Rc<Line>, server: &Server) -> Self {
        let budget = &line.home.shared.budget;
        Socket {
            io: Rc::clone(io),
            line: Rc::clone(line),
            coming: Frames::after_preface(),
            going: Frames::bare(),
            is_mid_head: false,
            head_bytes: 0,
            late: Tick::new(server.header_timeout),
            pace: Pace::new(server.write_timeout, server.min_write_rate),
            head: Charge::none(budget),
            waiting: Charge::none(budget),
        }
    }

    fn came(&mut self, bytes: &[u8]) {
        self.line.reads.set(self.line.reads.get().wrapping_add(1));
        let (line, is_mid_head, head_bytes) = (&self.line, &mut self.is_mid_head, &mut self.head_bytes);
        self.coming.scan(bytes, |frame| {
            if matches!(frame.kind, Kind::Headers | Kind::Continuation) {
                *is_mid_head = frame.leaves_head_open();
                let length = usize::try_from(frame.length).unwrap_or(usize::MAX);
                *head_bytes = if *is_mid_head { head_bytes.saturating_add(length) } else { 0 };
            } else if frame.kind == Kind::Data {
                line.has_data.set(true);
            }
            line.spend(frame.kind);
        });
    }

    fn went(&mut self, pieces: &[IoSlice<'_>], length: usize) {
        let mut budget = self.line.budget.borrow_mut();
        let bodies = &self.line.bodies;
        self.going.scan_pieces(pieces, length, |frame| {
            if frame.kind == Kind::Data {
                bodies.wrote(usize::try_from(frame.length).unwrap_or(usize::MAX));
            }
            budget.earn(frame.kind);
        });
    }

    /// Waits for the rest of a head within its time and the memory there is.
    fn poll_head_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.head.try_set(self.head_bytes) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, "there is no memory for a head")));
        }
        ready!(self.late.poll_expired(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "a head does not come to its end")))
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
                self.waiting.set(self.line.bodies.unwritten());
                ready!(self.pace.poll_expired(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes too little")))
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Socket<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut *self.io.borrow_mut()).poll_read(cx, buf);
        if polled.is_pending() {
            return if self.is_mid_head { self.poll_head_wait(cx) } else { Poll::Pending };
        }
        let was_mid_head = self.is_mid_head;
        self.came(buf.filled().get(before..).unwrap_or_default());
        if !(was_mid_head && self.is_mid_head) {
            self.late.reset();
            self.head.set(0);
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
        let polled = Pin::new(&mut *self.io.borrow_mut()).poll_flush(cx).map_ok(|()| 0);
        ready!(self.unless_stalled(cx, polled))?;
        self.line.is_clean.set(true);
        self.pace.restart();
        self.waiting.set(0);
        Poll::Ready(Ok(()))
    }

    /// The owner closes.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
