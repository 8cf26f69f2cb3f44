//! How slow the other end of a connection may be.

use crate::clock::timer_now;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Bounds the time that a client keeps its reader or writer waiting: at most `pause` at once, and over the whole message at most
/// `pause` and a second for each `min_rate` bytes of it. So whoever sends a byte now and then does not hold a slot for ever.
///
/// Only waiting counts: a client is not to blame for an upstream that takes its body slowly. The timer exists only while there
/// is waiting.
#[derive(Debug)]
pub struct Pace {
    pause: Duration,
    /// Bytes a second; 0: any.
    min_rate: u64,
    moved: u64,
    waited: Duration,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Pace {
    /// At most `pause` at once, at least `min_rate` bytes a second in the end; 0: any rate.
    #[must_use]
    pub fn new(pause: Duration, min_rate: usize) -> Pace {
        let min_rate = u64::try_from(min_rate).unwrap_or(u64::MAX);
        Pace { pause, min_rate, moved: 0, waited: Duration::ZERO, timer: None }
    }

    /// So many bytes came, or went.
    pub fn advance(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if let Some((since, _)) = self.timer.take() {
            self.waited = self.waited.saturating_add(timer_now() - since);
        }
    }

    /// The message has ended; another one begins with nothing against it.
    pub fn restart(&mut self) {
        (self.moved, self.waited, self.timer) = (0, Duration::ZERO, None);
    }

    /// Nothing moves: whether it has been too long.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (_, timer) = match &mut self.timer {
            Some(timer) => timer,
            None => {
                let now = timer_now();
                let patience = self.patience();
                self.timer.insert((now, Box::pin(sleep_until(now + patience))))
            }
        };
        timer.as_mut().poll(cx)
    }

    /// How long the next wait may take.
    fn patience(&self) -> Duration {
        let Some(seconds) = self.moved.checked_div(self.min_rate) else { return self.pause };
        let earned = self.pause.saturating_add(Duration::from_secs(seconds));
        self.pause.min(earned.saturating_sub(self.waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    /// Whether the client is given up while it pauses for `ms`.
    async fn gives_up(pace: &mut Pace, ms: u64) -> bool {
        let expired = poll_fn(|cx| pace.poll_expired(cx));
        tokio::time::timeout(Duration::from_millis(ms), expired).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_bounded() {
        let mut pace = Pace::new(Duration::from_secs(10), 0);
        for _ in 0..100 {
            assert!(!gives_up(&mut pace, 9_900).await);
            pace.advance(1);
        }
        assert!(gives_up(&mut pace, 10_100).await);
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_pauses_are_bounded_too() {
        let mut pace = Pace::new(Duration::from_secs(10), 100);
        let mut pauses = 0;
        while !gives_up(&mut pace, 1_000).await {
            pace.advance(10);
            pauses += 1;
        }
        // 10 s, and one more for its hundredth byte.
        assert!((9..=11).contains(&pauses), "{pauses}");
        pace.restart();
        assert!(!gives_up(&mut pace, 9_000).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_the_rate_may_go_on() {
        let mut pace = Pace::new(Duration::from_secs(2), 100);
        for _ in 0..1_000 {
            assert!(!gives_up(&mut pace, 1_000).await);
            pace.advance(100);
        }
        assert!(gives_up(&mut pace, 3_000).await);
    }

    #[tokio::test(start_paused = true)]
    async fn only_waiting_counts() {
        let mut pace = Pace::new(Duration::from_secs(2), 100);
        pace.advance(1);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!gives_up(&mut pace, 1_900).await);
    }
}
