//! Whether Redis is worth asking. Pure: time is an argument.
//!
//! Closed, every request asks. It opens at the first call that fails for certain (no connection, a server that says it cannot), or
//! at the third in a row that brought no answer in time; so an outage costs at most one command time-out, and that for those under
//! way when it begins. Open, nobody asks; a probe of the gateway's own, which no request waits for, is due after a pause that
//! doubles from [`FIRST_PAUSE`] to [`LONGEST_PAUSE`]. The first probe that succeeds closes it.
//!
//! All atomics stand for themselves; who reads an older state asks once in vain, or once less.

use crate::engine::Nanos;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Between a failure and the first probe.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Between two probes at most.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Calls in a row without an answer in time that open it.
pub const TIMEOUTS: u32 = 3;

/// The state.
#[derive(Debug, Default)]
pub struct Breaker {
    open: AtomicBool,
    /// Calls without an answer since the last one with.
    timeouts: AtomicU32,
    /// Probes that failed since it opened.
    probes: AtomicU32,
    /// When the next probe is due.
    probe_at: AtomicU64,
    /// How often it has closed.
    recoveries: AtomicU64,
}

/// How a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer in time.
    Slow,
    /// An answer that says no, or no connection.
    Certain,
}

impl Breaker {
    /// Whether to ask.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.open.load(Relaxed)
    }

    /// How often it has closed again. Who has seen another number has yet to tell Redis what happened meanwhile.
    #[must_use]
    pub fn recoveries(&self) -> u64 {
        self.recoveries.load(Relaxed)
    }

    /// A call brought an answer.
    pub fn succeeded(&self) {
        if self.timeouts.load(Relaxed) != 0 {
            self.timeouts.store(0, Relaxed);
        }
    }

    /// A call failed. Answers whether this has opened it.
    pub fn failed(&self, failure: Failure, now: Nanos) -> bool {
        let opens = match failure {
            Failure::Certain => true,
            Failure::Slow => self.timeouts.fetch_add(1, Relaxed).saturating_add(1) >= TIMEOUTS,
        };
        if !opens || self.open.swap(true, Relaxed) {
            return false;
        }
        self.probes.store(0, Relaxed);
        self.probe_at.store(now.saturating_add(nanos(FIRST_PAUSE)).0, Relaxed);
        true
    }

    /// When the next probe is due; `None` while it is closed.
    #[must_use]
    pub fn probe_at(&self) -> Option<Nanos> {
        (!self.is_closed()).then(|| Nanos(self.probe_at.load(Relaxed)))
    }

    /// How a probe went. Answers whether it has closed the breaker.
    pub fn probed(&self, succeeded: bool, now: Nanos) -> bool {
        if self.is_closed() {
            return false;
        }
        if succeeded {
            self.timeouts.store(0, Relaxed);
            self.recoveries.fetch_add(1, Relaxed);
            self.open.store(false, Relaxed);
            return true;
        }
        let failed = self.probes.fetch_add(1, Relaxed).saturating_add(1);
        let pause = FIRST_PAUSE.saturating_mul(1 << failed.min(8)).min(LONGEST_PAUSE);
        self.probe_at.store(now.saturating_add(nanos(pause)).0, Relaxed);
        false
    }
}

fn nanos(duration: Duration) -> u64 {
    crate::engine::time::nanos_of(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_certain_failure_opens_it_at_once_and_once() {
        let breaker = Breaker::default();
        assert!(breaker.is_closed());
        assert_eq!(breaker.probe_at(), None);
        assert!(breaker.failed(Failure::Certain, Nanos(5 * MS)));
        assert!(!breaker.failed(Failure::Certain, Nanos(6 * MS)), "it is open already");
        assert!(!breaker.is_closed());
        assert_eq!(breaker.probe_at(), Some(Nanos(105 * MS)));
    }

    #[test]
    fn slow_calls_open_it_in_a_row_only() {
        let breaker = Breaker::default();
        for _ in 0..10 {
            assert!(!breaker.failed(Failure::Slow, Nanos(0)));
            assert!(!breaker.failed(Failure::Slow, Nanos(0)));
            breaker.succeeded();
        }
        assert!(!breaker.failed(Failure::Slow, Nanos(0)));
        assert!(!breaker.failed(Failure::Slow, Nanos(0)));
        assert!(breaker.is_closed());
        assert!(breaker.failed(Failure::Slow, Nanos(0)));
        assert!(!breaker.is_closed());
    }

    #[test]
    fn probes_are_further_and_further_apart_up_to_a_second() {
        let breaker = Breaker::default();
        let mut now = Nanos(0);
        assert!(breaker.failed(Failure::Certain, now));
        let mut pauses = Vec::new();
        for _ in 0..20 {
            let due = breaker.probe_at().unwrap();
            pauses.push((due.0 - now.0) / MS);
            now = due;
            assert!(!breaker.probed(false, now));
        }
        assert_eq!(pauses[..6], [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(pauses.last(), Some(&1_000));
    }

    #[test]
    fn one_good_probe_closes_it_and_the_next_outage_begins_anew() {
        let breaker = Breaker::default();
        assert!(!breaker.probed(true, Nanos(0)), "it was never open");
        assert!(breaker.failed(Failure::Certain, Nanos(0)));
        assert!(!breaker.probed(false, Nanos(100 * MS)));
        assert!(breaker.probed(true, Nanos(300 * MS)));
        assert!(!breaker.probed(true, Nanos(300 * MS)), "only one closes it");
        assert!(breaker.is_closed());
        assert_eq!((breaker.recoveries(), breaker.probe_at()), (1, None));
        assert!(!breaker.failed(Failure::Slow, Nanos(400 * MS)), "time-outs before it do not count");
        assert!(breaker.failed(Failure::Certain, Nanos(400 * MS)));
        assert_eq!(breaker.probe_at(), Some(Nanos(500 * MS)));
    }
}
