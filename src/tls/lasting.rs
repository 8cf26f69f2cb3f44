//! What a reload keeps.

use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Sessions that are remembered here for clients that take no tickets (some of TLS 1.2); the oldest goes. Some hundred bytes
/// each.
const MAX_SESSIONS: usize = 4_096;

/// The process's means of resumption, and its turns at handshakes. One for each process: a client that comes back resumes on
/// any thread and over any reload, but not on another gateway, which has keys of its own.
#[derive(Debug, Default)]
pub struct Lasting {
    sessions: Option<([u8; 32], Sessions)>,
    turns: Option<(usize, Arc<Semaphore>)>,
}

/// How sessions are resumed: by tickets under keys that are made here, are in memory alone and change every 6 hours, so that
/// none is good for longer than 12; or by memory.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    pub(super) tickets: Arc<dyn ProducesTickets>,
    pub(super) memory: Arc<dyn StoresServerSessions>,
}

impl Lasting {
    /// The sessions of clients that are trusted by this: others' are forgotten, for a session that is resumed is not
    /// verified again.
    pub(super) fn sessions(&mut self, trust: [u8; 32]) -> Result<Sessions, rustls::Error> {
        if let Some((_, sessions)) = self.sessions.as_ref().filter(|(known, _)| *known == trust) {
            return Ok(sessions.clone());
        }
        let tickets = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        let sessions = Sessions { tickets, memory: ServerSessionMemoryCache::new(MAX_SESSIONS) };
        self.sessions = Some((trust, sessions.clone()));
        Ok(sessions)
    }

    /// `count` turns at handshakes: the same ones while their number is the same.
    pub(super) fn turns(&mut self, count: usize) -> Arc<Semaphore> {
        if let Some((_, turns)) = self.turns.as_ref().filter(|(known, _)| *known == count) {
            return Arc::clone(turns);
        }
        let turns = Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        self.turns = Some((count, Arc::clone(&turns)));
        turns
    }
}
