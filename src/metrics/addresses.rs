//! Metrics of the limits by address.

use super::{Maker, gauge_value};
use prometheus::{IntCounter, IntGauge};

/// What is told of limits by address. No label ever holds an address.
#[derive(Debug)]
pub struct AddressMetrics {
    /// `tollgate_address_rejections_total`, in the order of its causes.
    rejections: [IntCounter; AddressMetrics::CAUSES.len()],
    /// `tollgate_addresses`
    known: IntGauge,
}

impl AddressMetrics {
    /// The labels of `tollgate_address_rejections_total`.
    pub const CAUSES: [&str; 3] = ["requests", "failed_authentications", "failed_authentications_total"];

    pub(super) fn new(make: &Maker) -> Result<AddressMetrics, prometheus::Error> {
        let help = "Requests refused by address, before their key was looked at or because it was one more bad one.";
        let rejections = make.counters("tollgate_address_rejections_total", help, &["cause"])?;
        Ok(AddressMetrics {
            rejections: Self::CAUSES.map(|cause| rejections.with_label_values(&[cause])),
            known: make.gauge("tollgate_addresses", "Buckets of client addresses with state.")?,
        })
    }

    /// Counts a refusal, by the place of its cause in [`CAUSES`](AddressMetrics::CAUSES).
    pub fn rejected(&self, cause: usize) {
        if let Some(counter) = self.rejections.get(cause) {
            counter.inc();
        }
    }

    /// Sets the gauge that is taken at a scrape.
    pub fn take_census(&self, known: usize) {
        self.known.set(gauge_value(known as u64));
    }
}
