//! Temporary figures of accounts: the list of them, kept in a file where there is a state directory.
//!
//! At most one for each account and limit, and [`MAX`] in all. The file is written before a change takes effect, so what was
//! answered is on the disk.

use super::{replace_file, set_aside};
use crate::config::WrittenFigures;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Overrides at once.
pub const MAX: usize = 10_000;

/// Figures of one limit for one account, until they expire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// What it is deleted by.
    pub id: String,
    /// The account.
    pub account: String,
    /// The limit's name.
    pub limit: String,
    /// The figures.
    #[serde(flatten)]
    pub figures: WrittenFigures,
    /// Why, in somebody's words.
    pub reason: String,
    /// When it was set.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

impl Override {
    /// What it is told from others by: the last one set for an account and a limit is in force.
    #[must_use]
    pub fn field(&self) -> String {
        format!("{}\n{}", self.limit, self.account)
    }
}

/// Why a change is not made.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// There are [`MAX`] already.
    #[error("there are {MAX} overrides already")]
    Full,
    /// The file cannot be written.
    #[error("the overrides cannot be saved: {0}")]
    Io(#[from] io::Error),
}

/// All overrides.
#[derive(Debug, Default)]
pub struct Book {
    entries: Vec<Override>,
    file: Option<PathBuf>,
}

impl Book {
    /// The overrides in `file`; none where there is no file. One that cannot be understood is set aside and told of.
    #[must_use]
    pub fn open(file: PathBuf) -> Book {
        let entries = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tell_damaged(&file, &error);
                Vec::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::error!(file = %file.display(), %error, "the overrides cannot be read: none is in force");
                Vec::new()
            }
        };
        Book { entries, file: Some(file) }
    }

    /// All of them, the oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Override] {
        &self.entries
    }

    /// Whether they outlive a restart.
    #[must_use]
    pub fn is_persisted(&self) -> bool {
        self.file.is_some()
    }

    /// Adds an override in place of the one of the same account and limit.
    ///
    /// # Errors
    /// There is no room, or the file cannot be written: nothing has changed then.
    pub fn put(&mut self, new: Override) -> Result<(), BookError> {
        let others = self.entries.iter().filter(|known| known.field() != new.field());
        let mut kept: Vec<_> = others.cloned().collect();
        if kept.len() >= MAX {
            return Err(BookError::Full);
        }
        kept.push(new);
        Ok(self.replace(kept)?)
    }

    /// Removes those for which `ended` holds, and answers them.
    ///
    /// # Errors
    /// The file cannot be written: nothing has changed then.
    pub fn remove(&mut self, ended: impl Fn(&Override) -> bool) -> Result<Vec<Override>, BookError> {
        let (removed, kept): (Vec<_>, Vec<_>) = self.entries.iter().cloned().partition(ended);
        if !removed.is_empty() {
            self.replace(kept)?;
        }
        Ok(removed)
    }

    /// Takes a whole list in place of the one there is: the one that all gateways share. At most [`MAX`] of it.
    ///
    /// # Errors
    /// The file cannot be written: nothing has changed then.
    pub fn adopt(&mut self, mut entries: Vec<Override>) -> Result<(), BookError> {
        entries.truncate(MAX);
        if entries != self.entries {
            self.replace(entries)?;
        }
        Ok(())
    }

    fn replace(&mut self, entries: Vec<Override>) -> io::Result<()> {
        if let Some(file) = &self.file {
            replace_file(file, &serde_json::to_vec_pretty(&entries)?)?;
        }
        self.entries = entries;
        Ok(())
    }
}

fn tell_damaged(file: &Path, error: &serde_json::Error) {
    match set_aside(file) {
        Ok(aside) => {
            tracing::error!(%error, aside = %aside.display(), "the overrides are damaged and set aside: none is in force");
        }
        Err(cannot) => tracing::error!(%error, %cannot, "the overrides are damaged and cannot be set aside"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, account: &str) -> Override {
        Override {
            id: id.to_owned(),
            account: account.to_owned(),
            limit: "l".to_owned(),
            figures: WrittenFigures { rate: Some("5/s".to_owned()), ..WrittenFigures::default() },
            reason: "a launch".to_owned(),
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::MAX,
        }
    }

    #[test]
    fn one_for_each_account_and_limit_and_all_of_it_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("overrides.json");
        let mut book = Book::open(file.clone());
        for (id, account) in [("1", "a"), ("2", "b"), ("3", "a")] {
            book.put(entry(id, account)).unwrap();
        }
        assert_eq!(Book::open(file.clone()).entries(), [entry("2", "b"), entry("3", "a")]);
        assert_eq!(book.remove(|known| known.id == "2").unwrap(), [entry("2", "b")]);
        assert_eq!(Book::open(file).entries(), [entry("3", "a")]);
    }

    #[test]
    fn what_cannot_be_saved_is_not_done() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path().join("not/there.json"));
        assert!(matches!(book.put(entry("1", "a")), Err(BookError::Io(_))));
        assert!(book.entries().is_empty());
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("overrides.json");
        std::fs::write(&file, "[{").unwrap();
        assert!(Book::open(file.clone()).entries().is_empty());
        assert!(!file.exists() && folder.path().join("overrides.json.damaged-1").exists());
    }
}
