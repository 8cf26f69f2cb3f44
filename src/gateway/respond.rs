//! A refusal becomes one HTTP answer, here and nowhere else: Stripe-shaped JSON, the reason, when to come back.

use super::body::GatewayBody;
use super::context::{Arrived, Home, RequestLabels};
use super::exchange::Exchange;
use super::head::Head;
use super::headers::REQUEST_ID;
use super::kept::Kept;
use super::observe::Refused;
use super::refusal::{Refusal, Rejected, UpstreamFailure};
use super::texts::seconds_until;
use super::words;
use crate::engine::Access;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{self, CatchUnwind, Either, Ready};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use pin_project_lite::pin_project;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tower::{Layer, Service};

pub(super) const SHOULD_RETRY: HeaderName = HeaderName::from_static("stripe-should-retry");

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

impl<S, B, R> Service<Arrived<B>> for Respond<S>
where
    S: Service<Arrived<B>, Response = Response<GatewayBody<R>>, Error = Refused>,
{
    type Response = Response<GatewayBody<R>>;
    type Error = Infallible;
    type Future = Either<Responding<S::Future>, Ready<Result<Response<GatewayBody<R>>, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Arrived<B>) -> Self::Future {
        let head = &*request.head;
        if head.method == Method::OPTIONS && head.uri.path() == "*" {
            return Either::Right(future::ready(Ok(server_options(&self.home))));
        }
        let is_write = !matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let inner = &mut self.inner;
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.call(request))) {
            Ok(future) => {
                let future = AssertUnwindSafe(future).catch_unwind();
                Either::Left(Responding { future, home: Rc::clone(&self.home), is_write })
            }
            Err(_) => Either::Right(future::ready(Ok(internal(&self.home)))),
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
        let outcome = ready!(this.future.poll(cx));
        Poll::Ready(Ok(match outcome {
            Ok(Ok(response)) => response,
            Ok(Err(refused)) => answer(refused),
            Err(_) => internal(this.home),
        }))
    }
}

/// `OPTIONS *` asks about this server, not about anything behind it (RFC 9110 §9.3.7).
fn server_options<B>(home: &Home) -> Response<GatewayBody<B>> {
    let labels = RequestLabels { route: None, mode: None, access: None, status: StatusCode::NO_CONTENT.as_u16() };
    home.view().count(&home.shared.metrics, labels);
    let mut response = Response::new(GatewayBody::own(Bytes::new()));
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

/// What becomes of a refused request. It ends here: its record closes at the moment that its answer was made at, which is looked
/// up once for both.
fn answer<R>(refused: Refused) -> Response<GatewayBody<R>> {
    let Refused { mut exchange } = refused;
    let status = exchange.refusal.as_ref().unwrap_or(&Refusal::Internal).status();
    let mut response = match &mut *exchange {
        Exchange { refusal: Some(Refusal::Rejected(rejected)), request_id, spare, .. } => {
            reject(rejected, request_id, spare.take())
        }
        exchange => explain(status, exchange),
    };
    *response.status_mut() = status;
    let now = exchange.home.now();
    response.body_mut().made_at(now);
    exchange.ended = Some(now);
    response
}

fn explain<R>(status: StatusCode, exchange: &Exchange) -> Response<GatewayBody<R>> {
    let refusal = exchange.refusal.as_ref().unwrap_or(&Refusal::Internal);
    let config = &exchange.view.snapshot.config;
    if let Refusal::Address(rejection) = refusal {
        let text = exchange.view.texts.of_address(rejection.cause, config);
        let mut response = render(status, text, &exchange.request_id);
        // No limit of an account refused it, so there is no reason to give.
        if config.responses.retry_after {
            let seconds = seconds_until(rejection.retry_at, exchange.started);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        return response;
    }
    let words = words::of(refusal, Some(config));
    let mut response = render(status, words.to_json(), &exchange.request_id);
    let headers = response.headers_mut();
    match refusal {
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

/// What a limit refuses there may be a flood of: its head is put together from lines that are there, and from no map.
fn reject<R>(rejected: &mut Rejected, request_id: &HeaderValue, spare: Option<Kept<Head>>) -> Response<GatewayBody<R>> {
    let body = std::mem::take(&mut rejected.body);
    let mut response = Response::new(GatewayBody::own_behind(request_id.clone(), Rc::clone(&rejected.fields), body));
    // The map of the request, emptied: it goes back with the answer to where it came from.
    if let Some(mut head) = spare {
        std::mem::swap(response.headers_mut(), &mut head.parts_mut().headers);
        response.headers_mut().clear();
    }
    response
}

fn render<R>(status: StatusCode, body: impl Into<Bytes>, request_id: &HeaderValue) -> Response<GatewayBody<R>> {
    let mut response = Response::new(GatewayBody::own(body));
    *response.status_mut() = status;
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
