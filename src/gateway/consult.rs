//! Asks the store that gateways share, where there is one, before the first limit decides.
//!
//! Without a store this layer is one look at a pointer: nothing is boxed, and the stack stays one call. With one, the request may
//! have to wait for a round trip; what comes back is left in the request, and each `Admit` takes its own stage's part of it, so
//! that order, reasons and counters are those of a gateway that counts alone.

use super::context::{Classified, Home, View};
use super::observe::Refused;
use crate::engine::{MAX_ROUNDS, Manner, Questions, RequestClass};
use crate::store::{Answer, Answers, Exact, Fault, Lender};
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
    /// Each limit's verdict.
    Told(Result<Answer, Fault>),
    /// In which manner limits decide here now.
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
    match classified.exchange.home.exact.clone() {
        Some(exact) => ask_exactly(classified, exact),
        None => ask_to_lend(classified),
    }
}

fn ask_exactly<B>(classified: &mut Classified<B>, exact: Rc<Exact>) -> Option<Asked> {
    let questions = questions(classified);
    if questions.asked.is_empty() {
        return None;
    }
    if !exact.is_open_for_questions() {
        go_apart(classified, &exact, &questions);
        return None;
    }
    let answered = exact.ask(questions, classified.class.cost, classified.at);
    Some(Box::pin(async { Heard::Told(answered.await) }))
}

fn questions<B>(classified: &Classified<B>) -> Questions {
    let Classified { exchange, class, at, .. } = classified;
    exchange.home.shared.engine.questions(&exchange.view.snapshot.config.policy, class, *at)
}

/// Leaves what came back in the request.
fn hear<B>(classified: &mut Classified<B>, heard: Heard) {
    match heard {
        Heard::Told(Ok(Answer { told, grip })) => {
            // Whatever was not told of has not been asked, as something before it refuses.
            classified.held.hold().decide_by(Manner::Apart);
            classified.held.hold().tell(told.into());
            classified.held.grip(grip);
        }
        Heard::Told(Err(_)) => {
            let Some(exact) = classified.exchange.home.exact.clone() else { return };
            let questions = questions(classified);
            go_apart(classified, &exact, &questions);
        }
        Heard::Lent(manner) => {
            classified.held.hold().decide_by(manner);
            // The limits decide now: what was lent was lent after the request came.
            classified.at = classified.exchange.home.now();
        }
    }
}

/// Has the request's limits go on without the store.
fn go_apart<B>(classified: &mut Classified<B>, exact: &Exact, questions: &Questions) {
    classified.held.hold().decide_by(Manner::Apart);
    classified.exchange.home.shared.metrics.store.fallbacks.inc();
    exact.owe(questions, classified.class.cost);
}

fn ask_to_lend<B>(classified: &mut Classified<B>) -> Option<Asked> {
    let lender = classified.exchange.home.lender.clone()?;
    if !lender.is_open() {
        classified.held.hold().decide_by(Manner::Apart);
        return None;
    }
    let policy = &classified.exchange.view.snapshot.config.policy;
    let mut wanted = Vec::new();
    classified.exchange.home.shared.engine.consult(policy, &classified.class, classified.at, false, &mut wanted);
    // What is needed soon is asked for and not waited for.
    let answers = lender.provide(&wanted);
    if answers.is_empty() {
        return None;
    }
    let home = Rc::clone(&classified.exchange.home);
    let provided = provided(home, lender, Rc::clone(&classified.exchange.view), classified.class, answers);
    Some(Box::pin(async { Heard::Lent(provided.await) }))
}

/// Waits until there is what the request needs, or there is none to be had; and answers how it is to be decided.
async fn provided(
    home: Rc<Home>,
    lender: Rc<Lender>,
    view: Rc<View>,
    class: RequestClass,
    mut answers: Answers,
) -> Manner {
    let policy = &view.snapshot.config.policy;
    for _ in 1..MAX_ROUNDS {
        if !answers.come().await {
            return Manner::Apart;
        }
        let mut wanted = Vec::new();
        home.shared.engine.consult(policy, &class, home.now(), true, &mut wanted);
        answers = lender.provide(&wanted);
        if answers.is_empty() {
            return Manner::Lent;
        }
    }
    if answers.come().await { Manner::Lent } else { Manner::Apart }
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
                    let heard = ready!(waiting.asked.as_mut().poll(cx));
                    let Some(waiting) = asking.take() else { return Poll::Pending };
                    let Asking { mut classified, mut inner, .. } = *waiting;
                    hear(&mut classified, heard);
                    inner.call(classified)
                }
            };
            stage.set(Stage::Told { future });
        }
    }
}
