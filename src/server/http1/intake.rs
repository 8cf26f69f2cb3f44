//! What comes from a client: heads, bodies, and its end.

use super::request;
use super::spares::Spares;
use crate::budget::Charge;
use crate::clock::timer_now;
use crate::server::wire::{Framing, Part, Places, Scanner, Step, WireFault, WireLimits};
use crate::upstream::Inlet;
use crate::upstream::room::{self, ROOM_BYTES};
use bytes::{Buf, Bytes, BytesMut};
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Sleep, sleep_until};

/// Room that a head is read into.
const READ_BYTES: usize = 4 * 1024;

/// The client has ended or lost the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// What comes where a request may begin.
pub(super) enum Next {
    /// A whole head, and how the body after it is framed.
    Head(Bytes, Framing),
    /// Nothing more.
    End,
    /// What cannot be a head.
    Bad(WireFault),
}

/// The reading side of a connection.
pub(super) struct Intake {
    scanner: Scanner,
    limits: WireLimits,
    /// What was read and belongs to nobody yet: a part of a head or a trailer section, or requests whose turn has not come.
    /// At most `max_head_bytes` and one read more.
    held: BytesMut,
    /// Memory for what is held while more is waited for.
    charge: Charge,
    /// Runs while a head is incomplete. Heads that come whole never start one.
    head_timer: Option<Pin<Box<Sleep>>>,
    /// Whether the connection has gone on in another protocol: whatever comes is passed on, and its end is an end.
    pub(super) is_raw: bool,
}

impl Intake {
    pub(super) fn new(limits: WireLimits, spares: &Rc<Spares>) -> Intake {
        Intake {
            scanner: Scanner::new(limits),
            limits,
            held: BytesMut::new(),
            charge: spares.charge(),
            head_timer: None,
            is_raw: false,
        }
    }

    /// Whether bytes are here that nobody has looked at.
    pub(super) fn holds_bytes(&self) -> bool {
        !self.held.is_empty()
    }

    /// Where the parts of the last head stand in it.
    pub(super) fn places(&self) -> &Places {
        self.scanner.places()
    }

    #[cfg(test)]
    pub(super) fn holds_memory(&self) -> bool {
        self.held.capacity() > 0 || self.head_timer.is_some()
    }

    /// The next request's head. A client that is between requests is let go where it `leaves`.
    pub(super) fn poll_head<IO>(&mut self, io: &mut IO, cx: &mut Context<'_>, leaves: bool) -> Poll<Next>
    where
        IO: AsyncRead + Unpin,
    {
        if self.held.is_empty() {
            if leaves {
                return Poll::Ready(Next::End);
            }
            if let Some(next) = ready!(self.poll_fresh(io, cx)) {
                return Poll::Ready(next);
            }
        }
        loop {
            match self.scanner.step(&self.held, &mut |_| {}) {
                Ok(Some(Step { length, part: Part::Head(framing) })) => {
                    self.head_timer = None;
                    return Poll::Ready(Next::Head(self.take_head(length), framing));
                }
                Ok(_) => {}
                Err(bad) => return Poll::Ready(Next::Bad(bad.fault)),
            }
            match self.poll_fill(io, cx, READ_BYTES) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::End),
                Poll::Ready(Ok(_)) => {}
                // Others need its place, or its time is up.
                Poll::Pending if leaves => return Poll::Ready(Next::Bad(WireFault::HeadTimedOut)),
                Poll::Pending if !self.hold_apart() => return Poll::Ready(Next::Bad(WireFault::Overloaded)),
                Poll::Pending => {
                    ready!(self.poll_head_timer(cx));
                    return Poll::Ready(Next::Bad(WireFault::HeadTimedOut));
                }
            }
        }
    }

    /// Reads where nothing is held. A head that came whole, as most do, is looked at where it was read; nothing when it did not:
    /// then what came is held.
    fn poll_fresh<IO>(&mut self, io: &mut IO, cx: &mut Context<'_>) -> Poll<Option<Next>>
    where
        IO: AsyncRead + Unpin,
    {
        let (scanner, mut next) = (&mut self.scanner, None);
        let (polled, held) = room::with_room(READ_BYTES, |room| {
            let polled = pin!(io.read_buf(room)).poll(cx);
            if let Poll::Ready(Ok(1..)) = polled {
                match scanner.step(room, &mut |_| {}) {
                    Ok(Some(Step { length, part: Part::Head(framing) })) => {
                        next = Some(Next::Head(room::apart(room.get(..length).unwrap_or_default()), framing));
                        room.advance(length);
                    }
                    Ok(_) => {}
                    Err(bad) => next = Some(Next::Bad(bad.fault)),
                }
            }
            polled
        });
        self.held = held;
        Poll::Ready(match ready!(polled) {
            Ok(1..) => next,
            Ok(0) | Err(_) => Some(Next::End),
        })
    }

    /// Puts the next piece of the body, or its end, into `inlet`, which must have room and be open.
    pub(super) fn poll_body<IO>(&mut self, io: &mut IO, cx: &mut Context<'_>, inlet: &Inlet) -> Poll<Result<(), Gone>>
    where
        IO: AsyncRead + Unpin,
    {
        loop {
            if self.is_raw && !self.held.is_empty() {
                inlet.put(std::mem::take(&mut self.held).freeze());
                return Poll::Ready(Ok(()));
            }
            if !self.held.is_empty() && self.decode(inlet) {
                return Poll::Ready(Ok(()));
            }
            let left = inlet.left().and_then(|left| usize::try_from(left).ok()).unwrap_or(ROOM_BYTES);
            match ready!(self.poll_fill(io, cx, left.clamp(READ_BYTES, ROOM_BYTES))) {
                Ok(0) if self.is_raw => {
                    inlet.end(None);
                    return Poll::Ready(Ok(()));
                }
                Ok(0) | Err(_) => return Poll::Ready(Err(Gone)),
                Ok(_) => {}
            }
        }
    }

    /// Ready when the client is gone. Requests behind the present one are read up to the bound only, and an end behind more
    /// is not seen.
    pub(super) fn poll_gone<IO>(&mut self, io: &mut IO, cx: &mut Context<'_>) -> Poll<Gone>
    where
        IO: AsyncRead + Unpin,
    {
        while self.held.len() < self.limits.max_head_bytes
            && (self.held.is_empty() || self.charge.try_set(self.held.len() + READ_BYTES))
        {
            match ready!(self.poll_fill(io, cx, READ_BYTES)) {
                Ok(0) | Err(_) => return Poll::Ready(Gone),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// Reads behind what is held. A connection that waits holds no room to read into: all of a thread's share one.
    fn poll_fill<IO>(&mut self, io: &mut IO, cx: &mut Context<'_>, least: usize) -> Poll<io::Result<usize>>
    where
        IO: AsyncRead + Unpin,
    {
        if self.held.is_empty() {
            let (polled, fresh) = room::with_room(least, |room| pin!(io.read_buf(room)).poll(cx));
            self.held = fresh;
            return polled;
        }
        self.held.reserve(READ_BYTES);
        pin!(io.read_buf(&mut self.held)).poll(cx)
    }

    /// Holds a part of a head in memory of its own, and no more than there is of it: it may stay for long, and the room that it
    /// was read into should not. False where all connections together hold too much already.
    fn hold_apart(&mut self) -> bool {
        if !self.charge.try_set(self.held.len()) {
            return false;
        }
        if self.head_timer.is_none() {
            self.held = BytesMut::from(&self.held[..]);
        }
        true
    }

    fn poll_head_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = timer_now() + self.limits.head_timeout;
        let timer = self.head_timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        timer.as_mut().poll(cx)
    }

    /// Takes a head of `length` bytes, apart from what comes behind it.
    fn take_head(&mut self, length: usize) -> Bytes {
        let head = room::apart(self.held.get(..length).unwrap_or_default());
        let _ = self.take(length);
        head
    }

    /// Takes the first `length` held bytes.
    fn take(&mut self, length: usize) -> Bytes {
        self.charge.set(0);
        if length >= self.held.len() {
            return std::mem::take(&mut self.held).freeze();
        }
        self.held.split_to(length).freeze()
    }

    /// Takes what is held of the body. False when that says nothing yet.
    fn decode(&mut self, inlet: &Inlet) -> bool {
        let mut found = Found::default();
        let (mut passed, mut section, mut fault) = (0, None, None);
        while self.scanner.is_in_body() {
            let rest = self.held.get(passed..).unwrap_or_default();
            match self.scanner.step(rest, &mut |data| found.add(rest, passed, data)) {
                Ok(Some(step)) => {
                    if step.part == Part::Trailers {
                        section = Some(passed..passed + step.length);
                    }
                    passed += step.length;
                }
                Ok(None) => break,
                Err(bad) => {
                    passed += bad.good;
                    fault = Some(bad.fault);
                    break;
                }
            }
        }
        let bytes = self.take(passed);
        let trailers = section.map(|section| request::trailers(&bytes.slice(section))).filter(|map| !map.is_empty());
        let piece = found.into_piece(&bytes);
        let has_come = !piece.is_empty();
        if has_come {
            inlet.put(piece);
        }
        match fault {
            Some(fault) => inlet.fail(fault),
            None if !self.scanner.is_in_body() => inlet.end(trailers),
            None => {}
        }
        has_come || inlet.is_over()
    }
}

/// A body's own bytes among those that frame them. One run of them stays where it is, more are put together: a million chunks of
/// one byte are one piece.
#[derive(Default)]
struct Found {
    first: Range<usize>,
    gathered: Vec<u8>,
}

impl Found {
    /// `data` stands in `rest`, which stands `offset` bytes into what was read.
    fn add(&mut self, rest: &[u8], offset: usize, data: Range<usize>) {
        if self.first.is_empty() {
            self.first = offset + data.start..offset + data.end;
        } else {
            self.gathered.extend_from_slice(rest.get(data).unwrap_or_default());
        }
    }

    fn into_piece(self, bytes: &Bytes) -> Bytes {
        let first = bytes.slice(self.first);
        if self.gathered.is_empty() {
            return first;
        }
        let mut piece = Vec::with_capacity(first.len() + self.gathered.len());
        piece.extend_from_slice(&first);
        piece.extend_from_slice(&self.gathered);
        piece.into()
    }
}
