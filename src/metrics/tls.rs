//! What TLS to clients tells of itself.

use super::Maker;
use prometheus::{IntCounterVec, IntGaugeVec};

/// The metrics of TLS.
#[derive(Debug)]
pub struct TlsMetrics {
    /// `tollgate_tls_handshakes_total`
    handshakes: IntCounterVec,
    /// `tollgate_tls_certificate_expiry_timestamp_seconds`
    expiry: IntGaugeVec,
}

/// How a handshake with a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeResult {
    /// A new session.
    Full,
    /// An earlier session went on.
    Resumed,
    /// It failed, for whatever the client sent or did not accept.
    Failed,
    /// It did not end in time, or did not get its turn.
    TimedOut,
    /// The client spoke HTTP without TLS.
    PlainHttp,
}

impl HandshakeResult {
    const fn label(self) -> &'static str {
        match self {
            HandshakeResult::Full => "full",
            HandshakeResult::Resumed => "resumed",
            HandshakeResult::Failed => "failed",
            HandshakeResult::TimedOut => "timed_out",
            HandshakeResult::PlainHttp => "plain_http",
        }
    }
}

impl TlsMetrics {
    pub(super) fn new(make: &Maker) -> Result<TlsMetrics, prometheus::Error> {
        Ok(TlsMetrics {
            handshakes: make.counters(
                "tollgate_tls_handshakes_total",
                "TLS handshakes with clients: full, resumed, failed, timed_out, plain_http.",
                &["result"],
            )?,
            expiry: make.gauges(
                "tollgate_tls_certificate_expiry_timestamp_seconds",
                "When each certificate in use expires.",
                &["certificate"],
            )?,
        })
    }

    /// Counts a handshake.
    pub fn handshake(&self, result: HandshakeResult) {
        self.handshakes.with_label_values(&[result.label()]).inc();
    }

    /// Notes when each certificate in use expires (label, Unix seconds); those of `before` that are not among them go.
    pub fn expire<'a>(&self, now: impl Iterator<Item = (&'a str, i64)> + Clone, before: impl Iterator<Item = &'a str>) {
        for (label, unix_seconds) in now.clone() {
            self.expiry.with_label_values(&[label]).set(unix_seconds);
        }
        for gone in before.filter(|label| !now.clone().any(|(known, _)| known == *label)) {
            // A series that was never made is not an error here.
            let _ = self.expiry.remove_label_values(&[gone]);
        }
    }
}
