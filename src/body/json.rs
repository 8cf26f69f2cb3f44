//! JSON: the members on a few paths. What is on none of them is skipped without recursion, however deep.

use super::Values;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Bytes of a path to look for.
const MAX_PATH: usize = 200;
/// Names in a path to look for: how deep reading recurses.
const MAX_NAMES: usize = 8;

/// A member of nested objects as a configuration names it: `payload.customer`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JsonPath(Box<[Box<str>]>);

impl std::str::FromStr for JsonPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<JsonPath, &'static str> {
        let names: Box<[Box<str>]> = text.split('.').map(Into::into).collect();
        if text.len() > MAX_PATH || names.len() > MAX_NAMES {
            return Err("a path of at most 200 bytes and 8 names");
        }
        if names.iter().any(|name| name.is_empty()) || text.contains(['|', '*']) {
            return Err("names of members, with dots between them");
        }
        Ok(JsonPath(names))
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// Reads the members at `paths` into their slots. `None` where the text is no JSON object, or what it says of them is unclear: a
/// member twice or in another case, a list or an object in a value's place, a number that is not whole.
pub(super) fn read<'b>(paths: &[(JsonPath, usize)], text: &'b [u8]) -> Option<Values<'b>> {
    // Skipped strings are not looked at by the parser.
    let text = std::str::from_utf8(text).ok()?;
    let mut values = Values::default();
    let mut parser = serde_json::Deserializer::from_str(text);
    let all = u128::MAX >> (128 - paths.len().clamp(1, 128));
    let seed = Member { paths, depth: 0, active: all, is_root: true, values: &mut values };
    seed.deserialize(&mut parser).ok()?;
    parser.end().ok()?;
    Some(values)
}

/// One value of the text that is on the `active` paths, `depth` names in.
struct Member<'p, 'v, 'b> {
    paths: &'p [(JsonPath, usize)],
    depth: usize,
    /// A bit a path.
    active: u128,
    is_root: bool,
    values: &'v mut Values<'b>,
}

impl<'b> Member<'_, '_, 'b> {
    fn paths(&self) -> impl Iterator<Item = (u128, &JsonPath, usize)> {
        let active = self.active;
        let all = self.paths.iter().enumerate().map(|(nth, (path, slot))| (1_u128 << nth.min(127), path, *slot));
        all.filter(move |(bit, _, _)| active & bit != 0)
    }

    /// Takes a scalar for the paths that end here.
    fn take<E: Error>(self, value: Cow<'b, str>) -> Result<(), E> {
        if self.is_root {
            return Err(E::custom("not an object"));
        }
        let slots: u64 =
            self.paths().filter(|(_, path, _)| path.0.len() == self.depth).fold(0, |slots, (_, _, slot)| {
                slots | 1_u64.checked_shl(u32::try_from(slot).unwrap_or(u32::MAX)).unwrap_or(0)
            });
        for (slot, place) in self.values.iter_mut().enumerate() {
            if slots >> slot & 1 != 0 {
                *place = Some(value.clone());
            }
        }
        Ok(())
    }

    fn ends_here(&self) -> bool {
        self.paths().any(|(_, path, _)| path.0.len() == self.depth)
    }

    /// The paths that go on with this name.
    fn going_on<E: Error>(&self, name: &str) -> Result<u128, E> {
        let mut on = 0;
        for (bit, path, _) in self.paths() {
            let Some(wanted) = path.0.get(self.depth) else { continue };
            if **wanted == *name {
                on |= bit;
            } else if wanted.eq_ignore_ascii_case(name) {
                return Err(E::custom("a member in another case"));
            }
        }
        Ok(on)
    }
}

impl<'b> DeserializeSeed<'b> for Member<'_, '_, 'b> {
    type Value = ();

    fn deserialize<D: Deserializer<'b>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'b> Visitor<'b> for Member<'_, '_, 'b> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that can be counted by")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'b str) -> Result<(), E> {
        self.take(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.take(Cow::Owned(text.to_owned()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.take(Cow::Owned(number.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.take(Cow::Owned(number.to_string()))
    }

    fn visit_bool<E: Error>(self, is: bool) -> Result<(), E> {
        self.take(Cow::Borrowed(if is { "true" } else { "false" }))
    }

    /// `null` is as good as absent.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.is_root { Err(E::custom("not an object")) } else { Ok(()) }
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        if self.ends_here() { Err(E::custom("not a whole number")) } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'b>>(self, mut items: A) -> Result<(), A::Error> {
        // A lenient reader may look into a list for what is on the path.
        if self.is_root || self.active != 0 {
            return Err(A::Error::custom("a list on the path"));
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'b>>(self, mut members: A) -> Result<(), A::Error> {
        if self.ends_here() {
            return Err(A::Error::custom("an object in a value's place"));
        }
        let mut seen = 0;
        while let Some(name) = members.next_key::<Name<'b>>()? {
            let on = self.going_on::<A::Error>(&name.0)?;
            if on & seen != 0 {
                return Err(A::Error::custom("a member twice"));
            }
            seen |= on;
            if on == 0 {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            let Member { paths, depth, .. } = self;
            let member = Member { paths, depth: depth + 1, active: on, is_root: false, values: &mut *self.values };
            members.next_value_seed(member)?;
        }
        Ok(())
    }
}

/// A member's name, borrowed unless it has escapes.
#[derive(serde::Deserialize)]
struct Name<'b>(#[serde(borrow)] Cow<'b, str>);
