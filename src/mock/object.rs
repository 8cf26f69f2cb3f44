//! Objects, lists and errors in Stripe's shapes. The mock keeps none of them: what an object says follows from its id and from the
//! request.

use super::resource::{id_prefix, is_missing};
use super::shape;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// No object is younger, on the mock's own calendar: 2026-01-01T00:00:00Z in Unix seconds.
const NEWEST: i64 = 1_767_225_600;
/// Nor older than this before it, in seconds.
const OLDEST: u64 = 365 * 24 * 3600;
/// Objects in every collection.
pub(super) const COLLECTION: u64 = 25;
/// Objects in a page of a list whose `limit` is not given, and at most.
const PAGE: (usize, usize) = (10, 100);

/// A JSON object whose keys keep their order.
#[derive(Debug)]
pub(super) struct Object(Vec<(String, Value)>);

impl Object {
    pub(super) fn new<const N: usize>(entries: [(&str, Value); N]) -> Object {
        Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn push(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Adds what a request said of the object, but for what the API itself says.
    fn say(&mut self, said: Map<String, Value>) {
        self.0.extend(said.into_iter().filter(|(name, _)| !["id", "created", "livemode"].contains(&name.as_str())));
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// What all objects of an answer share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family<'a> {
    pub(super) object: &'a str,
    pub(super) is_v2: bool,
    pub(super) livemode: bool,
    /// What ids of collections are drawn from.
    pub(super) seed: u64,
}

impl Family<'_> {
    /// One object, with what a request said of it, in the state that `verb` brings it into.
    pub(super) fn one(&self, id: &str, said: Map<String, Value>, verb: Option<&str>) -> Object {
        let mut one = Object::new([("id", id.into()), ("object", self.object.into()), ("created", self.created(id))]);
        one.say(said);
        for (name, value) in shape::of(self.object) {
            if !one.has(name) {
                one.push(name, value.clone());
            }
        }
        if !one.has("status")
            && let Some(status) = status(self.object, verb)
        {
            one.push("status", status);
        }
        if CONFIDED.contains(&self.object) {
            one.push("client_secret", format!("{id}_secret_{}", letters(hash(self.seed, id.as_bytes()), 10)));
        }
        one.push("livemode", self.livemode);
        if !one.has("metadata") {
            one.push("metadata", Map::new());
        }
        one
    }

    /// What there is one of.
    pub(super) fn only(&self, said: Map<String, Value>) -> Object {
        if self.object == "account" {
            return self.one(&self.id(hash(self.seed, b"account")), said, None);
        }
        let mut only = Object::new([("object", self.object.into())]);
        if self.object == "balance" {
            let amount = || json!([{ "amount": 0, "currency": "usd", "source_types": { "card": 0 } }]);
            only.push("available", amount());
            only.push("pending", amount());
        }
        only.say(said);
        only.push("livemode", self.livemode);
        only
    }

    /// What is left of a deleted object.
    pub(super) fn deleted(&self, id: Option<&str>) -> Object {
        let mut gone = Object(Vec::new());
        if let Some(id) = id {
            gone.push("id", id);
        }
        gone.push("object", self.object);
        if !self.is_v2 {
            gone.push("deleted", true);
        }
        gone
    }

    /// A new id.
    pub(super) fn id(&self, draw: u64) -> String {
        let name = if self.is_v2 { self.object.rsplit('.').next().unwrap_or_default() } else { self.object };
        format!("{}_{}", id_prefix(name), letters(draw, 14))
    }

    /// The error that an id is answered with which nothing has.
    pub(super) fn missing(&self, id: &str, param: &str) -> Option<Object> {
        let name = self.object.strip_prefix("v2.").unwrap_or(self.object);
        is_missing(if self.is_v2 { name.rsplit('.').next().unwrap_or(name) } else { name }, id).then(|| {
            let name = if name == "payment_method" { "PaymentMethod" } else { name };
            let message = format!("No such {name}: '{id}'");
            refusal("invalid_request_error", Some("resource_missing"), &message, Some(param))
        })
    }

    /// A page of the collection at `path`: the same each time it is asked for.
    ///
    /// # Errors
    /// The answer to a cursor that points nowhere.
    pub(super) fn page(&self, path: &str, query: &Query, is_search: bool) -> Result<Object, Object> {
        let ids: Vec<String> =
            (0..COLLECTION).map(|place| self.id(hash(self.seed ^ place, self.object.as_bytes()))).collect();
        let size = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(PAGE.0).clamp(1, PAGE.1);
        let cursor = |name: &str| query.get(name).map(|id| (name.to_owned(), id));
        let range = match (cursor("starting_after"), cursor("ending_before"), query.get("page")) {
            (Some((name, id)), ..) => {
                let after = self.place(&ids, id, &name)? + 1;
                after..after.saturating_add(size)
            }
            (_, Some((name, id)), _) => {
                let before = self.place(&ids, id, &name)?;
                before.saturating_sub(size)..before
            }
            (.., page) => {
                let from = page.and_then(|page| page.strip_prefix("page_")?.parse().ok()).unwrap_or(0_usize);
                from..from.saturating_add(size)
            }
        };
        let end = range.end.min(ids.len());
        let data = ids.get(range.start.min(end)..end).unwrap_or_default();
        let data: Vec<Value> =
            data.iter().map(|id| serde_json::to_value(self.one(id, Map::new(), None)).unwrap_or_default()).collect();
        let has_more = if query.get("ending_before").is_some() { range.start > 0 } else { end < ids.len() };
        let next = has_more.then(|| format!("page_{end}"));
        Ok(self.wrap(data, path, has_more, next, is_search))
    }

    fn wrap(&self, data: Vec<Value>, path: &str, has_more: bool, next: Option<String>, is_search: bool) -> Object {
        if self.is_v2 {
            let next = next.map(|next| format!("{path}?page={next}"));
            return Object::new([
                ("data", data.into()),
                ("next_page_url", next.into()),
                ("previous_page_url", Value::Null),
            ]);
        }
        let kind = if is_search { "search_result" } else { "list" };
        let mut list = Object::new([
            ("object", kind.into()),
            ("data", data.into()),
            ("has_more", has_more.into()),
            ("url", path.into()),
        ]);
        if is_search {
            list.push("next_page", next);
        }
        list
    }

    fn place(&self, ids: &[String], id: &str, param: &str) -> Result<usize, Object> {
        ids.iter().position(|known| known == id).ok_or_else(|| {
            let message = format!("No such {}: '{id}'", self.object);
            refusal("invalid_request_error", Some("resource_missing"), &message, Some(param))
        })
    }

    /// When it was made: the same whenever it is asked for.
    fn created(&self, id: &str) -> Value {
        let age = i64::try_from(hash(0, id.as_bytes()) % OLDEST).unwrap_or_default();
        let created = NEWEST - age;
        match Timestamp::from_second(created) {
            Ok(time) if self.is_v2 => time.to_string().into(),
            _ => created.into(),
        }
    }
}

/// The parameters of a query.
#[derive(Debug)]
pub(super) struct Query(pub(super) Vec<(String, String)>);

impl Query {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Objects that a page in a browser may act on.
const CONFIDED: [&str; 2] = ["payment_intent", "setup_intent"];

/// The state of an object that a request brought into it, or that it is in when it is new.
fn status(object: &str, verb: Option<&str>) -> Option<&'static str> {
    let of = |table: &[(&str, &'static str)], name: &str| {
        table.iter().find(|(known, _)| *known == name).map(|(_, status)| *status)
    };
    let new = of(&NEW, object);
    verb.and_then(|verb| of(&AFTER, verb)).filter(|_| new.is_some()).or(new)
}

const NEW: [(&str, &str); 13] = [
    ("charge", "succeeded"),
    ("checkout.session", "open"),
    ("dispute", "needs_response"),
    ("invoice", "draft"),
    ("payment_intent", "requires_payment_method"),
    ("payout", "pending"),
    ("quote", "draft"),
    ("refund", "succeeded"),
    ("review", "open"),
    ("setup_intent", "requires_payment_method"),
    ("subscription", "active"),
    ("subscription_schedule", "active"),
    ("topup", "pending"),
];

const AFTER: [(&str, &str); 11] = [
    ("accept", "accepted"),
    ("cancel", "canceled"),
    ("capture", "succeeded"),
    ("close", "lost"),
    ("confirm", "succeeded"),
    ("expire", "expired"),
    ("finalize", "open"),
    ("mark_uncollectible", "uncollectible"),
    ("pause", "paused"),
    ("pay", "paid"),
    ("void", "void"),
];

/// An error in Stripe's shape.
pub(super) fn refusal(kind: &str, code: Option<&str>, message: &str, param: Option<&str>) -> Object {
    let mut error = Object(Vec::new());
    if let Some(code) = code {
        error.push("code", code);
        error.push("doc_url", format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-")));
    }
    error.push("message", message);
    if let Some(param) = param {
        error.push("param", param);
    }
    error.push("type", kind);
    Object::new([("error", serde_json::to_value(error).unwrap_or_default())])
}

/// A number that follows from a seed and some bytes.
pub(super) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(seed, 0);
    hasher.write(bytes);
    hasher.finish()
}

/// `count` letters and digits, the first a digit, which tells an id from a word.
pub(super) fn letters(mut draw: u64, count: usize) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    (0..count)
        .map(|place| {
            let choice = if place == 0 { 10 } else { 62 };
            let letter = LETTERS.get((draw % choice) as usize).copied().unwrap_or(b'0');
            // A new number for each letter: one does not hold enough for all.
            draw = draw.rotate_left(23).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (draw >> 29);
            char::from(letter)
        })
        .collect()
}
