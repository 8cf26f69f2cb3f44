//! Overrides: set, listed, ended; each change is one line in the log.

use super::api::Reply;
use crate::board::{Work, WriteError};
use crate::config::{Config, WrittenAllocation, WrittenFigures};
use crate::gateway::Shared;
use crate::gateway::ids::random_seed;
use crate::gateway::overriding::in_force;
use crate::state::overrides::{Book, BookError, Override};
use http::StatusCode;
use jiff::{Span, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// The longest that an override lasts: what is meant for good belongs in the configuration.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
const MAX_ACCOUNT_BYTES: usize = 255;
const MAX_REASON_BYTES: usize = 500;
const KEYS: [&str; 10] =
    ["account", "limit", "rate", "burst", "quota", "concurrency", "allocation", "expires_at", "ttl", "reason"];

/// An override as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    entry: &'a Override,
    /// `false`: the configuration has no such limit any more, or one of another mechanism.
    in_force: bool,
    /// `false`: a restart forgets it.
    persisted: bool,
    /// `false`: it is in force in this gateway only.
    shared: bool,
}

/// How what is shown is kept.
fn shown<'a>(entry: &'a Override, book: &Book, config: &Config, shared: bool) -> Shown<'a> {
    let in_force = in_force(config, entry).is_some();
    Shown { entry, in_force, persisted: shared || book.is_persisted(), shared }
}

/// `GET /v1/overrides`
pub(super) fn list(shared: &Shared) -> Reply {
    let is_shared = shared.desk.get().is_some();
    shared.overriding.look(|book, config| {
        let overrides: Vec<_> = book.entries().iter().map(|entry| shown(entry, book, config, is_shared)).collect();
        let persisted = is_shared || book.is_persisted();
        Reply::ok(json!({ "overrides": overrides, "persisted": persisted, "shared": is_shared }))
    })
}

/// `PUT /v1/overrides`
pub(super) fn put(shared: &Shared, peer: SocketAddr, body: &[u8]) -> Reply {
    let fields = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return Reply::refuse(StatusCode::BAD_REQUEST, "the body must be a JSON object"),
        Err(error) => return Reply::refuse(StatusCode::BAD_REQUEST, &format!("the body is not JSON: {error}")),
    };
    let now = shared.time.wall();
    let read = |config: &Config| Request { fields: &fields, mistakes: Vec::new() }.read(config, now);
    let new = match shared.overriding.look(|_, config| read(config)) {
        Ok(new) => new,
        Err(refusal) => return refusal,
    };
    let before = shared.overriding.look(|book, _| find(book, |known| known.field() == new.field()));
    let changed = share(shared, &new, |text| Work::Put(new.field(), text), |book| book.put(new.clone()));
    if let Err(refusal) = changed {
        return refusal;
    }
    audit(peer, "put", before.as_ref(), Some(&new));
    let status = if before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Reply::new(
        status,
        shared.overriding.look(|book, config| json!(shown(&new, book, config, shared.desk.get().is_some()))),
    )
}

/// `DELETE /v1/overrides/ID`
pub(super) fn delete(shared: &Shared, peer: SocketAddr, id: &str) -> Reply {
    let Some(entry) = shared.overriding.look(|book, _| find(book, |known| known.id == id)) else {
        return Reply::refuse(StatusCode::NOT_FOUND, "there is no such override");
    };
    let remove = |book: &mut Book| book.remove(|known| known.id == id).map(drop);
    if let Err(refusal) = share(shared, &entry, |_| Work::Remove(entry.field()), remove) {
        return refusal;
    }
    audit(peer, "delete", Some(&entry), None);
    Reply::ok(shared.overriding.look(|book, config| json!(shown(&entry, book, config, shared.desk.get().is_some()))))
}

fn find(book: &Book, is_it: impl Fn(&Override) -> bool) -> Option<Override> {
    book.entries().iter().find(|entry| is_it(entry)).cloned()
}

/// Ends those that have expired by `now`. Called every second.
pub fn expire(shared: &Shared, now: Timestamp) {
    let is_over = |entry: &Override| entry.expires_at <= now;
    if !shared.overriding.look(|book, _| book.entries().iter().any(is_over)) {
        return;
    }
    let changed = shared.overriding.change(shared, |book, _| {
        for entry in book.remove(is_over)? {
            log_change("expired", "", Some(&entry), None);
        }
        Ok::<_, BookError>(())
    });
    if let Err(error) = changed {
        tracing::error!(%error, "expired overrides stay in force");
    }
}

/// Makes a change: by `work` in all gateways where they share a store, this one included, which takes it from the board like the
/// others, so that none ever has it alone or has another one last; else by `change`, here.
fn share(
    shared: &Shared,
    entry: &Override,
    work: impl FnOnce(String) -> Work,
    change: impl FnOnce(&mut Book) -> Result<(), BookError>,
) -> Result<(), Reply> {
    let Some(desk) = shared.desk.get() else {
        return shared.overriding.change(shared, |book, _| change(book)).map_err(refused);
    };
    let text = serde_json::to_string(entry)
        .map_err(|error| Reply::refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))?;
    let why = match desk.leave(work(text)) {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(WriteError::Full)) => return Err(refused(BookError::Full)),
        Ok(Err(error)) => error.to_string(),
        Err(closed) => closed.to_string(),
    };
    let message = format!(
        "the override could not be shared with the other gateways, so nothing has changed here: {why}. All go on with what they \
         last knew; ask again, and look with GET what holds then"
    );
    Err(Reply::refuse(StatusCode::SERVICE_UNAVAILABLE, &message))
}

fn refused(error: BookError) -> Reply {
    let status = match error {
        BookError::Full => StatusCode::CONFLICT,
        BookError::Io(_) => StatusCode::INSUFFICIENT_STORAGE,
    };
    Reply::refuse(status, &error.to_string())
}

fn audit(peer: SocketAddr, action: &str, before: Option<&Override>, after: Option<&Override>) {
    log_change(action, &peer.to_string(), before, after);
}

/// One line: who did what, and what it was before and after.
fn log_change(action: &str, who: &str, before: Option<&Override>, after: Option<&Override>) {
    let text = |entry: Option<&Override>| entry.and_then(|entry| serde_json::to_string(entry).ok()).unwrap_or_default();
    let (before, after) = (text(before), text(after));
    tracing::info!(target: "tollgate::audit", action, who, before, after, "override");
}

/// What a `PUT` asks for, read past every mistake.
struct Request<'a> {
    fields: &'a Map<String, Value>,
    mistakes: Vec<Value>,
}

impl Request<'_> {
    fn read(mut self, config: &Config, now: Timestamp) -> Result<Override, Reply> {
        self.no_others();
        let account = self.text("account", MAX_ACCOUNT_BYTES, true);
        let limit = self.text("limit", MAX_ACCOUNT_BYTES, true);
        let reason = self.text("reason", MAX_REASON_BYTES, true);
        let figures = self.figures();
        let expires_at = self.expires_at(now);
        if let (Some(limit), Some(figures)) = (&limit, &figures)
            && let Err(mistakes) = config.figures(limit, figures)
        {
            for mistake in mistakes {
                self.mistakes.push(json!({
                    "message": mistake.message, "expected": mistake.expected, "hint": mistake.hint,
                }));
            }
        }
        match (account, limit, reason, figures, expires_at) {
            (Some(account), Some(limit), Some(reason), Some(figures), Some(expires_at)) if self.mistakes.is_empty() => {
                let id = format!("ovr_{:016x}", random_seed().0[0]);
                Ok(Override { id, account, limit, figures, reason, created_at: now, expires_at })
            }
            _ => Err(Reply::mistakes(&self.mistakes)),
        }
    }

    fn no_others(&mut self) {
        for key in self.fields.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            let shown: String = key.chars().take(80).collect();
            self.mistakes.push(json!({ "message": format!("unknown key `{shown}`"), "expected": KEYS.join(", ") }));
        }
    }

    fn wrong(&mut self, key: &str, message: &str, expected: &str) {
        self.mistakes.push(json!({ "key": key, "message": message, "expected": expected }));
    }

    fn text(&mut self, key: &str, max_bytes: usize, required: bool) -> Option<String> {
        match self.fields.get(key) {
            Some(Value::String(text)) if (1..=max_bytes).contains(&text.len()) => return Some(text.clone()),
            Some(_) => self.wrong(key, &format!("not a fit `{key}`"), &format!("a string of 1 to {max_bytes} bytes")),
            None if required => self.wrong(key, &format!("`{key}` is missing"), "a string"),
            None => {}
        }
        None
    }

    fn number(&mut self, key: &str, most: u64) -> Option<u64> {
        let value = self.fields.get(key)?;
        let number = value.as_u64().filter(|&number| number <= most);
        if number.is_none() {
            self.wrong(key, &format!("not a fit `{key}`"), &format!("a whole number from 0 to {most}"));
        }
        number
    }

    /// `None` when one of them cannot be read at all, which has been told of.
    fn figures(&mut self) -> Option<WrittenFigures> {
        let known = self.mistakes.len();
        let figures = WrittenFigures {
            rate: self.text("rate", 64, false),
            burst: self.number("burst", u64::MAX),
            quota: self.text("quota", 64, false),
            concurrency: self.number("concurrency", u32::MAX.into()).and_then(|number| u32::try_from(number).ok()),
            allocation: self.allocation(),
        };
        (self.mistakes.len() == known).then_some(figures)
    }

    fn allocation(&mut self) -> Option<WrittenAllocation> {
        let read = serde_json::from_value(self.fields.get("allocation")?.clone());
        if let Err(error) = &read {
            let expected = r#"{"per_transaction": 500, "at_least": 10000, "window": "30d"}"#;
            self.wrong("allocation", &format!("not an allocation: {error}"), expected);
        }
        read.ok()
    }

    fn expires_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        let at = match (self.text("expires_at", 64, false), self.text("ttl", 64, false)) {
            (Some(at), None) => match at.parse::<Timestamp>() {
                Ok(at) => at,
                Err(_) => {
                    self.wrong("expires_at", "not a time", r#"RFC 3339, such as "2030-01-31T12:00:00Z""#);
                    return None;
                }
            },
            (None, Some(ttl)) => match humantime::parse_duration(&ttl).ok().and_then(|ttl| after(now, ttl)) {
                Some(at) => at,
                None => {
                    self.wrong("ttl", "not a duration", r#"a duration such as "2h" or "7d""#);
                    return None;
                }
            },
            (Some(_), Some(_)) => {
                self.wrong("ttl", "both `expires_at` and `ttl`", "one of the two");
                return None;
            }
            (None, None) => {
                if !self.fields.contains_key("expires_at") && !self.fields.contains_key("ttl") {
                    self.wrong("ttl", "`expires_at` or `ttl` is missing", "an override ends by itself");
                }
                return None;
            }
        };
        let fit = now < at && after(now, LONGEST).is_none_or(|last| at <= last);
        if !fit {
            self.wrong("expires_at", "the override would end in the past or too late", "up to 366 days from now");
        }
        fit.then_some(at)
    }
}

fn after(now: Timestamp, by: Duration) -> Option<Timestamp> {
    let span = Span::new().try_seconds(i64::try_from(by.as_secs()).ok()?).ok()?;
    now.checked_add(span.try_nanoseconds(i64::from(by.subsec_nanos())).ok()?).ok()
}
