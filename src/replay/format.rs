//! How a trace is written: the gateway's own log, lines as nginx and Apache write them, or JSON as Envoy and Caddy do.
//!
//! A [`Mapping`] says where each field is. Without one the first line that can be told decides, for each file on its own.

mod combined;
mod fields;
mod own;
mod time;

pub use crate::config::{TraceFormat as Mapping, TraceKind as Kind};

use super::record::{Fault, Record};
use crate::config::{TraceTimeIs, TraceUnit};
use crate::engine::Mode;
use combined::Combined;
use own::Own;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

/// Reads `[replay.format]` from a TOML text that has nothing else, or the same keys at its top level.
///
/// # Errors
/// What is wrong with it, in words.
pub fn mapping(text: &str) -> Result<Mapping, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        replay: Section,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Section {
        format: Mapping,
    }
    let is_section = text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("replay"));
    let read =
        if is_section { toml::from_str::<File>(text).map(|file| file.replay.format) } else { toml::from_str(text) };
    let mapping: Mapping = read.map_err(|error| error.to_string())?;
    mapping.checked()
}

impl Mapping {
    fn record<'a>(&self, line: &impl Fields<'a>) -> Result<Record<'a>, Fault> {
        let field = |name: &Option<String>| name.as_deref().and_then(|name| line.field(name));
        let duration = match (&self.duration, field(&self.duration)) {
            (Some(_), Some(text)) => {
                let unit = self.duration_unit.unwrap_or(TraceUnit::Seconds);
                Some(fields::nanoseconds(text.trim_end_matches('s').parse().map_err(|_| Fault::Field)?, unit.in_ns())?)
            }
            _ => None,
        };
        let (method, path) = match field(&self.request) {
            Some(request) => request_line(request)?,
            None => (field(&self.method).ok_or(Fault::Field)?, field(&self.path).ok_or(Fault::Field)?),
        };
        let time = field(&self.time).ok_or(Fault::Field)?;
        let time = self.time_of(&time).ok_or(Fault::Time)?;
        let status = match field(&self.status) {
            Some(text) => text.parse().map_err(|_| Fault::Field)?,
            None => 0,
        };
        let mode = match field(&self.mode) {
            Some(word) => Some(fields::one_of(&Mode::ALL, Mode::as_str, &word).ok_or(Fault::Field)?),
            None => None,
        };
        Ok(Record {
            at: if self.time_is == Some(TraceTimeIs::Start) {
                time
            } else {
                time.saturating_sub(duration.unwrap_or(0))
            },
            duration,
            account: self.account.as_ref().and_then(|account| account.names().iter().find_map(|name| line.field(name))),
            connected: field(&self.connected_account),
            key: field(&self.key),
            mode,
            method,
            path,
            host: field(&self.host),
            route: None,
            endpoint: None,
            client: field(&self.client),
            status,
            limit: None,
            given_up: false,
            partition: Vec::new(),
            facts: Vec::new(),
        })
    }

    fn time_of(&self, text: &str) -> Option<u64> {
        let of_unit = |unit_ns: u32| decimal(text, unit_ns);
        match self.time_format.as_deref().unwrap_or("rfc3339") {
            "rfc3339" => time::rfc3339(text),
            "unix" => of_unit(1_000_000_000),
            "unix_ms" => of_unit(1_000_000),
            "unix_us" => of_unit(1_000),
            "unix_ns" => of_unit(1),
            pattern => time::of_pattern(pattern, text),
        }
    }
}

/// A decimal number of units, in nanoseconds; digits beyond are cut off. Exact where floating point is not.
fn decimal(text: &str, unit_ns: u32) -> Option<u64> {
    if text.contains(['e', 'E']) {
        let number = text.parse::<f64>().ok()? * f64::from(unit_ns);
        return (0.0..1.8e19).contains(&number).then_some(number as u64);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut nanoseconds = whole.parse::<u64>().ok()?.checked_mul(unit_ns.into())?;
    let mut digit_ns = u64::from(unit_ns);
    for digit in fraction.bytes() {
        digit_ns /= 10;
        nanoseconds = nanoseconds.checked_add(u64::from(char::from(digit).to_digit(10)?) * digit_ns)?;
    }
    Some(nanoseconds)
}

/// The parts of `GET /x HTTP/1.1`.
fn request_line(line: Cow<'_, str>) -> Result<(Cow<'_, str>, Cow<'_, str>), Fault> {
    let parts = |line: &str| {
        let (method, rest) = line.split_once(' ')?;
        let path = rest.rsplit_once(" HTTP/").map_or(rest, |(path, _)| path);
        Some((method.len(), path.len()))
    };
    let (method, path) = parts(&line).ok_or(Fault::Malformed)?;
    let cut = |line: &str| {
        let rest = line.get(method + 1..method + 1 + path)?;
        Some((line.get(..method)?.to_owned(), rest.to_owned()))
    };
    match line {
        Cow::Borrowed(line) => {
            let path = line.get(method + 1..method + 1 + path).ok_or(Fault::Malformed)?;
            Ok((Cow::Borrowed(line.get(..method).ok_or(Fault::Malformed)?), Cow::Borrowed(path)))
        }
        Cow::Owned(line) => cut(&line).map(|(method, path)| (method.into(), path.into())).ok_or(Fault::Malformed),
    }
}

/// A line that was taken apart.
trait Fields<'a> {
    /// The value of a field; `None` where it has none.
    fn field(&self, name: &str) -> Option<Cow<'a, str>>;
}

/// A line of JSON.
struct JsonLine(Value);

impl<'a> Fields<'a> for JsonLine {
    fn field(&self, name: &str) -> Option<Cow<'a, str>> {
        match fields::at(&self.0, name)? {
            Value::String(text) if text.is_empty() || text == "-" => None,
            Value::String(text) => Some(Cow::Owned(text.clone())),
            other @ (Value::Number(_) | Value::Bool(_)) => Some(Cow::Owned(other.to_string())),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// Reads the lines of one file.
#[derive(Clone, Debug)]
pub enum Reader {
    /// Nothing is known yet; what is not the gateway's own log is read by the mapping, if there is one.
    Unknown(Option<Box<Mapping>>),
    /// The gateway's own log.
    Own(Own),
    /// Another's.
    Mapped(Box<Mapping>),
}

impl Reader {
    /// A reader for what `mapping` says; without one, the first line that can be told decides. With `own_too`, a first line that is
    /// of the gateway's own log goes before the mapping.
    #[must_use]
    pub fn new(mapping: Option<&Mapping>, own_too: bool) -> Reader {
        match mapping {
            None => Reader::Unknown(None),
            Some(mapping) if own_too => Reader::Unknown(Some(Box::new(mapping.clone()))),
            Some(mapping) => Reader::of(Box::new(mapping.clone())),
        }
    }

    fn of(mapping: Box<Mapping>) -> Reader {
        if mapping.kind == Kind::Tollgate { Reader::Own(Own::default()) } else { Reader::Mapped(mapping) }
    }

    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read<'a>(&mut self, line: &'a str) -> Result<Record<'a>, Fault> {
        if let Reader::Unknown(mapping) = self {
            let mapping = match (sniff(line), mapping.take()) {
                (Ok(Kind::Tollgate), _) => Box::new(Mapping::of(Kind::Tollgate)),
                (_, Some(mapping)) => mapping,
                (kind, None) => Box::new(Mapping::of(kind?)),
            };
            *self = Reader::of(mapping);
        }
        match self {
            Reader::Unknown(_) => Err(Fault::Malformed),
            Reader::Own(own) => own.read(line),
            Reader::Mapped(mapping) if mapping.kind == Kind::Combined => mapping.record(&Combined::split(line)?),
            Reader::Mapped(mapping) => mapping.record(&JsonLine(fields::parse(line)?)),
        }
    }
}

/// What a line looks like.
fn sniff(line: &str) -> Result<Kind, Fault> {
    if !line.starts_with('{') {
        return Combined::split(line).map(|_| Kind::Combined);
    }
    let line = fields::parse(line)?;
    let has = |names: &[&str]| names.iter().all(|name| fields::member(&line, name).is_some());
    if has(&["ts", "duration_ms"]) {
        Ok(Kind::Tollgate)
    } else if has(&["ts", "request"]) {
        Ok(Kind::Caddy)
    } else if has(&["start_time", "response_code"]) {
        Ok(Kind::Envoy)
    } else {
        Err(Fault::Malformed)
    }
}

#[cfg(test)]
mod tests;
