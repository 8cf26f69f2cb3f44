//! The mechanisms, as one closed enum: a new one does not compile until every `match` knows it.

pub mod allocation;
pub mod concurrency;
pub mod gcra;
pub mod sliding_window;

pub use allocation::Allocation;
pub use concurrency::Concurrency;
pub use gcra::Gcra;
pub use sliding_window::SlidingWindow;

/// The mechanism of a limit. Partitions of different mechanisms never meet, even under one limit's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mechanism {
    /// Token bucket.
    Rate,
    /// Count per sliding window.
    Quota,
    /// In flight at once.
    Concurrency,
    /// Count per sliding window, as many as transactions earn.
    Allocation,
}

impl Mechanism {
    /// How many mechanisms there are.
    pub const COUNT: usize = 4;

    /// The word used in configuration and explanations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mechanism::Rate => "rate",
            Mechanism::Quota => "quota",
            Mechanism::Concurrency => "concurrency",
            Mechanism::Allocation => "allocation",
        }
    }
}

/// A limit's mechanism with its figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limiter {
    /// A token bucket: `rate` and `burst`.
    Gcra(Gcra),
    /// A count per sliding window: `quota`.
    SlidingWindow(SlidingWindow),
    /// A number of requests in flight at once: `concurrency`.
    Concurrency(Concurrency),
    /// A count per sliding window that transactions earn: `allocation`.
    Allocation(Allocation),
}

impl Limiter {
    /// Which mechanism this is.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        match self {
            Limiter::Gcra(_) => Mechanism::Rate,
            Limiter::SlidingWindow(_) => Mechanism::Quota,
            Limiter::Concurrency(_) => Mechanism::Concurrency,
            Limiter::Allocation(_) => Mechanism::Allocation,
        }
    }
}
