//! The token bucket, as the generic cell rate algorithm in its virtual scheduling form (ITU-T I.371, annex A): the whole
//! state is one number, the theoretical arrival time (`tat`).
//!
//! A bucket of `burst` tokens that refills one token per emission interval `T` is full when `tat <= now` and lacks
//! `(tat - now) / T` tokens otherwise. A request of cost `c` is admitted when `max(tat, now) + c * T <= now + burst * T`.

use crate::engine::time::{Nanos, nanos_of};
use std::num::NonZeroU64;
use std::time::Duration;

/// A token bucket's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gcra {
    count: u64,
    period: Duration,
    burst: u64,
    emission_ns: NonZeroU64,
    depth_ns: u64,
}

/// What a bucket says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// Admitted: the bucket's new theoretical arrival time.
    Taken {
        /// Right after this request took its tokens.
        tat: Nanos,
    },
    /// Refused.
    Refused {
        /// When the same request would pass if nothing else happens; `None`: never.
        retry_at: Option<Nanos>,
    },
}

impl Gcra {
    /// A bucket that gains `count` tokens every `period` and holds at most `burst`.
    ///
    /// The emission interval is `period / count` rounded **up** to whole nanoseconds, so that a bucket never admits more than
    /// it says (at 1,000,000/s and less the rounding costs under 0.1 %). `count` 0 (or `burst` 0) admits nothing, ever.
    /// Figures whose bucket would take more than 584 years to fill saturate to the strict side.
    #[must_use]
    pub fn new(count: u64, period: Duration, burst: u64) -> Gcra {
        let emission_ns = match count {
            0 => NonZeroU64::MAX,
            _ => NonZeroU64::new(nanos_of(period).div_ceil(count)).unwrap_or(NonZeroU64::MIN),
        };
        let depth_ns = if count == 0 { 0 } else { emission_ns.get().saturating_mul(burst) };
        Gcra { count, period, burst, emission_ns, depth_ns }
    }

    /// Tokens gained per [`period`](Gcra::period).
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The time in which [`count`](Gcra::count) tokens are gained.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Tokens the bucket holds when full.
    #[must_use]
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// Nanoseconds in which one token is gained.
    #[must_use]
    pub fn emission_ns(&self) -> NonZeroU64 {
        self.emission_ns
    }

    /// Nanoseconds in which an empty bucket fills.
    #[must_use]
    pub fn depth_ns(&self) -> u64 {
        self.depth_ns
    }

    /// Decides on `cost` tokens for a bucket whose theoretical arrival time is `tat`. Pure: the caller stores the result.
    #[must_use]
    pub fn draw(&self, tat: Nanos, now: Nanos, cost: u32) -> Draw {
        let Some(increment_ns) = self.emission_ns.get().checked_mul(u64::from(cost)).filter(|&ns| ns <= self.depth_ns)
        else {
            return Draw::Refused { retry_at: None };
        };
        // Another thread whose clock reading is newer may have moved `tat` further than `now` allows: that is waited for.
        let Some(next) = tat.max(now).0.checked_add(increment_ns) else {
            return Draw::Refused { retry_at: None };
        };
        if next - now.0 <= self.depth_ns {
            return Draw::Taken { tat: Nanos(next) };
        }
        Draw::Refused { retry_at: Some(Nanos(next - self.depth_ns)) }
    }

    /// Whole tokens left at `now` in a bucket whose theoretical arrival time is `tat`.
    #[must_use]
    pub fn remaining(&self, tat: Nanos, now: Nanos) -> u64 {
        self.depth_ns.saturating_sub(tat.since(now)) / self.emission_ns.get()
    }

    /// The theoretical arrival time of the same bucket after its figures became these: the tokens it lacks stay the same
    /// (rounded up), but it never lacks more than these figures' burst.
    #[must_use]
    pub fn converted(&self, tat: Nanos, old_emission_ns: NonZeroU64, now: Nanos) -> Nanos {
        let lacking_ns = scale_up(tat.since(now), self.emission_ns, old_emission_ns);
        now.saturating_add(lacking_ns.min(self.depth_ns))
    }
}

/// Tokens that a request took, as their refund has to know them.
///
/// A refund must not give back what time has already refilled, or the bucket would admit more than it says: had the request
/// never come, those tokens would have overflowed. What is left of them cannot be known from the bucket's one number alone, so
/// [`refund_ns`](Tokens::refund_ns) gives back what is left for certain: everything at once, and less as time goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// How many.
    pub cost: u32,
    /// The emission interval they were counted with.
    pub emission_ns: NonZeroU64,
    /// When they were taken.
    pub taken_at: Nanos,
    /// The bucket's theoretical arrival time right after.
    pub tat_after: Nanos,
}

impl Tokens {
    /// What a refund gives back, in nanoseconds of the time of a bucket whose emission interval is `emission_ns` now.
    ///
    /// `disturbed`: since these tokens were taken, the bucket's theoretical arrival time has been lowered by anything but the
    /// undoing of later requests. While it has not, the bucket lacked at least `tat_after - now` all the time, and so much of
    /// the tokens has not been refilled. Otherwise only this is certain: no more than a nanosecond a nanosecond was refilled.
    #[must_use]
    pub fn refund_ns(&self, emission_ns: NonZeroU64, now: Nanos, disturbed: bool) -> u64 {
        let cost_ns = self.emission_ns.get().saturating_mul(u64::from(self.cost));
        if !disturbed {
            return cost_ns.min(self.tat_after.since(now));
        }
        // After a conversion the time may have passed at the old rate or at the new one: the stricter counts.
        let elapsed_ns = now.since(self.taken_at);
        let scaled = |ns| scale_down(ns, emission_ns, self.emission_ns);
        scaled(cost_ns.saturating_sub(elapsed_ns)).min(scaled(cost_ns).saturating_sub(elapsed_ns))
    }
}

/// `ns * to / from`, rounded up, saturating.
pub(in crate::engine) fn scale_up(ns: u64, to: NonZeroU64, from: NonZeroU64) -> u64 {
    if to == from {
        return ns;
    }
    let scaled = (u128::from(ns) * u128::from(to.get())).div_ceil(u128::from(from.get()));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// `ns * to / from`, rounded down, saturating: for what is given back.
pub(in crate::engine) fn scale_down(ns: u64, to: NonZeroU64, from: NonZeroU64) -> u64 {
    if to == from {
        return ns;
    }
    let scaled = u128::from(ns) * u128::from(to.get()) / u128::from(from.get());
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn per_second(count: u64, burst: u64) -> Gcra {
        Gcra::new(count, Duration::from_secs(1), burst)
    }

    #[test]
    fn admits_the_burst_then_one_per_interval() {
        let bucket = per_second(10, 3);
        let mut tat = Nanos::ZERO;
        for _ in 0..3 {
            let Draw::Taken { tat: next } = bucket.draw(tat, Nanos(SECOND), 1) else { panic!("the burst passes") };
            tat = next;
        }
        assert_eq!(bucket.draw(tat, Nanos(SECOND), 1), Draw::Refused { retry_at: Some(Nanos(SECOND + SECOND / 10)) });
        assert!(matches!(bucket.draw(tat, Nanos(SECOND + SECOND / 10), 1), Draw::Taken { .. }));
    }

    #[test]
    fn retry_at_is_the_first_moment_that_passes() {
        let bucket = per_second(3, 2);
        let full = Nanos(bucket.depth_ns());
        let Draw::Refused { retry_at: Some(at) } = bucket.draw(full, Nanos::ZERO, 1) else { panic!("empty") };
        assert!(matches!(bucket.draw(full, at, 1), Draw::Taken { .. }));
        assert!(matches!(bucket.draw(full, Nanos(at.0 - 1), 1), Draw::Refused { .. }));
    }

    #[test]
    fn extremes_never_wrap_and_stay_strict() {
        let never = Draw::Refused { retry_at: None };
        assert_eq!(per_second(0, 10).draw(Nanos::ZERO, Nanos::ZERO, 1), never);
        assert_eq!(per_second(10, 0).draw(Nanos::ZERO, Nanos::ZERO, 1), never);
        assert_eq!(per_second(10, 5).draw(Nanos::ZERO, Nanos::ZERO, 6), never);
        assert_eq!(per_second(10, 5).draw(Nanos::ZERO, Nanos::ZERO, u32::MAX), never);
        assert_eq!(per_second(10, 5).draw(Nanos::MAX, Nanos::MAX, 1), never);
        let slow = Gcra::new(1, Duration::from_secs(86_400 * 365), u64::MAX);
        assert!(matches!(slow.draw(Nanos::ZERO, Nanos::ZERO, u32::MAX), Draw::Refused { .. }));
        let fast = Gcra::new(u64::MAX, Duration::from_secs(1), 5);
        assert_eq!(fast.emission_ns(), NonZeroU64::MIN);
        let free = per_second(0, 0);
        assert!(matches!(free.draw(Nanos::ZERO, Nanos::ZERO, 0), Draw::Taken { tat: Nanos::ZERO }));
        assert_eq!(per_second(0, 7).remaining(Nanos::ZERO, Nanos::ZERO), 0);
        assert_eq!(Gcra::new(1, Duration::MAX, 1).emission_ns(), NonZeroU64::MAX);
    }

    #[test]
    fn a_refund_never_gives_back_what_time_refilled() {
        let forty = NonZeroU64::new(40).unwrap();
        let tokens = Tokens { cost: 1, emission_ns: forty, taken_at: Nanos(20), tat_after: Nanos(100) };
        let undisturbed = |now| tokens.refund_ns(forty, Nanos(now), false);
        assert_eq!([20, 50, 80, 120].map(undisturbed), [40, 40, 20, 0]);
        let disturbed = |now| tokens.refund_ns(forty, Nanos(now), true);
        assert_eq!([20, 50, 80, 120].map(disturbed), [40, 10, 0, 0]);
    }

    #[test]
    fn a_refund_after_a_conversion_is_the_stricter_of_both_rates() {
        let [ten, forty] = [10, 40].map(|ns| NonZeroU64::new(ns).unwrap());
        let refund = |old, new, now| {
            let tokens = Tokens { cost: 2, emission_ns: old, taken_at: Nanos(0), tat_after: Nanos(1_000) };
            tokens.refund_ns(new, Nanos(now), true)
        };
        assert_eq!([0, 12, 20, 80].map(|now| refund(forty, ten, now)), [20, 8, 0, 0]);
        assert_eq!([0, 12, 20, 80].map(|now| refund(ten, forty, now)), [80, 32, 0, 0]);
    }

    #[test]
    fn conversion_keeps_what_was_spent() {
        let (old, new) = (per_second(10, 10), per_second(20, 20));
        let five_spent = Nanos(5 * old.emission_ns().get());
        assert_eq!(new.remaining(new.converted(five_spent, old.emission_ns(), Nanos::ZERO), Nanos::ZERO), 15);
        let smaller = per_second(10, 3);
        assert_eq!(smaller.remaining(smaller.converted(five_spent, old.emission_ns(), Nanos::ZERO), Nanos::ZERO), 0);
    }
}
