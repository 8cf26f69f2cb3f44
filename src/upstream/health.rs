//! What health checks have said of a server: so many in a row change it.

use crate::config::HealthCheck;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// A server's health. One task checks and writes, all threads read.
///
/// A new server is taken for well, so that it serves before its first check; but the first checks decide fast: until one has
/// succeeded, a single failure is enough.
#[derive(Debug, Default)]
pub struct Health {
    is_unwell: AtomicBool,
    /// A check has succeeded once.
    is_proven: AtomicBool,
    /// Checks in a row that speak against what it is taken for.
    against: AtomicU32,
}

impl Health {
    /// Whether it is well, as far as anybody knows.
    #[must_use]
    pub fn is_well(&self) -> bool {
        !self.is_unwell.load(Relaxed)
    }

    /// Notes a check's outcome. Returns whether the server is well now, where that has changed.
    pub fn note(&self, succeeded: bool, settings: &HealthCheck) -> Option<bool> {
        let is_well = self.is_well();
        let is_proven = self.is_proven.load(Relaxed);
        if succeeded {
            self.is_proven.store(true, Relaxed);
        }
        if succeeded == is_well {
            self.against.store(0, Relaxed);
            return None;
        }
        let against = self.against.fetch_add(1, Relaxed) + 1;
        let needed = match (succeeded, is_proven) {
            (true, true) => settings.healthy,
            (false, true) => settings.unhealthy,
            // Nothing is known of it but this.
            (_, false) => 1,
        };
        if against < needed {
            return None;
        }
        self.against.store(0, Relaxed);
        self.is_unwell.store(is_well, Relaxed);
        Some(!is_well)
    }

    /// Nobody checks any more.
    pub(super) fn forget(&self) {
        self.is_unwell.store(false, Relaxed);
        self.is_proven.store(false, Relaxed);
        self.against.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn settings() -> HealthCheck {
        HealthCheck {
            path: "/".into(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy: 2,
            unhealthy: 3,
            statuses: [(200, 299)].into(),
            host: None,
        }
    }

    /// What each of these checks changes.
    fn changes(health: &Health, checks: &[bool]) -> Vec<Option<bool>> {
        checks.iter().map(|check| health.note(*check, &settings())).collect()
    }

    #[test]
    fn so_many_in_a_row_change_it_and_one_against_begins_anew() {
        let health = Health::default();
        assert!(health.is_well(), "a new server serves");
        assert_eq!(changes(&health, &[true, false, false, true, false, false]), [None; 6]);
        assert_eq!(changes(&health, &[false]), [Some(false)]);
        assert!(!health.is_well());
        assert_eq!(changes(&health, &[false, true, false, true]), [None; 4]);
        assert_eq!(changes(&health, &[true]), [Some(true)]);
        assert!(health.is_well());
    }

    #[test]
    fn the_first_checks_decide_at_once() {
        let health = Health::default();
        assert_eq!(changes(&health, &[false]), [Some(false)]);
        assert_eq!(changes(&health, &[true]), [Some(true)]);
        assert_eq!(changes(&health, &[false, false]), [None; 2], "once it was well it takes three");
        health.forget();
        assert_eq!(changes(&health, &[false]), [Some(false)]);
    }
}
