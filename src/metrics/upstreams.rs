//! What upstreams tell of themselves.

use super::Maker;
use prometheus::{IntCounterVec, IntGaugeVec};

/// The metrics of upstreams. Clones count into the same series.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    /// `tollgate_upstream_servers`
    servers: IntGaugeVec,
    /// `tollgate_upstream_in_flight`
    in_flight: IntGaugeVec,
    /// `tollgate_upstream_pending`
    pending: IntGaugeVec,
    /// `tollgate_upstream_connections`
    connections: IntGaugeVec,
    /// `tollgate_upstream_retries_total`
    retries: IntCounterVec,
    /// `tollgate_upstream_ejections_total`
    ejections: IntCounterVec,
    /// `tollgate_upstream_health_checks_total`
    health_checks: IntCounterVec,
    /// `tollgate_upstream_overloads_total`
    overloads: IntCounterVec,
    /// `tollgate_upstream_lookups_total`
    lookups: IntCounterVec,
}

/// An upstream at a scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamCensus {
    /// Servers in use, out of use by their health, and ejected, in this order.
    pub servers: [u32; 3],
    /// Requests in flight.
    pub in_flight: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Open connections.
    pub connections: u32,
}

/// The `state` label of [`UpstreamCensus::servers`].
pub const SERVER_STATES: [&str; 3] = ["up", "unhealthy", "ejected"];

impl UpstreamMetrics {
    pub(super) fn new(make: &Maker) -> Result<UpstreamMetrics, prometheus::Error> {
        let upstream = &["upstream"];
        Ok(UpstreamMetrics {
            servers: make.gauges(
                "tollgate_upstream_servers",
                "Servers by state: up, unhealthy (health checks), ejected (failed requests).",
                &["upstream", "state"],
            )?,
            in_flight: make.gauges("tollgate_upstream_in_flight", "Requests in flight to an upstream.", upstream)?,
            pending: make.gauges("tollgate_upstream_pending", "Requests that wait for a connection.", upstream)?,
            connections: make.gauges("tollgate_upstream_connections", "Open upstream connections.", upstream)?,
            retries: make.counters(
                "tollgate_upstream_retries_total",
                "Requests tried again, by what failed and how it ended: success, failure, over_budget.",
                &["upstream", "cause", "outcome"],
            )?,
            ejections: make.counters(
                "tollgate_upstream_ejections_total",
                "Servers left out for a while because requests to them failed.",
                upstream,
            )?,
            health_checks: make.counters(
                "tollgate_upstream_health_checks_total",
                "Health checks of servers: success, failure.",
                &["upstream", "result"],
            )?,
            overloads: make.counters(
                "tollgate_upstream_overloads_total",
                "Requests refused because an upstream's bound was reached.",
                &["upstream", "bound"],
            )?,
            lookups: make.counters(
                "tollgate_upstream_lookups_total",
                "Look-ups of servers' names: success, failure.",
                &["upstream", "result"],
            )?,
        })
    }

    /// Counts a try after one that failed, or one that the budget did not admit.
    pub fn retry(&self, upstream: &str, cause: &str, outcome: &str) {
        self.retries.with_label_values(&[upstream, cause, outcome]).inc();
    }

    /// Counts an ejection.
    pub fn ejection(&self, upstream: &str) {
        self.ejections.with_label_values(&[upstream]).inc();
    }

    /// Counts a health check.
    pub fn health_check(&self, upstream: &str, succeeded: bool) {
        self.health_checks.with_label_values(&[upstream, result(succeeded)]).inc();
    }

    /// Counts a request that a bound refused.
    pub fn overload(&self, upstream: &str, bound: &str) {
        self.overloads.with_label_values(&[upstream, bound]).inc();
    }

    /// Counts a look-up of a name.
    pub fn lookup(&self, upstream: &str, succeeded: bool) {
        self.lookups.with_label_values(&[upstream, result(succeeded)]).inc();
    }

    /// Sets the gauges, which are taken at a scrape, to these upstreams alone.
    pub fn take_census<'a>(&self, upstreams: impl Iterator<Item = (&'a str, UpstreamCensus)>) {
        for gauge in [&self.servers, &self.in_flight, &self.pending, &self.connections] {
            gauge.reset();
        }
        for (name, census) in upstreams {
            for (state, count) in SERVER_STATES.iter().zip(census.servers) {
                self.servers.with_label_values(&[name, state]).set(count.into());
            }
            self.in_flight.with_label_values(&[name]).set(census.in_flight.into());
            self.pending.with_label_values(&[name]).set(census.pending.into());
            self.connections.with_label_values(&[name]).set(census.connections.into());
        }
    }
}

fn result(succeeded: bool) -> &'static str {
    if succeeded { "success" } else { "failure" }
}
