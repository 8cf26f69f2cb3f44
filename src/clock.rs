//! FLOOR 1: the only reader of the operating system's clocks. Everything else is given the time.

use crate::engine::{Clock, Nanos};
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where an edge gets the time from: the machine, or a test.
#[derive(Clone, Debug)]
pub enum Time {
    /// The machine's monotonic clock, counted from the process's start. Steps of the wall clock do not reach it.
    System(SystemTime),
    /// A number that a test moves.
    Manual(ManualTime),
}

impl Time {
    /// The machine's time, counted from now.
    #[must_use]
    pub fn system() -> Time {
        Time::system_from(Nanos::ZERO)
    }

    /// The machine's time, counted so that it is `start` now: the time axis of an earlier process goes on.
    #[must_use]
    pub fn system_from(start: Nanos) -> Time {
        Time::System(SystemTime { origin: monotonic_now(), start })
    }

    /// What another process can tell by how much time has passed since now.
    #[must_use]
    pub fn marks(&self) -> Marks {
        match self {
            Time::System(_) => Marks::of_machine(),
            Time::Manual(manual) => Marks { wall: manual.wall(), boot: None },
        }
    }

    /// A manual time at its epoch, and the handle that moves it.
    #[must_use]
    pub fn manual() -> (Time, ManualTime) {
        let manual = ManualTime::default();
        (Time::Manual(manual.clone()), manual)
    }

    /// The wall clock, for what people wrote down as a date: a key's expiry, a log line. Not monotonic.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        match self {
            Time::System(_) => wall_now(),
            Time::Manual(manual) => manual.wall(),
        }
    }
}

impl Clock for Time {
    fn now(&self) -> Nanos {
        match self {
            Time::System(system) => system.now(),
            Time::Manual(manual) => manual.now(),
        }
    }
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemTime {
    origin: Instant,
    start: Nanos,
}

impl Clock for SystemTime {
    fn now(&self) -> Nanos {
        self.start.saturating_add(crate::engine::time::nanos_of(monotonic_now() - self.origin))
    }
}

/// A clock that stands still until it is moved. Clones share one hand.
#[derive(Clone, Debug, Default)]
pub struct ManualTime {
    now_ns: Arc<AtomicU64>,
}

impl ManualTime {
    /// Moves the clock to `now`. Moving back is refused silently: the clock is monotonic.
    pub fn set(&self, now: Nanos) {
        self.now_ns.fetch_max(now.0, Ordering::SeqCst);
    }

    /// Moves the clock on.
    pub fn advance(&self, by: std::time::Duration) {
        self.now_ns.fetch_add(crate::engine::time::nanos_of(by), Ordering::SeqCst);
    }

    /// The Unix epoch plus the time on the clock.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        let now_ns = i128::from(self.now().0);
        Timestamp::from_nanosecond(now_ns).unwrap_or(Timestamp::MAX)
    }
}

impl Clock for ManualTime {
    fn now(&self) -> Nanos {
        Nanos(self.now_ns.load(Ordering::SeqCst))
    }
}

/// Moments of a [`Time`] as the wall clock has them, all by one offset: as far apart, and in the order, as they are on the time's own
/// axis. So what a log says of two requests is what the limits saw of them. Steps of the wall clock are followed.
#[derive(Debug)]
pub struct WallAxis {
    /// Nanoseconds from the time's epoch to the wall clock's.
    offset_ns: AtomicI64,
}

/// What a wall clock that was not set differs by from one reading to the next is less.
const STEP_NS: u64 = 100_000;
/// Readings that are further apart than this had something between them, and tell nothing.
const CLOSE_NS: u64 = 1_000;

impl WallAxis {
    /// The axis of `time`.
    #[must_use]
    pub fn new(time: &Time) -> WallAxis {
        let (offset, _) = WallAxis::measure(time);
        WallAxis { offset_ns: AtomicI64::new(offset) }
    }

    /// The wall clock at `moment`, one of `time`.
    #[must_use]
    pub fn at(&self, time: &Time, moment: Nanos) -> Timestamp {
        let (measured, apart_ns) = WallAxis::measure(time);
        let mut offset = self.offset_ns.load(Ordering::Relaxed);
        if apart_ns <= CLOSE_NS && measured.abs_diff(offset) > STEP_NS {
            self.offset_ns.store(measured, Ordering::Relaxed);
            offset = measured;
        }
        Timestamp::from_nanosecond(i128::from(moment.0) + i128::from(offset)).unwrap_or(Timestamp::MAX)
    }

    /// The offset, and how far apart the readings were that it was taken between.
    fn measure(time: &Time) -> (i64, u64) {
        let before = time.now();
        let wall = time.wall().as_nanosecond();
        let offset = i64::try_from(wall - i128::from(before.0)).unwrap_or(i64::MAX);
        (offset, time.now().since(before))
    }
}

/// A moment as it can be told from another one by another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The wall clock: it may be set back or ahead at any time.
    pub wall: Timestamp,
    /// The time since the machine started, where it can be had: nobody can set it.
    pub boot: Option<BootTime>,
}

/// A time since the machine started, and which start that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootTime {
    /// Chosen anew at every start of the machine.
    pub id: u128,
    /// To a hundredth of a second.
    pub uptime: Duration,
}

impl Marks {
    /// The machine's marks of now.
    #[must_use]
    pub fn of_machine() -> Marks {
        Marks { wall: wall_now(), boot: boot_time() }
    }
}

/// What Linux says of its start; `None` elsewhere.
fn boot_time() -> Option<BootTime> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = u128::from_str_radix(&id.trim().replace('-', ""), 16).ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let (seconds, hundredths) = uptime.split_whitespace().next()?.split_once('.')?;
    let uptime_ms = seconds.parse::<u64>().ok()?.checked_mul(1_000)? + hundredths.get(..2)?.parse::<u64>().ok()? * 10;
    Some(BootTime { id, uptime: Duration::from_millis(uptime_ms) })
}

/// Microseconds of the system's monotonic clock, as other processes of the machine read it too.
#[must_use]
pub fn monotonic_micros() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000)
}

/// The time that all threads of this process have run, kernel included.
#[must_use]
pub fn process_cpu() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let nanoseconds = u32::try_from(spent.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(spent.tv_sec).unwrap_or_default(), nanoseconds)
}

/// The present moment for timers of the runtime, whose clock tests may pause.
#[must_use]
pub fn timer_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the monotonic clock")]
fn monotonic_now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
fn wall_now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_never_goes_back() {
        let (time, hand) = Time::manual();
        hand.advance(Duration::from_secs(2));
        hand.set(Nanos(5));
        assert_eq!(time.now(), Nanos(2_000_000_000));
        assert_eq!(time.wall(), Timestamp::from_second(2).unwrap());
    }

    #[test]
    fn moments_keep_their_distances_on_the_wall_clock() {
        let time = Time::system();
        let axis = WallAxis::new(&time);
        let first = time.now();
        let second = Nanos(first.0 + 12_345);
        let known = axis.offset_ns.load(Ordering::Relaxed);
        let (one, other) = (axis.at(&time, first), axis.at(&time, second));
        if axis.offset_ns.load(Ordering::Relaxed) == known {
            assert_eq!(other.as_nanosecond() - one.as_nanosecond(), 12_345);
        }
        let (manual, hand) = Time::manual();
        let axis = WallAxis::new(&manual);
        hand.advance(Duration::from_secs(3));
        assert_eq!(axis.at(&manual, Nanos(2_000_000_000)), Timestamp::from_second(2).unwrap());
        // The wall clock was set an hour ahead.
        axis.offset_ns.store(-3_600_000_000_000, Ordering::Relaxed);
        assert_eq!(axis.at(&manual, Nanos(2_000_000_000)), Timestamp::from_second(2).unwrap());
    }

    #[test]
    fn a_time_axis_goes_on_where_it_is_told_to() {
        let time = Time::system_from(Nanos(7_000_000_000_000));
        assert!(time.now() >= Nanos(7_000_000_000_000));
        assert!(time.now() < Nanos(7_060_000_000_000));
        let (first, second) = (Marks::of_machine(), Marks::of_machine());
        assert_eq!(first.boot.map(|boot| boot.id), second.boot.map(|boot| boot.id));
        assert!(first.boot.map(|boot| boot.uptime) <= second.boot.map(|boot| boot.uptime));
    }

    #[test]
    fn the_system_clock_starts_near_zero_and_moves_on() {
        let time = Time::system();
        let first = time.now();
        assert!(first < Nanos(60_000_000_000));
        assert!(time.now() >= first);
    }
}
