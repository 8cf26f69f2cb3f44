//! Bodies and queries: whatever any of several readers would make of them, no limit is dodged (decision 0020).

use super::lines;
use http::{HeaderMap, HeaderValue, header};
use tollgate::body::{Body, Fact, Findings, FormKey, Inspection, Kind, Source, Test, Wanted};

/// Facts that hold of an unclear body: those of `when`, and not that of `except`.
const UNCLEAR: u64 = 0b0111;

/// The `Content-Type`, the query and the body.
pub(super) fn run(data: &[u8]) {
    let [kind, query, body] = lines::<3>(data);
    let Ok(query) = std::str::from_utf8(query) else { return };
    let kind = kind_of(kind);
    let said = match kind {
        _ if body.is_empty() => Body::Empty,
        Kind::Form => Body::Form(body),
        Kind::Json => Body::Json(body),
        Kind::Unclear => Body::Unclear,
    };
    let inspection = inspection();
    let findings = inspection.read(said, query);
    assert_eq!(inspection.read(said, query), findings, "reading twice gives two answers");
    match said {
        Body::Unclear | Body::Json(_) => {
            assert_eq!(findings.facts, UNCLEAR);
            assert_eq!(findings.values[..2], [None, None]);
        }
        Body::Empty | Body::Form(_) => {
            for reader in readers() {
                assert_no_dodge(&findings, &reader, query.as_bytes(), body);
            }
            let more = [body, b"&zz=1"].concat();
            if !body.is_empty() {
                assert_eq!(
                    inspection.read(Body::Form(&more), query),
                    findings,
                    "a field that nobody asks for changes it"
                );
            }
        }
    }
    if let Body::Json(text) = said {
        assert_member(findings.values[3].as_deref(), text);
    } else {
        assert_eq!(findings.values[3], None);
    }
}

fn inspection() -> Inspection {
    let key = |text: &str| text.parse::<FormKey>().expect("a key");
    let values = [
        (0, Source::Form(key("a_customer"))),
        (1, Source::Form(key("payload[id]"))),
        (2, Source::Query(key("q"))),
        (3, Source::Json("data.id".parse().expect("a path"))),
    ];
    let fact =
        |bit, text: &str, wanted, if_unclear| (bit, Fact { any: [Test { key: key(text), wanted }].into(), if_unclear });
    let facts = [
        fact(0, "always", Wanted::Equals("yes".into()), true),
        fact(1, "items[*][quantity]", Wanted::Present, true),
        fact(2, "gone", Wanted::Absent, true),
        fact(3, "always", Wanted::Equals("yes".into()), false),
    ];
    Inspection::new(&values, &facts).expect("an inspection")
}

fn kind_of(content_type: &[u8]) -> Kind {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    let kind = Kind::of(&headers);
    let lower = String::from_utf8_lossy(content_type).to_ascii_lowercase();
    assert!(kind != Kind::Form || lower.trim().starts_with("application/x-www-form-urlencoded"), "{lower:?}");
    assert!(kind != Kind::Json || lower.split(';').next().is_some_and(|kind| kind.contains("json")), "{lower:?}");
    let charset = lower.replace([' ', '\t', '"'], "");
    let is_foreign =
        ["utf-16", "utf-7", "iso-8859-1"].iter().any(|name| charset.ends_with(&format!(";charset={name}")));
    assert!(kind == Kind::Unclear || !is_foreign, "{lower:?}");
    kind
}

/// One way to read a form, as some server or other has it.
#[derive(Clone, Copy, Debug)]
struct Reader {
    semicolons: bool,
    any_case: bool,
    /// Blanks before a key go, a NUL ends it, `a[]` is `a`, and a dot or a blank is an underscore.
    like_php: bool,
    last_wins: bool,
    /// The query's fields are read with the form's, before them.
    with_query: bool,
}

fn readers() -> impl Iterator<Item = Reader> {
    (0..32_u8).map(|bits| {
        let bit = |place: u8| bits >> place & 1 == 1;
        Reader { semicolons: bit(0), any_case: bit(1), like_php: bit(2), last_wins: bit(3), with_query: bit(4) }
    })
}

impl Reader {
    /// All fields, in the order in which the one that counts comes first.
    fn fields(self, query: &[u8], body: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let joined = if self.with_query { [query, b"&", body].concat() } else { body.to_vec() };
        let parts_fields = |&byte: &u8| byte == b'&' || (self.semicolons && byte == b';');
        let pairs = joined.split(parts_fields).filter(|pair| !pair.is_empty());
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = pairs.map(|pair| self.field(pair)).collect();
        if self.last_wins {
            fields.reverse();
        }
        fields
    }

    fn field(self, pair: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let end = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let (key, value) = pair.split_at(end);
        let mut key = decoded(key);
        if self.any_case {
            key.make_ascii_lowercase();
        }
        if self.like_php {
            key = key.into_iter().skip_while(|byte| *byte == b' ').take_while(|byte| *byte != 0).collect();
            if let Some(bare) = key.strip_suffix(b"[]") {
                key = bare.to_vec();
            }
            for byte in key.iter_mut().take_while(|byte| **byte != b'[') {
                *byte = if matches!(*byte, b'.' | b' ') { b'_' } else { *byte };
            }
        }
        (key, decoded(value.strip_prefix(b"=").unwrap_or_default()))
    }
}

/// Escapes decoded; a bad one stands for itself.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (mut decoded, mut rest) = (Vec::new(), text);
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        decoded.push(match (first, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) if digit(*high).is_some() && digit(*low).is_some() => {
                rest = after;
                digit(*high).unwrap_or(0) << 4 | digit(*low).unwrap_or(0)
            }
            _ => first,
        });
    }
    decoded
}

fn assert_no_dodge(findings: &Findings<'_>, reader: &Reader, query: &[u8], body: &[u8]) {
    let fields = reader.fields(query, body);
    let value = |name: &str| fields.iter().find(|(key, _)| key == name.as_bytes()).map(|(_, value)| value.as_slice());
    for (slot, name) in [(0, "a_customer"), (1, "payload[id]")] {
        if let (Some(found), Some(read)) = (findings.values[slot].as_deref(), value(name)) {
            assert_eq!(found.as_bytes(), read, "{name}, {reader:?}");
        }
        assert!(findings.values[slot].is_none() || value(name).is_some() || reader.like_php, "{name}, {reader:?}");
    }
    let fact = |bit: u32| findings.facts >> bit & 1 == 1;
    let always = value("always") == Some(b"yes");
    assert!(fact(0) || !always, "`when` is dodged, {reader:?}");
    assert!(!fact(3) || always, "`except` is had for nothing, {reader:?}");
    let is_quantity = |key: &[u8]| {
        let index = key.strip_prefix(b"items[").and_then(|rest| rest.strip_suffix(b"][quantity]"));
        index.is_some_and(|index| !index.contains(&b'[') && !index.contains(&b']'))
    };
    assert!(fact(1) || !fields.iter().any(|(key, _)| is_quantity(key)), "a field is overlooked, {reader:?}");
    assert!(fact(2) || value("gone").is_some(), "a field is missing and counts as there, {reader:?}");
}

/// What was found at `data.id` is what a plain parser finds there, and nothing else could be meant.
fn assert_member(found: Option<&str>, text: &[u8]) {
    let Some(found) = found else { return };
    // Deeper than the parser goes, or a number beyond it: nothing to compare with.
    let Ok(whole) = serde_json::from_slice::<serde_json::Value>(text) else { return };
    let only = |value: &serde_json::Value, name: &str| {
        let members = value.as_object().expect("an object");
        let mut fitting = members.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = fitting.next().expect("a member").1.clone();
        assert!(fitting.next().is_none(), "{name} in two spellings");
        value
    };
    let id = only(&only(&whole, "data"), "id");
    let plain = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    assert_eq!(found, plain);
}
