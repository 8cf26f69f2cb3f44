//! Reading a keys file: every mistake at once, with its place and a hint, and no secret in any of them.

use crate::engine::{Mode, Seed};
use crate::keys::mistake::{KeysMistake, Places, nearest, shown};
use crate::keys::principal::{Allow, ConnectedAccounts, KeyKind, Principal, is_id};
use crate::keys::secret::{Digest, looks_secret};
use crate::keys::{Keyring, Known};
use jiff::Timestamp;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The largest keys file, in bytes: some 300,000 keys.
pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// What a table of `[[keys]]` may hold.
const FIELDS: [&str; 11] = [
    "id",
    "hash",
    "account",
    "mode",
    "kind",
    "allow",
    "connected_accounts",
    "expires_at",
    "revoked",
    "created_at",
    "note",
];

/// Why the text of a keys file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be opened or read, or is not UTF-8.
    #[error("cannot be read: {0}")]
    Io(std::io::Error),
    /// It is a directory, a pipe or a device, which might never end.
    #[error("it is not a regular file")]
    NotAFile,
    /// It is larger than [`MAX_FILE_BYTES`].
    #[error("it is larger than 64 MiB")]
    TooLarge,
}

/// The text of a keys file. Never waits on a pipe and never reads more than [`MAX_FILE_BYTES`].
///
/// # Errors
/// Why it cannot be had. That is never the same as a file without keys.
pub fn read(path: &Path) -> Result<String, ReadError> {
    if !std::fs::metadata(path).map_err(ReadError::Io)?.is_file() {
        return Err(ReadError::NotAFile);
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(ReadError::Io)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(ReadError::Io)?;
    if text.len() as u64 > MAX_FILE_BYTES { Err(ReadError::TooLarge) } else { Ok(text) }
}

pub(super) fn parse(text: &str, seed: &Seed) -> Result<Keyring, Vec<KeysMistake>> {
    let (document, syntax) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        seed,
        places: Places::new(text),
        mistakes: Vec::new(),
        whole: syntax.is_empty(),
        ids: HashMap::new(),
        hashes: HashMap::new(),
    };
    for error in &syntax {
        reader.note(error.span().unwrap_or_default(), error.message(), None);
    }
    let known = reader.document(document.get_ref());
    if reader.mistakes.is_empty() {
        return Ok(Keyring { settled: Arc::new(known), recent: HashMap::new() });
    }
    reader.mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    Err(reader.mistakes)
}

/// Collects the mistakes of one file.
struct Reader<'s> {
    seed: &'s Seed,
    places: Places<'s>,
    mistakes: Vec<KeysMistake>,
    /// Whether the file is sound TOML. If not, what seems missing may merely be unreadable, and is not complained of.
    whole: bool,
    /// The line that each id was first in.
    ids: HashMap<Box<str>, usize>,
    /// The line that each hash was first in, by the half that the keyring's index goes by: no key ever takes another's place.
    hashes: HashMap<[u8; 16], usize>,
}

/// One key as far as it could be read.
#[derive(Default)]
struct Draft {
    id: Option<Box<str>>,
    hash: Option<Digest>,
    account: Option<Box<str>>,
    mode: Option<Mode>,
    kind: Option<KeyKind>,
    allow: Option<Box<[Box<str>]>>,
    connected_accounts: Option<ConnectedAccounts>,
    expires_at: Option<Timestamp>,
    revoked: bool,
}

type Value<'i> = Spanned<DeValue<'i>>;

impl Reader<'_> {
    fn note(&mut self, at: Range<usize>, message: impl Into<String>, hint: Option<&str>) {
        let (line, column) = self.places.of(at.start);
        self.mistakes.push(KeysMistake { line, column, message: message.into(), hint: hint.map(str::to_owned) });
    }

    fn document(&mut self, document: &DeTable<'_>) -> HashMap<[u8; 16], Known> {
        let mut known = HashMap::new();
        let mut listed = false;
        for (name, value) in document {
            if name.get_ref() == "keys" {
                listed = true;
                self.list(value, &mut known);
            } else {
                let hint = "a keys file holds [[keys]] tables and nothing else";
                self.note(name.span(), format!("unknown key \"{}\"", shown(name.get_ref())), Some(hint));
            }
        }
        if !listed && self.whole {
            self.note(0..0, "the file has no keys", Some("write \"keys = []\" if it is meant to have none"));
        }
        known
    }

    fn list(&mut self, value: &Value<'_>, known: &mut HashMap<[u8; 16], Known>) {
        let Some(tables) = value.get_ref().as_array() else {
            return self.wrong_type(value, "a list of tables", Some("write [[keys]] with two brackets"));
        };
        for item in tables {
            match item.get_ref().as_table() {
                Some(table) => {
                    if let Some((digest, principal)) = self.key(item.span(), table) {
                        known.insert(digest.prefix(), (digest, Arc::new(principal)));
                    }
                }
                None => self.wrong_type(item, "a table", None),
            }
        }
    }

    fn key(&mut self, at: Range<usize>, table: &DeTable<'_>) -> Option<(Digest, Principal)> {
        let mut draft = Draft::default();
        for (name, value) in table {
            match name.get_ref().as_ref() {
                "id" => draft.id = self.unique_id(value),
                "hash" => draft.hash = self.hash(value),
                "account" => draft.account = self.id(value),
                "mode" => draft.mode = self.word(value, &Mode::ALL, Mode::as_str),
                "kind" => draft.kind = self.word(value, &KeyKind::ALL, KeyKind::as_str),
                "allow" => draft.allow = self.globs(value),
                "connected_accounts" => draft.connected_accounts = self.connected_accounts(value),
                "expires_at" => draft.expires_at = self.moment(value),
                "revoked" => draft.revoked = self.flag(value),
                "created_at" | "note" => {}
                other => {
                    let hint = nearest(other, FIELDS).map(|field| format!("did you mean \"{field}\"?"));
                    self.note(name.span(), format!("unknown key \"{}\"", shown(other)), hint.as_deref());
                }
            }
        }
        for field in ["id", "hash", "account", "mode"].into_iter().filter(|&field| !table.contains_key(field)) {
            if self.whole {
                self.note(at.clone(), format!("this key has no \"{field}\""), None);
            }
        }
        self.finish(draft)
    }

    fn finish(&self, draft: Draft) -> Option<(Digest, Principal)> {
        let kind = draft.kind.unwrap_or(KeyKind::Secret);
        let mut principal = Principal::new(self.seed, draft.id?, draft.account?, draft.mode?, kind);
        principal.allow = match (draft.allow, kind) {
            (Some(globs), _) => Allow::Only { globs, endpoints: Arc::default() },
            (None, KeyKind::Secret) => Allow::Everything,
            // Rights that nobody wrote down are not given.
            (None, KeyKind::Restricted | KeyKind::Publishable) => {
                Allow::Only { globs: Box::default(), endpoints: Arc::default() }
            }
        };
        principal.connected_accounts = draft.connected_accounts.unwrap_or(ConnectedAccounts::None);
        principal.expires_at = draft.expires_at;
        principal.revoked = draft.revoked;
        Some((draft.hash?, principal))
    }

    fn wrong_type(&mut self, value: &Value<'_>, wanted: &str, hint: Option<&str>) {
        self.note(value.span(), format!("expected {wanted}, found {}", value.get_ref().type_str()), hint);
    }

    fn text<'v>(&mut self, value: &'v Value<'_>) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(value, "a string", None);
        }
        text
    }

    fn flag(&mut self, value: &Value<'_>) -> bool {
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(value, "true or false", None);
            true
        })
    }

    fn id(&mut self, value: &Value<'_>) -> Option<Box<str>> {
        let text = self.text(value)?;
        if looks_secret(text) {
            self.note(
                value.span(),
                "this looks like the secret of a key",
                Some("ids are shown in logs; choose another"),
            );
            return None;
        }
        if !is_id(text) {
            let message = "an id is 1 to 255 letters, digits, \"_\", \"-\", \".\" and \":\"";
            self.note(value.span(), message, None);
            return None;
        }
        Some(text.into())
    }

    fn unique_id(&mut self, value: &Value<'_>) -> Option<Box<str>> {
        let id = self.id(value)?;
        let (line, _) = self.places.of(value.span().start);
        match self.ids.entry(id.clone()) {
            Entry::Vacant(free) => _ = free.insert(line),
            Entry::Occupied(first) => {
                let message = format!("the id \"{id}\" is taken by the key in line {}", first.get());
                self.note(
                    value.span(),
                    message,
                    Some("logs and \"tollgate keys revoke\" tell keys apart by their ids"),
                );
            }
        }
        Some(id)
    }

    fn hash(&mut self, value: &Value<'_>) -> Option<Digest> {
        let text = self.text(value)?;
        let Some(digest) = Digest::parse(text) else {
            let hint = if looks_secret(text) {
                "this looks like the secret itself, which does not belong in a file; revoke it and run tollgate keys new"
            } else {
                "tollgate keys new makes a key with its hash"
            };
            self.note(value.span(), "expected \"sha256:\" and 64 hexadecimal digits", Some(hint));
            return None;
        };
        let (line, _) = self.places.of(value.span().start);
        match self.hashes.entry(digest.prefix()) {
            Entry::Vacant(free) => _ = free.insert(line),
            Entry::Occupied(first) => {
                let message = format!("the hash is that of the key in line {}", first.get());
                self.note(
                    value.span(),
                    message,
                    Some("a secret names one key; make another with \"tollgate keys new\""),
                );
            }
        }
        Some(digest)
    }

    fn word<T: Copy>(&mut self, value: &Value<'_>, all: &[T], name: fn(T) -> &'static str) -> Option<T> {
        let text = self.text(value)?;
        let found = all.iter().copied().find(|&item| name(item) == text);
        if found.is_none() {
            let names: Vec<&str> = all.iter().map(|&item| name(item)).collect();
            let hint = nearest(text, names.iter().copied()).map(|name| format!("did you mean \"{name}\"?"));
            let message = format!("expected {}, found \"{}\"", names.join(" or "), shown(text));
            self.note(value.span(), message, hint.as_deref());
        }
        found
    }

    fn strings(&mut self, value: &Value<'_>) -> Option<Vec<(Range<usize>, Box<str>)>> {
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(value, "a list of strings", None);
            return None;
        };
        Some(items.iter().filter_map(|item| Some((item.span(), self.text(item)?.into()))).collect())
    }

    fn globs(&mut self, value: &Value<'_>) -> Option<Box<[Box<str>]>> {
        let globs = self.strings(value)?;
        for (at, _) in globs.iter().filter(|(_, glob)| glob.trim().is_empty()) {
            let hint = "write an endpoint's name, or a glob such as \"payouts.*\"";
            self.note(at.clone(), "an empty glob fits no endpoint", Some(hint));
        }
        Some(globs.into_iter().map(|(_, glob)| glob).collect())
    }

    fn connected_accounts(&mut self, value: &Value<'_>) -> Option<ConnectedAccounts> {
        if value.get_ref().as_str() == Some("*") {
            return Some(ConnectedAccounts::Any);
        }
        if value.get_ref().as_array().is_none() {
            self.wrong_type(value, "a list of accounts or \"*\"", None);
            return None;
        }
        let accounts = self.strings(value)?;
        for (at, account) in accounts.iter().filter(|(_, account)| !is_id(account)) {
            let hint = if **account == *"*" { Some("for any account write connected_accounts = \"*\"") } else { None };
            self.note(at.clone(), format!("\"{}\" is not an account's id", shown(account)), hint);
        }
        Some(ConnectedAccounts::Only(accounts.into_iter().map(|(_, account)| account).collect()))
    }

    fn moment(&mut self, value: &Value<'_>) -> Option<Timestamp> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(moment) => moment.to_string(),
            _ => {
                self.wrong_type(value, "a time", Some("such as 2030-01-31T12:00:00Z"));
                return None;
            }
        };
        let moment = text.parse().ok();
        if moment.is_none() {
            let hint = "write date, time and offset, such as 2030-01-31T12:00:00Z";
            self.note(value.span(), "expected a time with its offset from UTC", Some(hint));
        }
        moment
    }
}
