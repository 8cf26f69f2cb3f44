//! How long a stop was: where the engine's time axis goes on.
//!
//! Every write notes the moment on the engine's axis beside what another process can tell the time by. The next process goes
//! on from that moment, later by the time that has passed; saved windows then need no conversion.
//!
//! - Within one start of the machine the time since that start tells it: nobody can set that clock. Its grain is a hundredth
//!   of a second, which is taken off.
//! - After a restart of the machine only the wall clock is left. It may have been wrong before or be wrong now. One that went
//!   back counts as no time at all; and never more than [`MAX_OFFLINE`] counts. So a wrong clock frees nothing early by more
//!   than that, and a longer stop keeps places taken longer than they would have been: strict.

use crate::clock::{BootTime, Marks};
use crate::engine::Nanos;
use crate::engine::time::nanos_of;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest that the gateway counts as stopped over a restart of the machine.
pub const MAX_OFFLINE: Duration = Duration::from_secs(24 * 3600);

/// What a machine's uptime is told to.
const GRAIN: Duration = Duration::from_millis(10);

/// A moment on the engine's axis, and its marks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Anchor {
    now_ns: u64,
    wall_ms: i64,
    boot: Option<(u128, u64)>,
    /// Of the seed that the keys were made with.
    pub(super) fingerprint: u64,
}

impl Anchor {
    pub(super) fn new(now: Nanos, marks: &Marks, fingerprint: u64) -> Anchor {
        let boot = marks.boot.map(|boot| (boot.id, nanos_of(boot.uptime)));
        Anchor { now_ns: now.0, wall_ms: marks.wall.as_millisecond(), boot, fingerprint }
    }

    /// Where the axis goes on at `marks`.
    pub(super) fn resume(&self, marks: &Marks) -> Nanos {
        Nanos(self.now_ns).saturating_add(nanos_of(self.stopped(marks)))
    }

    fn stopped(&self, marks: &Marks) -> Duration {
        match (self.boot, marks.boot) {
            (Some((id, uptime_ns)), Some(BootTime { id: same, uptime })) if id == same => {
                uptime.saturating_sub(Duration::from_nanos(uptime_ns)).saturating_sub(GRAIN)
            }
            _ => {
                let passed_ms = marks.wall.as_millisecond().saturating_sub(self.wall_ms);
                Duration::from_millis(u64::try_from(passed_ms).unwrap_or(0)).min(MAX_OFFLINE)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn marks(wall: i64, boot: Option<(u128, u64)>) -> Marks {
        let boot = boot.map(|(id, seconds)| BootTime { id, uptime: Duration::from_secs(seconds) });
        Marks { wall: Timestamp::from_second(wall).unwrap(), boot }
    }

    fn seconds_stopped(before: Marks, after: Marks) -> f64 {
        let resumed = Anchor::new(Nanos(5), &before, 0).resume(&after);
        Duration::from_nanos(resumed.0 - 5).as_secs_f64()
    }

    #[test]
    fn within_one_start_of_the_machine_the_wall_clock_says_nothing() {
        for wall in [0, 1_000, 1_000_000_000] {
            let stopped = seconds_stopped(marks(1_000, Some((1, 50))), marks(wall, Some((1, 57))));
            assert!((6.98..=7.0).contains(&stopped), "{stopped}");
        }
        assert_eq!(seconds_stopped(marks(0, Some((1, 50))), marks(9, Some((1, 50)))), 0.0);
    }

    #[test]
    fn over_a_restart_of_the_machine_the_wall_clock_is_believed_up_to_a_day() {
        let before = marks(1_000, Some((1, 50)));
        for (wall, seconds) in [(1_030, 30.0), (1_000, 0.0), (500, 0.0), (1_000 + 86_400 * 9, 86_400.0)] {
            assert_eq!(seconds_stopped(before, marks(wall, Some((2, 10)))), seconds, "{wall}");
            assert_eq!(seconds_stopped(before, marks(wall, None)), seconds, "{wall}");
            assert_eq!(seconds_stopped(marks(1_000, None), marks(wall, Some((2, 10)))), seconds, "{wall}");
        }
    }

    #[test]
    fn extremes_do_not_wrap() {
        let last = Anchor::new(Nanos::MAX, &marks(0, None), 0);
        assert_eq!(last.resume(&marks(i64::from(u32::MAX), None)), Nanos::MAX);
    }
}
