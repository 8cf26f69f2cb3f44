//! Requests earned by transactions: `allocation = { per_transaction = 500, at_least = 10000, window = "30d" }`.
//!
//! Two sliding windows of one length: one counts the requests, the other the transactions
//! ([`Engine::credit`](crate::engine::Engine::credit)). A request is admitted when those of its window, itself among them, are
//! at most `per_transaction` times the transactions of the same window, or at most `at_least`. The two are looked at one after
//! the other; a transaction in between is not seen yet, which errs to the strict side. Both bounds of a sliding window hold
//! for each: what has aged out stops to count at most a 60th of the window late, transactions included.

use super::SlidingWindow;
use std::time::Duration;

/// An allocation's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Requests that one transaction earns.
    pub per_transaction: u32,
    /// Requests there are without any.
    pub at_least: u32,
    /// How long requests and transactions count.
    pub window: Duration,
}

impl Allocation {
    /// Requests allowed in a window with so many transactions.
    #[must_use]
    pub fn allowed(&self, transactions: u64) -> u32 {
        let earned = transactions.saturating_mul(self.per_transaction.into());
        u32::try_from(earned).unwrap_or(u32::MAX).max(self.at_least)
    }

    /// The window of requests when there are so many transactions.
    #[must_use]
    pub fn requests(&self, transactions: u64) -> SlidingWindow {
        SlidingWindow::new(self.allowed(transactions), self.window)
    }

    /// The window of transactions: it refuses none.
    #[must_use]
    pub fn transactions(&self) -> SlidingWindow {
        SlidingWindow::new(u32::MAX, self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_holds_until_transactions_earn_more() {
        let reads = Allocation { per_transaction: 500, at_least: 10_000, window: Duration::from_secs(60) };
        assert_eq!([0, 1, 20, 21].map(|count| reads.allowed(count)), [10_000, 10_000, 10_000, 10_500]);
        assert_eq!(reads.allowed(u64::MAX), u32::MAX);
        let none = Allocation { per_transaction: 0, at_least: 0, ..reads };
        assert_eq!(none.allowed(9), 0);
    }
}
