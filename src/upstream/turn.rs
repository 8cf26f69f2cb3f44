//! Writes go out together.
//!
//! What wakes whoever reads at the other end is dear, and a thread that reads, decides and writes for one connection after another
//! wakes it each time. So what is ready to be written waits until the thread has been through everything else that was ready:
//! first all is read, then all is written. Nothing waits where nothing else is ready.

use std::task::{Context, Poll};

/// A task's wait for all others that are ready now; once.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    has_waited: bool,
}

impl Turn {
    /// One that waits where that is worth it.
    #[must_use]
    pub fn new(waits: bool) -> Turn {
        Turn { has_waited: !waits }
    }

    /// Whether the others have been.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.has_waited
    }

    /// Pending once: the task comes behind all that are ready already.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_waited {
            return Poll::Ready(());
        }
        self.has_waited = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn all_are_read_before_any_is_written() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let task = |name: &'static str, waits: bool| {
            let log = Arc::clone(&log);
            let note = move |what| log.lock().unwrap().push((name, what));
            tokio::spawn(async move {
                note("read");
                let mut turn = Turn::new(waits);
                poll_fn(|cx| turn.poll(cx)).await;
                note("written");
                assert!(turn.has_come());
            })
        };
        for task in [task("first", true), task("second", false), task("third", true)] {
            task.await.unwrap();
        }
        let expected = [
            ("first", "read"),
            ("second", "read"),
            ("second", "written"),
            ("third", "read"),
            ("first", "written"),
            ("third", "written"),
        ];
        assert_eq!(*log.lock().unwrap(), expected);
    }
}
