//! What object locks tell of themselves.

use super::{EXCHANGE_SECONDS, Maker, gauge_value};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

/// The metrics of object locks.
#[derive(Debug)]
pub struct LockMetrics {
    /// `tollgate_lock_wait_seconds`
    wait_seconds: HistogramVec,
    /// `tollgate_lock_timeouts_total`
    timeouts: IntCounterVec,
    /// `tollgate_lock_waiters`
    waiters: IntGauge,
    /// `tollgate_locks_held`
    held: IntGauge,
}

impl LockMetrics {
    pub(super) fn new(make: &Maker) -> Result<LockMetrics, prometheus::Error> {
        Ok(LockMetrics {
            wait_seconds: make.seconds(
                "lock_wait",
                "Time that requests waited for their turn at an object, of those that had to wait.",
                EXCHANGE_SECONDS,
            )?,
            timeouts: make.counters(
                "tollgate_lock_timeouts_total",
                "Requests refused because their object was in use: waited, queue_full, too_many_waiters.",
                &["endpoint", "cause"],
            )?,
            waiters: make.gauge("tollgate_lock_waiters", "Requests that wait for their turn at an object.")?,
            held: make.gauge("tollgate_locks_held", "Objects that a request has the turn at.")?,
        })
    }

    /// The timer of waits on a route.
    #[must_use]
    pub fn wait(&self, route: &str) -> Histogram {
        self.wait_seconds.with_label_values(&[route])
    }

    /// The counter of requests of an endpoint that did not get their turn, for one cause.
    #[must_use]
    pub fn timeouts(&self, endpoint: &str, cause: &str) -> IntCounter {
        self.timeouts.with_label_values(&[endpoint, cause])
    }

    /// Sets the gauges, which are taken at a scrape.
    pub fn take_census(&self, waiters: u32, held: usize) {
        self.waiters.set(waiters.into());
        self.held.set(gauge_value(held as u64));
    }
}
