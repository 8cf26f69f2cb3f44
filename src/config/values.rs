//! The values of the configuration that are written as text: rates, durations, sizes, addresses.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

/// Parts of an error's text: message, what was expected, what was found. `document` takes them apart again, since serde
/// carries one string only.
pub(super) const SEPARATOR: char = '\u{1f}';

/// A value with its place in the source, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::<T>::deserialize(deserializer)?;
        let span = spanned.span();
        Ok(Located { value: spanned.into_inner(), span })
    }
}

impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl PartialEq for Located<String> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Located<String> {}

impl PartialOrd for Located<String> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Located<String> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.value.cmp(&other.value)
    }
}

/// A value written as one string.
pub(super) trait Text: FromStr<Err = String> {
    /// Its name in the JSON Schema.
    const NAME: &'static str;
    /// What is expected, with an example.
    const EXPECTED: &'static str;
    /// A regular expression that is loose, for editors; this module decides.
    const PATTERN: &'static str;
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: Text> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let shown: String = text.chars().take(80).collect();
        text.parse().map_err(|reason| {
            let expected = T::EXPECTED;
            E::custom(format_args!("{reason}{SEPARATOR}{expected}{SEPARATOR}{shown:?}"))
        })
    }
}

macro_rules! text_value {
    ($type:ty, $name:literal, $expected:literal, $pattern:literal) => {
        impl Text for $type {
            const NAME: &'static str = $name;
            const EXPECTED: &'static str = $expected;
            const PATTERN: &'static str = $pattern;
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextVisitor(PhantomData))
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                Self::NAME.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": Self::EXPECTED, "pattern": Self::PATTERN })
            }
        }
    };
}

/// `count` tokens every `period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) count: u64,
    pub(super) period: Duration,
}

text_value!(Rate, "Rate", r#"a rate such as "15/s", "100/min", "1000/h" or "5/10s""#, r"^[0-9_]+/[0-9]*[a-z]+$");

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let (count, period) = text.split_once('/').ok_or("a rate is a number, a slash and a time")?;
        let count = count.trim().replace('_', "");
        let count = count.parse().map_err(|_| "the rate's number is not a whole number from 0 to 2^64-1".to_owned())?;
        let period = period.trim();
        let one = if period.starts_with(|c: char| c.is_ascii_digit()) { "" } else { "1" };
        let period = humantime::parse_duration(&format!("{one}{period}"))
            .map_err(|_| format!("`{period}` is not a time to count a rate by"))?;
        if period.is_zero() {
            return Err("a rate needs a time above zero".to_owned());
        }
        // One token a nanosecond is the finest that time is told apart.
        if u128::from(count) > period.as_nanos() {
            return Err("a rate is at most 1,000,000,000 a second".to_owned());
        }
        Ok(Rate { count, period })
    }
}

impl Rate {
    /// The tokens that one second brings, at least 1: the burst of a rate that gives none.
    pub(super) fn one_second(self) -> u64 {
        let tokens = u128::from(self.count) * 1_000_000_000 / self.period.as_nanos().max(1);
        u64::try_from(tokens).unwrap_or(u64::MAX).max(1)
    }
}

/// A rate, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RateOrOff(pub(super) Option<Rate>);

text_value!(RateOrOff, "RateOrOff", r#"a rate such as "20/m", or "off""#, r"^(off|[0-9_]+/[0-9]*[a-z]+)$");

impl FromStr for RateOrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<RateOrOff, String> {
        if text == "off" {
            return Ok(RateOrOff(None));
        }
        text.parse().map(|rate| RateOrOff(Some(rate)))
    }
}

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dur(pub(super) Duration);

text_value!(Dur, "Duration", r#"a duration such as "250ms", "30s" or "24h""#, r"^[0-9][0-9a-z ]*$");

impl FromStr for Dur {
    type Err = String;

    fn from_str(text: &str) -> Result<Dur, String> {
        humantime::parse_duration(text).map(Dur).map_err(|error| format!("not a duration: {error}"))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

text_value!(Size, "Size", r#"a size such as "32KiB" or "1MB""#, r"^[0-9.]+ ?([KMGT]i?)?B?$");

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        text.parse::<bytesize::ByteSize>()
            .map(|size| Size(size.as_u64()))
            .map_err(|error| format!("not a size: {error}"))
    }
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address(pub(super) SocketAddr);

text_value!(
    Address,
    "Address",
    r#"an address with a port such as "127.0.0.1:8080", "[::]:8443" or ":8080""#,
    r"^.*:[0-9]+$"
);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
        whole.parse().map(Address).map_err(|_| match text.parse::<std::net::IpAddr>() {
            Ok(_) => "the address lacks a port".to_owned(),
            Err(_) => "not an IP address with a port".to_owned(),
        })
    }
}

/// Where the admin listens, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AdminAddress(pub(super) Option<SocketAddr>);

text_value!(
    AdminAddress,
    "AdminAddress",
    r#"an address with a port such as "127.0.0.1:9090", or "off""#,
    r"^(off|.*:[0-9]+)$"
);

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<AdminAddress, String> {
        if text == "off" {
            return Ok(AdminAddress(None));
        }
        text.parse::<Address>().map(|address| AdminAddress(Some(address.0)))
    }
}

/// A network, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network(pub(super) ipnet::IpNet);

text_value!(Network, "Network", r#"a network such as "10.0.0.0/8", or one IP address"#, r"^[0-9a-fA-F.:]+(/[0-9]+)?$");

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let address = || text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
        text.parse().or_else(|_| address()).map(Network).map_err(|_| "not a network in CIDR notation".to_owned())
    }
}

/// A range of statuses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Statuses(pub(super) u16, pub(super) u16);

text_value!(
    Statuses,
    "Statuses",
    r#"a status or a range of them such as "204" or "200-399""#,
    r"^[1-9][0-9]{2}(-[1-9][0-9]{2})?$"
);

impl FromStr for Statuses {
    type Err = String;

    fn from_str(text: &str) -> Result<Statuses, String> {
        let status = |text: &str| text.parse::<u16>().ok().filter(|status| (100..=599).contains(status));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Statuses(first, last)),
            _ => Err("not a status from 100 to 599, nor a range of them".to_owned()),
        }
    }
}

/// What a condition asks of a form's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FormTest {
    /// Whether it is there.
    Present(bool),
    /// It has this value.
    Equals(String),
}

struct FormTestVisitor;

impl Visitor<'_> for FormTestVisitor {
    type Value = FormTest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, true or false")
    }

    fn visit_bool<E: Error>(self, present: bool) -> Result<FormTest, E> {
        Ok(FormTest::Present(present))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<FormTest, E> {
        Ok(FormTest::Equals(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for FormTest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FormTestVisitor)
    }
}

impl JsonSchema for FormTest {
    fn schema_name() -> Cow<'static, str> {
        "FormTest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "boolean"], "description": "The value; or whether the key is there" })
    }
}

/// One value or a list of them, as most people write either.
#[derive(Clone, Debug)]
pub(super) struct OneOrMany<T>(pub(super) Vec<Located<T>>);

enum Inner<T> {
    One(T),
    Many(Vec<Located<T>>),
}

struct InnerVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for InnerVisitor<T> {
    type Value = Inner<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        T::deserialize(serde::de::value::StrDeserializer::new(text)).map(Inner::One)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Inner::Many(items))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(A::Error::invalid_type(Unexpected::Map, &self))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Inner<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InnerVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let inner = Located::<Inner<T>>::deserialize(deserializer)?;
        Ok(OneOrMany(match inner.value {
            Inner::One(value) => vec![Located { value, span: inner.span }],
            Inner::Many(items) => items,
        }))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_in_every_spelling() {
        let rate = |text: &str| text.parse::<Rate>();
        let of = |count, seconds| Ok(Rate { count, period: Duration::from_secs(seconds) });
        assert_eq!(rate("15/s"), of(15, 1));
        assert_eq!(rate("100/min"), of(100, 60));
        assert_eq!(rate("1_000 / h"), of(1000, 3600));
        assert_eq!(rate("5/10s"), of(5, 10));
        assert_eq!(rate("2/d"), of(2, 86_400));
        assert_eq!(rate("0/s"), of(0, 1));
        assert_eq!(rate("1000000000/s"), of(1_000_000_000, 1));
        for bad in ["", "15", "15/", "/s", "-1/s", "1.5/s", "15/x", "15/0s", "1000000001/s", "99999999999999999999/s"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_second_of_a_rate_is_at_least_one_token() {
        let one_second = |text: &str| text.parse::<Rate>().unwrap().one_second();
        assert_eq!(["15/s", "100/min", "2/d", "0/s", "5/100ms"].map(one_second), [15, 1, 1, 1, 50]);
    }

    #[test]
    fn durations_sizes_addresses_and_networks() {
        assert_eq!("250ms".parse(), Ok(Dur(Duration::from_millis(250))));
        assert_eq!("32KiB".parse(), Ok(Size(32_768)));
        assert_eq!(":80".parse(), Ok(Address("0.0.0.0:80".parse().unwrap())));
        assert_eq!("off".parse(), Ok(AdminAddress(None)));
        assert_eq!("10.1.2.3".parse(), Ok(Network("10.1.2.3/32".parse().unwrap())));
        assert!("30".parse::<Dur>().is_err());
        assert!("localhost:80".parse::<Address>().is_err());
        assert!("10.0.0.0/33".parse::<Network>().is_err());
        assert_eq!("204".parse(), Ok(Statuses(204, 204)));
        assert_eq!("200-399".parse(), Ok(Statuses(200, 399)));
        for bad in ["", "99", "600", "300-200", "2xx", "200-", "-200"] {
            assert!(bad.parse::<Statuses>().is_err(), "{bad}");
        }
    }
}
