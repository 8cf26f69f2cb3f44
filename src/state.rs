//! FLOOR 2: what outlives the process, in one directory.
//!
//! | file | holds | written |
//! |---|---|---|
//! | `lock` | nothing; one process at a time has it locked | at the start |
//! | `seed` | the secret that partition keys are made with, mode 0600 | once |
//! | `windows.redb` | the counts of long sliding windows | every `persist_interval`, each write synced |
//! | `overrides.json` | temporary figures of accounts | at each change, synced |
//!
//! - A kill loses at most what was counted since the last write: `persist_interval` and the time a write takes.
//! - A damaged file is renamed to `NAME.damaged-N` and told of; what could be read of it is kept. It never stops a start.
//! - A disk that is full or read-only stops no request: the write is told of and tried again.
//! - The engine's time axis goes on from one process to the next; see `anchor` for how much time a stop is taken to be.

mod anchor;
mod aside;
mod keeper;
pub mod overrides;
mod record;
mod seed;
mod windows;

pub use anchor::MAX_OFFLINE;
pub use aside::set_aside;
pub use keeper::{Keeper, Settings, Writer};

use crate::engine::Seed;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Why a state directory cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has it.
    #[error("{0}: another process uses this state directory; each gateway needs one of its own (`[state] dir`)")]
    Locked(PathBuf),
    /// It cannot be made, read or written.
    #[error("{path}: the state directory cannot be used: {source}")]
    Unusable {
        /// The directory, or the file in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A state directory that is this process's alone, until it is dropped.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    seed: Seed,
    _lock: File,
}

impl Directory {
    /// Makes it if it is not there, locks it, and reads or makes its seed with `random`.
    ///
    /// # Errors
    /// Another process has it; it cannot be written.
    pub fn open(path: &Path, random: impl FnOnce() -> Seed) -> Result<Directory, StateError> {
        let unusable = |source: io::Error| StateError::Unusable { path: path.to_owned(), source };
        make_directory(path).map_err(unusable)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(path.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::Locked(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let seed = seed::read_or_make(&path.join("seed"), random).map_err(unusable)?;
        Ok(Directory { path: path.to_owned(), seed, _lock: lock })
    }

    /// The secret that all ids and partition keys are made with.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Only the gateway's own user needs to look inside.
fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Puts a whole file in place at once and has it on the disk when it returns. Only this user can read it.
///
/// # Errors
/// As the file system says; the old file is untouched then.
pub fn replace_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let folder = path.parent().unwrap_or(Path::new("."));
    // Temporary files have the mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
