//! What becomes of those who connect.

use super::Maker;
use prometheus::{IntCounterVec, IntGauge};

/// The metrics of accepting connections, and of what their buffers hold.
#[derive(Debug)]
pub struct AcceptMetrics {
    /// `tollgate_connections_refused_total`
    refused: IntCounterVec,
    /// `tollgate_accept_pauses_total`
    pauses: IntCounterVec,
    /// `tollgate_accept_errors_total`
    errors: IntCounterVec,
    /// `tollgate_buffer_bytes`: bytes taken from `max_buffer_memory`.
    pub buffered: IntGauge,
}

/// Why a connection is closed before it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Its address has `max_connections_per_address` already.
    Address,
    /// It should begin with a PROXY protocol header and does not, or comes from nobody who may send one.
    ProxyProtocol,
}

/// Why nobody is accepted for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// There are `max_connections`.
    Connections,
    /// Buffers hold `max_buffer_memory`.
    Memory,
}

impl AcceptMetrics {
    pub(super) fn new(make: &Maker) -> Result<AcceptMetrics, prometheus::Error> {
        let refused = "Client connections closed before they were served.";
        let pauses = "Times that no connection was accepted for a while.";
        let errors = "Connections that the system could not hand over.";
        Ok(AcceptMetrics {
            refused: make.counters("tollgate_connections_refused_total", refused, &["cause"])?,
            pauses: make.counters("tollgate_accept_pauses_total", pauses, &["cause"])?,
            errors: make.counters("tollgate_accept_errors_total", errors, &["cause"])?,
            buffered: make.gauge("tollgate_buffer_bytes", "Bytes that the buffers of client connections hold.")?,
        })
    }

    /// A connection is closed unserved.
    pub fn refuse(&self, cause: Closed) {
        let cause = match cause {
            Closed::Address => "address",
            Closed::ProxyProtocol => "proxy_protocol",
        };
        self.refused.with_label_values(&[cause]).inc();
    }

    /// Accepting pauses.
    pub fn pause(&self, cause: Paused) {
        let cause = match cause {
            Paused::Connections => "connections",
            Paused::Memory => "memory",
        };
        self.pauses.with_label_values(&[cause]).inc();
    }

    /// Accepting failed; `is_exhausted` where the process or the system has run out of something.
    pub fn fail(&self, is_exhausted: bool) {
        self.errors.with_label_values(&[if is_exhausted { "exhausted" } else { "other" }]).inc();
    }
}
