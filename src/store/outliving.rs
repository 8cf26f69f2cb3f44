//! A future that is run to its end whether or not somebody waits for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::runtime::Handle;

/// Polled by whoever waits for it, which costs no task and no hand-over; where it is given up unfinished, it goes on in a task of its
/// own and its outcome is dropped. With the thread's runtime it ends unfinished.
pub(super) struct Outliving<F: Future + 'static> {
    unfinished: Option<Pin<Box<F>>>,
}

impl<F: Future + 'static> Outliving<F> {
    pub(super) fn new(future: F) -> Outliving<F> {
        Outliving { unfinished: Some(Box::pin(future)) }
    }
}

impl<F: Future + 'static> Future for Outliving<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = &mut self.unfinished else { return Poll::Pending };
        let polled = future.as_mut().poll(cx);
        if polled.is_ready() {
            self.unfinished = None;
        }
        polled
    }
}

impl<F: Future + 'static> Drop for Outliving<F> {
    fn drop(&mut self) {
        if let Some(future) = self.unfinished.take()
            && Handle::try_current().is_ok()
        {
            tokio::task::spawn_local(async move { drop(future.await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use tokio::runtime::{Builder, LocalOptions};

    fn counting(ended: &Rc<Cell<u32>>) -> Outliving<impl Future<Output = u32> + use<>> {
        let ended = Rc::clone(ended);
        Outliving::new(async move {
            tokio::task::yield_now().await;
            ended.set(ended.get() + 1);
            ended.get()
        })
    }

    #[test]
    fn it_ends_once_waited_for_or_not() {
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default()).unwrap();
        let ended = Rc::new(Cell::new(0));
        runtime.block_on(async {
            assert_eq!(counting(&ended).await, 1);
            drop(counting(&ended));
            let mut begun = Box::pin(counting(&ended));
            assert!(std::future::poll_fn(|cx| Poll::Ready(begun.as_mut().poll(cx).is_pending())).await);
            drop(begun);
            assert_eq!(ended.get(), 1, "nobody waits for them");
            while ended.get() < 3 {
                tokio::task::yield_now().await;
            }
        });
        let left = counting(&ended);
        drop(runtime);
        drop(left);
        assert_eq!(ended.get(), 3, "without a runtime it ends unfinished");
    }
}
