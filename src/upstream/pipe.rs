//! A body on its way into an HTTP/2 stream, whichever side sends it.
//!
//! Only as much is handed to the stream as the other end takes at once, and the next piece is asked of the body only then. So at
//! most one piece waits here for each stream, and a body that has been piped to its end has left but for what the next write of
//! the connection takes along.

use super::body::Tick;
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// A body and the stream it goes into.
pub struct Pipe<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// What waits for the other end.
    piece: Bytes,
    /// Whether `piece` is the last of the body.
    is_last: bool,
    is_untouched: bool,
    /// What the other end is told when the body fails.
    on_failure: Reason,
    /// Bounds the wait for the other end.
    stalled: Tick,
}

/// Why a body did not get to its end.
#[derive(Debug)]
pub enum Broken<E> {
    /// The other end wants no more of it, or is gone.
    Refused,
    /// The other end took nothing for too long. The stream is reset.
    Stalled,
    /// The body failed. The stream is reset.
    Body(E),
}

impl<B: Body<Data = Bytes> + Unpin> Pipe<B> {
    /// Sends `body` into `stream`, which is reset with `on_failure` when the body fails; the other end may take nothing for at
    /// most `patience`.
    pub fn new(body: B, stream: SendStream<Bytes>, on_failure: Reason, patience: Duration) -> Pipe<B> {
        let (piece, stalled) = (Bytes::new(), Tick::new(patience));
        Pipe { body, stream, piece, is_last: false, is_untouched: true, on_failure, stalled }
    }

    /// Whether nothing has been read from the body.
    pub fn is_untouched(&self) -> bool {
        self.is_untouched
    }

    /// The body, if nothing has been read from it.
    pub fn into_untouched(self) -> Option<B> {
        self.is_untouched.then_some(self.body)
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
                    ready!(self.stalled.poll_expired(cx));
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Broken::Stalled));
                }
            }
        }
        self.stalled.reset();
        let piece = self.piece.split_to(self.stream.capacity().min(self.piece.len()));
        let ends = self.is_last && self.piece.is_empty();
        Poll::Ready(self.stream.send_data(piece, ends).map_err(|_| Broken::Refused))
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
                (self.is_last, self.is_untouched) = (true, false);
                let ended = self.stream.send_data(Bytes::new(), true);
                return Poll::Ready(ended.map(|()| true).map_err(|_| Broken::Refused));
            }
        };
        self.is_untouched = false;
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
