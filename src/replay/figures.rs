//! Figures as a configuration writes them.

use crate::config::{WrittenAllocation, WrittenFigures};
use crate::engine::Limiter;
use std::time::Duration;

/// The figures of a limiter, to be put into a configuration as they are.
#[must_use]
pub fn written(limiter: &Limiter) -> WrittenFigures {
    let mut written = WrittenFigures::default();
    match limiter {
        Limiter::Gcra(figures) => {
            written.rate = Some(format!("{}/{}", figures.count(), per(figures.period())));
            written.burst = Some(figures.burst());
        }
        Limiter::SlidingWindow(figures) => {
            written.quota = Some(format!("{}/{}", figures.limit(), per(figures.window())));
        }
        Limiter::Concurrency(figures) => written.concurrency = Some(figures.slots),
        Limiter::Allocation(figures) => {
            written.allocation = Some(WrittenAllocation {
                per_transaction: figures.per_transaction,
                at_least: figures.at_least,
                window: humantime::format_duration(figures.window).to_string(),
            });
        }
    }
    written
}

/// The same in one line for people.
#[must_use]
pub fn line(figures: &WrittenFigures) -> String {
    if let Some(rate) = &figures.rate {
        return format!("{rate}, burst {}", figures.burst.unwrap_or_default());
    }
    if let Some(quota) = &figures.quota {
        return quota.clone();
    }
    if let Some(allocation) = &figures.allocation {
        return format!("{} a transaction, {} at least", allocation.per_transaction, allocation.at_least);
    }
    format!("{} at once", figures.concurrency.unwrap_or_default())
}

/// A period as rates have it: a bare unit where it is one.
fn per(period: Duration) -> String {
    let text = humantime::format_duration(period).to_string().replace(' ', "");
    match text.strip_prefix('1') {
        Some(unit) if unit.bytes().all(|byte| byte.is_ascii_alphabetic()) => unit.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Concurrency, Gcra, SlidingWindow};

    #[test]
    fn figures_in_one_line() {
        let second = Duration::from_secs(1);
        let cases = [
            (Limiter::Gcra(Gcra::new(15, second, 20)), "15/s, burst 20"),
            (Limiter::Gcra(Gcra::new(15, 10 * second, 20)), "15/10s, burst 20"),
            (Limiter::SlidingWindow(SlidingWindow::new(9, 3_600 * second)), "9/h"),
            (Limiter::Concurrency(Concurrency { slots: 3 }), "3 at once"),
        ];
        for (limiter, wanted) in cases {
            assert_eq!(line(&written(&limiter)), wanted);
        }
    }
}
