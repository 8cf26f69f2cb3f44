//! Changing a keys file: what `tollgate keys new` and `tollgate keys revoke` do to it.
//!
//! Comments and layout stay as they are. A file changes as a whole or not at all: the new text goes to a temporary file beside
//! it, is synced, and takes its place; commands at work on files of one directory wait for each other. No change is written
//! that [`Keyring::parse`] would refuse.

use crate::engine::{Mode, Seed};
use crate::keys::file::{self, ReadError};
use crate::keys::mistake::{KeysMistake, nearest};
use crate::keys::principal::KeyKind;
use crate::keys::secret::{Digest, looks_secret};
use crate::keys::{Keyring, Principal};
use jiff::Timestamp;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

/// What a new keys file begins with.
const HEADER: &str =
    "# API keys of Tollgate. A key is kept as the SHA-256 of its secret; the secret itself is nowhere.\n";

/// Ids in checks need not be secret: nothing is stored under them.
pub(super) const CHECK_SEED: Seed = Seed([0, 0]);

/// A key to be added.
#[derive(Clone, Debug)]
pub struct NewKey<'a> {
    /// Its id.
    pub id: &'a str,
    /// The hash of its secret.
    pub digest: Digest,
    /// The account it belongs to.
    pub account: &'a str,
    /// Live or test.
    pub mode: Mode,
    /// What sort of key it is.
    pub kind: KeyKind,
    /// The endpoints it may use, as globs; empty: no list is written.
    pub allow: &'a [String],
    /// The accounts it may act for; `*` alone stands for any, empty for none.
    pub connected_accounts: &'a [String],
    /// From when on it is good no more.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Why a keys file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The new text could not be written; the file is as it was.
    #[error("cannot write it: {0}")]
    Write(#[from] std::io::Error),
    /// It has mistakes, or would have.
    #[error("{}", .0.iter().map(KeysMistake::to_string).collect::<Vec<_>>().join("\n"))]
    Mistakes(Vec<KeysMistake>),
    /// The id of a new key is taken.
    #[error("there is a key with the id \"{0}\" already")]
    IdTaken(Box<str>),
    /// There is no key with this id.
    #[error("there is no key with the id \"{id}\"{}", .nearest.as_ref().map(|id| format!("; did you mean \"{id}\"?")).unwrap_or_default())]
    UnknownId {
        /// The id asked for.
        id: Box<str>,
        /// One much like it.
        nearest: Option<Box<str>>,
    },
    /// Somebody gave a secret where an id belongs.
    #[error("that looks like the secret of a key; give the key's id, which \"tollgate keys list\" shows")]
    SecretForId,
}

/// Adds a key to the file, which is made if it is missing.
///
/// # Errors
/// Why it was not added. The file is as it was then.
pub fn add_to_file(path: &Path, key: &NewKey<'_>) -> Result<(), EditError> {
    change(path, true, |text| add(text, key))
}

/// Revokes the key with this id. Says whether it was good before; a file that need not change is not written.
///
/// # Errors
/// Why it was not revoked. The file is as it was then.
pub fn revoke_in_file(path: &Path, id: &str) -> Result<bool, EditError> {
    let mut revoked = false;
    change(path, false, |text| {
        let changed = revoke(text, id)?;
        revoked = changed.is_some();
        Ok(changed.unwrap_or_else(|| text.to_owned()))
    })?;
    Ok(revoked)
}

/// The text of a keys file with one more key at its end.
///
/// # Errors
/// Why the key cannot be added.
pub fn add(text: &str, key: &NewKey<'_>) -> Result<String, EditError> {
    let mut document = syntax(text)?;
    if tables(&mut document).any(|table| is_key(table, key.id)) {
        return Err(EditError::IdTaken(key.id.into()));
    }
    let inline = document.get_mut("keys").and_then(Item::as_array_mut).filter(|keys| !keys.is_empty());
    if let Some(keys) = inline {
        let mut table = InlineTable::new();
        fill(&mut table, key);
        keys.push(table);
    } else {
        let mut table = Table::new();
        fill(&mut table, key);
        if document.is_empty() {
            // What a file without keys says stays at its top.
            let heading = document.trailing().as_str().unwrap_or_default().to_owned();
            document.set_trailing("");
            table.decor_mut().set_prefix(if heading.trim().is_empty() { heading } else { heading + "\n" });
        } else {
            table.decor_mut().set_prefix("\n");
        }
        push_table(&mut document, table);
    }
    checked(document.to_string()).map(|(text, _)| text)
}

/// The text of a keys file with this key revoked, or `None` if it is already.
///
/// # Errors
/// Why it cannot be revoked.
pub fn revoke(text: &str, id: &str) -> Result<Option<String>, EditError> {
    let mut document = syntax(text)?;
    let keyring = checked(text.to_owned())?.1;
    let Some(principal) = keyring.principals().find(|principal| *principal.id == *id) else {
        return Err(unknown(&keyring, id));
    };
    if principal.revoked {
        return Ok(None);
    }
    if let Some(table) = tables(&mut document).find(|table| is_key(*table, id)) {
        match table.get_mut("revoked").and_then(Item::as_value_mut) {
            Some(value) => {
                let decor = value.decor().clone();
                *value = Value::from(true);
                *value.decor_mut() = decor;
            }
            None => _ = table.insert("revoked", Item::Value(Value::from(true))),
        }
    }
    checked(document.to_string()).map(|(text, _)| Some(text))
}

/// That there is no key with this id, where nobody looks for one much like it.
#[must_use]
pub fn unknown_id(id: &str) -> EditError {
    unknown(&Keyring::default(), id)
}

fn unknown(keyring: &Keyring, id: &str) -> EditError {
    if looks_secret(id) {
        return EditError::SecretForId;
    }
    let nearest = nearest(id, keyring.principals().map(|principal| &*principal.id));
    EditError::UnknownId { id: id.chars().take(64).collect::<String>().into(), nearest: nearest.map(Into::into) }
}

fn syntax(text: &str) -> Result<DocumentMut, EditError> {
    // The keyring's parser tells the place of every mistake; this one is only asked about texts it finds sound.
    text.parse().map_err(|error: toml_edit::TomlError| {
        let mistakes = Keyring::parse(text, &CHECK_SEED).err().unwrap_or_else(|| {
            vec![KeysMistake { line: 1, column: 1, message: error.message().to_owned(), hint: None }]
        });
        EditError::Mistakes(mistakes)
    })
}

/// The text with its keyring, if it has no mistake.
fn checked(text: String) -> Result<(String, Keyring), EditError> {
    let keyring = Keyring::parse(&text, &CHECK_SEED).map_err(EditError::Mistakes)?;
    Ok((text, keyring))
}

/// The tables of all keys, written with `[[keys]]` or in line.
fn tables(document: &mut DocumentMut) -> Box<dyn Iterator<Item = &mut dyn TableLike> + '_> {
    match document.get_mut("keys") {
        Some(Item::ArrayOfTables(tables)) => Box::new(tables.iter_mut().map(|table| table as &mut dyn TableLike)),
        Some(Item::Value(Value::Array(values))) => Box::new(
            values.iter_mut().filter_map(|value| value.as_inline_table_mut().map(|table| table as &mut dyn TableLike)),
        ),
        _ => Box::new(std::iter::empty()),
    }
}

fn is_key(table: &dyn TableLike, id: &str) -> bool {
    table.get("id").and_then(Item::as_str) == Some(id)
}

/// Adds a table under `[[keys]]`. An empty list in line makes way for it and leaves its comment.
fn push_table(document: &mut DocumentMut, mut table: Table) {
    if let Some(Item::ArrayOfTables(tables)) = document.get_mut("keys") {
        return tables.push(table);
    }
    if let Some((name, _)) = document.remove_entry("keys")
        && let Some(comment) = name.leaf_decor().prefix().and_then(|prefix| prefix.as_str())
    {
        table.decor_mut().set_prefix(comment.to_owned());
    }
    let mut tables = ArrayOfTables::new();
    tables.push(table);
    document.insert("keys", Item::ArrayOfTables(tables));
}

fn fill(table: &mut dyn TableLike, key: &NewKey<'_>) {
    let mut put = |name: &str, value: Value| _ = table.insert(name, Item::Value(value));
    put("id", key.id.into());
    put("hash", key.digest.to_string().into());
    put("account", key.account.into());
    put("mode", key.mode.as_str().into());
    put("kind", key.kind.as_str().into());
    if !key.allow.is_empty() {
        put("allow", key.allow.iter().collect::<Array>().into());
    }
    match key.connected_accounts {
        [] => {}
        [any] if any == "*" => put("connected_accounts", "*".into()),
        accounts => put("connected_accounts", accounts.iter().collect::<Array>().into()),
    }
    if let Some(end) = key.expires_at {
        put("expires_at", end.to_string().into());
    }
    put("created_at", key.created_at.to_string().into());
}

/// Reads the file, changes its text and puts the new one in its place.
fn change(path: &Path, make: bool, edit: impl FnOnce(&str) -> Result<String, EditError>) -> Result<(), EditError> {
    let target = target(path);
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Two commands at once would each lose the other's key. The lock goes with the handle.
    let handle = File::open(directory)?;
    handle.lock()?;
    let (old, permissions) = match file::read(&target) {
        Ok(text) => (text, Some(fs::metadata(&target)?.permissions())),
        Err(ReadError::Io(error)) if make && error.kind() == ErrorKind::NotFound => (HEADER.to_owned(), None),
        Err(error) => return Err(error.into()),
    };
    let new = edit(&old)?;
    if new == old {
        return Ok(());
    }
    // Made for its owner only; a file that was there keeps who may read it, or a running gateway might not be able to.
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(new.as_bytes())?;
    if let Some(permissions) = permissions {
        temporary.as_file().set_permissions(permissions)?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(&target).map_err(|error| error.error)?;
    // Without this, a power cut may bring the old file back, and with it a key that was revoked.
    handle.sync_all()?;
    Ok(())
}

/// The file that a path means: a symbolic link stays, and the file behind it changes.
fn target(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The keys of a file, by account and id, for people to read.
///
/// # Errors
/// Why they cannot be had.
pub fn list(path: &Path) -> Result<Vec<Principal>, EditError> {
    let keyring = checked(file::read(path)?)?.1;
    let mut principals: Vec<Principal> = keyring.principals().cloned().collect();
    principals.sort_by(|a, b| (&a.account, &a.id).cmp(&(&b.account, &b.id)));
    Ok(principals)
}
