//! The board of overrides: for each limit and account, what was set last. Redis's order of changes decides what is last.

use super::super::Control;
use super::Copy;
use crate::board::{Board, Change};
use crate::state::overrides::{MAX, Override};
use std::collections::HashMap;
use std::sync::Arc;

/// Where gateways with this prefix keep their overrides.
pub(super) fn board(prefix: &str) -> Board {
    Board::new(prefix, "overrides", MAX)
}

/// By field: the text on the board, and what it says.
type Entries = HashMap<String, (String, Override)>;

/// The overrides as they are on the board.
pub(super) struct Copied {
    control: Arc<Control>,
    board: Board,
    shown: Entries,
    taken: Entries,
}

impl Copied {
    pub(super) fn new(control: &Arc<Control>, prefix: &str) -> Copied {
        let (control, board) = (Arc::clone(control), board(prefix));
        Copied { control, board, shown: HashMap::new(), taken: HashMap::new() }
    }
}

impl Copy for Copied {
    fn board(&self) -> &Board {
        &self.board
    }

    fn clear(&mut self) {
        self.taken.clear();
    }

    fn take(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(field, text) => match serde_json::from_str::<Override>(&text) {
                    Ok(entry) if entry.field() == field => _ = self.taken.insert(field, (text, entry)),
                    _ => {
                        tracing::warn!(field, "a shared override cannot be understood, and is not in force here");
                        self.taken.remove(&field);
                    }
                },
                Change::Removed(field) => _ = self.taken.remove(&field),
            }
        }
    }

    fn show(&mut self) {
        let mut entries: Vec<Override> = self.taken.values().map(|(_, entry)| entry.clone()).collect();
        entries.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        let now = self.control.shared.time.wall();
        entries.retain(|entry| entry.expires_at > now);
        let shared = &self.control.shared;
        if let Err(error) = shared.overriding.change(shared, |book, _| book.adopt(entries)) {
            tracing::error!(%error, "shared overrides are not in force here");
        }
        self.shown.clone_from(&self.taken);
    }

    fn discard(&mut self) {
        self.taken.clone_from(&self.shown);
    }

    fn over(&self) -> Vec<(String, String)> {
        let now = self.control.shared.time.wall();
        let over = self.shown.iter().filter(|(_, (_, entry))| entry.expires_at <= now);
        over.map(|(field, (text, _))| (field.clone(), text.clone())).collect()
    }
}
