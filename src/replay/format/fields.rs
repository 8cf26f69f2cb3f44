//! Members of JSON objects, as formats ask for them.

use crate::replay::record::{Fault, MAX_DURATION_NS};
use serde_json::Value;
use std::borrow::Cow;

/// A line as JSON; it must be an object.
pub(super) fn parse(line: &str) -> Result<Value, Fault> {
    match serde_json::from_str::<Value>(line) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err(Fault::Malformed),
        Err(error) if error.is_eof() => Err(Fault::Truncated),
        Err(_) => Err(Fault::Malformed),
    }
}

/// A member of an object.
pub(super) fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    value.as_object()?.get(name)
}

/// A member of a member, by names and places between dots. A name of several words is tried as it is first: Caddy has members
/// with dots. Of a list that ends the way, the first item is meant.
pub(super) fn at<'v>(value: &'v Value, way: &str) -> Option<&'v Value> {
    let found = match member(value, way) {
        Some(found) => Some(found),
        None => way.split('.').try_fold(value, |value, name| match value {
            Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            other => member(other, name),
        }),
    };
    match found? {
        Value::Array(items) => items.first(),
        Value::Null => None,
        other => Some(other),
    }
}

/// A string.
pub(super) fn text(value: &Value) -> Result<Cow<'static, str>, Fault> {
    value.as_str().map(|text| Cow::Owned(text.to_owned())).ok_or(Fault::Field)
}

/// A duration of so many nanoseconds a unit.
pub(super) fn nanoseconds(number: f64, unit_ns: f64) -> Result<u64, Fault> {
    let nanoseconds = number * unit_ns;
    // The cast is exact enough far beyond the bound, and the comparison is false for what is no number.
    if nanoseconds >= 0.0 && nanoseconds <= MAX_DURATION_NS as f64 { Ok(nanoseconds as u64) } else { Err(Fault::Field) }
}

/// The item of a closed list that has this name.
pub(super) fn one_of<T: Copy>(all: &[T], name: fn(T) -> &'static str, word: &str) -> Option<T> {
    all.iter().copied().find(|&item| name(item) == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_into_objects_and_lists() {
        let value = serde_json::json!({"a": {"b": ["x", "y"]}, "c.d": 1, "n": null});
        assert_eq!(at(&value, "a.b"), Some(&"x".into()));
        assert_eq!(at(&value, "a.b.1"), Some(&"y".into()));
        assert_eq!(at(&value, "c.d"), Some(&1.into()));
        assert_eq!([at(&value, "a.c"), at(&value, "n"), at(&value, "a.b.7")], [None; 3]);
    }
}
