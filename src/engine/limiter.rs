//! The mechanisms, as one closed enum: a new one does not compile until every `match` knows it.

pub mod concurrency;
pub mod gcra;

pub use concurrency::Concurrency;
pub use gcra::Gcra;

/// The mechanism of a limit. Partitions of different mechanisms never meet, even under one limit's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mechanism {
    /// Token bucket.
    Rate,
    /// In flight at once.
    Concurrency,
}

impl Mechanism {
    /// How many mechanisms there are.
    pub const COUNT: usize = 2;

    /// The word used in configuration and explanations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mechanism::Rate => "rate",
            Mechanism::Concurrency => "concurrency",
        }
    }
}

/// A limit's mechanism with its figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limiter {
    /// A token bucket: `rate` and `burst`.
    Gcra(Gcra),
    /// A number of requests in flight at once: `concurrency`.
    Concurrency(Concurrency),
}

impl Limiter {
    /// Which mechanism this is.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        match self {
            Limiter::Gcra(_) => Mechanism::Rate,
            Limiter::Concurrency(_) => Mechanism::Concurrency,
        }
    }
}
