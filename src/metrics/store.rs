//! Metrics of the store that gateways share.

use super::Maker;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

/// Upper bounds in seconds of a call: 50 µs to 1 s.
const CALL_SECONDS: &[f64] = &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 1.0];

/// What is told of the store.
#[derive(Debug)]
pub struct StoreMetrics {
    /// `tollgate_store_call_duration_seconds`: calls that a request waited for.
    pub calls: Histogram,
    /// `tollgate_store_errors_total`
    errors: IntCounterVec,
    /// `tollgate_store_up`: 1 while it is asked.
    pub up: IntGauge,
    /// `tollgate_store_gateways`: gateways seen.
    pub gateways: IntGauge,
    /// `tollgate_store_parts`: into how many parts limits are cut while the store is gone.
    pub parts: IntGauge,
    /// `tollgate_store_fallbacks_total`: requests decided without it.
    pub fallbacks: IntCounter,
    /// `tollgate_store_give_backs_total`: things given back after a request was given up.
    pub give_backs: IntCounter,
    /// `tollgate_store_tokens_lent_total`: tokens of rates and quotas that the store lent.
    pub tokens_lent: IntCounter,
    /// `tollgate_store_tokens_returned_total`: of those, what went back unspent.
    pub tokens_returned: IntCounter,
    /// `tollgate_store_tokens_stranded_total`: of those, what nobody could spend any more.
    pub tokens_stranded: IntCounter,
}

impl StoreMetrics {
    pub(super) fn new(make: &Maker) -> Result<StoreMetrics, prometheus::Error> {
        Ok(StoreMetrics {
            calls: make.seconds_of(
                "tollgate_store_call_duration_seconds",
                "Calls of the store that a request waited for.",
                CALL_SECONDS,
            )?,
            errors: make.counters("tollgate_store_errors_total", "Calls of the store that failed.", &["cause"])?,
            up: make.gauge(
                "tollgate_store_up",
                "Whether the store is asked; 0 while limits go on without it or a shard of it.",
            )?,
            gateways: make.gauge("tollgate_store_gateways", "Gateways last seen in the store, this one among them.")?,
            parts: make.gauge(
                "tollgate_store_parts",
                "Without the store this gateway takes one of so many parts of each limit; 0: none yet.",
            )?,
            fallbacks: make
                .counter("tollgate_store_fallbacks_total", "Requests that were decided without the store.")?,
            give_backs: make.counter("tollgate_store_give_backs_total", "Slots and tokens given back to the store.")?,
            tokens_lent: make
                .counter("tollgate_store_tokens_lent_total", "Tokens of rates and quotas that the store has lent.")?,
            tokens_returned: make
                .counter("tollgate_store_tokens_returned_total", "Lent tokens that went back to the store unspent.")?,
            tokens_stranded: make.counter(
                "tollgate_store_tokens_stranded_total",
                "Lent tokens that grew too old to be spent, or were lost on their way back.",
            )?,
        })
    }

    /// Notes a call that failed.
    pub fn failed(&self, cause: &str) {
        self.errors.with_label_values(&[cause]).inc();
    }
}
