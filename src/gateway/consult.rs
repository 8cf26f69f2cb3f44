//! Asks the store that gateways share, where there is one, before the first limit decides.
//!
//! Without a store this layer is one look at a pointer: nothing is boxed, and the stack stays one call. With one, the request may
//! have to wait for a round trip; what comes back is left in the request, and each stage takes its own part of it, so
//! that order, reasons and counters are those of a gateway that counts alone.

use super::context::Classified;
use super::observe::Refused;
use super::provide;
use crate::engine::{Manner, Questions};
use crate::store::{Answer, Exact, Fault};
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tower::{Layer, Service};

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct ConsultLayer;

impl<S> Layer<S> for ConsultLayer {
    type Service = Consult<S>;

    fn layer(&self, inner: S) -> Consult<S> {
        Consult { inner }
    }
}

/// The service.
#[derive(Clone, Copy, Debug)]
pub struct Consult<S> {
    inner: S,
}

/// What is waited for: it knows nothing of the request's body.
type Asked = Pin<Box<dyn Future<Output = Heard>>>;

/// What came back.
enum Heard {
    /// Of a request that the store decides.
    Decided(Result<Answer, Fault>),
    /// Of one that is decided here by what the store has lent.
    Lent(Manner),
}

impl<S, B> Service<Classified<B>> for Consult<S>
where
    S: Service<Classified<B>, Error = Refused> + Clone,
{
    type Response = S::Response;
    type Error = Refused;
    type Future = Consulting<S, B, S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut classified: Classified<B>) -> Self::Future {
        let stage = match ask(&mut classified) {
            None => Stage::Told { future: self.inner.call(classified) },
            Some(asked) => {
                let inner = self.inner.clone();
                Stage::Asking { asking: Some(Box::new(Asking { asked, classified, inner })) }
            }
        };
        Consulting { stage }
    }
}

/// What to wait for, if there is anything.
fn ask<B>(classified: &mut Classified<B>) -> Option<Asked> {
    if let Some(lender) = classified.exchange.home.lender.clone() {
        let provided = provide::ask(classified, &lender)?;
        return Some(Box::pin(async { Heard::Lent(provided.come().await) }));
    }
    let exact = Rc::clone(classified.exchange.home.exact.as_ref()?);
    let questions = questions(classified);
    if questions.asked.is_empty() {
        return None;
    }
    if !exact.is_open_for(&questions) {
        go_apart(classified, &exact, &questions);
        return None;
    }
    let asked = exact.ask(questions, classified.class.cost, classified.at);
    Some(Box::pin(async { Heard::Decided(asked.await) }))
}

fn questions<B>(classified: &Classified<B>) -> Questions {
    let Classified { exchange, class, at, .. } = classified;
    exchange.home.shared.engine.questions(&exchange.view.snapshot.config.policy, class, *at)
}

/// Leaves what came back in the request.
fn hear<B>(classified: &mut Classified<B>, heard: Heard) {
    // What was lent was lent after the request came; and limits that no store decides are not asked as of a moment that long ago.
    classified.at = classified.exchange.home.now();
    match heard {
        Heard::Lent(manner) => classified.held.hold().decide_by(manner),
        Heard::Decided(Ok(Answer { told, grip })) => {
            // Whatever was not told of has not been asked, as something before it refuses.
            classified.held.hold().decide_by(Manner::Apart);
            classified.held.hold().tell(told.into());
            classified.held.grip(grip);
        }
        Heard::Decided(Err(_)) => {
            let Some(exact) = classified.exchange.home.exact.clone() else { return };
            let questions = questions(classified);
            go_apart(classified, &exact, &questions);
        }
    }
}

/// Has the request's limits go on without the store.
fn go_apart<B>(classified: &mut Classified<B>, exact: &Exact, questions: &Questions) {
    classified.held.hold().decide_by(Manner::Apart);
    classified.exchange.home.shared.metrics.store.fallbacks.inc();
    exact.owe(questions, classified.class.cost);
}

/// A request that waits for the store's answer.
struct Asking<S, B> {
    asked: Asked,
    classified: Classified<B>,
    inner: S,
}

pin_project! {
    /// The future of [`Consult`].
    pub struct Consulting<S, B, F> {
        #[pin]
        stage: Stage<S, B, F>,
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage<S, B, F> {
        /// The request is with the layers below.
        Told {
            #[pin]
            future: F,
        },
        Asking {
            asking: Option<Box<Asking<S, B>>>,
        },
    }
}

impl<S, B, F> Future for Consulting<S, B, F>
where
    S: Service<Classified<B>, Error = Refused, Future = F>,
    F: Future<Output = Result<S::Response, Refused>>,
{
    type Output = Result<S::Response, Refused>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.project().stage;
        loop {
            let future = match stage.as_mut().project() {
                StageProjection::Told { future } => return future.poll(cx),
                StageProjection::Asking { asking } => {
                    let Some(waiting) = asking else { return Poll::Pending };
                    let answer = ready!(waiting.asked.as_mut().poll(cx));
                    let Some(waiting) = asking.take() else { return Poll::Pending };
                    let Asking { mut classified, mut inner, .. } = *waiting;
                    hear(&mut classified, answer);
                    inner.call(classified)
                }
            };
            stage.set(Stage::Told { future });
        }
    }
}
