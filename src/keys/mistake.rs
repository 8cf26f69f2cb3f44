//! What is wrong in a keys file, and where. No message repeats a secret.

use crate::keys::secret::{holds_secret, masked};
use std::fmt;

/// Something wrong in a keys file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysMistake {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for KeysMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for KeysMistake {}

/// What a message may repeat of the file: a secret in the wrong place is masked, a long text is cut.
pub(super) fn shown(text: &str) -> String {
    if holds_secret(text) { masked(text) } else { text.chars().take(64).flat_map(char::escape_debug).collect() }
}

/// The candidate that is likely meant by a misspelled word.
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word: String = word.chars().take(64).collect();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .min_by_key(|&(distance, _)| distance)
        .filter(|&(distance, candidate)| distance <= candidate.len() / 3 + 1)
        .map(|(_, candidate)| candidate)
}

/// Where each line of a text begins.
pub(super) struct Places<'t> {
    text: &'t str,
    lines: Vec<usize>,
}

impl Places<'_> {
    pub(super) fn new(text: &str) -> Places<'_> {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Places { text, lines }
    }

    /// Line and column of an offset, both from 1.
    pub(super) fn of(&self, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|&start| start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        (line, self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1)
    }
}
