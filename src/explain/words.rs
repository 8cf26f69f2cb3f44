//! Figures and partitions in words, for answers and explanations.
//!
//! What comes from a request is cut at [`VALUE_BYTES`] and shown as it is, but for what looks like a secret, which is masked, and
//! the values of headers, which are not shown at all: they may be credentials.

use crate::config::{Config, Extractor};
use crate::engine::policy::ExtractorId;
use crate::engine::{Concurrency, EndpointId, Gcra, Limit, Limiter, Part};
use crate::keys;
use std::borrow::Cow;
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

/// Bytes of one value that are shown.
pub const VALUE_BYTES: usize = 64;

/// A limiter's figures in words.
#[must_use]
pub fn figure(limiter: &Limiter) -> String {
    match limiter {
        Limiter::Gcra(figures) if figures.burst() == figures.count() => rate(figures),
        Limiter::Gcra(figures) => format!("{} with bursts of {}", rate(figures), figures.burst()),
        Limiter::SlidingWindow(figures) => per_period(figures.limit().into(), figures.window()),
        Limiter::Allocation(figures) => {
            let floor = per_period(figures.at_least.into(), figures.window);
            format!("{} requests per transaction, at least {floor}", figures.per_transaction)
        }
        Limiter::Concurrency(Concurrency { slots: 1 }) => "1 request at a time".to_owned(),
        Limiter::Concurrency(Concurrency { slots }) => format!("{slots} requests at a time"),
    }
}

fn rate(figures: &Gcra) -> String {
    per_period(figures.count(), figures.period())
}

fn per_period(count: u64, period: Duration) -> String {
    let noun = if count == 1 { "request" } else { "requests" };
    match unit(period) {
        Some(unit) => format!("{count} {noun} per {unit}"),
        None => format!("{count} {noun} per {}", humantime::format_duration(period)),
    }
}

fn unit(period: Duration) -> Option<&'static str> {
    match (period.as_secs(), period.subsec_nanos()) {
        (1, 0) => Some("second"),
        (60, 0) => Some("minute"),
        (3_600, 0) => Some("hour"),
        (86_400, 0) => Some("day"),
        _ => None,
    }
}

/// Who a request comes from and what it is, as far as limits count by it.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The account that pays: the key's, or the one acted for.
    pub account: &'a str,
    /// The account acted for, if any.
    pub connected: Option<&'a str>,
    /// The key's id.
    pub key_id: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// The endpoint.
    pub endpoint: EndpointId,
}

impl Subject<'_> {
    /// One part of a partition: its name as `per` has it, and its value; `None` where the request has none.
    /// `value` gives what the request says.
    #[must_use]
    pub fn part<'v>(
        &'v self,
        part: Part,
        value: &'v impl Fn(ExtractorId) -> Option<Cow<'v, str>>,
    ) -> (Cow<'v, str>, Option<Cow<'v, str>>) {
        match part {
            Part::Account => ("account".into(), Some(self.account.into())),
            Part::ConnectedAccount => ("connected_account".into(), self.connected.map(Into::into)),
            Part::Key => ("key".into(), Some(self.key_id.into())),
            Part::Ip => ("ip".into(), Some(network(self.client).into())),
            Part::Endpoint => ("endpoint".into(), Some((&*self.config.policy.endpoint(self.endpoint).name).into())),
            Part::Value(id) => {
                let extractor = self.config.extractor_at(self.endpoint, id);
                let name = extractor.map_or_else(|| "value".into(), |extractor| extractor.to_string().into());
                (name, value(id).map(shown))
            }
        }
    }

    /// Writes the partition of `limit` that the request falls in: " for account acct_1 on payouts.create".
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_partition<'v>(
        &'v self,
        out: &mut impl Write,
        limit: &Limit,
        value: &'v impl Fn(ExtractorId) -> Option<Cow<'v, str>>,
    ) -> fmt::Result {
        let mut joint = " for ";
        for &part in limit.per.iter().filter(|part| **part != Part::Endpoint) {
            out.write_str(joint)?;
            self.write_part(out, part, value)?;
            joint = " and ";
        }
        if limit.per.contains(&Part::Endpoint) {
            write!(out, " on {}", self.config.policy.endpoint(self.endpoint).name)?;
        }
        if limit.per.is_empty() { out.write_str(" for all together") } else { Ok(()) }
    }

    fn write_part<'v>(
        &'v self,
        out: &mut impl Write,
        part: Part,
        value: &'v impl Fn(ExtractorId) -> Option<Cow<'v, str>>,
    ) -> fmt::Result {
        match part {
            Part::Account => write!(out, "account {}", cut(self.account)),
            Part::ConnectedAccount => match self.connected {
                Some(connected) => write!(out, "connected account {}", cut(connected)),
                None => out.write_str("no connected account"),
            },
            Part::Key => write!(out, "key {}", cut(self.key_id)),
            Part::Ip => write!(out, "address {}", network(self.client)),
            Part::Endpoint => Ok(()),
            Part::Value(id) => match (self.config.extractor_at(self.endpoint, id), value(id)) {
                (Some(Extractor::Path(name)), Some(value)) => write!(out, "{name} {}", shown(value)),
                (Some(Extractor::Query(key) | Extractor::Form(key)), Some(value)) => {
                    write!(out, "{key} {}", shown(value))
                }
                (Some(Extractor::Json(path)), Some(value)) => write!(out, "{path} {}", shown(value)),
                (Some(extractor), _) => {
                    out.write_str("its ")?;
                    write_extractor(out, extractor)
                }
                (None, _) => out.write_str("its value"),
            },
        }
    }
}

/// What a limit counts by, in words.
fn write_extractor(out: &mut impl Write, extractor: &Extractor) -> fmt::Result {
    match extractor {
        Extractor::Path(name) => write!(out, "{{{name}}} of the path"),
        Extractor::Header(name) => write!(out, "value of the header {name}"),
        Extractor::Query(key) => write!(out, "{key} of the query"),
        Extractor::Form(key) => write!(out, "{key} of the form"),
        Extractor::Json(path) => write!(out, "{path} of the body"),
        Extractor::FirstOf(some) => {
            for (nth, extractor) in some.iter().enumerate() {
                out.write_str(if nth == 0 { "" } else { " or " })?;
                write_extractor(out, extractor)?;
            }
            Ok(())
        }
    }
}

/// An address as limits count it: an IPv6 one by its /64.
#[must_use]
pub fn network(client: IpAddr) -> String {
    match client {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            ipnet::Ipv6Net::new(address, 64).map_or_else(|_| address.to_string(), |net| net.trunc().to_string())
        }
    }
}

/// What may be shown of a value.
#[must_use]
pub fn shown(value: Cow<'_, str>) -> Cow<'_, str> {
    if keys::holds_secret(&value) {
        return keys::masked(cut(&value)).into();
    }
    match value {
        Cow::Borrowed(value) => cut(value).into(),
        Cow::Owned(mut value) => {
            value.truncate(value.floor_char_boundary(VALUE_BYTES));
            value.into()
        }
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(VALUE_BYTES)).unwrap_or_default()
}

/// Writes text as the inside of a JSON string.
pub struct Escaped<W>(pub W);

impl<W: Write> Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for run in text.split_inclusive(|letter: char| letter.is_control() || matches!(letter, '"' | '\\')) {
            let last = run.chars().next_back().filter(|letter| letter.is_control() || matches!(letter, '"' | '\\'));
            let Some(letter) = last else {
                self.0.write_str(run)?;
                continue;
            };
            self.0.write_str(run.strip_suffix(letter).unwrap_or_default())?;
            match letter {
                '"' => self.0.write_str("\\\"")?,
                '\\' => self.0.write_str("\\\\")?,
                control => write!(self.0, "\\u{:04x}", u32::from(control))?,
            }
        }
        Ok(())
    }
}

/// Counts the bytes that are written to it.
#[derive(Default)]
pub struct Length(pub usize);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_in_words() {
        let rate =
            |count, seconds, burst| figure(&Limiter::Gcra(Gcra::new(count, Duration::from_secs(seconds), burst)));
        assert_eq!(rate(15, 1, 15), "15 requests per second");
        assert_eq!(rate(1, 60, 5), "1 request per minute with bursts of 5");
        assert_eq!(rate(5, 10, 5), "5 requests per 10s");
        assert_eq!(figure(&Limiter::Concurrency(Concurrency { slots: 30 })), "30 requests at a time");
    }

    #[test]
    fn what_is_escaped_reads_as_it_was() {
        for text in ["", "plain", "a\"b\\c\u{1}\n\u{7f}é", "\\\"", "\"\""] {
            let mut escaped = String::new();
            write!(Escaped(&mut escaped), "{text}").unwrap();
            assert_eq!(serde_json::from_str::<String>(&format!("\"{escaped}\"")).unwrap(), text);
            let mut length = Length::default();
            write!(Escaped(&mut length), "{text}").unwrap();
            assert_eq!(length.0, escaped.len());
        }
    }

    #[test]
    fn values_are_bounded_and_secrets_masked() {
        let long = "é".repeat(100);
        assert_eq!(shown(long.as_str().into()).len(), VALUE_BYTES);
        assert_eq!(shown(long.into()).len(), VALUE_BYTES);
        let secret = format!("sk_live_{}", "0".repeat(40));
        assert!(!shown(secret.as_str().into()).contains("00000000"));
        assert_eq!(network("2001:db8:1:2:3::4".parse().unwrap()), "2001:db8:1:2::/64");
    }
}
