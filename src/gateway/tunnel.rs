//! Client and upstream go on in another protocol (WebSocket): bytes both ways, and what they mean is theirs alone.
//!
//! To the client's connection a tunnel is an answer's body, and what the client sends in it a request's: so both directions have
//! the bounds that bodies have, and the slots and the record are held until it ends. The end of one direction is passed on, and
//! the other goes on: `Tunnel::poll` tells of the upstream's end by empty trailers. A tunnel ends when both directions have,
//! or nothing has moved for `tunnel_idle_timeout`, of which [`HALF_CLOSED_IDLE`] is left once one of them has ended.

use super::body::{GatewayBody, Rest};
use super::context::Arrived;
use super::exchange::Exchange;
use super::headers;
use super::kept::Kept;
use super::observe::Refused;
use super::refusal::{Refusal, UpstreamFailure};
use crate::budget::Charge;
use crate::upstream::http1::Stream;
use crate::upstream::{BodyFault, ClientBody, Outlet, ReadAhead, Tick};
use bytes::{Buf, Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite};

/// Bytes read from the upstream at once.
const READ_BYTES: usize = 16 * 1024;
/// How long a tunnel of which one direction has ended may be idle.
pub const HALF_CLOSED_IDLE: Duration = Duration::from_secs(30);

/// A protocol that a client asks for in place of HTTP, and what it will send in it.
pub struct Upgrade {
    protocol: HeaderValue,
    outlet: Outlet,
}

impl Upgrade {
    /// What a request asks for, if its route lets it.
    pub(super) fn take(request: &mut Arrived<ReadAhead<ClientBody>>, exchange: &Exchange) -> Option<Upgrade> {
        let outlet = request.body.inner_mut().take_upgrade()?;
        let mut asked = request.head.headers.get_all(header::UPGRADE).iter();
        let protocol = asked.next().filter(|_| asked.next().is_none())?;
        let route = exchange.view.snapshot.config.routes.get(exchange.route?.0 as usize)?;
        let mut allowed = route.upgrades.iter().map(|known| known.as_bytes());
        let protocol =
            allowed.any(|known| known.eq_ignore_ascii_case(protocol.as_bytes())).then(|| protocol.clone())?;
        Some(Upgrade { protocol, outlet })
    }

    /// Asks the upstream for the protocol.
    pub(super) fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocol.clone());
    }
}

/// Takes an upstream's 101.
///
/// # Errors
/// When nobody asked for it, or for another protocol.
pub(super) fn accept(mut parts: Parts, mut rest: Kept<Rest>) -> Result<Response<GatewayBody>, Refused> {
    let said = parts.headers.get(header::UPGRADE).cloned();
    let (connection, upgrade) = (rest.connection.take(), rest.upgrade.take());
    let is_same =
        |upgrade: &Upgrade| said.is_some_and(|said| said.as_bytes().eq_ignore_ascii_case(upgrade.protocol.as_bytes()));
    let io = connection.and_then(|connection| connection.sender.into_io());
    let (Some(upgrade), Some((io, early))) = (upgrade.filter(is_same), io) else {
        return Err(Refused::new(Refusal::Upstream(UpstreamFailure::Broken), Rest::into_exchange(rest)));
    };
    rest.exchange.settle(parts.status);
    headers::forward_response(&mut parts.headers, &rest.exchange);
    parts.headers.insert(header::UPGRADE, upgrade.protocol);
    let idle = rest.exchange.view.snapshot.config.server.tunnel_idle_timeout;
    let held = Charge::none(&rest.exchange.home.shared.budget);
    let tunnel = Tunnel {
        io,
        early,
        outlet: upgrade.outlet,
        sending: Bytes::new(),
        held,
        client: Side::Open,
        upstream: Side::Open,
        tick: Tick::new(idle),
        rest: Some(rest),
    };
    let mut response = Response::from_parts(parts, GatewayBody::Tunnel(Box::new(tunnel)));
    response.extensions_mut().clear();
    Ok(response)
}

/// One direction, named by who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Open,
    /// Its sender has ended it; the other does not know yet.
    Ended,
    /// The other knows.
    Closed,
}

/// The upstream's end of a tunnel, and what must outlive it.
pub struct Tunnel {
    io: Stream,
    /// What the upstream sent behind its 101.
    early: Bytes,
    outlet: Outlet,
    /// From the client, on its way.
    sending: Bytes,
    /// Memory for it, while the upstream does not take it.
    held: Charge,
    client: Side,
    upstream: Side,
    tick: Tick,
    rest: Option<Kept<Rest>>,
}

impl Tunnel {
    /// Moves what can be moved to the upstream, and answers with what it sends.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if self.rest.is_none() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(Err(fault)) = self.poll_send(cx) {
            return Poll::Ready(Some(Err(self.fail(fault))));
        }
        if let Poll::Ready(received) = self.poll_receive(cx) {
            return Poll::Ready(Some(match received {
                Ok(frame) => Ok(frame),
                Err(error) => Err(self.fail(BodyFault::Upstream(error.into()))),
            }));
        }
        if (self.client, self.upstream) == (Side::Closed, Side::Closed) {
            self.end();
            return Poll::Ready(None);
        }
        ready!(self.tick.poll_expired(cx));
        Poll::Ready(Some(Err(self.fail(BodyFault::UpstreamIdle))))
    }

    /// To the upstream. Never ready but with an error.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyFault>> {
        let broken = |error: io::Error| BodyFault::Upstream(error.into());
        while self.client != Side::Closed {
            if !self.sending.is_empty() {
                let Poll::Ready(sent) = Pin::new(&mut self.io).poll_write(cx, &self.sending) else {
                    // It is there already, so there is no asking whether it may be.
                    self.held.set(self.sending.len());
                    return Poll::Pending;
                };
                let sent = sent.map_err(broken)?;
                if sent == 0 {
                    return Poll::Ready(Err(broken(io::ErrorKind::WriteZero.into())));
                }
                self.sending.advance(sent);
                self.held.set(0);
                self.tick.reset();
            } else if self.client == Side::Ended {
                ready!(Pin::new(&mut self.io).poll_shutdown(cx)).map_err(broken)?;
                self.client = Side::Closed;
                self.half_close();
            } else {
                match self.outlet.poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => self.sending = frame.into_data().unwrap_or_default(),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(BodyFault::Client(error))),
                    Poll::Ready(None) => self.client = Side::Ended,
                    Poll::Pending => {
                        ready!(Pin::new(&mut self.io).poll_flush(cx)).map_err(broken)?;
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Pending
    }

    /// From the upstream. A tunnel that waits holds no room to read into.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Frame<Bytes>>> {
        if !self.early.is_empty() {
            return Poll::Ready(Ok(Frame::data(std::mem::take(&mut self.early))));
        }
        if self.upstream != Side::Open {
            return Poll::Pending;
        }
        let mut room = BytesMut::with_capacity(READ_BYTES);
        let received = ready!(pin!(self.io.read_buf(&mut room)).poll(cx))?;
        self.tick.reset();
        if received > 0 {
            return Poll::Ready(Ok(Frame::data(room.freeze())));
        }
        self.upstream = Side::Closed;
        self.half_close();
        Poll::Ready(Ok(Frame::trailers(HeaderMap::new())))
    }

    /// One direction has ended: a side that is gone altogether looks the same, and the other may never notice.
    fn half_close(&mut self) {
        if let Some(rest) = &self.rest {
            let idle = rest.exchange.view.snapshot.config.server.tunnel_idle_timeout;
            self.tick = Tick::new(idle.min(HALF_CLOSED_IDLE));
        }
    }

    /// Both directions have ended: slots go back when the last byte has left.
    fn end(&mut self) {
        if let Some(rest) = self.rest.take() {
            let peer = Rc::clone(&rest.exchange.peer);
            peer.part(rest);
        }
    }

    fn fail(&mut self, fault: BodyFault) -> BodyFault {
        tracing::debug!(%fault, "a tunnel broke off");
        self.rest = None;
        fault
    }
}
