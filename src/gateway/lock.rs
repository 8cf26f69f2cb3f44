//! Requests that name one object take turns: see [`crate::locks`].
//!
//! A request that waits holds its slots, for it is in progress; its tokens are not spent yet and go back if it never gets its
//! turn. It gives up after its endpoint's `wait`, and is forgotten the moment its client leaves. That moment is seen while the
//! connection is read, which is until the request's body has come, or as much of it as one read gives: a longer body is not
//! read before its turn, so that a client that leaves in the midst of one is missed until then, at most for `wait`.

use super::context::Classified;
use super::observe::Refused;
use super::refusal::{LockTimeout, Refusal};
use crate::config::{AuthMode, ObjectLock};
use crate::engine::{Id, Nanos};
use crate::locks::{Bounds, Crowded, LockKey, Taking, Wait};
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::{Sleep, sleep};
use tower::{Layer, Service};

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct LockLayer;

impl<S> Layer<S> for LockLayer {
    type Service = Locked<S>;

    fn layer(&self, inner: S) -> Locked<S> {
        Locked { inner }
    }
}

/// The service.
#[derive(Clone, Copy, Debug)]
pub struct Locked<S> {
    inner: S,
}

impl<S, B> Service<Classified<B>> for Locked<S>
where
    S: Service<Classified<B>, Error = Refused> + Clone,
{
    type Response = S::Response;
    type Error = Refused;
    type Future = InTurn<S, B, S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut classified: Classified<B>) -> Self::Future {
        let taking = match lock_of(&classified) {
            None => return InTurn { stage: Stage::Turn { future: self.inner.call(classified) } },
            Some(lock) => take(&classified, lock).map(|taking| (taking, lock.wait)),
        };
        let stage = match taking {
            Ok((Taking::Taken(lock), _)) => {
                classified.held.lock(lock);
                Stage::Turn { future: self.inner.call(classified) }
            }
            Ok((Taking::Queued(wait), patience)) => {
                let since = classified.exchange.home.now();
                let (timeout, inner) = (Box::pin(sleep(patience)), self.inner.clone());
                Stage::Queued { waiting: Some(Box::new(Waiting { wait, timeout, since, classified, inner })) }
            }
            Err(crowded) => {
                let cause = match crowded {
                    Crowded::Queue => LockTimeout::QueueFull,
                    Crowded::Table => LockTimeout::TooManyWaiters,
                };
                Stage::Refused { refused: Some(Refused::new(Refusal::LockTimeout(cause), classified.exchange)) }
            }
        };
        InTurn { stage }
    }
}

/// By what requests of this one's endpoint take turns, if they do.
fn lock_of<B>(classified: &Classified<B>) -> Option<&ObjectLock> {
    let config = &classified.exchange.view.snapshot.config;
    config.endpoints.get(classified.class.endpoint.0 as usize)?.lock.as_ref()
}

fn take<B>(classified: &Classified<B>, lock: &ObjectLock) -> Result<Taking, Crowded> {
    let Classified { exchange, class, .. } = classified;
    let (shared, config) = (&exchange.home.shared, &exchange.view.snapshot.config);
    let owner = match (class.is_connected(), config.auth.mode) {
        (false, _) => [class.account, Id::NONE],
        // An object is the account's that is acted for, whoever acts.
        (true, AuthMode::Keys) => [class.connected, Id::NONE],
        // Nobody knows whether this key may act for that account, so it must not hold up those who may.
        (true, AuthMode::Passthrough) => [class.account, class.connected],
    };
    // A request that leaves a value out shares a lock with all that do, as with limits: leaving it out dodges nothing.
    let values = lock.values.iter().map(|&slot| class.values.get(slot).copied().unwrap_or(Id::NONE));
    let key = LockKey::new(&shared.engine.seed(), lock.id, class.mode, owner, values);
    let bounds = Bounds { queue_max: config.server.lock_queue_max, waiters_max: config.server.lock_waiters_max };
    shared.locks.take(key, bounds)
}

/// A request that waits for its turn. Boxed, since few do: all others carry no room for it up through the layers.
struct Waiting<S, B> {
    wait: Wait,
    timeout: Pin<Box<Sleep>>,
    since: Nanos,
    classified: Classified<B>,
    inner: S,
}

pin_project! {
    /// The future of [`Locked`].
    pub struct InTurn<S, B, F> {
        #[pin]
        stage: Stage<S, B, F>,
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage<S, B, F> {
        /// It is the request's turn, or it need not wait for any.
        Turn {
            #[pin]
            future: F,
        },
        Queued {
            waiting: Option<Box<Waiting<S, B>>>,
        },
        /// Too many wait already.
        Refused {
            refused: Option<Refused>,
        },
    }
}

impl<S, B, F> Future for InTurn<S, B, F>
where
    S: Service<Classified<B>, Error = Refused, Future = F>,
    F: Future<Output = Result<S::Response, Refused>>,
{
    type Output = Result<S::Response, Refused>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.project().stage;
        loop {
            let future = match stage.as_mut().project() {
                StageProjection::Turn { future } => return future.poll(cx),
                StageProjection::Queued { waiting } => match ready!(queue(waiting, cx)) {
                    Ok(future) => future,
                    Err(refused) => return Poll::Ready(Err(refused)),
                },
                StageProjection::Refused { refused } => {
                    return refused.take().map_or(Poll::Pending, |refused| Poll::Ready(Err(refused)));
                }
            };
            stage.set(Stage::Turn { future });
        }
    }
}

/// Waits for the turn or the time-out, the turn first where both have come.
fn queue<S, B>(waiting: &mut Option<Box<Waiting<S, B>>>, cx: &mut Context<'_>) -> Poll<Result<S::Future, Refused>>
where
    S: Service<Classified<B>, Error = Refused>,
{
    let Some(queued) = waiting else { return Poll::Pending };
    let turn = match Pin::new(&mut queued.wait).poll(cx) {
        Poll::Ready(lock) => Some(lock),
        Poll::Pending => {
            ready!(queued.timeout.as_mut().poll(cx));
            None
        }
    };
    let Some(queued) = waiting.take() else { return Poll::Pending };
    let Waiting { wait, since, mut classified, mut inner, .. } = *queued;
    // Out of the queue before anything else is done.
    drop(wait);
    classified.exchange.waited(since);
    Poll::Ready(match turn {
        Some(lock) => {
            classified.held.lock(lock);
            Ok(inner.call(classified))
        }
        None => Err(Refused::new(Refusal::LockTimeout(LockTimeout::Waited), classified.exchange)),
    })
}
