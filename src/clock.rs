//! FLOOR 1: the only reader of the operating system's clocks. Everything else is given the time.

use crate::engine::{Clock, Nanos};
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Where an edge gets the time from: the machine, or a test.
#[derive(Clone, Debug)]
pub enum Time {
    /// The machine's monotonic clock, counted from the process's start. Steps of the wall clock do not reach it.
    System(SystemTime),
    /// A number that a test moves.
    Manual(ManualTime),
}

impl Time {
    /// The machine's time, counted from now.
    #[must_use]
    pub fn system() -> Time {
        Time::System(SystemTime { origin: monotonic_now() })
    }

    /// A manual time at its epoch, and the handle that moves it.
    #[must_use]
    pub fn manual() -> (Time, ManualTime) {
        let manual = ManualTime::default();
        (Time::Manual(manual.clone()), manual)
    }

    /// The wall clock, for what people wrote down as a date: a key's expiry, a log line. Not monotonic.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        match self {
            Time::System(_) => wall_now(),
            Time::Manual(manual) => manual.wall(),
        }
    }
}

impl Clock for Time {
    fn now(&self) -> Nanos {
        match self {
            Time::System(system) => system.now(),
            Time::Manual(manual) => manual.now(),
        }
    }
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemTime {
    origin: Instant,
}

impl Clock for SystemTime {
    fn now(&self) -> Nanos {
        Nanos(crate::engine::time::nanos_of(monotonic_now() - self.origin))
    }
}

/// A clock that stands still until it is moved. Clones share one hand.
#[derive(Clone, Debug, Default)]
pub struct ManualTime {
    now_ns: Arc<AtomicU64>,
}

impl ManualTime {
    /// Moves the clock to `now`. Moving back is refused silently: the clock is monotonic.
    pub fn set(&self, now: Nanos) {
        self.now_ns.fetch_max(now.0, Ordering::SeqCst);
    }

    /// Moves the clock on.
    pub fn advance(&self, by: std::time::Duration) {
        self.now_ns.fetch_add(crate::engine::time::nanos_of(by), Ordering::SeqCst);
    }

    /// The Unix epoch plus the time on the clock.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        let now_ns = i128::from(self.now().0);
        Timestamp::from_nanosecond(now_ns).unwrap_or(Timestamp::MAX)
    }
}

impl Clock for ManualTime {
    fn now(&self) -> Nanos {
        Nanos(self.now_ns.load(Ordering::SeqCst))
    }
}

/// The present moment for timers of the runtime, whose clock tests may pause.
#[must_use]
pub fn timer_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the monotonic clock")]
fn monotonic_now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
fn wall_now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_manual_clock_never_goes_back() {
        let (time, hand) = Time::manual();
        hand.advance(Duration::from_secs(2));
        hand.set(Nanos(5));
        assert_eq!(time.now(), Nanos(2_000_000_000));
        assert_eq!(time.wall(), Timestamp::from_second(2).unwrap());
    }

    #[test]
    fn the_system_clock_starts_near_zero_and_moves_on() {
        let time = Time::system();
        let first = time.now();
        assert!(first < Nanos(60_000_000_000));
        assert!(time.now() >= first);
    }
}
