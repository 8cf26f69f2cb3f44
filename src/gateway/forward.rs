//! The last step: the request goes to an upstream server, the answer comes back, both streamed.
//!
//! From here on the request's tokens are spent, whatever the upstream does: it was admitted. Its slots are held until the last
//! byte of the answer has been handed on, the client has gone, or the exchange has failed.

use super::body::GatewayBody;
use super::context::{Classified, Held};
use super::exchange::Exchange;
use super::headers;
use super::observe::Refused;
use super::refusal::{BadRequest, Refusal, UpstreamFailure};
use crate::clock::timer_now;
use crate::config::{Scheme, Upstream};
use crate::upstream::{BodyFault, ConnectError, Connection, ReadAhead, RequestBody, ServerId, Tick};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use std::cell::Cell;
use std::rc::Rc;
use tokio::time::{Instant, sleep_until};

/// Forwards one admitted request.
///
/// # Errors
/// When the upstream gives no usable answer, or the client's body is bad.
pub async fn forward(classified: Classified<ReadAhead<Incoming>>) -> Result<Response<GatewayBody>, Refused> {
    let Classified { request, mut exchange, principal, class, mut held, .. } = classified;
    held.commit();
    let view = Rc::clone(&exchange.view);
    let config = &view.snapshot.config;
    let place = config.routes.get(class.route.0 as usize).map(|route| route.upstream);
    let found = place.and_then(|place| Some((config.upstreams.get(place)?, view.snapshot.upstreams.get(place)?)));
    let Some((upstream, servers)) = found else {
        return Err(Refused::new(Refusal::Upstream(UpstreamFailure::Unreachable), exchange));
    };
    let (mut parts, body) = request.into_parts();
    let host = host_for(upstream);
    headers::forward_request(&mut parts.headers, &exchange, &principal, host.as_ref());
    let progress = (!body.is_end_stream()).then(|| Rc::new(Cell::new(timer_now())));
    let mut outgoing = Request::new(RequestBody::new(body, config.server.body_timeout, progress.clone()));
    *outgoing.method_mut() = parts.method;
    *outgoing.uri_mut() = origin_form(parts.uri);
    *outgoing.version_mut() = Version::HTTP_11;
    *outgoing.headers_mut() = parts.headers;
    let sending = Sending { upstream, servers, progress };
    match sending.send(outgoing, &mut exchange).await {
        Ok((response, connection)) => accept(response, connection, upstream, exchange, held),
        Err(refusal) => Err(Refused::new(refusal, exchange)),
    }
}

/// One request on its way to one of an upstream's servers.
struct Sending<'a> {
    upstream: &'a Upstream,
    servers: &'a [ServerId],
    progress: Option<Rc<Cell<Instant>>>,
}

impl Sending<'_> {
    /// Sends on a pooled connection where one is fit, else on a new one. A connection that turns out to be closed before
    /// anything was written gives the request back, and the next one is tried: never the same request twice.
    async fn send(
        &self,
        mut outgoing: Request<RequestBody>,
        exchange: &mut Exchange,
    ) -> Result<(Response<Incoming>, Connection), Refusal> {
        loop {
            let mut connection = self.connection(exchange).await?;
            exchange.sent = Some(exchange.home.now());
            let sent = connection.sender.try_send_request(outgoing);
            let outcome = tokio::select! {
                biased;
                outcome = sent => outcome,
                () = self.too_long() => return Err(Refusal::Upstream(UpstreamFailure::TimedOut)),
            };
            match outcome {
                Ok(response) => {
                    exchange.answered = Some(exchange.home.now());
                    return Ok((response, connection));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if connection.reused => outgoing = unsent,
                    _ => return Err(failure(&failed.into_error())),
                },
            }
        }
    }

    async fn connection(&self, exchange: &Exchange) -> Result<Connection, Refusal> {
        let pool = &exchange.home.pool;
        let mut failure = UpstreamFailure::Unreachable;
        for server in pool.order(self.servers) {
            if let Some(connection) = pool.take(server, self.upstream.idle_timeout) {
                return Ok(connection);
            }
            let servers = &exchange.home.shared.servers;
            match pool.connect(servers, server, self.upstream.connect_timeout).await {
                Ok(connection) => return Ok(connection),
                Err(ConnectError::Unreachable) => failure = UpstreamFailure::Unreachable,
                Err(ConnectError::TimedOut) => failure = UpstreamFailure::ConnectTimedOut,
            }
        }
        Err(Refusal::Upstream(failure))
    }

    /// Ends when the upstream has been silent for `response_timeout` since it was given the last byte there was.
    async fn too_long(&self) {
        let mut since = timer_now();
        loop {
            sleep_until(since + self.upstream.response_timeout).await;
            match &self.progress {
                Some(progress) if progress.get() > since => since = progress.get(),
                _ => return,
            }
        }
    }
}

/// Takes the head of the upstream's answer, or refuses to pass it on.
fn accept(
    response: Response<Incoming>,
    connection: Connection,
    upstream: &Upstream,
    mut exchange: Exchange,
    held: Held,
) -> Result<Response<GatewayBody>, Refused> {
    let (mut parts, body) = response.into_parts();
    let ambiguous =
        parts.headers.contains_key(header::CONTENT_LENGTH) && parts.headers.contains_key(header::TRANSFER_ENCODING);
    // Nobody asked for a switch of protocols: `Upgrade` is not forwarded.
    if ambiguous || parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refused::new(Refusal::Upstream(UpstreamFailure::Broken), exchange));
    }
    exchange.status = parts.status.as_u16();
    headers::forward_response(&mut parts.headers, &exchange);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let tick = Tick::new(upstream.body_timeout);
    let body = GatewayBody::forwarded(body, tick, Some(connection), held, exchange);
    Ok(Response::from_parts(parts, body))
}

/// Tells the client's fault from the upstream's.
fn failure(error: &hyper::Error) -> Refusal {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<BodyFault>() {
            Some(BodyFault::Client(_)) => {
                return Refusal::BadRequest(BadRequest::BROKEN_BODY);
            }
            Some(BodyFault::ClientIdle) => {
                return Refusal::BadRequest(BadRequest::LATE_BODY);
            }
            _ => cause = error.source(),
        }
    }
    tracing::debug!(%error, "an upstream exchange failed");
    Refusal::Upstream(UpstreamFailure::Broken)
}

/// The client's `Host` goes on to a plain upstream; one that is reached over TLS is known by its own name.
fn host_for(upstream: &Upstream) -> Option<HeaderValue> {
    let server = upstream.servers.first().filter(|server| server.scheme == Scheme::Https)?;
    HeaderValue::from_str(server.authority.as_str()).ok()
}

fn origin_form(uri: Uri) -> Uri {
    let path = uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::from(path)
}
