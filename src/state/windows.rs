//! The store of windows: one redb file, a table of windows by partition key, and the anchor.

use super::anchor::Anchor;
use super::record;
use crate::engine::{PartitionKey, SavedWindow};
use redb::{Database, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

const WINDOWS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("windows-1");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta-1");
const ANCHOR: &str = "anchor";

/// Of the store's own in memory; what it reads and writes is seldom asked for twice.
const CACHE_BYTES: usize = 16 << 20;

/// Why the store did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// What is in the file cannot be what was written.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The file system would not: it may later.
    #[error("{0}")]
    Io(io::Error),
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Fault {
        match error {
            // An early end or nonsense where sense should be is no whim of the disk.
            redb::Error::Io(source)
                if !matches!(source.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
            {
                Fault::Io(source)
            }
            redb::Error::PreviousIo => Fault::Io(io::Error::other("an earlier write failed")),
            other => Fault::Damaged(other.to_string()),
        }
    }
}

/// Any of the store's errors as a fault.
fn fault(error: impl Into<redb::Error>) -> Fault {
    error.into().into()
}

/// An open store.
#[derive(Debug)]
pub(super) struct Windows {
    database: Database,
    path: PathBuf,
}

impl Windows {
    /// Opens the file and checks every page's checksum, or makes a new one.
    pub(super) fn open(path: &Path) -> Result<Windows, Fault> {
        guarded(|| {
            let mut database = redb::Builder::new().set_cache_size(CACHE_BYTES).create(path).map_err(fault)?;
            if !database.check_integrity().map_err(fault)? {
                return Err(Fault::Damaged("a checksum does not fit".to_owned()));
            }
            Ok(Windows { database, path: path.to_owned() })
        })
    }

    /// The moment of the last write; `None` before the first.
    pub(super) fn anchor(&self) -> Result<Option<Anchor>, Fault> {
        guarded(|| {
            let reading = self.database.begin_read().map_err(fault)?;
            let meta = match reading.open_table(META) {
                Ok(meta) => meta,
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(fault(error)),
            };
            let Some(bytes) = meta.get(ANCHOR).map_err(fault)? else { return Ok(None) };
            let sealed = bytes.value().split_first_chunk::<4>();
            let text = sealed.filter(|(sum, text)| u32::from_le_bytes(**sum) == crc32fast::hash(text));
            let anchor = text.and_then(|(_, text)| serde_json::from_slice(text).ok());
            anchor.map(Some).ok_or_else(|| Fault::Damaged("its anchor is not readable".to_owned()))
        })
    }

    /// Hands every window to `each`, which answers whether it is still of use; the others' keys come back. A damaged one is
    /// told of at the end, when those before and after it have been handed over.
    pub(super) fn load(
        &self,
        mut each: impl FnMut(PartitionKey, &SavedWindow) -> bool,
    ) -> Result<Vec<PartitionKey>, Fault> {
        guarded(|| {
            let (mut idle, mut unreadable) = (Vec::new(), 0_u64);
            let reading = self.database.begin_read().map_err(fault)?;
            let windows = match reading.open_table(WINDOWS) {
                Ok(windows) => windows,
                Err(TableError::TableDoesNotExist(_)) => return Ok(idle),
                Err(error) => return Err(fault(error)),
            };
            for entry in windows.iter().map_err(fault)? {
                let (key, bytes) = entry.map_err(fault)?;
                let key = PartitionKey(key.value());
                match record::decode(key, bytes.value()) {
                    Some(window) if each(key, &window) => {}
                    Some(_) => idle.push(key),
                    None => unreadable += 1,
                }
            }
            if unreadable > 0 {
                return Err(Fault::Damaged(format!("{unreadable} windows are not readable")));
            }
            Ok(idle)
        })
    }

    /// Writes all of `changes` and the anchor that `anchor` makes after the last of them, or nothing. It is on the disk when
    /// this returns.
    pub(super) fn write(
        &self,
        changes: impl FnOnce(&mut dyn FnMut(PartitionKey, Option<&SavedWindow>)),
        anchor: impl FnOnce() -> Anchor,
    ) -> Result<Written, Fault> {
        guarded(|| {
            let writing = self.database.begin_write().map_err(fault)?;
            let (mut failed, mut changed, mut bytes) = (None::<StorageError>, 0, Vec::new());
            let total = {
                let mut windows = writing.open_table(WINDOWS).map_err(fault)?;
                changes(&mut |key, window| {
                    changed += 1;
                    let outcome = match window {
                        Some(window) => {
                            record::encode(key, window, &mut bytes);
                            windows.insert(key.0, bytes.as_slice()).map(drop)
                        }
                        None => windows.remove(key.0).map(drop),
                    };
                    failed = failed.take().or(outcome.err());
                });
                if let Some(error) = failed.take() {
                    return Err(fault(error));
                }
                let text = serde_json::to_vec(&anchor()).map_err(|error| Fault::Io(error.into()))?;
                let sealed = [&crc32fast::hash(&text).to_le_bytes()[..], &text].concat();
                let mut meta = writing.open_table(META).map_err(fault)?;
                meta.insert(ANCHOR, sealed.as_slice()).map_err(fault)?;
                redb::ReadableTableMetadata::len(&windows).map_err(fault)?
            };
            writing.commit().map_err(fault)?;
            Ok(Written { changed, total })
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Windows written or removed.
    pub(super) changed: u64,
    /// Windows in the store now.
    pub(super) total: u64,
}

/// The store takes some kinds of damage for its own defects and panics: that is damage here.
fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Fault::Damaged("reading it panicked".to_owned())))
}
