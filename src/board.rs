//! FLOOR 2: boards: small tables in the shared store that every gateway knows by heart, such as API keys and overrides.
//!
//! A board is three keys of one Redis slot: its entries (a hash, field to text), a log of its newest changes (a list, newest first,
//! at most [`LOG_LENGTH`]), and the names that no two entries share (a hash, name to field). Every change is one script, so the
//! three never disagree. None of them expires.
//!
//! - **A position** names one change: its number and 64 random bits. Who knows a board up to a position asks for the newest one,
//!   and reads what has changed since when it is another ([`Board::since`]).
//! - **A store that has lost changes is noticed.** After a failover or a restore another change may bear a number that is known
//!   already. The random bits tell them apart; whoever knows a position that is not in the log reads everything anew.
//! - **A board without a log is no board.** It is never taken for one without entries: an emptied store must not shut everybody
//!   out. See [`Board::position`].
//! - Readers poll. Nothing is pushed, so nothing can be missed while a connection is half dead, and single servers, sentinels and
//!   clusters are read alike.

mod desk;
mod script;
#[cfg(test)]
mod tests;

pub use desk::{Closed, Desk, Job, Work};

use redis::aio::ConnectionLike;
use redis::{ErrorKind, RedisError, cmd};

/// Changes that are remembered, some 1 MB of them: who has missed more reads the whole board.
pub const LOG_LENGTH: usize = 10_000;

/// Entries that are asked for at once: some milliseconds of the server's time.
const PAGE: usize = 1_000;

/// One table.
#[derive(Clone, Debug)]
pub struct Board {
    entries: String,
    log: String,
    names: String,
    capacity: usize,
}

/// Up to which change a board is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    number: u64,
    nonce: Box<str>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The entry is this now.
    Put(String, String),
    /// There is no such entry any more.
    Removed(String),
}

/// A part of a board, and how to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Field and text; an entry may come twice.
    pub entries: Vec<(String, String)>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<u64>,
}

/// What must hold of an entry for it to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected<'a> {
    /// Nothing: the last one to write wins, in the order in which Redis takes the changes.
    Anything,
    /// There is none.
    Absent,
    /// It is this text.
    Exactly(&'a str),
}

/// Why a board was not changed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It has as many entries as it may.
    #[error("there is no room for more")]
    Full,
    /// The entry is not what was expected: somebody else was quicker.
    #[error("it was changed meanwhile")]
    Conflict,
    /// Another entry has this name.
    #[error("the name is taken")]
    NameTaken,
    /// Redis did not answer, or refused.
    #[error("the shared store does not take it: {0}")]
    Store(#[from] RedisError),
}

impl Board {
    /// A board of gateways with this prefix. At `capacity` entries it takes no more.
    #[must_use]
    pub fn new(prefix: &str, name: &str, capacity: usize) -> Board {
        // One hash tag, so that a script may touch all three in a cluster.
        let key = |part: &str| format!("{{{prefix}:board:{name}}}:{part}");
        Board { entries: key("entries"), log: key("log"), names: key("names"), capacity }
    }

    /// Up to where it goes. `None`: nobody has ever written it, or the store has lost it.
    ///
    /// # Errors
    /// As the store says.
    pub async fn position(&self, store: &mut impl ConnectionLike) -> Result<Option<Position>, RedisError> {
        let newest: Option<String> = cmd("LINDEX").arg(&self.log).arg(0).query_async(store).await?;
        Ok(newest.as_deref().and_then(line).map(|(position, _)| position))
    }

    /// What has changed between two positions. `None`: that cannot be told, and the whole board must be read.
    ///
    /// # Errors
    /// As the store says.
    pub async fn since(
        &self,
        store: &mut impl ConnectionLike,
        known: &Position,
        newest: &Position,
    ) -> Result<Option<Vec<Change>>, RedisError> {
        let Some(missed) = newest.number.checked_sub(known.number) else { return Ok(None) };
        if missed >= LOG_LENGTH as u64 {
            return Ok(None);
        }
        // Newer changes may have come meanwhile and push older ones back, so some more lines are read.
        let reach = missed + PAGE as u64;
        let log: Vec<String> = cmd("LRANGE").arg(&self.log).arg(0).arg(reach).query_async(store).await?;
        let lines: Vec<_> = log.iter().filter_map(|text| line(text)).collect();
        if !lines.iter().any(|(position, _)| position == known) {
            return Ok(None);
        }
        let later = lines.iter().filter(|(position, _)| position.number > known.number);
        let mut fields: Vec<&str> = later.map(|(_, field)| *field).collect();
        fields.sort_unstable();
        fields.dedup();
        let mut changes = Vec::with_capacity(fields.len());
        for fields in fields.chunks(PAGE) {
            let texts: Vec<Option<String>> = cmd("HMGET").arg(&self.entries).arg(fields).query_async(store).await?;
            changes.extend(fields.iter().zip(texts).map(|(field, text)| match text {
                Some(text) => Change::Put((*field).to_owned(), text),
                None => Change::Removed((*field).to_owned()),
            }));
        }
        Ok(Some(changes))
    }

    /// A part of all entries, from the beginning with 0. Whoever reads a whole board asks for its [`position`](Board::position)
    /// first and for what has changed [`since`](Board::since) then at the end: entries that stay are all seen, the others maybe.
    ///
    /// # Errors
    /// As the store says.
    pub async fn page(&self, store: &mut impl ConnectionLike, from: u64) -> Result<Page, RedisError> {
        let mut scan = cmd("HSCAN");
        scan.arg(&self.entries).arg(from).arg("COUNT").arg(PAGE);
        let (next, entries): (u64, Vec<(String, String)>) = scan.query_async(store).await?;
        Ok(Page { entries, next: (next != 0).then_some(next) })
    }

    /// One entry, by its field.
    ///
    /// # Errors
    /// As the store says.
    pub async fn get(&self, store: &mut impl ConnectionLike, field: &str) -> Result<Option<String>, RedisError> {
        cmd("HGET").arg(&self.entries).arg(field).query_async(store).await
    }

    /// One entry with its field, by its name.
    ///
    /// # Errors
    /// As the store says.
    pub async fn named(
        &self,
        store: &mut impl ConnectionLike,
        name: &str,
    ) -> Result<Option<(String, String)>, RedisError> {
        let field: Option<String> = cmd("HGET").arg(&self.names).arg(name).query_async(store).await?;
        let Some(field) = field else { return Ok(None) };
        Ok(self.get(store, &field).await?.map(|text| (field, text)))
    }

    /// Puts an entry in place, under a name that no other entry may have.
    ///
    /// # Errors
    /// Why it was not; nothing has changed then, but after [`WriteError::Store`] nobody knows.
    pub async fn put(
        &self,
        store: &mut impl ConnectionLike,
        field: &str,
        name: &str,
        text: &str,
        expected: Expected<'_>,
    ) -> Result<Position, WriteError> {
        self.change(store, [field, name], Some(text), expected).await
    }

    /// Removes an entry with its name.
    ///
    /// # Errors
    /// Why it was not, as [`Board::put`].
    pub async fn remove(
        &self,
        store: &mut impl ConnectionLike,
        field: &str,
        name: &str,
        expected: Expected<'_>,
    ) -> Result<Position, WriteError> {
        self.change(store, [field, name], None, expected).await
    }

    async fn change(
        &self,
        store: &mut impl ConnectionLike,
        [field, name]: [&str; 2],
        text: Option<&str>,
        expected: Expected<'_>,
    ) -> Result<Position, WriteError> {
        let (kind, old) = match expected {
            Expected::Anything => ("anything", ""),
            Expected::Absent => ("absent", ""),
            Expected::Exactly(old) => ("exactly", old),
        };
        let mut eval = cmd("EVAL");
        eval.arg(script::CHANGE).arg(3).arg(&self.entries).arg(&self.log).arg(&self.names);
        eval.arg(field).arg(name).arg(kind).arg(old);
        eval.arg(if text.is_some() { "put" } else { "remove" }).arg(text.unwrap_or_default());
        let (verdict, newest): (String, String) =
            eval.arg(self.capacity).arg(LOG_LENGTH).arg(nonce()).query_async(store).await?;
        match verdict.as_str() {
            "done" => Ok(line(&newest).ok_or_else(strange)?.0),
            "full" => Err(WriteError::Full),
            "name" => Err(WriteError::NameTaken),
            _ => Err(WriteError::Conflict),
        }
    }
}

/// `NUMBER:NONCE:FIELD` taken apart.
fn line(text: &str) -> Option<(Position, &str)> {
    let (number, rest) = text.split_once(':')?;
    let (nonce, field) = rest.split_once(':')?;
    Some((Position { number: number.parse().ok()?, nonce: nonce.into() }, field))
}

/// 64 random bits; the time they are for need not be secret, so a source that fails is no reason to stop.
fn nonce() -> String {
    let mut bytes = [0; 8];
    // All zeros are as good a name for a change as any, unless two stores part at the same number.
    let _ = getrandom::fill(&mut bytes);
    format!("{:016x}", u64::from_le_bytes(bytes))
}

fn strange() -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, "an answer that no script of this gateway gives"))
}
