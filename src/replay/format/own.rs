//! The gateway's own access log.
//!
//! Its lines have their fields in one order, so that they are read in one pass without a JSON parser; whatever deviates (another
//! order, blanks, an escape in a string, a field that is new) goes to the parser, which says the same of the lines both can read.

use super::fields::{member, one_of, text};
use super::time;
use crate::engine::Mode;
use crate::replay::record::{Fault, MAX_DURATION_NS, Record};
use memchr::memchr2;
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

    /// The quick way, for lines as the gateway writes them.
    fn scan<'a>(&mut self, line: &'a str) -> Option<Record<'a>> {
        let mut scan = Scan(line);
        let at = self.dates.rfc3339(scan.after(r#"{"ts":""#)?)?;
        let duration = Some(milliseconds(scan.number(r#","duration_ms":"#)?)?);
        let mut record = Record { at, duration, ..Record::default() };
        scan.after(r#","request_id":""#)?;
        record.client = Some(Cow::Borrowed(scan.after(r#","client":""#)?));
        record.account = scan.optional(r#","account":""#)?;
        record.connected = scan.optional(r#","connected_account":""#)?;
        record.key = scan.optional(r#","key_id":""#)?;
        if let Some(mode) = scan.optional(r#","mode":""#)? {
            record.mode = Some(mode_of(&mode)?);
        }
        scan.optional(r#","access":""#)?;
        record.route = scan.optional(r#","route":""#)?;
        record.endpoint = scan.optional(r#","endpoint":""#)?;
        record.method = Cow::Borrowed(scan.after(r#","method":""#)?);
        record.path = Cow::Borrowed(scan.after(r#","path":""#)?);
        record.status = scan.number(r#","status":"#)?.parse().ok()?;
        record.limit = scan.optional(r#","limit":""#)?;
        scan.optional(r#","reason":""#)?;
        settle(&mut record);
        (scan.0 == "}").then_some(record)
    }
}

/// What is left of a line.
struct Scan<'a>(&'a str);

impl<'a> Scan<'a> {
    fn skip(&mut self, literal: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(literal)?;
        Some(())
    }

    /// The string that follows `literal`, if it has no escape.
    fn after(&mut self, literal: &str) -> Option<&'a str> {
        self.skip(literal)?;
        let end = memchr2(b'"', b'\\', self.0.as_bytes())?;
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.strip_prefix('"')?;
        Some(text)
    }

    /// As [`Scan::after`] where `literal` follows; `Some(None)` where it does not.
    fn optional(&mut self, literal: &str) -> Option<Option<Cow<'a, str>>> {
        if self.0.starts_with(literal) { self.after(literal).map(|text| Some(Cow::Borrowed(text))) } else { Some(None) }
    }

    /// The plain decimal number that follows `literal`.
    fn number(&mut self, literal: &str) -> Option<&'a str> {
        self.skip(literal)?;
        let end = self.0.bytes().position(|byte| !byte.is_ascii_digit() && byte != b'.')?;
        let (number, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        rest.starts_with([',', '}']).then_some(number)
    }
}

/// Milliseconds as the log writes them, in nanoseconds; digits beyond are cut off.
fn milliseconds(number: &str) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut nanoseconds = whole.parse::<u64>().ok()?.checked_mul(1_000_000)?;
    let mut unit = 100_000;
    for digit in fraction.bytes() {
        nanoseconds = nanoseconds.checked_add(u64::from(digit.checked_sub(b'0')?) * unit)?;
        unit /= 10;
    }
    Some(nanoseconds).filter(|&nanoseconds| nanoseconds <= MAX_DURATION_NS)
}

/// Without an account where it never came to the limits: refused for what it was, before they were asked.
fn settle(record: &mut Record<'_>) {
    let before_limits = record.given_up && matches!(record.status, 400..=428);
    if before_limits || record.endpoint.is_none() {
        record.account = None;
    }
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
    settle(&mut record);
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
