//! What the connections of one thread lend each other, so that an idle one holds nothing: header maps and the date. Room to read
//! into and buffers to write from they share with those to upstreams ([`crate::upstream::room`], [`crate::upstream::buffers`]).

use crate::budget::{Budget, Charge};
use crate::clock::Time;
use crate::engine::{Clock, Nanos};
use http::HeaderMap;
use jiff::fmt::rfc2822::DateTimePrinter;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// Maps kept. More are in use only while more requests are answered at once.
const MAX_KEPT: usize = 64;
/// Fields that a new header map has room for: those of a request, and what the gateway adds.
const FIELDS: usize = 24;
/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;

/// The spares of one thread.
pub(in crate::server) struct Spares {
    time: Time,
    budget: Arc<Budget>,
    maps: RefCell<Vec<HeaderMap>>,
    date: RefCell<String>,
    date_until: Cell<Nanos>,
}

impl Spares {
    /// Without a bound on what is held.
    #[cfg(test)]
    pub(in crate::server) fn new(time: Time) -> Spares {
        Spares::within(time, &Budget::new(usize::MAX))
    }

    /// With what the connections hold taken from `budget`.
    pub(in crate::server) fn within(time: Time, budget: &Arc<Budget>) -> Spares {
        Spares {
            time,
            budget: Arc::clone(budget),
            maps: RefCell::default(),
            date: RefCell::default(),
            date_until: Cell::new(Nanos::ZERO),
        }
    }

    /// What a connection may take of the memory for buffers: nothing yet.
    pub(super) fn charge(&self) -> Charge {
        Charge::none(&self.budget)
    }

    /// An empty header map.
    pub(super) fn map(&self) -> HeaderMap {
        self.maps.borrow_mut().pop().unwrap_or_else(|| HeaderMap::with_capacity(FIELDS))
    }

    /// Takes a header map back.
    pub(super) fn keep_map(&self, mut map: HeaderMap) {
        let mut maps = self.maps.borrow_mut();
        if maps.len() < MAX_KEPT && map.capacity() > 0 {
            if !map.is_empty() {
                map.clear();
            }
            maps.push(map);
        }
    }

    /// Appends the date of this second, as `Date` has it.
    pub(in crate::server) fn put_date(&self, out: &mut Vec<u8>) {
        self.put_date_of(None, out);
    }

    /// The same of an answer that was `made` just now, where somebody has looked at the clock for it already.
    pub(super) fn put_date_of(&self, made: Option<Nanos>, out: &mut Vec<u8>) {
        let now = made.unwrap_or_else(|| self.time.now());
        let mut date = self.date.borrow_mut();
        if now >= self.date_until.get() {
            let wall = self.time.wall();
            date.clear();
            // Only years that no clock shows cannot be written; the field is left empty then.
            let _ = DateTimePrinter::new().print_timestamp_rfc9110(&wall, &mut *date);
            let into_ns = u64::try_from(wall.subsec_nanosecond()).unwrap_or(0).min(SECOND_NS);
            self.date_until.set(Nanos(now.0.saturating_add(SECOND_NS - into_ns)));
        }
        out.extend_from_slice(date.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_date_is_that_of_the_second() {
        let (time, hand) = Time::manual();
        let spares = Spares::new(time);
        let date = || {
            let mut out = Vec::new();
            spares.put_date(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(date(), "Thu, 01 Jan 1970 00:00:00 GMT");
        hand.advance(Duration::from_millis(999));
        assert_eq!(date(), "Thu, 01 Jan 1970 00:00:00 GMT");
        hand.advance(Duration::from_millis(1));
        assert_eq!(date(), "Thu, 01 Jan 1970 00:00:01 GMT");
        hand.advance(Duration::from_millis(1_500));
        assert_eq!(date(), "Thu, 01 Jan 1970 00:00:02 GMT");
        hand.advance(Duration::from_millis(500));
        assert_eq!(date(), "Thu, 01 Jan 1970 00:00:03 GMT");
    }

    #[test]
    fn the_date_of_an_answer_is_that_of_the_second_it_was_made_in() {
        let (time, hand) = Time::manual();
        let spares = Spares::new(time);
        let date = |made| {
            let mut out = Vec::new();
            spares.put_date_of(made, &mut out);
            String::from_utf8(out).unwrap()
        };
        let end = Nanos(SECOND_NS - 1);
        hand.set(end);
        assert_eq!(date(Some(end)), "Thu, 01 Jan 1970 00:00:00 GMT");
        // Made in the second before, and written just now.
        hand.set(Nanos(SECOND_NS));
        assert_eq!(date(Some(end)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(None), "Thu, 01 Jan 1970 00:00:01 GMT");
        // Another one, whose second is over by now as well: what has begun stays.
        assert_eq!(date(Some(end)), "Thu, 01 Jan 1970 00:00:01 GMT");
        hand.set(Nanos(5 * SECOND_NS));
        assert_eq!(date(Some(Nanos(5 * SECOND_NS))), "Thu, 01 Jan 1970 00:00:05 GMT");
    }
}
