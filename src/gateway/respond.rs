//! A refusal becomes one HTTP answer, here and nowhere else: Stripe-shaped JSON, the reason, when to come back.

use super::body::GatewayBody;
use super::context::{Home, RequestLabels};
use super::headers::REQUEST_ID;
use super::observe::Refused;
use super::refusal::{Refusal, Rejected, UpstreamFailure};
use super::texts::Text;
use super::words;
use crate::config::{Responses, ShouldRetry};
use crate::engine::{Access, Limiter, Nanos, Rejection};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{CatchUnwind, Either, Ready, ready};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tower::{Layer, Service};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("stripe-should-retry");

/// The layer.
#[derive(Clone)]
pub struct RespondLayer {
    /// The thread.
    pub home: Rc<Home>,
}

impl<S> Layer<S> for RespondLayer {
    type Service = Respond<S>;

    fn layer(&self, inner: S) -> Respond<S> {
        Respond { home: Rc::clone(&self.home), inner }
    }
}

/// The service. It never fails: a refusal is an answer, and so is a caught panic.
#[derive(Clone)]
pub struct Respond<S> {
    home: Rc<Home>,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Respond<S>
where
    S: Service<Request<B>, Response = Response<GatewayBody<R>>, Error = Refused>,
{
    type Response = Response<GatewayBody<R>>;
    type Error = Infallible;
    type Future = Either<Responding<S::Future>, Ready<Result<Response<GatewayBody<R>>, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if *request.method() == Method::OPTIONS && request.uri().path() == "*" {
            return Either::Right(ready(Ok(server_options(&self.home))));
        }
        let is_write = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let inner = &mut self.inner;
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.call(request))) {
            Ok(future) => {
                let future = AssertUnwindSafe(future).catch_unwind();
                Either::Left(Responding { future, home: Rc::clone(&self.home), is_write })
            }
            Err(_) => Either::Right(ready(Ok(internal(&self.home)))),
        }
    }
}

pin_project! {
    /// The future of [`Respond`].
    pub struct Responding<F> {
        #[pin]
        future: CatchUnwind<AssertUnwindSafe<F>>,
        home: Rc<Home>,
        is_write: bool,
    }
}

impl<F, R> Future for Responding<F>
where
    F: Future<Output = Result<Response<GatewayBody<R>>, Refused>>,
{
    type Output = Result<Response<GatewayBody<R>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.home.is_cutting() {
            return Poll::Ready(Ok(cut_off(this.home, *this.is_write)));
        }
        this.future.poll(cx).map(|outcome| {
            Ok(match outcome {
                Ok(Ok(response)) => response,
                Ok(Err(refused)) => answer(refused),
                Err(_) => internal(this.home),
            })
        })
    }
}

/// `OPTIONS *` asks about this server, not about anything behind it (RFC 9110 §9.3.7).
fn server_options<B>(home: &Home) -> Response<GatewayBody<B>> {
    let labels = RequestLabels { route: None, mode: None, access: None, status: StatusCode::NO_CONTENT.as_u16() };
    home.view().count(&home.shared.metrics, labels);
    let mut response = Response::new(GatewayBody::Own(None));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    headers.insert(REQUEST_ID, home.ids.request_id());
    response
}

/// What a panic becomes. Its request's record and slots went while it unwound.
fn internal<R>(home: &Home) -> Response<GatewayBody<R>> {
    home.shared.metrics.panics.inc();
    let words = words::of(&Refusal::Internal, None);
    let mut response = render(StatusCode::INTERNAL_SERVER_ERROR, words.to_json(), &home.ids.request_id());
    response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    response
}

/// What a request becomes that is in flight when the gateway ends. Its record and slots go with it.
fn cut_off<R>(home: &Home, is_write: bool) -> Response<GatewayBody<R>> {
    let refusal = Refusal::Upstream(UpstreamFailure::CutOff);
    let mut response = render(refusal.status(), words::of(&refusal, None).to_json(), &home.ids.request_id());
    if is_write {
        response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    response
}

fn answer<R>(refused: Refused) -> Response<GatewayBody<R>> {
    let Refused { refusal, mut exchange } = refused;
    let status = refusal.status();
    let room = std::mem::take(&mut exchange.spare);
    let config = &exchange.view.snapshot.config;
    if let Refusal::Rejected(Rejected { rejection, body }) = refusal {
        let text = exchange.view.texts.of(&rejection, config);
        let mut response = render_into(room, status, body, &exchange.request_id);
        describe_rejection(response.headers_mut(), &rejection, &config.responses, &text, exchange.home.now());
        return response;
    }
    if let Refusal::Address(rejection) = &refusal {
        let text = exchange.view.texts.of_address(rejection.cause, config);
        let mut response = render(status, text, &exchange.request_id);
        // No limit of an account refused it, so there is no reason to give.
        if config.responses.retry_after {
            let seconds = seconds_until(rejection.retry_at, exchange.started);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        return response;
    }
    let words = words::of(&refusal, Some(config));
    let mut response = render(status, words.to_json(), &exchange.request_id);
    let headers = response.headers_mut();
    match &refusal {
        // It would come around again.
        Refusal::Loop => drop(headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"))),
        // No limit refused it, so there is no reason to give. SDKs try again because of this header only, and it does no harm:
        // the request was never sent on.
        Refusal::LockTimeout(_) => drop(headers.insert(SHOULD_RETRY, HeaderValue::from_static("true"))),
        Refusal::Unauthenticated(_) => {
            let realm = config.auth.realm.replace(['"', '\\'], "");
            insert(headers, header::WWW_AUTHENTICATE, format!("Basic realm=\"{realm}\""));
        }
        Refusal::BadRequest(_) => {
            // Its framing may be in doubt: nothing more is read from this connection.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Refusal::Upstream(failure) => {
            if failure.outcome_is_unknown() && exchange.access == Some(Access::Write) {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
            if *failure == UpstreamFailure::Overloaded {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
        }
        Refusal::Overloaded | Refusal::NoKeysYet => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(1));
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("true"));
        }
        Refusal::Address(_)
        | Refusal::Forbidden(_)
        | Refusal::NoRoute { .. }
        | Refusal::Rejected(_)
        | Refusal::Internal => {}
    }
    response
}

fn describe_rejection(headers: &mut HeaderMap, rejection: &Rejection, responses: &Responses, text: &Text, now: Nanos) {
    headers.insert(responses.reason_header.clone(), HeaderValue::from_static(rejection.stage.reason()));
    match responses.should_retry {
        ShouldRetry::Absent => {}
        ShouldRetry::True => drop(headers.insert(SHOULD_RETRY, HeaderValue::from_static("true"))),
        ShouldRetry::False => drop(headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"))),
    }
    let told = text.told(retry_after_seconds(rejection, now));
    if let (true, Some(seconds)) = (responses.retry_after, &told.retry_after) {
        headers.insert(header::RETRY_AFTER, seconds.clone());
    }
    if responses.ratelimit_headers {
        if let Some(policy) = &text.policy {
            headers.insert(RATE_LIMIT_POLICY, policy.clone());
        }
        if let Some(rate_limit) = &told.rate_limit {
            headers.insert(RATE_LIMIT, rate_limit.clone());
        }
    }
}

/// Whole seconds until the limit would admit the same request, rounded up and at least 1. A slot comes back at nobody knows
/// what time: then it is 1. `None` where waiting does not help.
fn retry_after_seconds(rejection: &Rejection, now: Nanos) -> Option<u64> {
    match (rejection.retry_at, rejection.limiter) {
        (Some(at), _) => Some(seconds_until(at, now)),
        (None, Limiter::Concurrency(figures)) if figures.slots > 0 => Some(1),
        (None, _) => None,
    }
}

fn seconds_until(at: Nanos, now: Nanos) -> u64 {
    const SECOND_NS: u64 = 1_000_000_000;
    at.since(now).div_ceil(SECOND_NS).max(1)
}

fn render<R>(status: StatusCode, body: impl Into<Bytes>, request_id: &HeaderValue) -> Response<GatewayBody<R>> {
    render_into(HeaderMap::new(), status, body, request_id)
}

/// The same with its fields where those of the request were.
fn render_into<R>(
    mut room: HeaderMap,
    status: StatusCode,
    body: impl Into<Bytes>,
    request_id: &HeaderValue,
) -> Response<GatewayBody<R>> {
    let mut response = Response::new(GatewayBody::own(body));
    *response.status_mut() = status;
    room.clear();
    *response.headers_mut() = room;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REQUEST_ID, request_id.clone());
    response
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
