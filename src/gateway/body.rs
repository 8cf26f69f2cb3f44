//! The response's body on its way to the client. While it lives, the request's slots are held and its record is open.

use super::context::{Held, View};
use super::exchange::{CLIENT_GONE, Exchange};
use super::headers::REQUEST_ID;
use super::kept::Kept;
use super::tunnel::{Tunnel, Upgrade};
use crate::engine::Nanos;
use crate::upstream::http1::Lines;
use crate::upstream::{BodyFault, Cause, Connection, Overload, OwnFields, Tick, UpstreamBody};
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The body of any answer of the gateway. `B` is what an upstream's body comes as: another one in tests only.
///
/// No more than a pointer, for an answer is moved up through every layer: with it one is 128 bytes, which the compiler copies where it
/// stands, without a call.
pub enum GatewayBody<B = UpstreamBody> {
    /// The gateway's own.
    Own(Kept<Own>),
    /// An upstream's, passed on as it comes.
    Forwarded(Box<Forwarded<B>>),
    /// No body: both sides go on in another protocol.
    Tunnel(Box<Tunnel>),
}

const _: () = assert!(size_of::<Response<GatewayBody>>() <= 128);

/// An answer of the gateway's own, but for what of its head is in a map.
#[derive(Default)]
pub struct Own {
    bytes: Option<Bytes>,
    /// What of its head is lines already: the request's id, and the rest.
    lines: Option<(HeaderValue, Rc<OwnFields>)>,
    /// When it was put into words, if somebody looked at the clock then.
    made: Option<Nanos>,
}

/// An upstream's body with what must outlive it.
pub struct Forwarded<B> {
    inner: B,
    tick: Tick,
    /// The fields of its head, where they are in no map.
    lines: Option<Lines>,
    /// Taken when the last byte has been handed on.
    rest: Option<Kept<Rest>>,
}

/// What ends with the exchange, in this order: the connection goes back, the slots go back, the record is closed.
///
/// Put into a place of its own when the request is forwarded: from then on its parts stay where they are until the end.
pub struct Rest {
    /// The upstream's connection, once an answer comes on it.
    pub(super) connection: Option<Connection>,
    /// Its place among the requests in flight to the upstream.
    pub(super) place: Option<InFlight>,
    /// The protocol asked for in place of HTTP, where there is one.
    pub(super) upgrade: Option<Upgrade>,
    _held: Kept<Held>,
    pub(super) exchange: Kept<Exchange>,
}

/// A request in flight to an upstream, counted until this is dropped.
pub(super) struct InFlight {
    view: Rc<View>,
    upstream: usize,
}

impl InFlight {
    /// One more, if the upstream takes it.
    pub(super) fn enter(view: &Rc<View>, upstream: usize, now: Nanos) -> Result<InFlight, Overload> {
        if let Some(group) = view.snapshot.upstreams.get(upstream) {
            group.enter(now)?;
        }
        Ok(InFlight { view: Rc::clone(view), upstream })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(group) = self.view.snapshot.upstreams.get(self.upstream) {
            group.leave();
        }
    }
}

impl Rest {
    /// The server that answers has broken off.
    fn blame_server(&self) {
        let server = self.connection.as_ref().and_then(Connection::server);
        if let (Some(server), Some(place)) = (server, &self.place)
            && let Some(group) = place.view.snapshot.upstreams.get(place.upstream)
        {
            group.note(server, false, self.exchange.home.now());
        }
    }

    /// The end of an exchange that holds `held`.
    #[must_use]
    pub fn new(held: Kept<Held>, exchange: Kept<Exchange>) -> Kept<Rest> {
        Kept::new(Rest { connection: None, place: None, upgrade: None, _held: held, exchange })
    }

    /// The upstream's connection is fit for another request, now that the answer is whole.
    fn give_back(&mut self) {
        if let (Some(connection), Some(route)) = (self.connection.take(), self.exchange.route) {
            let config = &self.exchange.view.snapshot.config;
            let upstream = config.routes.get(route.0 as usize).and_then(|route| config.upstreams.get(route.upstream));
            self.exchange.home.pool.give_back(connection, upstream.map_or(0, |upstream| upstream.max_idle));
        }
    }

    /// Lets go of all but the record.
    pub(super) fn into_exchange(rest: Kept<Rest>) -> Kept<Exchange> {
        let Rest { exchange, .. } = rest.into_inner();
        exchange
    }
}

impl<B> GatewayBody<B> {
    /// A body of the gateway's own.
    #[must_use]
    pub fn own(bytes: impl Into<Bytes>) -> Self {
        let bytes = Some(bytes.into()).filter(|bytes: &Bytes| !bytes.is_empty());
        GatewayBody::Own(Kept::new(Own { bytes, ..Own::default() }))
    }

    /// The same behind a head of lines: the id of its request and these.
    pub(super) fn own_behind(request_id: HeaderValue, fields: Rc<OwnFields>, bytes: Bytes) -> Self {
        GatewayBody::Own(Kept::new(Own { bytes: Some(bytes), lines: Some((request_id, fields)), made: None }))
    }

    /// It is one of the gateway's own, and was made at this moment.
    pub(super) fn made_at(&mut self, now: Nanos) {
        if let GatewayBody::Own(own) = self {
            own.made = Some(now);
        }
    }

    /// All of it, where it is one of the gateway's own and not empty.
    #[must_use]
    pub fn own_bytes(&self) -> Option<&Bytes> {
        if let GatewayBody::Own(own) = self { own.bytes.as_ref() } else { None }
    }
}

impl<B: Incoming> GatewayBody<B> {
    /// An answer with all fields of its head in the map, for whoever writes no lines.
    #[must_use]
    pub fn spelled_out(mut response: Response<Self>) -> Response<Self> {
        match response.body_mut() {
            GatewayBody::Own(own) => {
                if let Some((request_id, fields)) = own.lines.take() {
                    response.headers_mut().append(REQUEST_ID, request_id);
                    fields.add_to(response.headers_mut());
                }
            }
            GatewayBody::Forwarded(forwarded) => {
                if let Some(lines) = forwarded.lines.take() {
                    let length = forwarded.inner.size_hint().exact();
                    lines.fields.add_to(response.headers_mut());
                    if let Some(length) = length {
                        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
                    }
                }
            }
            GatewayBody::Tunnel(_) => {}
        }
        response
    }
}

/// What the body of an answer must be that goes to a client over HTTP/1.
pub trait Answer: Body<Data = Bytes> {
    /// Appends the fields of its head that stand in no map, each with its line end.
    fn put_head_lines(&self, _out: &mut Vec<u8>) {}

    /// Whether one of these is its `Date`.
    fn is_dated(&self) -> bool {
        false
    }

    /// When it was made, where that is known and was just now: whoever has it at once need not look at the clock again.
    fn made(&self) -> Option<Nanos> {
        None
    }
}

impl<B: Incoming> Answer for GatewayBody<B> {
    fn put_head_lines(&self, out: &mut Vec<u8>) {
        match self {
            GatewayBody::Own(own) => {
                if let Some((request_id, fields)) = &own.lines {
                    out.extend_from_slice(b"request-id: ");
                    out.extend_from_slice(request_id.as_bytes());
                    out.extend_from_slice(b"\r\n");
                    out.extend_from_slice(fields.lines());
                }
            }
            GatewayBody::Forwarded(forwarded) => {
                if let Some(lines) = &forwarded.lines {
                    out.extend_from_slice(lines.fields.lines());
                }
            }
            GatewayBody::Tunnel(_) => {}
        }
    }

    fn is_dated(&self) -> bool {
        match self {
            GatewayBody::Forwarded(forwarded) => forwarded.lines.as_ref().is_some_and(|lines| lines.has_date),
            GatewayBody::Own(_) | GatewayBody::Tunnel(_) => false,
        }
    }

    fn made(&self) -> Option<Nanos> {
        match self {
            GatewayBody::Own(own) => own.made,
            // Its head is passed on as it comes, whatever becomes of its body.
            GatewayBody::Forwarded(forwarded) => forwarded.rest.as_ref()?.exchange.answered,
            GatewayBody::Tunnel(_) => None,
        }
    }
}

impl<B: Incoming> GatewayBody<B> {
    /// An upstream's body, and what ends with it.
    #[must_use]
    pub fn forwarded(inner: B, tick: Tick, rest: Kept<Rest>) -> Self {
        Self::forwarded_behind(None, inner, tick, rest)
    }

    /// The same behind a head whose fields are these, and none in its map.
    pub(super) fn forwarded_behind(lines: Option<Lines>, inner: B, tick: Tick, rest: Kept<Rest>) -> Self {
        let mut forwarded = Forwarded { inner, tick, lines, rest: Some(rest) };
        if forwarded.inner.is_end_stream() {
            forwarded.end();
        }
        GatewayBody::Forwarded(Box::new(forwarded))
    }
}

/// What an upstream's body must be.
pub trait Incoming: Body<Data = Bytes, Error: Into<Cause>> + Unpin {}

impl<B: Body<Data = Bytes, Error: Into<Cause>> + Unpin> Incoming for B {}

impl<B: Incoming> Forwarded<B> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        // The head has been written: a long answer does not keep it.
        self.lines = None;
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.tick.reset();
                if self.inner.is_end_stream() {
                    self.arrived();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(self.fail(BodyFault::Upstream(error.into()))))),
            Poll::Pending if self.rest.is_none() => Poll::Pending,
            Poll::Pending if self.rest.as_ref().is_some_and(|rest| rest.exchange.home.is_cutting()) => {
                Poll::Ready(Some(Err(self.fail(BodyFault::CutOff))))
            }
            Poll::Pending => match self.tick.poll_expired(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(self.fail(BodyFault::UpstreamIdle)))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    /// The last byte has come, and is about to be handed on. Over HTTP/1 that is the end of it. In HTTP/2 it may have to wait for
    /// the client's window: whoever sends it asks for more when it has left, and that is the end.
    fn arrived(&mut self) {
        let Some(rest) = &mut self.rest else { return };
        if rest.exchange.peer.is_http2 {
            rest.give_back();
        } else {
            self.end();
        }
    }

    /// The whole body has been handed on.
    fn end(&mut self) {
        let Some(mut rest) = self.rest.take() else { return };
        rest.give_back();
        let peer = Rc::clone(&rest.exchange.peer);
        peer.part(rest);
    }

    /// The body breaks off: the client's connection is aborted, never ended cleanly, so that it cannot take part for whole.
    fn fail(&mut self, fault: BodyFault) -> BodyFault {
        tracing::debug!(%fault, "a response broke off");
        if let Some(rest) = self.rest.take() {
            rest.blame_server();
        }
        fault
    }
}

impl<B> Drop for Forwarded<B> {
    fn drop(&mut self) {
        if let Some(rest) = &mut self.rest {
            rest.exchange.status = CLIENT_GONE;
        }
    }
}

impl<B: Incoming> Body for GatewayBody<B> {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match &mut *self {
            GatewayBody::Own(own) => Poll::Ready(own.bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            GatewayBody::Forwarded(forwarded) => forwarded.poll(cx),
            GatewayBody::Tunnel(tunnel) => tunnel.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            GatewayBody::Own(own) => own.bytes.is_none(),
            GatewayBody::Forwarded(forwarded) => forwarded.inner.is_end_stream(),
            GatewayBody::Tunnel(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            GatewayBody::Own(own) => SizeHint::with_exact(own.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            GatewayBody::Forwarded(forwarded) => forwarded.inner.size_hint(),
            GatewayBody::Tunnel(_) => SizeHint::default(),
        }
    }
}
