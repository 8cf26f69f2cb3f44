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

/// Widths of buckets, in seconds: each divides the next, and people count in all of them. Beyond a week they double.
const WIDTHS: [u64; 12] = [1, 2, 10, 30, 60, 300, 900, 3_600, 7_200, 21_600, 86_400, 604_800];

/// Admitted and refused requests over time, in at most [`MAX_BUCKETS`] buckets of equal width, whatever the span.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The second the first bucket begins with: a multiple of the width.
    pub from: u64,
    /// Seconds of a bucket.
    pub width: u64,
    /// The buckets.
    pub buckets: Vec<Bucket>,
    second: u64,
    in_second: u64,
}

/// One bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Requests admitted.
    pub admitted: u64,
    /// Requests of its busiest second.
    pub busiest: u64,
    /// Requests refused, by limit; as long as needed.
    pub refused: Vec<u64>,
}

impl Timeline {
    /// Counts one request of a second; they never go back.
    pub fn note(&mut self, second: u64, refused_by: Option<usize>) {
        if self.width == 0 {
            (self.from, self.width) = (second, 1);
        }
        if second != self.second {
            (self.second, self.in_second) = (second, 0);
        }
        self.in_second += 1;
        while second.saturating_sub(self.from) / self.width >= MAX_BUCKETS as u64 {
            self.widen();
        }
        let Ok(place) = usize::try_from(second.saturating_sub(self.from) / self.width) else { return };
        if self.buckets.len() <= place {
            self.buckets.resize_with(place + 1, Bucket::default);
        }
        let Some(bucket) = self.buckets.get_mut(place) else { return };
        bucket.busiest = bucket.busiest.max(self.in_second);
        match refused_by {
            None => bucket.admitted += 1,
            Some(limit) => bucket.refuse(limit, 1),
        }
    }

    /// Makes one bucket of several.
    fn widen(&mut self) {
        let width = WIDTHS.into_iter().find(|&width| width > self.width).unwrap_or(self.width.saturating_mul(2));
        let from = self.from - self.from % width;
        let mut buckets: Vec<Bucket> = Vec::new();
        for (number, bucket) in (0_u64..).zip(&self.buckets) {
            let place = (self.from - from + number * self.width) / width;
            while buckets.len() as u64 <= place {
                buckets.push(Bucket::default());
            }
            if let Some(whole) = buckets.last_mut() {
                whole.admitted += bucket.admitted;
                whole.busiest = whole.busiest.max(bucket.busiest);
                bucket.refused.iter().enumerate().for_each(|(limit, &count)| whole.refuse(limit, count));
            }
        }
        (self.from, self.width, self.buckets) = (from, width, buckets);
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
        for step in [0, 1, 3, 1_000, 1 << 40] {
            let mut timeline = Timeline::default();
            for number in 0..3_000_u64 {
                timeline.note(1_000 + number * step, (number % 3 == 0).then_some((number % 2) as usize));
            }
            assert!(timeline.buckets.len() <= MAX_BUCKETS);
            assert!(timeline.width == 1 || timeline.from.is_multiple_of(timeline.width));
            assert!(timeline.from <= 1_000 && 1_000 - timeline.from < timeline.width);
            let busiest = timeline.buckets.iter().map(|bucket| bucket.busiest).max();
            assert_eq!(busiest, Some(if step == 0 { 3_000 } else { 1 }));
            let admitted: u64 = timeline.buckets.iter().map(|bucket| bucket.admitted).sum();
            let refused: u64 = timeline.buckets.iter().flat_map(|bucket| &bucket.refused).sum();
            assert_eq!((admitted, refused), (2_000, 1_000));
        }
    }

    #[test]
    fn each_width_divides_the_next() {
        assert!(WIDTHS.is_sorted() && WIDTHS.windows(2).all(|pair| pair[1].is_multiple_of(pair[0])));
    }

    #[test]
    fn the_busiest_second() {
        let mut peak = Peak::default();
        [5, 5, 6, 7, 7, 7, 9, 9].into_iter().for_each(|second| peak.note(second));
        assert_eq!((peak.at, peak.most), (7, 3));
    }
}
