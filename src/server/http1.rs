//! One HTTP/1 connection: reads a request, calls the stack, writes the answer, and so on, in one future.
//!
//! What may be a request the wire guard decides ([`super::wire`]); here it becomes one, without a copy. The stack's future and
//! the answer's body are polled in place: no task, no channel and no wake-up lies between the socket and the stack.
//!
//! Invariants, each held by a test:
//! 1. One request at a time. The next head is looked at only when the answer before it has left, so a bad head behind a good
//!    request does not change the good one's answer.
//! 2. While a request is in flight, the end of the connection is seen, even behind pipelined requests up to
//!    [`WireLimits::max_head_bytes`], and ends the exchange: its slots go back, whatever the upstream does. It is not seen
//!    while a piece of the request's body waits for its reader, for no more is read then.
//! 3. A body is read as fast as its reader takes it: at most one piece, of at most one read, waits.
//! 4. `100 Continue` is sent when the body is first asked for, once, and never after the answer has begun.
//! 5. What an exchange holds goes back when the last byte of its answer has gone to the socket, not before.
//! 6. An answer that breaks off is never ended cleanly.
//! 7. A connection between two requests holds no buffer.

mod intake;
mod outflow;
mod request;
mod response;
mod spares;
#[cfg(test)]
mod tests;

pub(super) use spares::Spares;

use super::wire::{Framing as BodyFraming, WireFault, WireLimits};
use crate::gateway::{Answer, Arrived, Peer};
use crate::upstream::{ClientBody, Inlet, Pace, Tick, Turn};
use bytes::Bytes;
use http::Response;
use http_body::Frame;
use intake::{Gone, Intake, Next};
use outflow::Outflow;
use request::Asked;
use response::Framing;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

/// Bytes of a refused request's body that are read to keep its connection.
const MAX_DRAIN_BYTES: u64 = 64 * 1024;

/// The bounds of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) wire: WireLimits,
    /// Time that the client may take no byte of an answer.
    pub(super) write_timeout: Duration,
    /// Bytes a second that the client must take of an answer it makes wait; 0: any.
    pub(super) min_write_rate: usize,
    /// Time for what is left of a body that nobody reads.
    pub(super) body_timeout: Duration,
}

/// Whether a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// No.
    No,
    /// After one more answer.
    Soon,
    /// After the present answer, and at once where there is none.
    Now,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// After a whole answer, or without a request: it may be closed in peace.
    Whole,
    /// With a head that nobody has answered yet.
    Refused(WireFault),
    /// In the midst of an exchange: the client must see that it did.
    Broken,
}

/// A connection. `leaves` says whether the client should leave, and keeps the waker of whoever asks.
pub(super) struct Connection<IO, L> {
    io: IO,
    intake: Intake,
    outflow: Outflow,
    peer: Rc<Peer>,
    spares: Rc<Spares>,
    bounds: Bounds,
    leaves: L,
    /// Whether the present answer is the last one.
    is_last: bool,
    /// Whether the present answer has begun.
    has_begun: bool,
    /// Whether the present answer was waited for.
    has_waited: bool,
}

impl<IO, L> Connection<IO, L>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    L: Fn(&Context<'_>) -> Leave,
{
    pub(super) fn new(io: IO, peer: &Rc<Peer>, spares: &Rc<Spares>, bounds: Bounds, leaves: L) -> Self {
        Connection {
            io,
            intake: Intake::new(bounds.wire, spares),
            outflow: Outflow::new(Pace::new(bounds.write_timeout, bounds.min_write_rate), spares),
            peer: Rc::clone(peer),
            spares: Rc::clone(spares),
            bounds,
            leaves,
            is_last: false,
            has_begun: false,
            has_waited: false,
        }
    }

    /// The connection itself, to close it.
    pub(super) fn into_inner(self) -> IO {
        self.io
    }

    /// Serves requests until the client or an answer ends it.
    pub(super) async fn serve<S, B>(&mut self, mut service: S) -> Ended
    where
        S: Service<Arrived<ClientBody>, Response = Response<B>, Error = Infallible>,
        B: Answer<Error: fmt::Debug>,
    {
        let ended = loop {
            let next = poll_fn(|cx| {
                let leaves = (self.leaves)(cx) == Leave::Now;
                self.intake.poll_head(&mut self.io, cx, leaves)
            });
            let (head, framing) = match next.await {
                Next::Head(head, framing) => (head, framing),
                Next::End => break Ended::Whole,
                Next::Bad(fault) => break Ended::Refused(fault),
            };
            match self.exchange(head, framing, &mut service).await {
                Ok(None) => {}
                Ok(Some(ended)) => break ended,
                Err(Gone) => break Ended::Broken,
            }
        };
        // What was answered has left, or never will.
        self.peer.let_go();
        ended
    }

    /// One request and its answer. `None` where the connection serves on.
    async fn exchange<S, B>(
        &mut self,
        head: Bytes,
        framing: BodyFraming,
        service: &mut S,
    ) -> Result<Option<Ended>, Gone>
    where
        S: Service<Arrived<ClientBody>, Response = Response<B>, Error = Infallible>,
        B: Answer<Error: fmt::Debug>,
    {
        let (request, mut asked) = match request::request(&head, framing, self.intake.places(), self.spares.map()) {
            Ok(built) => built,
            Err(fault) => return Ok(Some(Ended::Refused(fault))),
        };
        (self.has_begun, self.has_waited) = (false, false);
        let response = {
            let mut future = pin!(service.call(request));
            poll_fn(|cx| {
                let polled = self.poll_beside(cx, &asked, |cx| future.as_mut().poll(cx));
                self.has_waited |= polled.is_pending();
                polled
            })
            .await?
        };
        let Ok(response) = response;
        let stays = self.answer(&mut asked, response).await?;
        let serves_on = stays && !self.is_last && self.finish_body(&asked).await;
        Ok((!serves_on).then_some(Ended::Whole))
    }

    /// Writes an answer. Whether the connection may serve on.
    async fn answer<B>(&mut self, asked: &mut Asked, response: Response<B>) -> Result<bool, Gone>
    where
        B: Answer<Error: fmt::Debug>,
    {
        let (parts, body) = response.into_parts();
        let stays = asked.stays && !self.is_last && !response::closes(&parts.headers) && may_finish(asked);
        self.has_begun = true;
        let put = response::put_head(self.outflow.buffer(), asked, &parts, &body, stays, &self.spares);
        self.spares.keep_map(parts.headers);
        let Ok((mut framing, stays)) = put else { return Err(Gone) };
        if framing == Framing::Tunnel {
            asked.inlet = asked.tunnel.take();
            self.intake.is_raw = true;
        }
        let asked = &*asked;
        let mut body = pin!(body);
        if framing != Framing::None {
            poll_fn(|cx| self.poll_stream(cx, asked, &mut framing, body.as_mut())).await?;
        }
        // An answer that no upstream was waited for, as a refusal, is no cheaper for having waited here.
        let mut turn = Turn::new(self.has_waited && self.outflow.is_short());
        poll_fn(|cx| {
            ready!(turn.poll(cx));
            self.outflow.poll_flush(&mut self.io, cx)
        })
        .await
        .map_err(|_| Gone)?;
        self.outflow.finish();
        self.peer.let_go();
        Ok(stays)
    }

    /// Passes a body on until its last piece is in the outflow.
    fn poll_stream<B>(
        &mut self,
        cx: &mut Context<'_>,
        asked: &Asked,
        framing: &mut Framing,
        mut body: Pin<&mut B>,
    ) -> Poll<Result<(), Gone>>
    where
        B: Answer<Error: fmt::Debug>,
    {
        loop {
            if self.outflow.is_full() || *framing == Framing::TunnelEnding {
                match self.poll_room(cx, framing) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Gone)),
                    Poll::Pending => {
                        return match self.poll_client(cx, asked) {
                            Err(gone) => Poll::Ready(Err(gone)),
                            Ok(_) => Poll::Pending,
                        };
                    }
                }
            }
            let frame = match self.poll_beside(cx, asked, |cx| body.as_mut().poll_frame(cx)) {
                Poll::Ready(Ok(frame)) => frame,
                Poll::Ready(Err(gone)) => return Poll::Ready(Err(gone)),
                Poll::Pending => {
                    // Nobody waits for what comes later to get what is here.
                    return match self.outflow.poll_flush(&mut self.io, cx) {
                        Poll::Ready(Err(_)) => Poll::Ready(Err(Gone)),
                        Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                    };
                }
            };
            let is_good = match frame {
                Some(Ok(frame)) => self.put_frame(asked, framing, frame),
                Some(Err(error)) => {
                    tracing::debug!(?error, "an answer broke off");
                    false
                }
                None => return Poll::Ready(self.end_stream(cx, *framing)),
            };
            if !is_good {
                return Poll::Ready(Err(self.break_off(cx)));
            }
            if body.is_end_stream() {
                return Poll::Ready(self.end_stream(cx, *framing));
            }
        }
    }

    /// Makes room for more of a body, and tells the client of the end of a tunnel.
    fn poll_room(&mut self, cx: &mut Context<'_>, framing: &mut Framing) -> Poll<io::Result<()>> {
        ready!(self.outflow.poll_flush(&mut self.io, cx))?;
        if *framing == Framing::TunnelEnding {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            *framing = Framing::Tunnel;
        }
        Poll::Ready(Ok(()))
    }

    /// Puts a frame of a body into the outflow. False when it is more than the head promised.
    fn put_frame(&mut self, asked: &Asked, framing: &mut Framing, frame: Frame<Bytes>) -> bool {
        let piece = match frame.into_data() {
            Ok(piece) => piece,
            Err(frame) => {
                if *framing == Framing::Chunked {
                    let trailers = frame.trailers_ref().filter(|_| asked.wants_trailers);
                    response::put_last_chunk(self.outflow.buffer(), trailers);
                    *framing = Framing::Length(0);
                } else if *framing == Framing::Tunnel {
                    *framing = Framing::TunnelEnding;
                }
                return true;
            }
        };
        if piece.is_empty() {
            return true;
        }
        match framing {
            Framing::Length(left) => {
                let Some(rest) = left.checked_sub(piece.len() as u64) else { return false };
                *left = rest;
                self.outflow.put(piece, b"");
            }
            Framing::Chunked => {
                response::put_chunk_size(self.outflow.buffer(), piece.len());
                self.outflow.put(piece, b"\r\n");
            }
            Framing::UntilClose | Framing::Tunnel | Framing::TunnelEnding | Framing::None => {
                self.outflow.put(piece, b"");
            }
        }
        true
    }

    /// A body has ended: what tells the client so. An error when less came than the head promised.
    fn end_stream(&mut self, cx: &mut Context<'_>, framing: Framing) -> Result<(), Gone> {
        match framing {
            Framing::Length(1..) => return Err(self.break_off(cx)),
            Framing::Chunked => self.outflow.end_chunks(),
            Framing::Length(0) | Framing::UntilClose | Framing::Tunnel | Framing::TunnelEnding | Framing::None => {}
        }
        Ok(())
    }

    /// Sends what is here at once or not at all. A client that got nothing would take the connection for one that was closed
    /// before its request came, and might send that again.
    fn break_off(&mut self, cx: &mut Context<'_>) -> Gone {
        if let Poll::Ready(Err(error)) = self.outflow.poll_flush(&mut self.io, cx) {
            tracing::debug!(%error, "a client left before its answer broke off");
        }
        Gone
    }

    /// Waits until the body of an answered request has come, whether somebody reads it or nobody does. Whether the
    /// connection may serve on.
    async fn finish_body(&mut self, asked: &Asked) -> bool {
        let Some(inlet) = &asked.inlet else { return true };
        let (mut room, mut patience) = (MAX_DRAIN_BYTES, Tick::new(self.bounds.body_timeout));
        poll_fn(|cx| {
            loop {
                if !inlet.is_wanted() {
                    match room.checked_sub(inlet.discard() as u64).filter(|_| may_finish(asked)) {
                        Some(rest) => room = rest,
                        None => return Poll::Ready(false),
                    }
                }
                if inlet.is_over() {
                    return Poll::Ready(inlet.is_whole());
                }
                inlet.watching(cx, |_| ());
                match self.poll_client(cx, asked) {
                    Err(Gone) => return Poll::Ready(false),
                    Ok(true) => {}
                    Ok(false) if (self.leaves)(cx) == Leave::Now => return Poll::Ready(false),
                    Ok(false) if inlet.is_wanted() => return Poll::Pending,
                    Ok(false) => return patience.poll_expired(cx).map(|()| false),
                }
            }
        })
        .await
    }

    /// Polls what the client waits for, and beside it the client: its body comes in, and its end ends the exchange.
    fn poll_beside<T>(
        &mut self,
        cx: &mut Context<'_>,
        asked: &Asked,
        mut run: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Result<T, Gone>> {
        self.is_last |= (self.leaves)(cx) != Leave::No;
        let Some(inlet) = asked.inlet.as_ref().filter(|inlet| !inlet.is_over()) else {
            // An answer that is there goes out, though the client may have ended its side meanwhile.
            return match run(cx) {
                Poll::Ready(result) => Poll::Ready(Ok(result)),
                Poll::Pending => match self.poll_client(cx, asked) {
                    Err(gone) => Poll::Ready(Err(gone)),
                    Ok(_) => Poll::Pending,
                },
            };
        };
        let mut is_due = true;
        loop {
            let has_come = match self.poll_client(cx, asked) {
                Ok(has_come) => has_come,
                Err(gone) => return Poll::Ready(Err(gone)),
            };
            if !has_come && !is_due {
                return Poll::Pending;
            }
            if let Poll::Ready(result) = inlet.watching(cx, &mut run) {
                return Poll::Ready(Ok(result));
            }
            is_due = inlet.has_news();
            if !has_come && !is_due {
                return Poll::Pending;
            }
        }
    }

    /// Reads what the client sends during an exchange. Whether its body has come on.
    fn poll_client(&mut self, cx: &mut Context<'_>, asked: &Asked) -> Result<bool, Gone> {
        let Some(inlet) = asked.inlet.as_ref().filter(|inlet| !inlet.is_over()) else {
            if self.intake.is_raw {
                // It has ended its side, which in another protocol is no leaving.
                return Ok(false);
            }
            return match self.intake.poll_gone(&mut self.io, cx) {
                Poll::Ready(gone) => Err(gone),
                Poll::Pending => Ok(false),
            };
        };
        if !self.has_begun {
            self.ask_for_body(cx, asked, inlet)?;
        }
        if !inlet.has_room() {
            return Ok(false);
        }
        match self.intake.poll_body(&mut self.io, cx, inlet) {
            Poll::Ready(Ok(())) => {
                inlet.wake_reader(cx);
                Ok(true)
            }
            Poll::Ready(Err(gone)) => Err(gone),
            Poll::Pending => Ok(false),
        }
    }

    /// Tells a client that waits for it to go on, once somebody wants its body.
    fn ask_for_body(&mut self, cx: &mut Context<'_>, asked: &Asked, inlet: &Inlet) -> Result<(), Gone> {
        // A client that did not wait need not be told.
        if inlet.is_asked() && asked.expects.replace(false) && !self.intake.holds_bytes() {
            self.outflow.buffer().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if !self.outflow.is_empty()
            && let Poll::Ready(Err(_)) = self.outflow.poll_flush(&mut self.io, cx)
        {
            return Err(Gone);
        }
        Ok(())
    }
}

/// Whether what has not come of a body yet may be waited for.
fn may_finish(asked: &Asked) -> bool {
    match &asked.inlet {
        None => true,
        Some(inlet) if inlet.is_over() => {
            inlet.is_whole() && (inlet.is_wanted() || inlet.waiting() as u64 <= MAX_DRAIN_BYTES)
        }
        Some(inlet) if inlet.is_wanted() => true,
        // Reading would ask the client for a body that it has not begun to send.
        Some(inlet) => !asked.expects.get() && inlet.left().is_none_or(|left| left <= MAX_DRAIN_BYTES),
    }
}
