//! Writes go out together.
//!
//! What wakes whoever reads at the other end is dear, and a thread that reads, decides and writes for one connection after another
//! wakes it each time. So where many are ready together, what is ready to be written waits until the thread has been through all
//! of them: first all is read, then all is written. Where few are, nothing waits: there it would only come later.

use std::cell::Cell;
use std::task::{Context, Poll};

/// Writes between two rests of a thread from which on there are many.
const MANY: u32 = 24;

thread_local! {
    /// Writes since the thread last had nothing to do, and in the stretch before that.
    static WRITES: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// The thread has been through everything that was ready.
pub fn rest() {
    WRITES.with(|writes| writes.set((0, writes.get().0)));
}

/// One more write; whether there are many.
fn is_crowded() -> bool {
    WRITES.with(|writes| {
        let (now, before) = writes.get();
        writes.set((now.saturating_add(1), before));
        now.max(before) >= MANY
    })
}

/// A task's wait for all others that are ready now; once.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    has_waited: bool,
}

impl Turn {
    /// The turn of one write; none is waited for unless it `may_wait` and there are many.
    #[must_use]
    pub fn new(may_wait: bool) -> Turn {
        Turn { has_waited: !(is_crowded() && may_wait) }
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

/// This thread has had many writes.
#[cfg(test)]
pub fn crowd() {
    WRITES.set((MANY, MANY));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::{Arc, Mutex};

    #[test]
    fn only_where_there_are_many_is_a_turn_waited_for() {
        let waits = || !Turn::new(true).has_waited;
        assert!((0..MANY).all(|_| !waits()), "nobody knows yet that there are many");
        assert!(waits() && Turn::new(false).has_waited);
        rest();
        assert!(waits(), "there were many just now");
        rest();
        assert!(!waits());
    }

    #[tokio::test]
    async fn all_are_read_before_any_is_written() {
        crowd();
        let log = Arc::new(Mutex::new(Vec::new()));
        let task = |name: &'static str, waits: bool| {
            let log = Arc::clone(&log);
            let note = move |what| log.lock().unwrap().push((name, what));
            tokio::spawn(async move {
                note("read");
                let mut turn = Turn::new(waits);
                poll_fn(|cx| turn.poll(cx)).await;
                note("written");
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
