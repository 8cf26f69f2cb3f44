//! How often something is to happen.

use std::str::FromStr;

/// A share of requests, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate(f64);

/// A text that is no share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a share from 0 to 1 such as `0.01`, or `1%`; found `{0}`")]
pub struct RateError(String);

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Rate, RateError> {
        let (number, whole) = match text.strip_suffix('%') {
            Some(number) => (number.trim_end(), 100.0),
            None => (text, 1.0),
        };
        match number.parse::<f64>() {
            Ok(share) if (0.0..=whole).contains(&share) => Ok(Rate(share / whole)),
            _ => Err(RateError(text.to_owned())),
        }
    }
}

impl Rate {
    /// Whether it happens to the request that this random number was drawn for.
    #[must_use]
    pub fn hits(self, random: u64) -> bool {
        // 53 bits: what a f64 holds. Below 1, so that a rate of 1 hits always.
        ((random >> 11) as f64) / ((1_u64 << 53) as f64) < self.0
    }
}
