//! Counts of one replay, in memory that the trace's length does not change.

use super::arrival::AccountId;

/// Buckets of a [`Timeline`].
pub const MAX_BUCKETS: usize = 512;

/// One bit for each account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
    beyond: bool,
}

impl Bits {
    /// Sets an account's bit.
    pub fn set(&mut self, account: AccountId) {
        if account == AccountId::BEYOND {
            self.beyond = true;
            return;
        }
        let word = account.0 as usize / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            *word |= 1 << (account.0 % 64);
        }
    }

    /// Whether it is set.
    #[must_use]
    pub fn has(&self, account: AccountId) -> bool {
        match self.words.get(account.0 as usize / 64) {
            Some(word) => word >> (account.0 % 64) & 1 == 1,
            None => account == AccountId::BEYOND && self.beyond,
        }
    }

    /// How many are set; those beyond count as one.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>() + u64::from(self.beyond)
    }
}

/// The most of anything within one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    second: u64,
    count: u64,
    /// The second it was in, since the Unix epoch.
    pub at: u64,
    /// How many.
    pub most: u64,
}

impl Peak {
    /// Counts one more. Seconds never go back.
    pub fn note(&mut self, second: u64) {
        if second != self.second {
            (self.second, self.count) = (second, 0);
        }
        self.count += 1;
        if self.count > self.most {
            (self.at, self.most) = (second, self.count);
        }
    }
}

/// Admitted and refused requests over time, in at most [`MAX_BUCKETS`] buckets of equal width, whatever the span.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The second the first bucket begins with.
    pub from: u64,
    /// Seconds of a bucket: a power of two.
    pub width: u64,
    /// The buckets.
    pub buckets: Vec<Bucket>,
}

/// One bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Requests admitted.
    pub admitted: u64,
    /// Requests refused, by limit; as long as needed.
    pub refused: Vec<u64>,
}

impl Timeline {
    /// Counts one request of a second; they never go back.
    pub fn note(&mut self, second: u64, refused_by: Option<usize>) {
        if self.width == 0 {
            (self.from, self.width) = (second, 1);
        }
        let offset = second.saturating_sub(self.from);
        while offset / self.width >= MAX_BUCKETS as u64 {
            self.halve();
        }
        let Ok(place) = usize::try_from(offset / self.width) else { return };
        if self.buckets.len() <= place {
            self.buckets.resize_with(place + 1, Bucket::default);
        }
        let Some(bucket) = self.buckets.get_mut(place) else { return };
        match refused_by {
            None => bucket.admitted += 1,
            Some(limit) => bucket.refuse(limit, 1),
        }
    }

    /// Makes one bucket of every two.
    fn halve(&mut self) {
        self.width = self.width.saturating_mul(2);
        let pairs = self.buckets.chunks(2).map(|pair| {
            let mut whole = Bucket::default();
            for bucket in pair {
                whole.admitted += bucket.admitted;
                bucket.refused.iter().enumerate().for_each(|(limit, &count)| whole.refuse(limit, count));
            }
            whole
        });
        self.buckets = pairs.collect();
    }
}

impl Bucket {
    fn refuse(&mut self, limit: usize, count: u64) {
        if self.refused.len() <= limit {
            self.refused.resize(limit + 1, 0);
        }
        if let Some(refused) = self.refused.get_mut(limit) {
            *refused += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_known_and_of_unknown_accounts() {
        let mut bits = Bits::default();
        for account in [AccountId(3), AccountId(64), AccountId(64), AccountId::BEYOND] {
            bits.set(account);
        }
        assert_eq!(bits.count(), 3);
        assert_eq!([3, 4, 64, 900].map(|account| bits.has(AccountId(account))), [true, false, true, false]);
        assert!(bits.has(AccountId::BEYOND) && !Bits::default().has(AccountId::BEYOND));
    }

    #[test]
    fn a_timeline_of_any_span_keeps_its_sums() {
        for step in [1, 3, 1_000, 1 << 40] {
            let mut timeline = Timeline::default();
            for number in 0..3_000_u64 {
                timeline.note(1_000 + number * step, (number % 3 == 0).then_some((number % 2) as usize));
            }
            assert!(timeline.buckets.len() <= MAX_BUCKETS);
            assert!(timeline.width.is_power_of_two());
            let admitted: u64 = timeline.buckets.iter().map(|bucket| bucket.admitted).sum();
            let refused: u64 = timeline.buckets.iter().flat_map(|bucket| &bucket.refused).sum();
            assert_eq!((admitted, refused), (2_000, 1_000));
        }
    }

    #[test]
    fn the_busiest_second() {
        let mut peak = Peak::default();
        [5, 5, 6, 7, 7, 7, 9, 9].into_iter().for_each(|second| peak.note(second));
        assert_eq!((peak.at, peak.most), (7, 3));
    }
}
