//! Opens the record of each request, and notes in it that it is refused.

use super::context::{Arrived, Home, Observed};
use super::exchange::{Exchange, Peer};
use super::kept::Kept;
use super::refusal::{Refusal, Rejected};
use http::Response;
use std::rc::Rc;
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// A refused request on the way out: its record, which says why. A pointer, for every layer's answer has room for it.
pub struct Refused {
    /// The record, closed when this is dropped.
    pub exchange: Kept<Exchange>,
}

impl Refused {
    /// A refused request. It is counted here, where it is refused: a client that goes at once takes nobody along to count it
    /// later, and then fewer rejections would be counted than decisions to reject.
    #[must_use]
    pub fn new(refusal: Refusal, mut exchange: Kept<Exchange>) -> Refused {
        exchange.status = refusal.status().as_u16();
        if let Some(cause) = refusal.auth_failure() {
            exchange.home.shared.metrics.auth_failures(cause).inc();
        }
        if let Refusal::Address(rejection) = &refusal {
            exchange.home.shared.metrics.addresses.rejected(rejection.cause.index());
        }
        if let (Refusal::LockTimeout(timeout), Some(endpoint)) = (&refusal, exchange.endpoint) {
            let policy = &exchange.view.snapshot.config.policy;
            let locks = &exchange.home.shared.metrics.locks;
            locks.timeouts(&policy.endpoint(endpoint).name, timeout.cause()).inc();
        }
        if let (Refusal::Rejected(Rejected { rejection, .. }), Some(mode)) = (&refusal, exchange.mode)
            && let Some(counters) = exchange.view.snapshot.limits.get(rejection.limit.index())
        {
            counters.rejections[mode as usize].inc();
        }
        exchange.refusal = Some(refusal);
        Refused { exchange }
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

impl<S, B, R> Service<Arrived<B>> for Observe<S>
where
    S: Service<Observed<B>, Response = Response<R>, Error = Refused>,
{
    type Response = Response<R>;
    type Error = Refused;
    type Future = S::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Arrived<B>) -> Self::Future {
        let exchange = Kept::new(Exchange::begin(&self.layer.home, &self.layer.peer, &request.head));
        self.inner.call(Observed { request, exchange })
    }
}
