//! The board of API keys: for the hash of each secret, a keys file with this key alone.

use super::super::Control;
use super::Copy;
use crate::board::{Board, Change};
use crate::keys::{Keyring, entry};
use std::sync::Arc;

/// Keys that are named in one warning about such that cannot be understood.
const NAMED: usize = 3;

/// Where gateways with this prefix keep their keys.
#[must_use]
pub fn board(prefix: &str) -> Board {
    Board::new(prefix, "keys", entry::CAPACITY)
}

/// The keys as they are on the board.
pub(super) struct Copied {
    control: Arc<Control>,
    board: Board,
    shown: Keyring,
    taken: Keyring,
    /// The endpoints that rights are settled for.
    names: Vec<Box<str>>,
}

impl Copied {
    pub(super) fn new(control: &Arc<Control>, prefix: &str) -> Copied {
        let (control, board) = (Arc::clone(control), board(prefix));
        Copied { control, board, shown: Keyring::default(), taken: Keyring::default(), names: Vec::new() }
    }
}

impl Copy for Copied {
    fn board(&self) -> &Board {
        &self.board
    }

    fn clear(&mut self) {
        self.taken = Keyring::default();
    }

    fn take(&mut self, changes: Vec<Change>) {
        let (mut put, mut taken) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Put(field, text) => put.push((field, text)),
                Change::Removed(field) => taken.extend(entry::removed(&field)),
            }
        }
        let (changes, wrong) = entry::read(&put, &self.control.shared.engine.seed());
        if let Some(some) = wrong.get(..NAMED.min(wrong.len())).filter(|some| !some.is_empty()) {
            let (count, some) = (wrong.len(), some.join(", "));
            tracing::error!(count, some, "keys of the shared store cannot be understood: nobody can use them here");
        }
        // What was good before and cannot be understood any more is not good any more.
        taken.extend(wrong.iter().filter_map(|field| entry::removed(field)));
        taken.extend(changes);
        let names: Vec<&str> = self.names.iter().map(|name| &**name).collect();
        self.taken.change(taken, &names);
    }

    fn show(&mut self) {
        // Both are clones of one keyring: the keys themselves are there once.
        self.control.adopt_keys(&mut self.taken, &mut self.names);
        self.shown = self.taken.clone();
    }

    fn discard(&mut self) {
        self.taken = self.shown.clone();
    }

    /// None: an expired key is kept, so that its holder can be told so.
    fn over(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}
