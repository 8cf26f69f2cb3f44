//! For whom a limit refuses: everybody, nobody (shadow), or a share of the accounts, so that a limit can be brought in step by
//! step.
//!
//! Which accounts a share takes is the same in every process: it depends on the account's name and the limit's name alone, so
//! neither a restart nor another gateway moves an account to the other side, and two limits do not always meet the same
//! accounts first. A greater share takes all accounts of a smaller one.

use super::class::{RequestClass, Seed};

/// Anybody may know it: lots keep nobody out, they only spread accounts.
const FIXED: Seed = Seed([0x746f_6c6c_6761_7465, 0x6c6f_7473_6c6f_7473]);

/// What an account draws, whatever the limit: see [`RequestClass::lot`].
#[must_use]
pub fn lot(account: &str) -> u64 {
    FIXED.hash(account.as_bytes()).0[0]
}

/// For whom a limit refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforce {
    /// Everybody.
    Always,
    /// Nobody: it only counts what it would have refused (shadow).
    Never,
    /// A share of the accounts; it is a shadow for the others.
    Share(Share),
}

/// A share of all accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Lots below it are in, of 2^32.
    below: u32,
    salt: u64,
}

impl Share {
    /// The share `of` 1 for the limit of this name; less than nothing is nothing.
    #[must_use]
    pub fn new(of: f64, limit: &str) -> Share {
        // A cast of a float saturates, which is what is wanted at both ends.
        Share { below: (of * LOTS) as u32, salt: lot(limit) }
    }

    /// The share, from 0 to 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.below) / LOTS
    }

    fn has(self, lot: u64) -> bool {
        let mut message = [0; 16];
        message[..8].copy_from_slice(&lot.to_le_bytes());
        message[8..].copy_from_slice(&self.salt.to_le_bytes());
        let drawn = FIXED.hash(&message).0[0] >> 32;
        drawn < u64::from(self.below)
    }
}

const LOTS: f64 = 4_294_967_296.0;

impl Enforce {
    /// Whether the limit refuses requests of this class; otherwise it is a shadow for them.
    #[must_use]
    pub fn is_for(self, class: &RequestClass) -> bool {
        match self {
            Enforce::Always => true,
            Enforce::Never => false,
            Enforce::Share(share) => share.has(class.lot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(of: f64, limit: &str) -> Vec<bool> {
        let share = Share::new(of, limit);
        (0..10_000).map(|number| share.has(lot(&format!("acct_{number}")))).collect()
    }

    #[test]
    fn a_share_takes_about_so_many_and_a_greater_one_all_of_them() {
        let [tenth, half] = [0.1, 0.5].map(|of| taken(of, "payouts"));
        let count = |taken: &[bool]| taken.iter().filter(|taken| **taken).count();
        assert!((850..1_150).contains(&count(&tenth)), "{}", count(&tenth));
        assert!((4_800..5_200).contains(&count(&half)), "{}", count(&half));
        assert!(tenth.iter().zip(&half).all(|(small, great)| *great || !small));
        assert_eq!((count(&taken(0.0, "payouts")), count(&taken(1.0, "payouts"))), (0, 10_000));
    }

    #[test]
    fn two_limits_take_different_accounts_first() {
        let [one, other] = ["payouts", "refunds"].map(|limit| taken(0.1, limit));
        let both = one.iter().zip(&other).filter(|(one, other)| **one && **other).count();
        assert!((50..150).contains(&both), "{both}");
    }

    /// These very accounts, in every process: should this ever change, every ramp that is under way begins anew.
    #[test]
    fn lots_never_change() {
        let share = Share::new(0.1, "payouts-rate");
        let first: Vec<u32> = (0..100).filter(|number| share.has(lot(&format!("acct_{number}")))).collect();
        assert_eq!(first, [9, 17, 23, 45, 49, 61, 62, 95]);
    }
}
