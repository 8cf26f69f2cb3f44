//! How a trace is written: the gateway's own log, lines as nginx and Apache write them, or JSON as Envoy and Caddy do.
//!
//! A [`Mapping`] says where each field is. Without one the first line that can be told decides, for each file on its own.

mod combined;
mod fields;
mod own;
mod time;

use super::record::{Fault, Record};
use crate::engine::Mode;
use combined::Combined;
use own::Own;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

/// A `[replay.format]` table: where the fields of a foreign trace are.
///
/// Fields of JSON lines are named by their ways (`request.headers.Stripe-Account`); those of combined lines by their names
/// (`client`, `ident`, `user`, `time`, `request`, `status`, `bytes`, `referer`, `agent`), and what a log has after these by
/// number, from `"10"` on.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// What the lines look like; it also gives every other field its default.
    pub kind: Kind,
    /// The time of the request.
    pub time: Option<String>,
    /// How times are written: "rfc3339", "unix", "unix_ms", "unix_us", "unix_ns", or a pattern as `strptime` has it.
    pub time_format: Option<String>,
    /// Whether that is when the request began or when it ended.
    pub time_is: Option<TimeIs>,
    /// How long it took.
    pub duration: Option<String>,
    /// What durations are counted in.
    pub duration_unit: Option<Unit>,
    /// The method and the path together, as in `GET /x HTTP/1.1`.
    pub request: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// The path, with or without a query.
    pub path: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// The status answered.
    pub status: Option<String>,
    /// The account: the first of these fields that has a value.
    pub account: Option<OneOrMany>,
    /// The account acted for.
    pub connected_account: Option<String>,
    /// The key's id.
    pub key: Option<String>,
    /// "live" or "test".
    pub mode: Option<String>,
    /// The client's address.
    pub client: Option<String>,
}

/// What lines look like.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The gateway's own access log. Its fields need no mapping and take none.
    Tollgate,
    /// The combined format of nginx and Apache, and logs that begin as it does.
    Combined,
    /// One JSON object a line; no field has a default.
    Json,
    /// JSON as Caddy writes it.
    Caddy,
    /// JSON as Envoy writes it by default.
    Envoy,
}

/// Which end of a request a log's time is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TimeIs {
    /// Its head had come.
    Start,
    /// Its answer had gone.
    End,
}

/// What durations are counted in.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Nanoseconds,
}

/// One name or several.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    fn names(&self) -> &[String] {
        match self {
            OneOrMany::One(name) => std::slice::from_ref(name),
            OneOrMany::Many(names) => names,
        }
    }
}

impl Unit {
    fn in_ns(self) -> f64 {
        match self {
            Unit::Seconds => 1e9,
            Unit::Milliseconds => 1e6,
            Unit::Microseconds => 1e3,
            Unit::Nanoseconds => 1.0,
        }
    }
}

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
    /// The fields that lines of a kind have where nothing else is said.
    #[must_use]
    pub fn of(kind: Kind) -> Mapping {
        let field = |name: &str| Some(name.to_owned());
        let none = Mapping {
            kind,
            time: None,
            time_format: None,
            time_is: None,
            duration: None,
            duration_unit: None,
            request: None,
            method: None,
            path: None,
            host: None,
            status: None,
            account: None,
            connected_account: None,
            key: None,
            mode: None,
            client: None,
        };
        match kind {
            Kind::Tollgate | Kind::Json => none,
            Kind::Combined => Mapping {
                time: field("time"),
                time_format: field("%d/%b/%Y:%H:%M:%S %z"),
                time_is: Some(TimeIs::End),
                duration_unit: Some(Unit::Seconds),
                request: field("request"),
                status: field("status"),
                account: Some(OneOrMany::Many(vec!["user".to_owned(), "client".to_owned()])),
                client: field("client"),
                ..none
            },
            Kind::Caddy => Mapping {
                time: field("ts"),
                time_format: field("unix"),
                time_is: Some(TimeIs::End),
                duration: field("duration"),
                duration_unit: Some(Unit::Seconds),
                method: field("request.method"),
                path: field("request.uri"),
                host: field("request.host"),
                status: field("status"),
                account: Some(OneOrMany::Many(vec!["user_id".to_owned(), "request.client_ip".to_owned()])),
                client: field("request.client_ip"),
                ..none
            },
            Kind::Envoy => Mapping {
                time: field("start_time"),
                time_format: field("rfc3339"),
                time_is: Some(TimeIs::Start),
                duration: field("duration"),
                duration_unit: Some(Unit::Milliseconds),
                method: field("method"),
                path: field("path"),
                host: field("authority"),
                status: field("response_code"),
                account: Some(OneOrMany::One("downstream_remote_address".to_owned())),
                client: field("downstream_remote_address"),
                ..none
            },
        }
    }

    /// With the defaults of its kind, if then everything is there that a request needs.
    fn checked(self) -> Result<Mapping, String> {
        if self.kind == Kind::Tollgate {
            let bare = self == Mapping::of(Kind::Tollgate);
            return if bare { Ok(self) } else { Err("the kind \"tollgate\" takes no fields".to_owned()) };
        }
        let of = Mapping::of(self.kind);
        let mapping = Mapping {
            kind: self.kind,
            time: self.time.or(of.time),
            time_format: self.time_format.or(of.time_format).or_else(|| Some("rfc3339".to_owned())),
            time_is: self.time_is.or(of.time_is).or(Some(TimeIs::End)),
            duration: self.duration.or(of.duration),
            duration_unit: self.duration_unit.or(of.duration_unit).or(Some(Unit::Seconds)),
            request: self.request.or(of.request),
            method: self.method.or(of.method),
            path: self.path.or(of.path),
            host: self.host.or(of.host),
            status: self.status.or(of.status),
            account: self.account.or(of.account),
            connected_account: self.connected_account.or(of.connected_account),
            key: self.key.or(of.key),
            mode: self.mode.or(of.mode),
            client: self.client.or(of.client),
        };
        let has_line = mapping.request.is_some() || (mapping.method.is_some() && mapping.path.is_some());
        for (name, there) in [
            ("time", mapping.time.is_some()),
            ("request, or method and path", has_line),
            ("account", mapping.account.is_some()),
        ] {
            if !there {
                return Err(format!("[replay.format] must say where to find: {name}"));
            }
        }
        Ok(mapping)
    }

    fn record<'a>(&self, line: &impl Fields<'a>) -> Result<Record<'a>, Fault> {
        let field = |name: &Option<String>| name.as_deref().and_then(|name| line.field(name));
        let duration = match (&self.duration, field(&self.duration)) {
            (Some(_), Some(text)) => {
                let unit = self.duration_unit.unwrap_or(Unit::Seconds);
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
            at: if self.time_is == Some(TimeIs::Start) { time } else { time.saturating_sub(duration.unwrap_or(0)) },
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
    /// Nothing is known yet.
    Unknown,
    /// The gateway's own log.
    Own(Own),
    /// Another's.
    Mapped(Box<Mapping>),
}

impl Reader {
    /// A reader for what `mapping` says; without one, the first line that can be told decides.
    #[must_use]
    pub fn new(mapping: Option<&Mapping>) -> Reader {
        match mapping {
            None => Reader::Unknown,
            Some(mapping) if mapping.kind == Kind::Tollgate => Reader::Own(Own::default()),
            Some(mapping) => Reader::Mapped(Box::new(mapping.clone())),
        }
    }

    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read<'a>(&mut self, line: &'a str) -> Result<Record<'a>, Fault> {
        if let Reader::Unknown = self {
            *self = Reader::new(Some(&Mapping::of(sniff(line)?)));
        }
        match self {
            Reader::Unknown => Err(Fault::Malformed),
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
