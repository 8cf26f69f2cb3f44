//! Waiting for what another thread is about to do: polled, bounded, never a fixed sleep.

use super::RealClock;
use std::time::Duration;
use tollgate::engine::{Clock, Nanos};

/// Far longer than anything here takes, so that a busy machine fails no test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const EVERY: Duration = Duration::from_millis(2);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within [`PATIENCE`].
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until `probe` finds something.
///
/// # Panics
/// When it does not within [`PATIENCE`].
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    wait_within(what, PATIENCE, probe)
}

/// Waits until `probe` finds something, for what takes its time.
///
/// # Panics
/// When it does not within `deadline`.
#[track_caller]
pub(crate) fn wait_within<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let clock = RealClock::start();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!((clock.now() - Nanos(0)) < deadline, "waited in vain: {what}");
        std::thread::sleep(EVERY);
    }
}
