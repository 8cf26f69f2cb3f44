//! The last step: the request goes to an upstream server, the answer comes back, both streamed.
//!
//! From here on the request's tokens are spent, whatever the upstream does: it was admitted. Its slots are held until the last
//! byte of the answer has been handed on, the client has gone, or the exchange has failed.

use super::body::{GatewayBody, InFlight, Rest};
use super::context::{Arrived, Classified, View};
use super::exchange::Exchange;
use super::head::Head;
use super::headers;
use super::kept::Kept;
use super::observe::Refused;
use super::refusal::{BadRequest, Refusal, UpstreamFailure};
use super::rewrite;
use super::tries::{Cause, Tries};
use super::tunnel;
use crate::budget::Charge;
use crate::clock::timer_now;
use crate::config::{self, Upstream};
use crate::engine::Nanos;
use crate::keys::Principal;
use crate::upstream::http1::{ExchangeFault, Failure};
use crate::upstream::{
    AtHand, BodyFault, ClientBody, ConnectError, Connection, Deadline, Group, Pace, ReadAhead, RequestBody, Server,
    Tick, Unreached, UpstreamBody,
};
use crate::wire_fault::fault_of;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use tokio::time::Instant;

/// Bytes of a body that may wait for a server at once: those put together to be written, and one read of the client's.
const WAITING_BYTES: usize = 96 * 1024;
/// Bodies up to so many bytes are in what a connection takes of the budget for itself.
const SMALL_BYTES: usize = 4 * 1024;

/// Forwards one admitted request.
///
/// All that needs no waiting is done in the call itself. The rest is boxed: a future is moved on its way up through every layer,
/// and the layers' futures have room for the largest that there may be, so that of a refusal would be moved as this one.
///
/// # Errors
/// When the upstream gives no usable answer, or the client's body is bad.
pub fn forward(
    classified: Classified<ReadAhead<ClientBody>>,
) -> impl Future<Output = Result<Response<GatewayBody>, Refused>> {
    let Classified { mut request, mut exchange, principal, class, mut held, .. } = classified;
    let room = room_to_wait(&request.body, &exchange);
    if room.is_ok() {
        held.commit();
        exchange.forwarded = true;
        let config = &exchange.view.snapshot.config;
        let transaction = config.endpoints.get(class.endpoint.0 as usize).is_some_and(|endpoint| endpoint.transaction);
        exchange.transaction = transaction.then(|| Box::new(*class));
    }
    let place = exchange.view.snapshot.config.routes.get(class.route.0 as usize).map(|route| route.upstream);
    let upgrade = tunnel::Upgrade::take(&mut request, &exchange);
    let (is_refused, room) = (room.is_err(), room.unwrap_or_default());
    let (mut outgoing, progress) = outgoing(request, place, &exchange, &principal, room);
    if let Some(upgrade) = &upgrade {
        upgrade.ask(outgoing.headers_mut());
    }
    let mut rest = Rest::new(held, exchange);
    rest.upgrade = upgrade;
    converse(place, outgoing, progress, rest, is_refused)
}

/// Memory for what waits of a body for a slow server: none where it is no more than what its connection holds anyway.
///
/// # Errors
/// When there is none: then the request has cost nothing.
fn room_to_wait(body: &ReadAhead<ClientBody>, exchange: &Exchange) -> Result<Option<Charge>, NoRoom> {
    if body.is_end_stream() {
        return Ok(None);
    }
    let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let bytes = length.map_or(WAITING_BYTES, |length| length.min(WAITING_BYTES)).max(body.front().len());
    if bytes <= SMALL_BYTES {
        return Ok(None);
    }
    let mut held = Charge::none(&exchange.home.shared.budget);
    if held.try_set(bytes) { Ok(Some(held)) } else { Err(NoRoom) }
}

/// `max_buffer_memory` is used up.
#[derive(Clone, Copy, Debug)]
struct NoRoom;

/// When the last byte of a request's body came, for requests that have one.
type Progress = Option<Rc<Cell<Instant>>>;

/// The request as the upstream gets it: in one place from here on, since it is large.
fn outgoing(
    mut request: Arrived<ReadAhead<ClientBody>>,
    place: Option<usize>,
    exchange: &Exchange,
    principal: &Principal,
    room: Option<Charge>,
) -> (Box<Request<RequestBody>>, Progress) {
    let config = &exchange.view.snapshot.config;
    let head = &mut request.head;
    let options = exchange.view.snapshot.options(exchange.route);
    let upstream = place.and_then(|place| config.upstreams.get(place));
    let host = upstream.and_then(|upstream| rewrite::host(upstream, head, options));
    let pace = client_pace(&config.server, head);
    let own = headers::forward_lines(head, exchange, principal, host.as_ref());
    // Only HTTP/1 writes lines, and only where no rule of the route's is about fields of the answer.
    let in_lines = !exchange.peer.is_http2 && options.is_none_or(|options| options.response_headers.is_empty());
    let head = head.parts_mut();
    head.uri = rewrite::target(std::mem::take(&mut head.uri), options);
    head.version = Version::HTTP_11;
    head.extensions.clear();
    let progress = (!request.body.is_end_stream()).then(|| Rc::new(Cell::new(timer_now())));
    let most = longest_body(&config.server).unwrap_or(u64::MAX);
    let request = request.map(|body| {
        let body = RequestBody::new(body, pace, most, progress.clone()).behind(own).within(room);
        body.answered_in_lines(in_lines)
    });
    (Box::new(request.into()), progress)
}

/// How slow a body may come. One of gRPC is a conversation, in which silence is no fault.
pub(super) fn client_pace(server: &config::Server, head: &Head) -> Pace {
    let kind = head.get(&header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let min_rate = if kind.starts_with(b"application/grpc") { 0 } else { server.min_body_rate };
    Pace::new(server.body_timeout, min_rate)
}

/// Bytes that a body may have, where that is bounded.
pub(super) fn longest_body(server: &config::Server) -> Option<u64> {
    Some(server.max_body_bytes as u64).filter(|&most| most > 0)
}

/// Sends to a server of the upstream and takes the head of its answer; where that fails and [`Tries`] has another try, to another
/// server. A pooled connection that turns out to be closed before anything was written is replaced without further ado.
fn converse(
    place: Option<usize>,
    mut outgoing: Box<Request<RequestBody>>,
    progress: Progress,
    mut rest: Kept<Rest>,
    is_refused: bool,
) -> Pin<Box<impl Future<Output = Result<Response<GatewayBody>, Refused>>>> {
    // No `async fn`: it has room for its arguments twice, as they came and as they are used.
    Box::pin(async move {
        let refused = |refusal, rest: Kept<Rest>| Err(Refused::new(refusal, Rest::into_exchange(rest)));
        if is_refused {
            return refused(Refusal::Overloaded, rest);
        }
        let view = Rc::clone(&rest.exchange.view);
        let mut route = match Route::enter(&view, place, &outgoing, &mut rest) {
            Ok(route) => route,
            Err(failure) => return refused(Refusal::Upstream(failure), rest),
        };
        if route.tries.wants_body()
            && let Err(fault) = Box::pin(route.tries.keep_body(&mut outgoing, &rest.exchange.home.shared.budget)).await
        {
            return refused(client_fault(&fault), rest);
        }
        loop {
            let mut connection = match route.connection(&rest.exchange).await {
                Ok(Some(connection)) => connection,
                Ok(None) => continue,
                Err(failure) => return refused(Refusal::Upstream(route.tries.told(failure)), rest),
            };
            rest.exchange.sent = Some(rest.exchange.home.now());
            let outcome = tokio::select! {
                biased;
                outcome = connection.sender.try_send(outgoing) => Some(outcome),
                () = route.too_long(&mut connection.deadline, &progress) => None,
            };
            let now = rest.exchange.home.now();
            let next = match outcome {
                Some(Ok(response)) => match route.judge(&response, &connection, now) {
                    Some(again) => Ok(again),
                    None => {
                        rest.exchange.answered = Some(now);
                        rest.connection = Some(connection);
                        return accept(response, route.upstream, rest);
                    }
                },
                Some(Err(failed)) => route.after(*failed, &connection, now),
                None => route.after_silence(&connection, now),
            };
            match next {
                Ok(again) => outgoing = again,
                Err(refusal) => return refused(refusal, rest),
            }
        }
    })
}

/// An upstream, and what a request has still to try there.
struct Route<'a> {
    upstream: &'a Upstream,
    group: &'a Group,
    tries: Tries<'a>,
    /// When the answer must have begun, whatever was tried; known from the first try on.
    end: Option<Instant>,
}

impl<'a> Route<'a> {
    /// One more request for the upstream, if it takes any.
    fn enter(
        view: &'a Rc<View>,
        place: Option<usize>,
        outgoing: &Request<RequestBody>,
        rest: &mut Rest,
    ) -> Result<Route<'a>, UpstreamFailure> {
        let place = place.ok_or(UpstreamFailure::Unreachable)?;
        let group = view.snapshot.upstreams.get(place).ok_or(UpstreamFailure::Unreachable)?;
        let entered = InFlight::enter(view, place, rest.exchange.started);
        rest.place = Some(entered.map_err(|_| UpstreamFailure::Overloaded)?);
        let idle = view.snapshot.config.server.body_timeout;
        Ok(Route { upstream: group.settings(), group, tries: Tries::new(group, outgoing, idle), end: None })
    }

    /// A connection, or nothing where the next try should be made.
    async fn connection(&mut self, exchange: &Exchange) -> Result<Option<Connection>, UpstreamFailure> {
        let pool = &exchange.home.pool;
        let now = if self.tries.is_first() { exchange.started } else { exchange.home.now() };
        let at_hand = pool.choose(self.group, self.tries.tried(), now, self.tries.is_fresh());
        if let AtHand::Ready(connection) = at_hand {
            return Ok(Some(connection));
        }
        let reached = Box::pin(async {
            self.tries.pause(pool.dice()).await;
            pool.reach(self.group, at_hand, self.tries.tried(), now).await
        });
        match reached.await {
            Ok(connection) => Ok(Some(connection)),
            Err(Unreached::Overloaded(_)) => {
                self.tries.end(false);
                Err(UpstreamFailure::Overloaded)
            }
            Err(Unreached::NoServer) => {
                self.tries.end(false);
                Err(UpstreamFailure::Unreachable)
            }
            Err(Unreached::Failed(error, server)) => {
                let now = exchange.home.now();
                self.group.note(&server, false, now);
                match (self.tries.take(Cause::Connect, &server, now), error) {
                    (true, _) => Ok(None),
                    (false, ConnectError::Unreachable) => Err(UpstreamFailure::Unreachable),
                    (false, ConnectError::TimedOut) => Err(UpstreamFailure::ConnectTimedOut),
                }
            }
        }
    }

    /// What to make of an answer: a request to send instead of passing it on, where it says that the server is unfit.
    fn judge(
        &mut self,
        response: &Response<UpstreamBody>,
        connection: &Connection,
        now: Nanos,
    ) -> Option<Box<Request<RequestBody>>> {
        let cause = Cause::of_status(response.status());
        let server = connection.server()?;
        self.group.note(server, cause.is_none(), now);
        let again = cause.is_some_and(|cause| self.tries.can_repeat(false) && self.tries.take(cause, server, now));
        if again {
            let again = self.tries.repeat(None)?;
            self.tries.doubt(&again);
            return Some(again);
        }
        self.tries.end(cause.is_none());
        None
    }

    /// What to send after a request that got no answer.
    fn after(
        &mut self,
        failed: Failure<RequestBody>,
        connection: &Connection,
        now: Nanos,
    ) -> Result<Box<Request<RequestBody>>, Refusal> {
        let Failure { unsent, error, written, answered } = failed;
        let mut refusal = failure(&error);
        let (Refusal::Upstream(failure), Some(server)) = (&mut refusal, connection.server()) else {
            return Err(refusal);
        };
        if !written {
            *failure = self.tries.told(UpstreamFailure::Untaken);
        }
        let is_shared = connection.sender.is_shared();
        let cause = match error {
            // The server leaves, or has enough on this connection, which says nothing against it.
            _ if !written && (is_shared || connection.reused) => Cause::Stale,
            _ if !written => Cause::Connect,
            ExchangeFault::Io(_) | ExchangeFault::Closed => Cause::of_break(connection.reused && !answered),
            ExchangeFault::Stream(_) => Cause::Reset,
            // What is no HTTP would be none a second time.
            _ => Cause::Nonsense,
        };
        match unsent {
            Some(unsent) if !written && connection.reused && !is_shared => Ok(unsent),
            // Nothing of it was acted on, so that it goes again whatever it asks for.
            Some(unsent) if !written => {
                if cause != Cause::Stale {
                    self.group.note(server, false, now);
                }
                if self.tries.take(cause, server, now) { Ok(unsent) } else { Err(refusal) }
            }
            unsent => self.again(cause, server, unsent, now).ok_or(refusal),
        }
    }

    /// What to send after a request that got no answer in time.
    fn after_silence(&mut self, connection: &Connection, now: Nanos) -> Result<Box<Request<RequestBody>>, Refusal> {
        connection.sender.distrust();
        let refusal = Refusal::Upstream(UpstreamFailure::TimedOut);
        let Some(server) = connection.server() else { return Err(refusal) };
        self.again(Cause::Timeout, server, None, now).ok_or(refusal)
    }

    /// A request to send after one that may have reached the server.
    fn again(
        &mut self,
        cause: Cause,
        server: &Server,
        unsent: Option<Box<Request<RequestBody>>>,
        now: Nanos,
    ) -> Option<Box<Request<RequestBody>>> {
        // That a server closes what it keeps open says nothing against it.
        if cause != Cause::Stale {
            self.group.note(server, false, now);
        }
        let is_over = self.end.is_some_and(|end| timer_now() >= end);
        if !is_over && self.tries.can_repeat(unsent.is_some()) && self.tries.take(cause, server, now) {
            let again = self.tries.repeat(unsent)?;
            self.tries.doubt(&again);
            return Some(again);
        }
        self.tries.end(false);
        None
    }

    /// Ends when the upstream has been silent for `response_timeout` since it was given the last byte there was, for
    /// `per_try_timeout` where another try is possible, or when `request_timeout` is over.
    async fn too_long(&mut self, deadline: &mut Deadline, progress: &Progress) {
        let mut since = timer_now();
        let mut end = *self.end.get_or_insert(since + self.upstream.request_timeout);
        if let Some(per_try) = self.tries.timeout() {
            end = end.min(since + per_try);
        }
        loop {
            let silent = since + self.upstream.response_timeout;
            deadline.wait_until(silent.min(end)).await;
            match progress {
                Some(progress) if silent < end && progress.get() > since => since = progress.get(),
                _ => return,
            }
        }
    }
}

/// Takes the head of the upstream's answer.
///
/// # Errors
/// When it switches to a protocol that nobody asked for.
fn accept(
    response: Response<UpstreamBody>,
    upstream: &Upstream,
    mut rest: Kept<Rest>,
) -> Result<Response<GatewayBody>, Refused> {
    let (mut parts, mut body) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        drop(body);
        return tunnel::accept(parts, rest);
    }
    rest.upgrade = None;
    rest.exchange.settle(parts.status);
    let mut lines = body.take_lines();
    match &mut lines {
        Some(lines) => headers::complete(lines, &rest.exchange),
        None => headers::forward_response(&mut parts.headers, &rest.exchange),
    }
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let tick = Tick::new(upstream.body_timeout);
    let body = GatewayBody::forwarded_behind(lines, body, tick, rest);
    Ok(Response::from_parts(parts, body))
}

/// Tells the client's fault from the upstream's.
fn failure(error: &ExchangeFault) -> Refusal {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<BodyFault>() {
            Some(fault @ (BodyFault::Client(_) | BodyFault::ClientIdle | BodyFault::ClientTooLong)) => {
                return client_fault(fault);
            }
            _ => cause = error.source(),
        }
    }
    tracing::debug!(%error, "an upstream exchange failed");
    Refusal::Upstream(UpstreamFailure::Broken)
}

/// What is wrong with a client's body.
fn client_fault(fault: &BodyFault) -> Refusal {
    match fault {
        BodyFault::Client(error) => Refusal::BadRequest(unreadable(error)),
        BodyFault::ClientIdle => Refusal::BadRequest(BadRequest::LATE_BODY),
        BodyFault::ClientTooLong => Refusal::BadRequest(BadRequest::LONG_BODY),
        BodyFault::Upstream(_) | BodyFault::UpstreamIdle | BodyFault::CutOff => {
            Refusal::Upstream(UpstreamFailure::Broken)
        }
    }
}

/// Why a body could not be read: what the wire guard found, or that it ended early.
pub(super) fn unreadable(error: &(dyn std::error::Error + 'static)) -> BadRequest {
    match fault_of(error) {
        Some(fault) => BadRequest { status: fault.status(), message: fault.message() },
        None => BadRequest::BROKEN_BODY,
    }
}
