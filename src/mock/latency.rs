//! How long the mock takes to answer.

use std::str::FromStr;
use std::time::Duration;

/// A distribution of latencies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Latency {
    /// At once.
    #[default]
    None,
    /// Log-normal, as services tend to be: half of the requests take less than `median`, one in a hundred more than `p99`.
    LogNormal {
        /// The 50th percentile; more than zero.
        median: Duration,
        /// The 99th percentile; at least the median.
        p99: Duration,
    },
}

/// The longest latency that is ever drawn: the tail of the distribution has no end.
pub const MAX_LATENCY: Duration = Duration::from_secs(60);

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874_040_841;

/// Why a latency could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LatencyError {
    /// Neither form.
    #[error("expected `none` or `lognormal:MEDIAN,P99`, such as `lognormal:20ms,200ms`; found `{0}`")]
    Form(String),
    /// A part is no duration.
    #[error("`{0}` is not a duration such as `20ms`")]
    Duration(String),
    /// The figures make no distribution.
    #[error("the median must be more than zero and the 99th percentile no less than it, nor more than a minute")]
    Figures,
}

impl FromStr for Latency {
    type Err = LatencyError;

    fn from_str(text: &str) -> Result<Latency, LatencyError> {
        if text == "none" {
            return Ok(Latency::None);
        }
        let form = || LatencyError::Form(text.to_owned());
        let (median, p99) = text.strip_prefix("lognormal:").ok_or_else(form)?.split_once(',').ok_or_else(form)?;
        let duration = |part: &str| {
            humantime::parse_duration(part.trim()).map_err(|_| LatencyError::Duration(part.trim().to_owned()))
        };
        let (median, p99) = (duration(median)?, duration(p99)?);
        if median.is_zero() || p99 < median || p99 > MAX_LATENCY {
            return Err(LatencyError::Figures);
        }
        Ok(Latency::LogNormal { median, p99 })
    }
}

impl Latency {
    /// The latency that the two random numbers choose; the same for the same numbers. At most [`MAX_LATENCY`].
    #[must_use]
    pub fn sample(self, random: [u64; 2]) -> Duration {
        match self {
            Latency::None => Duration::ZERO,
            Latency::LogNormal { median, p99 } => {
                let (median, p99) = (median.as_secs_f64(), p99.as_secs_f64());
                let spread = (p99 / median).ln() / Z99;
                let seconds = median * (spread * standard_normal(random)).exp();
                Duration::try_from_secs_f64(seconds).unwrap_or(MAX_LATENCY).min(MAX_LATENCY)
            }
        }
    }
}

/// A standard normal number by the transform of Box and Muller.
fn standard_normal([first, second]: [u64; 2]) -> f64 {
    // 53 bits each: what a f64 holds. The first must not be zero, whose logarithm is infinite.
    let unit = |random: u64| ((random >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    (-2.0 * unit(first).ln()).sqrt() * (std::f64::consts::TAU * unit(second)).cos()
}
