//! A clock that a test moves, and the real one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tollgate::engine::{Clock, Nanos};

/// Stands still until a test moves it.
#[derive(Debug, Default)]
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    /// Moves the clock `by_ns` nanoseconds on.
    pub(crate) fn advance(&self, by_ns: u64) {
        self.0.fetch_add(by_ns, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Nanos {
        Nanos(self.0.load(Ordering::Relaxed))
    }
}

/// The machine's monotonic clock, for the tests that need threads to race in real time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RealClock(Instant);

impl RealClock {
    #[expect(clippy::disallowed_methods, reason = "measures from outside, independently of src/clock.rs")]
    fn instant() -> Instant {
        Instant::now()
    }

    /// Starts at zero.
    pub(crate) fn start() -> RealClock {
        RealClock(RealClock::instant())
    }
}

impl Clock for RealClock {
    fn now(&self) -> Nanos {
        Nanos(u64::try_from((RealClock::instant() - self.0).as_nanos()).unwrap_or(u64::MAX))
    }
}
