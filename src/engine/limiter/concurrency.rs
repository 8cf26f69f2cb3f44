//! Requests in flight at once: a count of slots.

/// A concurrency limit's figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Slots; 0 admits nothing.
    pub slots: u32,
}

impl Concurrency {
    /// The count after one more slot is taken, or `None` when all are. A count above the figure (it was lowered while requests
    /// were in flight) takes none until enough have come back.
    #[must_use]
    pub fn take(&self, in_flight: u32) -> Option<u32> {
        if in_flight < self.slots { Some(in_flight + 1) } else { None }
    }

    /// Slots free when `in_flight` are taken.
    #[must_use]
    pub fn remaining(&self, in_flight: u32) -> u64 {
        u64::from(self.slots.saturating_sub(in_flight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_takes_more_than_its_slots() {
        let two = Concurrency { slots: 2 };
        assert_eq!(two.take(0), Some(1));
        assert_eq!(two.take(1), Some(2));
        assert_eq!(two.take(2), None);
        assert_eq!(two.take(u32::MAX), None);
        assert_eq!(Concurrency { slots: 0 }.take(0), None);
        assert_eq!(Concurrency { slots: u32::MAX }.take(u32::MAX), None);
        assert_eq!(two.remaining(5), 0);
    }
}
