//! A request on its way: its head, then its body as it comes.

use super::encode::{self, Coding};
use super::fault::ExchangeFault;
use super::link::Link;
use super::outgoing::Outgoing;
use super::stream::Stream;
use crate::upstream::{BodyFault, Turn};
use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Weak;
use std::task::{Context, Poll, ready};

/// What is left to write of a request.
pub(super) struct Upload {
    coding: Coding,
    pub(super) outgoing: Outgoing,
    /// Whether anything was taken of the body.
    pub(super) is_begun: bool,
    /// All of the body is in `outgoing`.
    is_encoded: bool,
    /// All is written.
    pub(super) is_done: bool,
    /// Before the first write.
    turn: Turn,
}

impl Upload {
    /// A request with this body, of which nothing has been written. Its head is encoded by [`Upload::begin`].
    pub(super) fn new<B: Body>(body: &B) -> Upload {
        let coding = match body.size_hint().exact() {
            _ if body.is_end_stream() => Coding::Empty,
            Some(0) => Coding::Empty,
            Some(length) => Coding::Length(length),
            None => Coding::Chunked,
        };
        let is_encoded = coding == Coding::Empty;
        Upload { coding, outgoing: Outgoing::new(), is_begun: false, is_encoded, is_done: false, turn: Turn::new(true) }
    }

    /// Encodes the head, with the lines that come along with the body.
    pub(super) fn begin<B>(&mut self, request: &Request<B>, further: fn(&B) -> &[u8]) {
        encode::head(self.outgoing.gathered(), request, further(request.body()), self.coding);
    }

    /// Writes on until all is written.
    pub(super) fn poll<B>(
        &mut self,
        body: &mut B,
        stream: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ExchangeFault>>
    where
        B: Body<Data = Bytes, Error = BodyFault> + Unpin,
    {
        loop {
            // As much as there is at once, so that a short body goes out with its head.
            let mut waits = false;
            while !self.is_encoded && !waits && self.outgoing.has_room() {
                self.is_begun = true;
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(frame) => {
                        let frame = frame.transpose().map_err(ExchangeFault::Request)?;
                        self.encode(frame, body.is_end_stream())?;
                    }
                    Poll::Pending => waits = true,
                }
            }
            if self.outgoing.is_short() {
                ready!(self.turn.poll(cx));
            }
            ready!(self.outgoing.poll_write(stream, cx)).map_err(ExchangeFault::Io)?;
            if self.is_encoded {
                self.is_done = true;
                return Poll::Ready(Ok(()));
            }
            if waits {
                return Poll::Pending;
            }
        }
    }

    /// Puts a frame of the body, or its end, behind what there is. `ends`: nothing comes after it.
    fn encode(&mut self, frame: Option<Frame<Bytes>>, ends: bool) -> Result<(), ExchangeFault> {
        let trailers = match frame.map(Frame::into_data) {
            Some(Ok(data)) => return self.encode_data(data, ends),
            Some(Err(frame)) => frame.into_trailers().ok(),
            None => None,
        };
        match self.coding {
            Coding::Length(1..) => return Err(ExchangeFault::RequestLength),
            Coding::Chunked => encode::last_chunk(self.outgoing.gathered(), trailers.as_ref()),
            Coding::Length(0) | Coding::Empty => {}
        }
        self.is_encoded = true;
        Ok(())
    }

    fn encode_data(&mut self, data: Bytes, ends: bool) -> Result<(), ExchangeFault> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.coding {
            Coding::Chunked => {
                encode::chunk_size(self.outgoing.gathered(), data.len());
                self.outgoing.push(data, b"\r\n");
                // Its end goes out with it, where it is known.
                if ends && self.outgoing.has_room() {
                    return self.encode(None, ends);
                }
            }
            Coding::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(ExchangeFault::RequestLength)?;
                self.is_encoded = *left == 0;
                self.outgoing.push(data, b"");
            }
            Coding::Empty => return Err(ExchangeFault::RequestLength),
        }
        Ok(())
    }
}

/// An upload that goes on after the head of the answer has come: by itself, so that a client that reads only once it has sent
/// everything, or the other way around, is served.
pub(super) struct Rest<B> {
    /// Gone when the exchange is given up: then this ends too.
    link: Weak<RefCell<Link>>,
    request: Box<Request<B>>,
    upload: Upload,
}

impl<B> Rest<B> {
    pub(super) fn new(link: Weak<RefCell<Link>>, request: Box<Request<B>>, upload: Upload) -> Rest<B> {
        Rest { link, request, upload }
    }
}

impl<B: Body<Data = Bytes, Error = BodyFault> + Unpin> Future for Rest<B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(link) = this.link.upgrade() else { return Poll::Ready(()) };
        let mut link = link.borrow_mut();
        if link.is_closed() {
            return Poll::Ready(());
        }
        match ready!(this.upload.poll(this.request.body_mut(), link.stream(), cx)) {
            Ok(()) => link.upload_ended(true),
            // The server takes no more: what it has answered may be whole all the same.
            Err(ExchangeFault::Io(error)) => {
                tracing::debug!(%error, "a server closed before it had all of a request");
                link.upload_ended(false);
            }
            Err(error) => {
                tracing::debug!(%error, "an upload broke off behind the head of its answer");
                link.break_off();
            }
        }
        Poll::Ready(())
    }
}
