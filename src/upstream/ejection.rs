//! Leaving out a server that fails requests one after another.
//!
//! Time is an argument; nothing runs. An ejection ends by itself when its time is over, and the failures stay counted until a
//! request succeeds: so the first request to a server that comes back and fails ejects it again, for longer.

use crate::config::Ejection;
use crate::engine::{Nanos, time::nanos_of};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The longest ejection.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

/// What requests have said of a server.
#[derive(Debug, Default)]
pub struct Outlier {
    /// Failed requests in a row.
    failures: AtomicU32,
    /// How often it was ejected, less what good time has made up for.
    times: AtomicU32,
    /// The end of its newest ejection, in nanoseconds of the process's clock.
    until_ns: AtomicU64,
}

impl Outlier {
    /// Whether it is left out now.
    #[must_use]
    pub fn is_ejected(&self, now: Nanos) -> bool {
        self.until_ns.load(Relaxed) > now.0
    }

    /// When its newest ejection ends or has ended.
    #[must_use]
    pub(super) fn until(&self) -> Nanos {
        Nanos(self.until_ns.load(Relaxed))
    }

    /// Ends its ejection: its place is needed. How often it was ejected stays counted.
    pub(super) fn readmit(&self, now: Nanos) {
        self.until_ns.store(now.0, Relaxed);
    }

    /// How much longer it is left out.
    #[must_use]
    pub fn left(&self, now: Nanos) -> Duration {
        Duration::from_nanos(self.until_ns.load(Relaxed).saturating_sub(now.0))
    }

    /// Failed requests in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }

    /// A request succeeded.
    pub fn succeeded(&self) {
        // Mostly there is nothing to forget, and then nothing is written that other threads read.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// A request failed. Returns whether that is one too many.
    #[must_use]
    pub fn failed(&self, settings: &Ejection, now: Nanos) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        settings.failures > 0 && failures >= settings.failures && !self.is_ejected(now)
    }

    /// Leaves it out from now on, and says for how long: each time the base longer, and each base that it served well before
    /// takes one time off.
    pub fn eject(&self, settings: &Ejection, now: Nanos) -> Duration {
        let base_ns = nanos_of(settings.base).max(1);
        let good_ns = now.0.saturating_sub(self.until_ns.load(Relaxed));
        let forgiven = u32::try_from(good_ns / base_ns).unwrap_or(u32::MAX);
        let times = self.times.load(Relaxed).saturating_sub(forgiven).saturating_add(1);
        self.times.store(times, Relaxed);
        let length = settings.base.saturating_mul(times).min(LONGEST);
        self.until_ns.store(now.0.saturating_add(nanos_of(length)), Relaxed);
        length
    }
}

/// How many of so many servers may be left out at once: the share, one at least, but never the last.
#[must_use]
pub(super) fn most_ejected(servers: usize, settings: &Ejection) -> usize {
    let share = usize::try_from(settings.max_share.of(servers as u64)).unwrap_or(usize::MAX);
    if settings.max_share.0 == 0 { 0 } else { share.max(1).min(servers.saturating_sub(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Share;

    const SETTINGS: Ejection = Ejection { failures: 3, base: Duration::from_secs(10), max_share: Share(500) };

    fn at(seconds: u64) -> Nanos {
        Nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn failures_in_a_row_are_too_many_and_a_success_begins_anew() {
        let outlier = Outlier::default();
        let fail = |now| outlier.failed(&SETTINGS, now);
        assert!(!fail(at(1)) && !fail(at(1)));
        outlier.succeeded();
        assert!(!fail(at(1)) && !fail(at(1)));
        assert!(fail(at(1)));
        let never = Ejection { failures: 0, ..SETTINGS };
        assert!(!outlier.failed(&never, at(1)));
    }

    #[test]
    fn each_ejection_is_longer_and_good_time_makes_up_for_them() {
        let outlier = Outlier::default();
        for _ in 0..3 {
            let _ = outlier.failed(&SETTINGS, at(100));
        }
        assert_eq!(outlier.eject(&SETTINGS, at(100)), Duration::from_secs(10));
        assert!(outlier.is_ejected(at(109)) && !outlier.is_ejected(at(110)));
        assert_eq!(outlier.left(at(104)), Duration::from_secs(6));
        assert!(!outlier.failed(&SETTINGS, at(105)), "it is left out already");
        assert!(outlier.failed(&SETTINGS, at(111)), "the first failure after its return is enough");
        assert_eq!(outlier.eject(&SETTINGS, at(111)), Duration::from_secs(20));
        assert_eq!(outlier.eject(&SETTINGS, at(132)), Duration::from_secs(30));
        assert_eq!(outlier.eject(&SETTINGS, at(162 + 25)), Duration::from_secs(20), "two bases are forgiven");
        assert_eq!(outlier.eject(&SETTINGS, at(100_000)), Duration::from_secs(10));
        for second in 0..1_000 {
            assert!(outlier.eject(&SETTINGS, at(200_000 + second)) <= LONGEST);
        }
    }

    #[test]
    fn some_server_always_stays() {
        let most = |servers, share| most_ejected(servers, &Ejection { max_share: Share(share), ..SETTINGS });
        assert_eq!([0, 1, 2, 3, 4, 10].map(|servers| most(servers, 500)), [0, 0, 1, 1, 2, 5]);
        assert_eq!([1, 2, 3].map(|servers| most(servers, 1_000)), [0, 1, 2]);
        assert_eq!(most(10, 10), 1);
        assert_eq!(most(10, 0), 0);
    }
}
