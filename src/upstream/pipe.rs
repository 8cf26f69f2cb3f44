//! A body on its way into an HTTP/2 stream, whichever side sends it.
//!
//! Only as much is handed to the stream as the other end takes at once, and the next piece is asked of the body only then. So at
//! most one piece waits here for each stream, and a body that has been piped to its end has left but for what the next write of
//! the connection takes along.

use super::pace::Pace;
use crate::budget::Charge;
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// The bodies that are on their way into one client's connection.
#[derive(Debug, Default)]
pub struct Bodies {
    count: Cell<usize>,
    /// Bytes that the connection has and has not written.
    unwritten: Cell<usize>,
}

impl Bodies {
    /// Bytes that wait in the connection for its socket.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.unwritten.get()
    }

    /// The connection has written a piece of so many bytes.
    pub fn wrote(&self, bytes: usize) {
        self.unwritten.set(self.unwritten.get().saturating_sub(bytes));
    }

    /// The connection has written all it had. What it has not was dropped with its stream.
    pub fn wrote_all(&self) {
        self.unwritten.set(0);
    }
}

/// A body's place among those of its connection.
struct Place {
    bodies: Rc<Bodies>,
    /// Memory for the piece that waits.
    charge: Charge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.bodies.count.set(self.bodies.count.get().saturating_sub(1));
    }
}

/// A body and the stream it goes into.
pub struct Pipe<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// What waits for the other end.
    piece: Bytes,
    /// Whether `piece` is the last of the body.
    is_last: bool,
    /// What the other end is told when the body fails.
    on_failure: Reason,
    /// Bounds the wait for the other end.
    pace: Pace,
    /// Where a client's connection is at the other end.
    place: Option<Place>,
}

/// Why a body did not get to its end.
#[derive(Debug)]
pub enum Broken<E> {
    /// The other end wants no more of it, or is gone.
    Refused,
    /// The other end took nothing, or too little, for too long. The stream is reset.
    Stalled,
    /// The body failed. The stream is reset.
    Body(E),
}

impl<B: Body<Data = Bytes> + Unpin> Pipe<B> {
    /// Sends `body` into `stream`, which is reset with `on_failure` when the body fails; the other end may take nothing for no
    /// slower than `pace`.
    pub fn new(body: B, stream: SendStream<Bytes>, on_failure: Reason, pace: Pace) -> Pipe<B> {
        let piece = Bytes::new();
        Pipe { body, stream, piece, is_last: false, on_failure, pace, place: None }
    }

    /// The same among others of a client's connection, which share its pace; what waits is taken from `charge`.
    pub fn among(mut self, bodies: &Rc<Bodies>, charge: Charge) -> Pipe<B> {
        bodies.count.set(bodies.count.get().saturating_add(1));
        self.place = Some(Place { bodies: Rc::clone(bodies), charge });
        self
    }

    /// The body.
    pub fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    /// What has not been read of the body.
    pub fn into_body(self) -> B {
        self.body
    }

    /// Ready when the other end has reset the stream.
    pub fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(|_| ())
    }

    /// Sends on. Ready once the whole body, trailers included, is with the connection, and the body has been read to its end.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken<B::Error>>> {
        loop {
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Broken::Refused));
            }
            if !self.piece.is_empty() {
                ready!(self.poll_piece(cx))?;
            } else if ready!(self.poll_next(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Sends as much of the piece as the other end takes now.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken<B::Error>>> {
        if self.stream.capacity() == 0 {
            self.stream.reserve_capacity(self.piece.len());
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => return Poll::Ready(Ok(())),
                Poll::Ready(_) => return Poll::Ready(Err(Broken::Refused)),
                Poll::Pending => {
                    if let Some(place) = &mut self.place {
                        // It is there already, so there is no asking whether it may be.
                        place.charge.set(self.piece.len());
                    }
                    ready!(self.pace.poll_expired(cx));
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Broken::Stalled));
                }
            }
        }
        let piece = self.piece.split_to(self.stream.capacity().min(self.piece.len()));
        self.advance(piece.len());
        let ends = self.is_last && self.piece.is_empty();
        Poll::Ready(self.stream.send_data(piece, ends).map_err(|_| Broken::Refused))
    }

    /// So many bytes go on. Where others share the connection, a client that takes a little of each keeps pace with all.
    fn advance(&mut self, bytes: usize) {
        let Some(place) = &mut self.place else { return self.pace.advance(bytes) };
        self.pace.advance(bytes.saturating_mul(place.bodies.count.get()));
        place.bodies.unwritten.set(place.bodies.unwritten.get().saturating_add(bytes));
        if self.piece.is_empty() {
            place.charge.set(0);
        }
    }

    /// Takes the body's next frame. True when there is none, and the stream has ended.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Broken<B::Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(fault)) => {
                self.stream.send_reset(self.on_failure);
                return Poll::Ready(Err(Broken::Body(fault)));
            }
            None if self.is_last => return Poll::Ready(Ok(true)),
            None => {
                self.is_last = true;
                let ended = self.stream.send_data(Bytes::new(), true);
                return Poll::Ready(ended.map(|()| true).map_err(|_| Broken::Refused));
            }
        };
        let sent = match frame.into_data() {
            Ok(data) => {
                self.is_last = self.body.is_end_stream();
                self.piece = data;
                // An empty piece waits for nothing.
                if self.piece.is_empty() && self.is_last { self.stream.send_data(Bytes::new(), true) } else { Ok(()) }
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    self.is_last = true;
                    self.stream.reserve_capacity(0);
                    self.stream.send_trailers(trailers)
                }
                Err(_) => Ok(()),
            },
        };
        Poll::Ready(sent.map(|()| false).map_err(|_| Broken::Refused))
    }
}
