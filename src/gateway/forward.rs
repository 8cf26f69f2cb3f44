//! The last step: the request goes to an upstream server, the answer comes back, both streamed.
//!
//! From here on the request's tokens are spent, whatever the upstream does: it was admitted. Its slots are held until the last
//! byte of the answer has been handed on, the client has gone, or the exchange has failed.

use super::body::{GatewayBody, Rest};
use super::context::{Classified, View};
use super::exchange::Exchange;
use super::headers;
use super::observe::Refused;
use super::refusal::{BadRequest, Refusal, UpstreamFailure};
use crate::clock::timer_now;
use crate::config::{Scheme, Upstream};
use crate::keys::Principal;
use crate::upstream::{
    BodyFault, ClientBody, ConnectError, Connection, Deadline, ReadAhead, RequestBody, ResponseBody, SendFault,
    ServerId, Tick, Unsent,
};
use crate::wire_fault::fault_of;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body;
use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use tokio::time::Instant;

/// Forwards one admitted request.
///
/// All that needs no waiting is done in the call itself, and what is done seldom is boxed: a future is moved on its way up
/// through every layer, so this one holds only what it needs while it waits.
///
/// # Errors
/// When the upstream gives no usable answer, or the client's body is bad.
pub fn forward(
    classified: Classified<ReadAhead<ClientBody>>,
) -> impl Future<Output = Result<Response<GatewayBody>, Refused>> {
    let Classified { request, mut exchange, principal, class, mut held, .. } = classified;
    held.commit();
    let config = &exchange.view.snapshot.config;
    let transaction = config.endpoints.get(class.endpoint.0 as usize).is_some_and(|endpoint| endpoint.transaction);
    exchange.transaction = transaction.then(|| Box::new(class));
    let place = exchange.view.snapshot.config.routes.get(class.route.0 as usize).map(|route| route.upstream);
    let (outgoing, progress) = outgoing(request, place, &exchange, &principal);
    converse(place, outgoing, progress, Rest::new(held, exchange))
}

/// When the last byte of a request's body came, for requests that have one.
type Progress = Option<Rc<Cell<Instant>>>;

/// The request as the upstream gets it.
fn outgoing(
    request: Request<ReadAhead<ClientBody>>,
    place: Option<usize>,
    exchange: &Exchange,
    principal: &Principal,
) -> (Request<RequestBody>, Progress) {
    let config = &exchange.view.snapshot.config;
    let (mut parts, body) = request.into_parts();
    let host = place.and_then(|place| config.upstreams.get(place)).and_then(|upstream| host_for(upstream, &parts));
    headers::forward_request(&mut parts.headers, exchange, principal, host.as_ref());
    parts.uri = origin_form(parts.uri);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let progress = (!body.is_end_stream()).then(|| Rc::new(Cell::new(timer_now())));
    let body = RequestBody::new(body, config.server.body_timeout, progress.clone());
    (Request::from_parts(parts, body), progress)
}

/// How often HTTP/2 servers may hand a request back untouched (REFUSED_STREAM, or a GOAWAY before it) and have it sent again.
const MAX_UNSENT: u32 = 3;

/// Sends on a pooled connection where one is fit, else on a new one, and takes the head of the answer. A connection that turns
/// out to be closed before anything was written gives the request back, and the next one is tried: never the same request
/// twice.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` has room for its arguments twice: as they came and as they are used"
)]
fn converse(
    place: Option<usize>,
    mut outgoing: Request<RequestBody>,
    progress: Progress,
    mut rest: Box<Rest>,
) -> impl Future<Output = Result<Response<GatewayBody>, Refused>> {
    async move {
        let refused = |refusal, rest: Box<Rest>| Err(Refused::new(refusal, rest.into_exchange()));
        let view = Rc::clone(&rest.exchange.view);
        let Some(route) = Route::new(&view, place) else {
            return refused(Refusal::Upstream(UpstreamFailure::Unreachable), rest);
        };
        let mut tries_left = MAX_UNSENT;
        loop {
            let mut connection = match route.connection(&rest.exchange).await {
                Ok(connection) => connection,
                Err(failure) => return refused(Refusal::Upstream(failure), rest),
            };
            rest.exchange.sent = Some(rest.exchange.home.now());
            let sent = connection.sender.send(outgoing);
            let outcome = tokio::select! {
                biased;
                outcome = sent => outcome,
                () = route.too_long(&mut connection.deadline, &progress) => {
                    connection.sender.distrust();
                    return refused(Refusal::Upstream(UpstreamFailure::TimedOut), rest);
                }
            };
            match outcome {
                Ok(response) => {
                    rest.exchange.answered = Some(rest.exchange.home.now());
                    rest.connection = Some(connection);
                    return accept(response, route.upstream, rest);
                }
                Err(Unsent { fault, request }) => match (request, &fault) {
                    // There are only so many idle connections that may turn out to be closed.
                    (Some(unsent), SendFault::Http1(_)) if connection.reused => outgoing = unsent,
                    (Some(unsent), SendFault::Http2(_)) if tries_left > 0 => {
                        tries_left -= 1;
                        outgoing = unsent;
                    }
                    _ => return refused(failure(&fault), rest),
                },
            }
        }
    }
}

/// An upstream and its servers.
struct Route<'a> {
    upstream: &'a Upstream,
    servers: &'a [ServerId],
}

impl<'a> Route<'a> {
    fn new(view: &'a View, place: Option<usize>) -> Option<Route<'a>> {
        let (place, snapshot) = (place?, &view.snapshot);
        Some(Route { upstream: snapshot.config.upstreams.get(place)?, servers: snapshot.upstreams.get(place)? })
    }

    async fn connection(&self, exchange: &Exchange) -> Result<Connection, UpstreamFailure> {
        let pool = &exchange.home.pool;
        let mut failure = UpstreamFailure::Unreachable;
        for server in pool.order(self.servers) {
            if let Some(connection) = pool.take(server, self.upstream.idle_timeout, exchange.started) {
                return Ok(connection);
            }
            let servers = &exchange.home.shared.servers;
            match Box::pin(pool.connect(servers, server, self.upstream.connect_timeout)).await {
                Ok(connection) => return Ok(connection),
                Err(ConnectError::Unreachable) => failure = UpstreamFailure::Unreachable,
                Err(ConnectError::TimedOut) => failure = UpstreamFailure::ConnectTimedOut,
            }
        }
        Err(failure)
    }

    /// Ends when the upstream has been silent for `response_timeout` since it was given the last byte there was.
    async fn too_long(&self, deadline: &mut Deadline, progress: &Progress) {
        let mut since = timer_now();
        loop {
            deadline.wait_until(since + self.upstream.response_timeout).await;
            match progress {
                Some(progress) if progress.get() > since => since = progress.get(),
                _ => return,
            }
        }
    }
}

/// Takes the head of the upstream's answer, or refuses to pass it on.
fn accept(
    response: Response<ResponseBody>,
    upstream: &Upstream,
    mut rest: Box<Rest>,
) -> Result<Response<GatewayBody>, Refused> {
    let (mut parts, body) = response.into_parts();
    // Nobody asked for a switch of protocols: `Upgrade` is not forwarded.
    if !is_plainly_framed(&parts.headers) || parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refused::new(Refusal::Upstream(UpstreamFailure::Broken), rest.into_exchange()));
    }
    rest.exchange.settle(parts.status);
    headers::forward_response(&mut parts.headers, &rest.exchange);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let tick = Tick::new(upstream.body_timeout);
    let body = GatewayBody::forwarded(body, tick, rest);
    Ok(Response::from_parts(parts, body))
}

/// Whether a body's framing can be read in one way only and taken off it: any coding besides `chunked`, which nobody asked for,
/// would reach the client under no name.
fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (codings.next(), lengths.next()) {
        (None, None) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none(),
        // hyper reads "3, 3" as 3, but it would go on to the client as it is.
        (None, Some(length)) => length.as_bytes().iter().all(u8::is_ascii_digit) && lengths.next().is_none(),
        (Some(_), Some(_)) => false,
    }
}

/// Tells the client's fault from the upstream's.
fn failure(error: &SendFault) -> Refusal {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<BodyFault>() {
            Some(BodyFault::Client(error)) => return Refusal::BadRequest(unreadable(error)),
            Some(BodyFault::ClientIdle) => {
                return Refusal::BadRequest(BadRequest::LATE_BODY);
            }
            _ => cause = error.source(),
        }
    }
    tracing::debug!(%error, "an upstream exchange failed");
    Refusal::Upstream(UpstreamFailure::Broken)
}

/// Why a body could not be read: what the wire guard found, or that it ended early.
pub(super) fn unreadable(error: &(dyn std::error::Error + 'static)) -> BadRequest {
    match fault_of(error) {
        Some(fault) => BadRequest { status: fault.status(), message: fault.message() },
        None => BadRequest::BROKEN_BODY,
    }
}

/// The client's `Host` goes on to a plain upstream; one that is reached over TLS is known by its own name, and so is any for a
/// request of HTTP/1.0 that names no host.
fn host_for(upstream: &Upstream, parts: &Parts) -> Option<HeaderValue> {
    let named = parts.headers.contains_key(header::HOST);
    let server = upstream.servers.first().filter(|server| !named || server.scheme == Scheme::Https)?;
    HeaderValue::from_str(server.authority.as_str()).ok()
}

fn origin_form(uri: Uri) -> Uri {
    let path = uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::from(path)
}
