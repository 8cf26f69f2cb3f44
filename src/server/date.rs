//! The `Date` header of answers, written once a second.

use http::HeaderValue;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use std::cell::RefCell;

/// The newest one of a thread.
#[derive(Debug, Default)]
pub(super) struct Dates(RefCell<Option<(i64, HeaderValue)>>);

impl Dates {
    /// The header for this moment.
    pub(super) fn at(&self, now: Timestamp) -> Option<HeaderValue> {
        let mut newest = self.0.borrow_mut();
        if let Some((second, value)) = &*newest
            && *second == now.as_second()
        {
            return Some(value.clone());
        }
        let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()?;
        let value = HeaderValue::try_from(text).ok()?;
        *newest = Some((now.as_second(), value.clone()));
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_seconds() {
        let dates = Dates::default();
        let at = |second| dates.at(Timestamp::from_second(second).unwrap()).unwrap();
        assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_778), "Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
