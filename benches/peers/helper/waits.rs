//! What requests had to wait, counted in tenths of a microsecond.

use std::time::Duration;

pub(crate) fn tenths(wait: Duration) -> u32 {
    u32::try_from(wait.as_nanos() / 100).unwrap_or(u32::MAX)
}

/// Fields of a JSON object: the number of answers, and percentiles in microseconds.
pub(crate) fn fields(waits: &mut [u32]) -> String {
    waits.sort_unstable();
    let at = |share: f64| waits.get(((waits.len() as f64 * share) as usize).min(waits.len().saturating_sub(1)));
    let of = |share| f64::from(*at(share).unwrap_or(&0)) / 10.0;
    let (p50, p90, p99, p999) = (of(0.5), of(0.9), of(0.99), of(0.999));
    format!("\"requests\":{},\"p50\":{p50},\"p90\":{p90},\"p99\":{p99},\"p999\":{p999}", waits.len())
}
