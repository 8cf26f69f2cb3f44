//! The segments of a canonical path as matching sees them.

use crate::path;
use crate::swar;

/// A segment without its `;parameters`, still escaped. Never empty.
#[derive(Clone, Copy)]
pub(super) struct Piece<'p> {
    text: &'p str,
    /// Most segments have no escape, and are compared as they stand then.
    escaped: bool,
}

impl<'p> Piece<'p> {
    /// The segment as it stands in the path.
    pub(super) fn text(&self) -> &'p str {
        self.text
    }

    /// See [`fold`].
    pub(super) fn fold(&self) -> u64 {
        if self.escaped { fold(path::decoded(self.text)) } else { fold_bytes(self.text.as_bytes()) }
    }

    /// Whether it stands for these bytes.
    pub(super) fn is(&self, name: &[u8]) -> bool {
        if self.escaped { path::decoded(self.text).eq(name.iter().copied()) } else { self.text.as_bytes() == name }
    }

    /// Whether it stands for these bytes in whatever ASCII case.
    pub(super) fn is_in_any_case(&self, name: &[u8]) -> bool {
        if self.escaped {
            let lower = |byte: u8| byte.to_ascii_lowercase();
            path::decoded(self.text).map(lower).eq(name.iter().copied().map(lower))
        } else {
            self.text.as_bytes().eq_ignore_ascii_case(name)
        }
    }
}

/// The next segment of `path`, and what follows it. Segments that are empty without their `;parameters` are passed over.
pub(super) fn next(path: &str) -> Option<(Piece<'_>, &str)> {
    let mut rest = path;
    loop {
        rest = rest.strip_prefix('/').unwrap_or(rest);
        if rest.is_empty() {
            return None;
        }
        let (mut end, mut name_end, mut escaped) = (rest.len(), None, false);
        // Most segments have none of the two other signs, so that one search finds their end.
        let mut searched = 0;
        while let Some(found) = rest.as_bytes().get(searched..).and_then(|rest| swar::find_any(*b"/;%", rest)) {
            let at = searched + found;
            match rest.as_bytes().get(at) {
                Some(b'/') => {
                    end = at;
                    break;
                }
                Some(b';') => name_end = name_end.or(Some(at)),
                _ => escaped = true,
            }
            searched = at + 1;
        }
        // Both ends stand before an ASCII character or at the very end.
        let text = rest.get(..name_end.unwrap_or(end)).unwrap_or_default();
        rest = rest.get(end..).unwrap_or_default();
        if !text.is_empty() {
            return Some((Piece { text, escaped }, rest));
        }
    }
}

/// A number that is the same for names that differ in ASCII case only, and hardly ever for others: what the children of a node
/// are ordered by. The names are the operator's own, so nobody can choose them to collide.
pub(super) fn fold(mut name: impl Iterator<Item = u8>) -> u64 {
    let mut folded = 0;
    loop {
        let mut word = [0; 8];
        let filled = word.iter_mut().zip(&mut name).map(|(place, byte)| *place = byte).count();
        if filled > 0 {
            folded = mix(folded, word);
        }
        if filled < word.len() {
            return folded;
        }
    }
}

/// As [`fold`], eight bytes at a time.
pub(crate) fn fold_bytes(name: &[u8]) -> u64 {
    let (words, rest) = name.as_chunks::<8>();
    let folded = words.iter().fold(0, |folded, &word| mix(folded, word));
    if rest.is_empty() {
        return folded;
    }
    mix(folded, swar::short(rest).to_le_bytes())
}

/// One step of the fold. Setting the bit that tells upper from lower case in every byte also merges a few signs; who compares
/// folds compares names after.
fn mix(folded: u64, word: [u8; 8]) -> u64 {
    let caseless = u64::from_le_bytes(word) | 0x2020_2020_2020_2020;
    (folded.rotate_left(23) ^ caseless).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_folds_agree_and_ignore_case(name in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(fold(name.iter().copied()), fold_bytes(&name));
            prop_assert_eq!(fold_bytes(&name), fold_bytes(&name.to_ascii_uppercase()));
        }
    }

    #[test]
    fn segments_end_at_slashes_and_names_at_semicolons() {
        let cases = [
            ("/v1/charges", "v1", false, "/charges"),
            ("charges", "charges", false, ""),
            ("/a%20b/c", "a%20b", true, "/c"),
            ("/a;x=%41;y/b%41", "a", true, "/b%41"),
            (
                "/;x/;/long_enough_for_a_whole_word_of_a_vector;p=1/z",
                "long_enough_for_a_whole_word_of_a_vector",
                false,
                "/z",
            ),
        ];
        for (path, text, escaped, rest) in cases {
            let (piece, left) = next(path).unwrap();
            assert_eq!((piece.text, piece.escaped, left), (text, escaped, rest), "{path}");
        }
        assert!(next("/;x/;y").is_none() && next("/").is_none() && next("").is_none());
    }

    #[test]
    fn names_differ_by_fold() {
        let names = [
            "a",
            "b",
            "ab",
            "ba",
            "payouts",
            "payout",
            "payouts1",
            "payouts12",
            "12345678",
            "123456789",
            "payment_intents",
        ];
        let folds: std::collections::HashSet<u64> = names.iter().map(|name| fold_bytes(name.as_bytes())).collect();
        assert_eq!(folds.len(), names.len());
    }
}
