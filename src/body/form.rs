//! Forms and queries: keys with brackets, scanned once, compared strictly and loosely.

use super::{Field, MAX_ASKED, Test, Values, Wanted};
use memchr::memchr;
use std::borrow::Cow;
use std::fmt;

/// Bytes of a key that has escapes: longer ones are unclear.
const MAX_ESCAPED_KEY: usize = 512;
/// Bytes of a key to look for.
const MAX_KEY: usize = 200;
/// Brackets of a key to look for.
const MAX_BRACKETS: usize = 8;

/// A form's key as a configuration names it: `amount`, `payload[customer]`, `items[*][quantity]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FormKey {
    head: Box<str>,
    brackets: Box<[Bracket]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Bracket {
    Name(Box<str>),
    /// Any index, also none (`[]`).
    Any,
}

/// Why a text names no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing, or too much.
    #[error("a form's key has 1 to {MAX_KEY} bytes and at most {MAX_BRACKETS} pairs of brackets")]
    Length,
    /// Brackets that do not pair, or hold nothing.
    #[error("a form's key is a name, then names in brackets")]
    Brackets,
    /// A character that has a meaning in forms.
    #[error("a form's key is written as it is meant, without escapes, blanks and `&`, `=`, `;`, `+`, `|`")]
    Character,
    /// A star that is not all of a bracket.
    #[error("a `*` stands alone in its brackets")]
    Star,
}

/// How a key that came compares with one that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// Another key.
    No,
    /// The key.
    Exact,
    /// A lenient reader may take it for the key, or for a part of it.
    Variant,
}

impl std::str::FromStr for FormKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<FormKey, KeyError> {
        let is_bad = |byte: u8| byte <= b' ' || byte == 0x7f || b"&=;+|%".contains(&byte);
        if text.is_empty() || text.len() > MAX_KEY {
            return Err(KeyError::Length);
        }
        if text.bytes().any(is_bad) {
            return Err(KeyError::Character);
        }
        let (head, mut rest) = text.split_at(text.find('[').unwrap_or(text.len()));
        let mut brackets = Vec::new();
        while !rest.is_empty() {
            let (inner, after) =
                rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).ok_or(KeyError::Brackets)?;
            brackets.push(match inner {
                "" => return Err(KeyError::Brackets),
                "*" => Bracket::Any,
                name => Bracket::Name(name.into()),
            });
            rest = after;
        }
        let names = brackets.iter().filter_map(Bracket::name).chain([head]);
        for name in names {
            if name.contains('*') {
                return Err(KeyError::Star);
            }
            if name.is_empty() || name.contains(['[', ']']) {
                return Err(KeyError::Brackets);
            }
        }
        if brackets.len() > MAX_BRACKETS {
            return Err(KeyError::Length);
        }
        Ok(FormKey { head: head.into(), brackets: brackets.into() })
    }
}

impl fmt::Display for FormKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        self.brackets.iter().try_for_each(|bracket| write!(f, "[{}]", bracket.name().unwrap_or("*")))
    }
}

impl Bracket {
    fn name(&self) -> Option<&str> {
        match self {
            Bracket::Name(name) => Some(name),
            Bracket::Any => None,
        }
    }
}

impl FormKey {
    /// Whether it stands for several keys.
    #[must_use]
    pub fn has_star(&self) -> bool {
        self.brackets.contains(&Bracket::Any)
    }

    /// Compares with a decoded key.
    pub(super) fn compare(&self, key: &[u8]) -> Match {
        if let Some(rest) = key.strip_prefix(self.head.as_bytes())
            && self.is_exact(rest)
        {
            return Match::Exact;
        }
        // To readers that keep text as C does, a NUL ends a key.
        let before_nul = memchr(0, key).and_then(|nul| key.get(..nul));
        let is_variant = self.is_variant(key) || before_nul.is_some_and(|key| self.is_variant(key));
        if is_variant { Match::Variant } else { Match::No }
    }

    fn is_variant(&self, key: &[u8]) -> bool {
        let (Some(first), Some(wanted)) = (key.iter().find(|byte| !is_noise(**byte)), self.head.as_bytes().first())
        else {
            return false;
        };
        if !first.eq_ignore_ascii_case(wanted) {
            return false;
        }
        if self.brackets.is_empty() && is_like(key, self.head.as_bytes()) {
            return true;
        }
        let mut runs = key.split(|&byte| is_bracket(byte)).map(trimmed).filter(|run| !run.is_empty());
        let head = runs.next().unwrap_or_default();
        is_like(head, self.head.as_bytes()) && fits(&self.brackets, runs)
    }

    fn is_exact(&self, mut rest: &[u8]) -> bool {
        for bracket in &self.brackets {
            let Some(inner) = rest.strip_prefix(b"[") else { return false };
            let Some(end) = inner.iter().position(|&byte| is_bracket(byte)) else { return false };
            let (inner, after) = inner.split_at(end);
            let Some(after) = after.strip_prefix(b"]") else { return false };
            if bracket.name().is_some_and(|name| name.as_bytes() != inner) {
                return false;
            }
            rest = after;
        }
        rest.is_empty()
    }
}

/// Whether the runs between brackets begin with the names; a star takes one run or, for `[]`, none. Recurses once a bracket.
fn fits<'k>(brackets: &[Bracket], mut runs: impl Iterator<Item = &'k [u8]> + Clone) -> bool {
    let Some((bracket, others)) = brackets.split_first() else { return true };
    match bracket {
        Bracket::Name(name) => {
            runs.next().is_some_and(|run| run.eq_ignore_ascii_case(name.as_bytes())) && fits(others, runs)
        }
        Bracket::Any => fits(others, runs.clone()) || (runs.next().is_some() && fits(others, runs)),
    }
}

/// Whether some reader takes `head` for the name: in another case, or with a dot, a blank or a lone bracket for an underscore, as
/// PHP has it.
fn is_like(head: &[u8], name: &[u8]) -> bool {
    let alike = |(byte, wanted): (&u8, &u8)| {
        byte.eq_ignore_ascii_case(wanted) || (*wanted == b'_' && matches!(byte, b'.' | b' ' | b'['))
    };
    head.len() == name.len() && head.iter().zip(name).all(alike)
}

fn is_bracket(byte: u8) -> bool {
    byte == b'[' || byte == b']'
}

/// What some readers strip around a name.
fn is_noise(byte: u8) -> bool {
    byte <= b' ' || is_bracket(byte)
}

fn trimmed(run: &[u8]) -> &[u8] {
    let start = run.iter().position(|&byte| byte > b' ').unwrap_or(run.len());
    let end = run.iter().rposition(|&byte| byte > b' ').map_or(start, |last| last + 1);
    run.get(start..end).unwrap_or_default()
}

/// What one form said; a bit for each field or test.
#[derive(Debug, Default)]
pub(super) struct Scan<'b> {
    hit: u128,
    odd: u128,
    verdicts: Verdicts,
    pub(super) values: Values<'b>,
}

/// What is known of each test, a bit each.
#[derive(Debug, Default)]
struct Verdicts {
    holds: u128,
    unclear: u128,
}

/// The occurrences of a value that a test asks for, a bit a test.
#[derive(Debug, Default)]
struct Equality {
    equal: u128,
    other: u128,
}

impl Scan<'_> {
    /// Whether the test at this place holds; `None` where that cannot be told.
    pub(super) fn verdict(&self, test: usize) -> Option<bool> {
        let bit = bit(test);
        if self.verdicts.unclear & bit != 0 { None } else { Some(self.verdicts.holds & bit != 0) }
    }
}

fn bit(place: usize) -> u128 {
    const { assert!(MAX_ASKED <= 128) };
    1_u128.checked_shl(u32::try_from(place).unwrap_or(u32::MAX)).unwrap_or(0)
}

/// Reads a whole form. `None` where what it says of these fields is unclear.
pub(super) fn scan<'b>(fields: &[Field], tests: &[Test], form: &'b [u8]) -> Option<Scan<'b>> {
    let form = std::str::from_utf8(form).ok()?;
    let (mut scan, mut equality) = (Scan::default(), Equality::default());
    for pair in pairs(form) {
        // To some readers a semicolon parts fields as well; to others it is a part of a key.
        if memchr(b';', pair.as_bytes()).is_some() {
            if pair.split(';').chain([pair]).any(|piece| is_mentioned(fields, piece)) {
                return None;
            }
            continue;
        }
        let mut room = [0; MAX_ESCAPED_KEY];
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = decoded_key(key, &mut room)?;
        for (place, field) in fields.iter().enumerate() {
            match field.key.compare(key) {
                Match::No => {}
                Match::Variant if field.slot.is_some() => return None,
                Match::Variant => scan.odd |= bit(place),
                Match::Exact => scan.note(place, field, tests, value, &mut equality)?,
            }
        }
    }
    scan.judge(fields, tests, &equality);
    Some(scan)
}

/// Whether a text has anything that could be taken for one of the fields, or what it has cannot be told.
pub(super) fn mentions(fields: &[Field], text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return true };
    pairs(text).flat_map(|pair| pair.split(';').chain([pair])).any(|piece| is_mentioned(fields, piece))
}

fn is_mentioned(fields: &[Field], pair: &str) -> bool {
    let mut room = [0; MAX_ESCAPED_KEY];
    let key = pair.split('=').next().unwrap_or_default();
    match decoded_key(key, &mut room) {
        Some(key) => fields.iter().any(|field| field.key.compare(key) != Match::No),
        None => !fields.is_empty(),
    }
}

impl<'b> Scan<'b> {
    fn note(
        &mut self,
        place: usize,
        field: &Field,
        tests: &[Test],
        value: &'b str,
        equality: &mut Equality,
    ) -> Option<()> {
        let again = self.hit & bit(place) != 0;
        self.hit |= bit(place);
        for (place, wanted) in field.tests.iter().filter_map(|&test| Some((test, equals(tests, test)?))) {
            if decoded_value(value)? == wanted {
                equality.equal |= bit(place);
            } else {
                equality.other |= bit(place);
            }
        }
        if let Some(slot) = field.slot.and_then(|slot| self.values.get_mut(slot)) {
            if again {
                return None;
            }
            *slot = Some(decoded_value(value)?);
        }
        Some(())
    }

    fn judge(&mut self, fields: &[Field], tests: &[Test], equality: &Equality) {
        for (place, field) in fields.iter().enumerate() {
            let (hit, odd) = (self.hit & bit(place) != 0, self.odd & bit(place) != 0);
            for (test, wanted) in field.tests.iter().filter_map(|&test| Some((test, &tests.get(test)?.wanted))) {
                let (equal, other) = (equality.equal & bit(test) != 0, equality.other & bit(test) != 0);
                let (holds, unclear) = match wanted {
                    Wanted::Present => (hit, odd && !hit),
                    Wanted::Absent => (!hit && !odd, odd && !hit),
                    Wanted::Equals(_) => (equal, odd || (equal && other)),
                };
                self.verdicts.holds |= if holds { bit(test) } else { 0 };
                self.verdicts.unclear |= if unclear { bit(test) } else { 0 };
            }
        }
    }
}

fn equals(tests: &[Test], place: usize) -> Option<&str> {
    match &tests.get(place)?.wanted {
        Wanted::Equals(value) => Some(value),
        Wanted::Present | Wanted::Absent => None,
    }
}

fn pairs(text: &str) -> impl Iterator<Item = &str> {
    text.split('&').filter(|pair| !pair.is_empty())
}

/// A key without its escapes; `None` where they are bad, too many, or stand for what is not UTF-8.
fn decoded_key<'k>(key: &'k str, room: &'k mut [u8; MAX_ESCAPED_KEY]) -> Option<&'k [u8]> {
    if !has_escapes(key) {
        return Some(key.as_bytes());
    }
    let mut length = 0;
    for byte in Decoded(key.as_bytes()) {
        *room.get_mut(length)? = byte?;
        length += 1;
    }
    let key = room.get(..length)?;
    std::str::from_utf8(key).is_ok().then_some(key)
}

fn decoded_value(value: &str) -> Option<Cow<'_, str>> {
    if !has_escapes(value) {
        return Some(Cow::Borrowed(value));
    }
    let bytes: Option<Vec<u8>> = Decoded(value.as_bytes()).collect();
    String::from_utf8(bytes?).ok().map(Cow::Owned)
}

fn has_escapes(text: &str) -> bool {
    memchr::memchr2(b'%', b'+', text.as_bytes()).is_some()
}

/// Decodes `+` and `%xx`; `None` for a bad escape.
struct Decoded<'t>(&'t [u8]);

impl Iterator for Decoded<'_> {
    type Item = Option<u8>;

    fn next(&mut self) -> Option<Option<u8>> {
        let (&first, rest) = self.0.split_first()?;
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (byte, rest) = match (first, rest) {
            (b'+', rest) => (Some(b' '), rest),
            (b'%', [high, low, rest @ ..]) => (digit(high).zip(digit(low)).map(|(high, low)| high << 4 | low), rest),
            (b'%', _) => (None, &[][..]),
            (byte, rest) => (Some(byte), rest),
        };
        self.0 = rest;
        Some(byte)
    }
}
