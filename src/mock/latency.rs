//! How long the mock takes to answer.

use crate::replay::format::Reader;
use crate::replay::input::{BytesRead, Input};
use crate::replay::lines::{Lines, Next};
use crate::replay::record::Record;
use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// A distribution of latencies.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// Any of these, each as likely as the others; at least one.
    Recorded(Arc<[Duration]>),
}

/// The longest latency that is ever drawn: the tail of the distribution has no end.
pub const MAX_LATENCY: Duration = Duration::from_secs(60);
/// Latencies of a recording that are kept, in 1 MiB; of a longer one a sample, each line as likely as the others.
pub const MAX_SAMPLES: usize = 65_536;

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874_040_841;

/// Where a latency comes from, as it is asked for: `none`, `lognormal:MEDIAN,P99` or the name of an access log.
#[derive(Clone, Debug, PartialEq)]
pub enum LatencySource {
    /// In so many words.
    Given(Latency),
    /// A recording.
    Log(PathBuf),
}

/// Why there is no latency.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LatencyError {
    /// Not of the form `lognormal:MEDIAN,P99`.
    #[error("expected `none`, `lognormal:MEDIAN,P99` such as `lognormal:20ms,200ms`, or an access log; found `{0}`")]
    Form(String),
    /// A part is no duration.
    #[error("`{0}` is not a duration such as `20ms`")]
    Duration(String),
    /// The figures make no distribution.
    #[error("the median must be more than zero and the 99th percentile no less than it, nor more than a minute")]
    Figures,
    /// There is no such recording.
    #[error("{0} cannot be read ({1}); expected `none`, `lognormal:MEDIAN,P99` or an access log")]
    Unreadable(String, String),
    /// A recording has no line that tells how long a forwarded request took.
    #[error("{0} has no line that tells how long an answer took")]
    Silent(String),
}

impl FromStr for LatencySource {
    type Err = LatencyError;

    fn from_str(text: &str) -> Result<LatencySource, LatencyError> {
        if text == "none" {
            return Ok(LatencySource::Given(Latency::None));
        }
        let form = || LatencyError::Form(text.to_owned());
        let Some(figures) = text.strip_prefix("lognormal:") else {
            return if text.is_empty() { Err(form()) } else { Ok(LatencySource::Log(text.into())) };
        };
        let (median, p99) = figures.split_once(',').ok_or_else(form)?;
        let duration = |part: &str| {
            humantime::parse_duration(part.trim()).map_err(|_| LatencyError::Duration(part.trim().to_owned()))
        };
        let (median, p99) = (duration(median)?, duration(p99)?);
        if median.is_zero() || p99 < median || p99 > MAX_LATENCY {
            return Err(LatencyError::Figures);
        }
        Ok(LatencySource::Given(Latency::LogNormal { median, p99 }))
    }
}

impl LatencySource {
    /// The latency; reads the recording where one is named.
    ///
    /// # Errors
    /// It cannot be read, or tells nothing.
    pub fn load(&self) -> Result<Latency, LatencyError> {
        match self {
            LatencySource::Given(latency) => Ok(latency.clone()),
            LatencySource::Log(path) => recorded(path),
        }
    }
}

/// What forwarded requests took. Anything that `tollgate replay` reads will do, plain or compressed; lines that cannot be read are
/// passed over, as are those of requests that never came to an upstream.
fn recorded(path: &Path) -> Result<Latency, LatencyError> {
    let unreadable = |error: std::io::Error| LatencyError::Unreadable(path.display().to_string(), error.to_string());
    let file = Input::new(path).and_then(|input| input.open(&BytesRead::default())).map_err(unreadable)?;
    let mut lines = Lines::new(file);
    let mut reader = Reader::new(None, false);
    let mut samples = Vec::new();
    let mut seen = 0_u64;
    loop {
        let at = match lines.advance().map_err(unreadable)? {
            Next::Line { at, .. } => at,
            Next::Long => continue,
            Next::End => break,
        };
        let line = std::str::from_utf8(lines.bytes(&at)).unwrap_or_default();
        if let Some(taken) = reader.read(line).ok().as_ref().and_then(taken) {
            keep(&mut samples, seen, taken.min(MAX_LATENCY));
            seen += 1;
        }
    }
    if samples.is_empty() {
        return Err(LatencyError::Silent(path.display().to_string()));
    }
    Ok(Latency::Recorded(samples.into()))
}

fn taken(record: &Record<'_>) -> Option<Duration> {
    let was_forwarded = record.limit.is_none() && !record.given_up && ![401, 403, 429, 499].contains(&record.status);
    record.duration.filter(|_| was_forwarded).map(Duration::from_nanos)
}

/// Keeps the `seen`th value as likely as any before it: a reservoir whose dice fall the same way each time.
fn keep(samples: &mut Vec<Duration>, seen: u64, value: Duration) {
    if samples.len() < MAX_SAMPLES {
        samples.push(value);
        return;
    }
    let mut dice = SipHasher24::new_with_keys(0, 0);
    dice.write_u64(seen);
    let place = usize::try_from(dice.finish() % (seen + 1)).unwrap_or(usize::MAX);
    if let Some(kept) = samples.get_mut(place) {
        *kept = value;
    }
}

impl Latency {
    /// The latency that the two random numbers choose; the same for the same numbers. At most [`MAX_LATENCY`].
    #[must_use]
    pub fn sample(&self, random: [u64; 2]) -> Duration {
        match self {
            Latency::None => Duration::ZERO,
            Latency::LogNormal { median, p99 } => {
                let (median, p99) = (median.as_secs_f64(), p99.as_secs_f64());
                let spread = (p99 / median).ln() / Z99;
                let seconds = median * (spread * standard_normal(random)).exp();
                Duration::try_from_secs_f64(seconds).unwrap_or(MAX_LATENCY).min(MAX_LATENCY)
            }
            Latency::Recorded(samples) => {
                let place = usize::try_from(random[0] % (samples.len().max(1) as u64)).unwrap_or(0);
                samples.get(place).copied().unwrap_or_default().min(MAX_LATENCY)
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
