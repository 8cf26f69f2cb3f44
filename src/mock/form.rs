//! Bodies of requests, as far as the mock gives them back.

use bytes::Buf;
use http_body::Body;
use http_body_util::BodyExt;
use serde_json::{Map, Value};

/// Bytes of a body that are read as a form.
pub(super) const MAX_FORM_BYTES: usize = 64 * 1024;
/// Brackets in a row that are followed: `a[b][c]` has two.
const MAX_DEPTH: usize = 8;

/// Reads a body to its end and keeps its first [`MAX_FORM_BYTES`]. `None` when it fails.
pub(super) async fn collect<B: Body + Unpin>(mut body: B) -> Option<Vec<u8>> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(mut data) = frame.ok()?.into_data() {
            let length = data.remaining().min(MAX_FORM_BYTES - kept.len());
            kept.extend_from_slice(&data.copy_to_bytes(length));
        }
    }
    Some(kept)
}

/// The fields of a form or a query, decoded, in order.
pub(super) fn fields(form: &[u8]) -> impl Iterator<Item = (String, String)> {
    form.split(|&byte| byte == b'&').filter(|field| !field.is_empty()).map(|field| {
        let mut parts = field.splitn(2, |&byte| byte == b'=');
        let mut part = || decode(parts.next().unwrap_or_default());
        (part(), part())
    })
}

/// What a form or a JSON object says, as an object gives it back: `items[0][price]=a` is `{"items":[{"price":"a"}]}`. Whole
/// numbers, `true` and `false` are no texts, unless they stand in `metadata` or under a name of texts. Left out are brackets
/// deeper than eight, what a form says to the API and not of the object, and the secrets of cards.
pub(super) fn object(body: &[u8]) -> Map<String, Value> {
    if let Ok(Value::Object(object)) = serde_json::from_slice(body) {
        return object;
    }
    let mut object = Map::new();
    for (name, value) in fields(body) {
        let path = path(&name);
        let (Some(first), Some(last)) = (path.first(), path.last()) else { continue };
        if path.len() > MAX_DEPTH + 1 || ["expand", "object"].contains(first) || ["number", "cvc"].contains(last) {
            continue;
        }
        let is_text = *first == "metadata" || TEXTS.contains(last);
        insert(&mut object, &path, if is_text { value.into() } else { typed(value) });
    }
    object.into_iter().map(|(name, value)| (name, with_lists(value))).collect()
}

/// Names whose values are texts, also where they look like numbers.
const TEXTS: [&str; 12] = [
    "account_number",
    "description",
    "identifier",
    "line1",
    "line2",
    "name",
    "phone",
    "postal_code",
    "routing_number",
    "statement_descriptor",
    "tax_id",
    "value",
];

/// `a[b][]` in its parts: `a`, `b` and nothing.
fn path(name: &str) -> Vec<&str> {
    let Some((first, rest)) = name.split_once('[') else { return vec![name] };
    match rest.strip_suffix(']') {
        Some(rest) => std::iter::once(first).chain(rest.split("][")).collect(),
        None => vec![name],
    }
}

/// Lists are maps with whole numbers for names until all is there. As deep as `path` is long.
fn insert(object: &mut Map<String, Value>, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    let name = if first.is_empty() { object.len().to_string() } else { (*first).to_owned() };
    if rest.is_empty() {
        object.insert(name, value);
        return;
    }
    let child = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if !child.is_object() {
        *child = Value::Object(Map::new());
    }
    if let Value::Object(child) = child {
        insert(child, rest, value);
    }
}

/// Maps whose names are whole numbers become lists, in the order of the numbers.
fn with_lists(value: Value) -> Value {
    let Value::Object(object) = value else { return value };
    let mut numbered: Vec<(Option<u32>, String, Value)> =
        object.into_iter().map(|(name, value)| (name.parse().ok(), name, with_lists(value))).collect();
    if !numbered.is_empty() && numbered.iter().all(|(number, ..)| number.is_some()) {
        numbered.sort_by_key(|(number, ..)| *number);
        return numbered.into_iter().map(|(.., value)| value).collect();
    }
    Value::Object(numbered.into_iter().map(|(_, name, value)| (name, value)).collect())
}

fn typed(value: String) -> Value {
    match (value.as_str(), value.parse::<i64>()) {
        ("true", _) => true.into(),
        ("false", _) => false.into(),
        // Not what would be written otherwise, as `+1` and `007`.
        (text, Ok(number)) if number.to_string() == text => number.into(),
        _ => value.into(),
    }
}

/// Decodes `+` and `%xx`. A bad escape stands for itself, and what is not UTF-8 becomes replacement characters.
fn decode(part: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(part.len());
    let mut rest = part;
    while let [byte, after @ ..] = rest {
        rest = after;
        decoded.push(match (byte, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => *byte,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
