//! Opens the record of each request and notes how it ended.

use super::context::{Home, Observed};
use super::exchange::{Exchange, Peer};
use super::refusal::Refusal;
use futures_util::FutureExt;
use futures_util::future::Map;
use http::{Request, Response};
use std::rc::Rc;
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// A refusal with the record of its request, on the way out.
pub struct Refused {
    /// What is refused and why.
    pub refusal: Refusal,
    /// The record, closed when this is dropped.
    pub exchange: Exchange,
}

impl Refused {
    /// A refused request.
    #[must_use]
    pub fn new(refusal: Refusal, exchange: Exchange) -> Refused {
        Refused { refusal, exchange }
    }

    fn note(mut self) -> Refused {
        let metrics = &self.exchange.home.shared.metrics;
        self.exchange.status = self.refusal.status().as_u16();
        if let Some(cause) = self.refusal.auth_failure() {
            metrics.auth_failures(cause).inc();
        }
        if let (Refusal::LockTimeout(timeout), Some(endpoint)) = (&self.refusal, self.exchange.endpoint) {
            let config = &self.exchange.view.snapshot.config;
            metrics.locks.timeouts(&config.policy.endpoint(endpoint).name, timeout.cause()).inc();
        }
        if let Refusal::Rejected(rejection) = self.refusal {
            self.exchange.rejection = Some(rejection);
            if let (Some(counters), Some(mode)) =
                (self.exchange.view.snapshot.limits.get(rejection.limit.index()), self.exchange.mode)
            {
                counters.rejections[mode as usize].inc();
            }
        }
        self
    }
}

/// The layer.
#[derive(Clone)]
pub struct ObserveLayer {
    /// The thread.
    pub home: Rc<Home>,
    /// The connection's other end.
    pub peer: Rc<Peer>,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { layer: self.clone(), inner }
    }
}

/// The service.
#[derive(Clone)]
pub struct Observe<S> {
    layer: ObserveLayer,
    inner: S,
}

type Noting<R> = fn(Result<R, Refused>) -> Result<R, Refused>;

impl<S, B, R> Service<Request<B>> for Observe<S>
where
    S: Service<Observed<B>, Response = Response<R>, Error = Refused>,
{
    type Response = Response<R>;
    type Error = Refused;
    type Future = Map<S::Future, Noting<Response<R>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let exchange = Exchange::begin(&self.layer.home, &self.layer.peer, &request);
        let noting: Noting<Response<R>> = |result| result.map_err(Refused::note);
        self.inner.call(Observed { request, exchange }).map(noting)
    }
}
