//! Lines as nginx and Apache write them: words, and texts between quotes or brackets.

use super::Fields;
use crate::replay::record::Fault;
use std::borrow::Cow;

/// The names of the first fields.
const NAMES: [&str; 9] = ["client", "ident", "user", "time", "request", "status", "bytes", "referer", "agent"];
/// Fields of one line that are looked at.
const MOST: usize = 32;

/// A line, cut into fields.
pub(super) struct Combined<'a> {
    fields: [&'a str; MOST],
    count: usize,
}

impl<'a> Combined<'a> {
    /// Cuts a line. It must at least reach its status, and have a time in brackets.
    pub(super) fn split(line: &'a str) -> Result<Combined<'a>, Fault> {
        let mut combined = Combined { fields: [""; MOST], count: 0 };
        let mut rest = line.trim();
        while !rest.is_empty() {
            let Some(place) = combined.fields.get_mut(combined.count) else { break };
            let (field, after) = cut(rest)?;
            if combined.count == 3 && !rest.starts_with('[') {
                return Err(Fault::Malformed);
            }
            *place = field;
            combined.count += 1;
            rest = after.trim_start();
        }
        if combined.count < 6 {
            return Err(if combined.count > 3 { Fault::Truncated } else { Fault::Malformed });
        }
        Ok(combined)
    }
}

/// The first field of a text, and what follows it.
fn cut(text: &str) -> Result<(&str, &str), Fault> {
    match text.as_bytes().first() {
        Some(b'[') => text[1..].split_once(']').ok_or(Fault::Truncated),
        Some(b'"') => {
            let inside = &text[1..];
            let mut escaped = false;
            let end = inside.bytes().position(|byte| {
                let ends = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                ends
            });
            let (field, rest) = end.and_then(|end| inside.split_at_checked(end)).ok_or(Fault::Truncated)?;
            Ok((field, rest.get(1..).unwrap_or_default()))
        }
        _ => Ok(text.split_once(' ').unwrap_or((text, ""))),
    }
}

impl<'a> Fields<'a> for Combined<'a> {
    fn field(&self, name: &str) -> Option<Cow<'a, str>> {
        let named = NAMES.iter().position(|known| *known == name);
        let place = named.or_else(|| name.parse::<usize>().ok()?.checked_sub(1))?;
        let value = self.fields.get(..self.count)?.get(place)?;
        (!value.is_empty() && *value != "-").then(|| unescaped(value))
    }
}

/// What a text between quotes stands for: nginx and Apache write quotes, backslashes and what is not printable as escapes.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let (meant, after) = match (byte, after) {
            (b'\\', [b'x', high, low, after @ ..]) => match hex(*high, *low) {
                Some(byte) => (byte, after),
                None => (b'\\', rest.get(1..).unwrap_or_default()),
            },
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            (b'\\', [b't', after @ ..]) => (b'\t', after),
            (b'\\', [b'r', after @ ..]) => (b'\r', after),
            (b'\\', [other, after @ ..]) => (*other, after),
            _ => (byte, after),
        };
        bytes.push(meant);
        rest = after;
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}
