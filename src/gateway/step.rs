//! Layers that decide at once: a step turns a request into one of another type, a check leaves it as it is, and either may
//! refuse it. No future of their own, no box.

use super::context::Classified;
use super::observe::Refused;
use super::refusal::Refusal;
use futures_util::future::Either;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// One step of a request: its input type, its output type and what lies between.
pub trait Step<Request> {
    /// What the next layer gets.
    type Next;

    /// Takes the step.
    ///
    /// # Errors
    /// The refusal, with the record of the request.
    fn take(&self, request: Request) -> Result<Self::Next, Refused>;
}

/// The layer of a step.
#[derive(Clone, Copy, Debug)]
pub struct StepLayer<T, Request> {
    step: T,
    request: PhantomData<fn(Request)>,
}

impl<T, Request> StepLayer<T, Request> {
    /// A layer that takes `step` before the layers below it.
    pub fn new(step: T) -> Self {
        StepLayer { step, request: PhantomData }
    }
}

impl<T: Clone, Request, S> Layer<S> for StepLayer<T, Request> {
    type Service = Stepped<T, S>;

    fn layer(&self, inner: S) -> Stepped<T, S> {
        Stepped { step: self.step.clone(), inner }
    }
}

/// The service of a step.
#[derive(Clone, Copy, Debug)]
pub struct Stepped<T, S> {
    step: T,
    inner: S,
}

impl<T, Request, S> Service<Request> for Stepped<T, S>
where
    T: Step<Request>,
    S: Service<T::Next, Error = Refused>,
{
    type Response = S::Response;
    type Error = Refused;
    type Future = Either<S::Future, Refusing<S::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.step.take(request) {
            Ok(next) => Either::Left(self.inner.call(next)),
            Err(refused) => Either::Right(Refusing::new(refused)),
        }
    }
}

/// The future of a refused request. One that held a whole answer in the place of the refusal would be as large, and it is moved up
/// through every layer.
pub struct Refusing<R> {
    refused: Option<Refused>,
    response: PhantomData<fn() -> R>,
}

impl<R> Refusing<R> {
    fn new(refused: Refused) -> Refusing<R> {
        Refusing { refused: Some(refused), response: PhantomData }
    }
}

impl<R> Future for Refusing<R> {
    type Output = Result<R, Refused>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.refused.take().map_or(Poll::Pending, |refused| Poll::Ready(Err(refused)))
    }
}

/// What a classified request must pass. It stays in place meanwhile: moving it is most of what a step would cost.
pub trait Check {
    /// Looks at the request and takes what it needs.
    ///
    /// # Errors
    /// The refusal.
    fn check<B>(&self, classified: &mut Classified<B>) -> Result<(), Refusal>;

    /// Makes several checks, one after the other.
    ///
    /// # Errors
    /// The first refusal.
    fn check_all<B>(checks: &[Self], classified: &mut Classified<B>) -> Result<(), Refusal>
    where
        Self: Sized,
    {
        checks.iter().try_for_each(|check| check.check(classified))
    }
}

/// Several, one after the other.
impl<T: Check, const COUNT: usize> Check for [T; COUNT] {
    fn check<B>(&self, classified: &mut Classified<B>) -> Result<(), Refusal> {
        T::check_all(self, classified)
    }
}

/// The layer of a check.
#[derive(Clone, Copy, Debug)]
pub struct CheckLayer<T>(pub T);

impl<T: Clone, S> Layer<S> for CheckLayer<T> {
    type Service = Checked<T, S>;

    fn layer(&self, inner: S) -> Checked<T, S> {
        Checked { check: self.0.clone(), inner }
    }
}

/// The service of a check.
#[derive(Clone, Copy, Debug)]
pub struct Checked<T, S> {
    check: T,
    inner: S,
}

impl<T, B, S> Service<Classified<B>> for Checked<T, S>
where
    T: Check,
    S: Service<Classified<B>, Error = Refused>,
{
    type Response = S::Response;
    type Error = Refused;
    type Future = Either<S::Future, Refusing<S::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut classified: Classified<B>) -> Self::Future {
        match self.check.check(&mut classified) {
            Ok(()) => Either::Left(self.inner.call(classified)),
            Err(refusal) => {
                classified.exchange.spare = Some(classified.request.head);
                Either::Right(Refusing::new(Refused::new(refusal, classified.exchange)))
            }
        }
    }
}
