//! The gateway's own access log.
//!
//! Its lines have their fields in one order, so that they are read in one pass without a JSON parser; whatever deviates (another
//! order, blanks, an escape in a string, a field that is new) goes to the parser, which says the same of the lines both can read.

use super::fields::{member, one_of, text};
use super::time;
use crate::engine::Mode;
use crate::replay::record::{Fault, MAX_DURATION_NS, Record};
use serde_json::Value;
use std::borrow::Cow;

/// Reads lines of the gateway's own log. Remembers the last date it has read: a day has many lines.
#[derive(Clone, Debug, Default)]
pub struct Own {
    dates: time::Dates,
}

impl Own {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read<'a>(&mut self, line: &'a str) -> Result<Record<'a>, Fault> {
        match self.scan(line) {
            Some(record) => Ok(record),
            None => parse(line),
        }
    }

    /// The quick way, for lines as the gateway writes them. A record is large, so it is made once, where it goes to.
    #[inline]
    fn scan<'a>(&mut self, line: &'a str) -> Option<Record<'a>> {
        let mut scan = Scan(line);
        let at = self.dates.rfc3339(scan.after(r#"{"ts":""#)?)?;
        let duration = scan.milliseconds(r#","duration_ms":"#)?;
        scan.after(r#","request_id":""#)?;
        let client = scan.after(r#","client":""#)?;
        let account = scan.optional(r#","account":""#)?;
        let connected = scan.optional(r#","connected_account":""#)?;
        let key = scan.optional(r#","key_id":""#)?;
        let mode = match scan.optional(r#","mode":""#)? {
            Some(mode) => Some(mode_of(mode)?),
            None => None,
        };
        scan.optional(r#","access":""#)?;
        let route = scan.optional(r#","route":""#)?;
        let endpoint = scan.optional(r#","endpoint":""#)?;
        let method = scan.after(r#","method":""#)?;
        let path = scan.after(r#","path":""#)?;
        let status = scan.status(r#","status":"#)?;
        let limit = scan.optional(r#","limit":""#)?;
        scan.optional(r#","reason":""#)?;
        if scan.0 != "}" {
            return None;
        }
        Some(Record {
            at,
            duration: Some(duration),
            account: account.filter(|_| came_to_limits(endpoint, status, false)).map(Cow::Borrowed),
            connected: connected.map(Cow::Borrowed),
            key: key.map(Cow::Borrowed),
            mode,
            method: Cow::Borrowed(method),
            path: Cow::Borrowed(path),
            host: None,
            route: route.map(Cow::Borrowed),
            endpoint: endpoint.map(Cow::Borrowed),
            client: Some(Cow::Borrowed(client)),
            status,
            limit: limit.map(Cow::Borrowed),
            given_up: false,
            partition: Vec::new(),
            facts: Vec::new(),
        })
    }
}

/// What is left of a line. Its methods are taken in where they are called, so that a literal is compared as a few words and not
/// by a call.
struct Scan<'a>(&'a str);

impl<'a> Scan<'a> {
    #[inline(always)]
    fn skip(&mut self, literal: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(literal)?;
        Some(())
    }

    /// The string that follows `literal`, if it has no escape.
    #[inline(always)]
    fn after(&mut self, literal: &str) -> Option<&'a str> {
        self.skip(literal)?;
        let end = string_end(self.0.as_bytes())?;
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.strip_prefix('"')?;
        Some(text)
    }

    /// As [`Scan::after`] where `literal` follows; `Some(None)` where it does not.
    #[inline(always)]
    fn optional(&mut self, literal: &str) -> Option<Option<&'a str>> {
        if self.0.starts_with(literal) { self.after(literal).map(Some) } else { Some(None) }
    }

    /// The digits that come next, as a number.
    #[inline(always)]
    fn whole(&mut self) -> Option<u64> {
        let (mut number, mut count) = (0_u64, 0);
        for digit in self.0.bytes().map(|byte| byte.wrapping_sub(b'0')).take_while(|&digit| digit < 10) {
            number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
            count += 1;
        }
        self.0 = self.0.get(count..)?;
        (count > 0).then_some(number)
    }

    /// A value ends here: what follows is another member, or nothing.
    fn ends<T>(&self, value: T) -> Option<T> {
        self.0.starts_with([',', '}']).then_some(value)
    }

    /// The plain whole number that follows `literal`.
    #[inline(always)]
    fn status(&mut self, literal: &str) -> Option<u16> {
        self.skip(literal)?;
        let status = u16::try_from(self.whole()?).ok()?;
        self.ends(status)
    }

    /// The plain decimal number of milliseconds that follows `literal`, in nanoseconds; digits beyond are cut off.
    #[inline(always)]
    fn milliseconds(&mut self, literal: &str) -> Option<u64> {
        self.skip(literal)?;
        let mut nanoseconds = self.whole()?.checked_mul(1_000_000)?;
        if let Some(fraction) = self.0.strip_prefix('.') {
            let (mut unit, mut count) = (100_000, 0);
            for digit in fraction.bytes().map(|byte| byte.wrapping_sub(b'0')).take_while(|&digit| digit < 10) {
                nanoseconds = nanoseconds.checked_add(u64::from(digit) * unit)?;
                unit /= 10;
                count += 1;
            }
            self.0 = fraction.get(count..)?;
        }
        self.ends(nanoseconds).filter(|&nanoseconds| nanoseconds <= MAX_DURATION_NS)
    }
}

/// Where a string ends or has an escape: the first quote or backslash. Strings of a log are so short that to call a search that
/// is made for long ones takes longer than eight bytes at a time.
#[inline]
fn string_end(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let (words, rest) = text.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let (quote, escape) = (word ^ (ONES * 0x22), word ^ (ONES * 0x5c));
        // Of the bytes marked here the first is zero for certain; those after it may be marked by its borrow.
        let marks = (quote.wrapping_sub(ONES) & !quote | escape.wrapping_sub(ONES) & !escape) & HIGHS;
        if marks != 0 {
            return Some(number * 8 + marks.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|&byte| matches!(byte, b'"' | b'\\'))?;
    Some(words.len() * 8 + at)
}

/// Whether a request came to the limits, or was refused before for what it was: then it is nobody's.
fn came_to_limits(endpoint: Option<&str>, status: u16, given_up: bool) -> bool {
    endpoint.is_some() && !(given_up && matches!(status, 400..=428))
}

fn mode_of(word: &str) -> Option<Mode> {
    one_of(&Mode::ALL, Mode::as_str, word)
}

/// The slow way, for any JSON object with these members.
fn parse(line: &str) -> Result<Record<'static>, Fault> {
    let line = super::fields::parse(line)?;
    let optional = |name: &str| match member(&line, name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => text(value).map(Some),
    };
    let needed = |name: &str| optional(name)?.ok_or(Fault::Field);
    let duration = match member(&line, "duration_ms") {
        None | Some(Value::Null) => None,
        Some(value) => Some(super::fields::nanoseconds(value.as_f64().ok_or(Fault::Field)?, 1e6)?),
    };
    let status = member(&line, "status").and_then(Value::as_u64).ok_or(Fault::Field)?;
    let mode = match optional("mode")? {
        Some(word) => Some(mode_of(&word).ok_or(Fault::Field)?),
        None => None,
    };
    let forwarded = member(&line, "forwarded").map(|value| value.as_bool().ok_or(Fault::Field)).transpose()?;
    let mut record = Record {
        at: time::rfc3339(&needed("ts")?).ok_or(Fault::Time)?,
        duration,
        account: optional("account")?,
        connected: optional("connected_account")?,
        key: optional("key_id")?,
        mode,
        method: needed("method")?,
        path: needed("path")?,
        host: None,
        route: optional("route")?,
        endpoint: optional("endpoint")?,
        client: optional("client")?,
        status: u16::try_from(status).map_err(|_| Fault::Field)?,
        limit: optional("limit")?,
        given_up: forwarded == Some(false),
        partition: partition(&line)?,
        facts: facts(&line)?,
    };
    if !came_to_limits(record.endpoint.as_deref(), record.status, record.given_up) {
        record.account = None;
    }
    Ok(record)
}

/// A value for each name that limits count by.
type Partition = Vec<(Cow<'static, str>, Cow<'static, str>)>;

fn partition(line: &Value) -> Result<Partition, Fault> {
    let Some(values) = member(line, "partition") else { return Ok(Vec::new()) };
    let values = values.as_object().ok_or(Fault::Field)?;
    values.iter().map(|(name, value)| Ok((Cow::Owned(name.clone()), text(value)?))).collect()
}

fn facts(line: &Value) -> Result<Vec<Cow<'static, str>>, Fault> {
    let Some(facts) = member(line, "facts") else { return Ok(Vec::new()) };
    facts.as_array().ok_or(Fault::Field)?.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = concat!(
        r#"{"ts":"2026-11-22T10:00:00.123456789Z","duration_ms":12.3456789,"request_id":"req_1","client":"192.0.2.1","#,
        r#""account":"acct_1","key_id":"key_1","mode":"test","access":"write","route":"default","endpoint":"c","#,
        r#""method":"POST","path":"/v1/charges","status":429,"limit":"l","reason":"global-rate"}"#
    );

    #[test]
    fn both_ways_say_the_same() {
        let quick = Own::default().scan(LINE).unwrap();
        assert_eq!(quick, parse(LINE).unwrap());
        assert_eq!((quick.at, quick.duration), (1_795_341_600_123_456_789, Some(12_345_678)));
        assert_eq!((quick.mode, quick.status, quick.limit.as_deref()), (Some(Mode::Test), 429, Some("l")));
        for deviating in [
            LINE.replacen("acct_1", r"acct\u005f1", 1),
            LINE.replacen(",\"key_id\"", ", \"key_id\"", 1),
            LINE.replacen("12.3456789", "1.23456789e1", 1),
        ] {
            assert_eq!(Own::default().scan(&deviating), None, "{deviating}");
            assert_eq!(parse(&deviating).unwrap(), quick, "{deviating}");
        }
        let seldom = LINE.replace('}', r#","partition":{"path.id":"po_1"},"facts":["form.a"]}"#);
        let read = Own::default().read(&seldom).unwrap();
        assert_eq!(read.partition, [("path.id".into(), "po_1".into())]);
        assert_eq!(read.facts, ["form.a"]);
    }

    #[test]
    fn a_string_ends_at_its_first_quote_or_backslash() {
        for length in 0..40 {
            for place in 0..length {
                for end in [b'"', b'\\'] {
                    for filler in [b'!', b'#', b'[', b']', b'a', 0xa2, 0xdc, 0xff, 0] {
                        let mut text = vec![filler; length];
                        assert_eq!(string_end(&text), None);
                        text[place] = end;
                        assert_eq!(string_end(&text), Some(place), "{text:?}");
                        text[length - 1] = b'"';
                        assert_eq!(string_end(&text), Some(place), "{text:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_are_read_as_the_parser_reads_them_or_left_to_it() {
        let duration =
            |number: &str| Own::default().scan(&LINE.replace("12.3456789", number)).map(|quick| quick.duration);
        assert_eq!(duration("0.5"), Some(Some(500_000)));
        assert_eq!(duration("604800000"), Some(Some(MAX_DURATION_NS)));
        assert_eq!(duration("0.0000019999999999999"), Some(Some(1)));
        for left in ["", ".5", "-1", "1.2.3", "1e3", "604800000.1", "99999999999999999999", "1x", "\"1\""] {
            assert_eq!(duration(left), None, "{left}");
        }
        let status = |number: &str| Own::default().scan(&LINE.replace("429", number)).map(|quick| quick.status);
        assert_eq!((status("0"), status("65535")), (Some(0), Some(65_535)));
        for left in ["", "65536", "-1", "200.0", "\"200\""] {
            assert_eq!(status(left), None, "{left}");
        }
    }

    #[test]
    fn nobody_is_asked_for_what_never_came_to_the_limits() {
        let without = LINE.replace(r#","endpoint":"c""#, "");
        let quick = Own::default().scan(&without).unwrap();
        assert_eq!((quick.account.as_deref(), &quick), (None, &parse(&without).unwrap()));
        let given_up = LINE.replace(r#","limit":"l","reason":"global-rate""#, r#","forwarded":false"#);
        for (status, account) in [("400", None), ("428", None), ("429", Some("acct_1")), ("503", Some("acct_1"))] {
            let line = given_up.replace("429", status);
            assert_eq!(Own::default().read(&line).unwrap().account.as_deref(), account, "{status}");
        }
    }

    #[test]
    fn faults_are_told_apart() {
        let read = |line: &str| Own::default().read(line).map(|_| ());
        assert_eq!(read(&LINE[..LINE.len() - 9]), Err(Fault::Truncated));
        assert_eq!(read("hello"), Err(Fault::Malformed));
        assert_eq!(read("[1]"), Err(Fault::Malformed));
        assert_eq!(read(&LINE.replace("429", "\"429\"")), Err(Fault::Field));
        assert_eq!(read(&LINE.replace("429", "70000")), Err(Fault::Field));
        assert_eq!(read(&LINE.replace("12.3456789", "-1")), Err(Fault::Field));
        assert_eq!(read(&LINE.replace("12.3456789", "1e300")), Err(Fault::Field));
        assert_eq!(read(&LINE.replace("2026", "26")), Err(Fault::Time));
        assert_eq!(read(&LINE.replace("2026", "1969")), Err(Fault::Time));
        assert_eq!(read(&LINE.replace("\"test\"", "\"prod\"")), Err(Fault::Field));
        assert_eq!(read(&LINE.replace("\"acct_1\"", "7")), Err(Fault::Field));
    }
}
