//! How the guard learns that a request is answered.

use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// Counts the answered requests of one connection. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Answers(Arc<AtomicU64>);

impl Answers {
    /// Wraps a response body so that its request counts as answered when hyper lets go of it, which it does only when it has
    /// taken all of it or given the connection up.
    pub fn follow<B>(&self, body: B) -> Followed<B> {
        Followed { body, _answer: Answer(self.clone()) }
    }

    /// Counts one request as answered: for an owner that has a body of its own to count from. Call it when hyper drops the
    /// response body, once for each request that hyper has handed to the service.
    pub fn answered(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

pin_project_lite::pin_project! {
    /// A response body whose end is counted; see [`Answers::follow`].
    #[derive(Debug)]
    pub struct Followed<B> {
        #[pin]
        body: B,
        // Dropped with the body, whichever way that happens.
        _answer: Answer,
    }
}

#[derive(Debug)]
struct Answer(Answers);

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.answered();
    }
}

impl<B: Body> Body for Followed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
