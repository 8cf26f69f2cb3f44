//! Where keys are: in a file, or in the Redis that gateways share.

use crate::board::{Board, Expected, WriteError};
use crate::config::Redis;
use crate::keys::edit::{self, EditError, NewKey};
use crate::keys::{Principal, entry};
use crate::process::keys_board;
use crate::store::{Connection, Dialer, Fault};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

/// Where keys are.
#[derive(Clone, Debug)]
pub enum Place {
    /// In this keys file.
    File(PathBuf),
    /// In this Redis.
    Store(Box<Redis>),
}

/// Time for one command. A list of a million keys takes some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Attempts to change a key that others change at the same time.
const TRIES: usize = 5;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => path.display().fmt(f),
            Place::Store(settings) => write!(f, "the Redis of prefix \"{}\"", settings.prefix),
        }
    }
}

impl Place {
    pub(super) fn add(&self, key: &NewKey<'_>) -> anyhow::Result<()> {
        match self {
            Place::File(path) => Ok(edit::add_to_file(path, key)?),
            Place::Store(settings) => with_store(settings, async |store, board| add(store, board, key).await),
        }
    }

    /// Whether it was good before.
    pub(super) fn revoke(&self, id: &str) -> anyhow::Result<bool> {
        match self {
            Place::File(path) => Ok(edit::revoke_in_file(path, id)?),
            Place::Store(settings) => with_store(settings, async |store, board| revoke(store, board, id).await),
        }
    }

    /// By account and id.
    pub(super) fn list(&self) -> anyhow::Result<Vec<Principal>> {
        match self {
            Place::File(path) => Ok(edit::list(path)?),
            Place::Store(settings) => with_store(settings, async |store, board| list(store, board).await),
        }
    }

    /// When running gateways know of a change.
    pub(super) fn when_seen(&self) -> &'static str {
        match self {
            Place::File(_) => "A running gateway refuses it as soon as it has reloaded the file.",
            Place::Store(_) => {
                "Gateways refuse it within a second; one that cannot reach Redis, a second after it can again."
            }
        }
    }
}

fn with_store<T>(
    settings: &Redis,
    work: impl AsyncFnOnce(&mut Connection, &Board) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let board = keys_board(&settings.prefix);
    runtime.block_on(async {
        let mut store = Dialer::new(settings.clone()).dial().await.map_err(said)?;
        match timeout(PATIENCE, work(&mut store, &board)).await {
            Ok(done) => done,
            Err(_) => {
                anyhow::bail!("Redis did not answer in time; look with \"tollgate keys list\" what has become of it")
            }
        }
    })
}

fn said(fault: Fault) -> anyhow::Error {
    anyhow::anyhow!("Redis cannot be reached: {fault}")
}

async fn add(store: &mut Connection, board: &Board, key: &NewKey<'_>) -> anyhow::Result<()> {
    let text = entry::text(key)?;
    match board.put(store, &entry::field(&key.digest), key.id, &text, Expected::Absent).await {
        Ok(_) => Ok(()),
        Err(WriteError::NameTaken) => Err(EditError::IdTaken(key.id.into()).into()),
        Err(error) => Err(error.into()),
    }
}

async fn revoke(store: &mut Connection, board: &Board, id: &str) -> anyhow::Result<bool> {
    for _ in 0..TRIES {
        let Some((field, text)) = board.named(store, id).await? else { return Err(edit::unknown_id(id).into()) };
        let Some(revoked) = edit::revoke(&text, id)? else { return Ok(false) };
        match board.put(store, &field, id, &revoked, Expected::Exactly(&text)).await {
            Ok(_) => return Ok(true),
            Err(WriteError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("others change it at the same time; try again")
}

async fn list(store: &mut Connection, board: &Board) -> anyhow::Result<Vec<Principal>> {
    let (mut principals, mut next) = (std::collections::BTreeMap::new(), Some(0));
    while let Some(from) = next {
        let page = board.page(store, from).await?;
        let known = page.entries.iter().filter_map(|(_, text)| entry::principal(text));
        principals.extend(known.map(|principal| ((principal.account.clone(), principal.id.clone()), principal)));
        next = page.next;
    }
    Ok(principals.into_values().collect())
}
