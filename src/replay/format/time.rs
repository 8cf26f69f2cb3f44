//! Times as logs write them, in nanoseconds since the Unix epoch. Those before it are none.

use jiff::Timestamp;
use jiff::civil::Date;

const SECOND_NS: u64 = 1_000_000_000;
const DAY_NS: u64 = 86_400 * SECOND_NS;

/// Any RFC 3339 time.
pub(super) fn rfc3339(text: &str) -> Option<u64> {
    since_epoch(text.parse::<Timestamp>().ok()?)
}

/// A time of a pattern as `strptime` has it, with an offset or in UTC.
pub(super) fn of_pattern(pattern: &str, text: &str) -> Option<u64> {
    let broken = jiff::fmt::strtime::parse(pattern, text).ok()?;
    match broken.to_timestamp() {
        Ok(at) => since_epoch(at),
        Err(_) => since_epoch(broken.to_datetime().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp()),
    }
}

fn since_epoch(at: Timestamp) -> Option<u64> {
    u64::try_from(at.as_nanosecond()).ok()
}

/// Reads times of the form `2026-11-22T10:00:00.123456789Z`, and remembers the last date: a day has many lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Dates {
    known: [u8; 10],
    starts_ns: u64,
}

impl Dates {
    /// A time of exactly that form; `None` for every other, good ones too.
    pub(super) fn rfc3339(&mut self, text: &str) -> Option<u64> {
        let bytes: &[u8; 30] = text.as_bytes().try_into().ok()?;
        let (date, time) = bytes.split_first_chunk::<10>()?;
        let [b'T', h1, h0, b':', m1, m0, b':', s1, s0, b'.', fraction @ .., b'Z'] = time else { return None };
        if *date != self.known {
            let day: Date = std::str::from_utf8(date).ok()?.parse().ok()?;
            let midnight = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
            (self.known, self.starts_ns) = (*date, since_epoch(midnight)?);
        }
        let (hours, minutes, seconds) = (number(&[*h1, *h0])?, number(&[*m1, *m0])?, number(&[*s1, *s0])?);
        // A leap second is left to the slow way.
        let of_day = (hours * 60 + minutes) * 60 + seconds;
        let fits = hours < 24 && minutes < 60 && seconds < 60;
        self.starts_ns
            .checked_add(of_day * SECOND_NS + number(fraction)?)
            .filter(|_| fits && of_day * SECOND_NS < DAY_NS)
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_way_reads_what_the_slow_way_reads() {
        let mut dates = Dates::default();
        for text in [
            "2026-11-22T10:20:30.123456789Z",
            "2026-11-22T23:59:59.999999999Z",
            "2024-02-29T00:00:00.000000000Z",
            "1970-01-01T00:00:00.000000000Z",
        ] {
            assert_eq!(dates.rfc3339(text), rfc3339(text), "{text}");
            assert!(rfc3339(text).is_some(), "{text}");
        }
        for text in
            ["2026-11-22T24:20:30.123456789Z", "2026-02-30T10:20:30.123456789Z", "2026-11-22T10:20:3x.123456789Z"]
        {
            assert_eq!(dates.rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn patterns_with_an_offset_and_without() {
        let wanted = rfc3339("2026-11-22T09:20:30Z");
        assert_eq!(of_pattern("%d/%b/%Y:%H:%M:%S %z", "22/Nov/2026:10:20:30 +0100"), wanted);
        assert_eq!(of_pattern("%Y-%m-%d %H:%M:%S", "2026-11-22 09:20:30"), wanted);
        assert_eq!(of_pattern("%Y-%m-%d %H:%M:%S", "yesterday"), None);
    }
}
