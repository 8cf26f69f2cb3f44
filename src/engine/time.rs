//! Time as the engine sees it: a number it is given.

use std::ops::Sub;
use std::time::Duration;

/// A moment: nanoseconds since an epoch of the caller's choosing.
///
/// The live gateway counts from its own start on a monotonic clock, `replay` from its trace's first record. The range is
/// 584 years; arithmetic saturates at both ends and never wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The epoch itself.
    pub const ZERO: Nanos = Nanos(0);
    /// The last moment that can be named, 584 years after the epoch.
    pub const MAX: Nanos = Nanos(u64::MAX);

    /// This moment `later` nanoseconds on, at most [`Nanos::MAX`].
    #[must_use]
    pub fn saturating_add(self, later: u64) -> Nanos {
        Nanos(self.0.saturating_add(later))
    }

    /// Nanoseconds from `earlier` to this moment; 0 when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Nanos) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Sub for Nanos {
    type Output = Duration;

    fn sub(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.since(earlier))
    }
}

/// A [`Duration`] in nanoseconds, at most 584 years.
#[must_use]
pub fn nanos_of(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(duration.subsec_nanos().into())
}

/// A source of the present moment. The engine never holds one: only the edges do.
pub trait Clock {
    /// The present moment. Never earlier than what it returned before.
    fn now(&self) -> Nanos;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Nanos::MAX.saturating_add(1), Nanos::MAX);
        assert_eq!(Nanos(3).since(Nanos(5)), 0);
        assert_eq!(nanos_of(Duration::MAX), u64::MAX);
        assert_eq!(nanos_of(Duration::new(3, 7)), 3_000_000_007);
        for last in [u64::MAX - 1, u64::MAX] {
            assert_eq!(nanos_of(Duration::from_nanos(last)), last);
        }
        assert_eq!(nanos_of(Duration::from_nanos(u64::MAX) + Duration::from_nanos(1)), u64::MAX);
        assert_eq!(Nanos(5) - Nanos(3), Duration::from_nanos(2));
    }
}
