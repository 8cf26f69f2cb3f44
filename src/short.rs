//! FLOOR 0: short texts, eight bytes at a time. What is made for long ones takes longer to begin than these take to end.

/// A one in each byte of a word.
const ONES: u64 = u64::from_le_bytes([1; 8]);
/// The highest bit of each byte of a word.
const HIGHS: u64 = ONES << 7;

/// Where the first of these signs stands in a text.
#[inline]
#[must_use]
pub fn first_of<const N: usize>(signs: [u8; N], text: &[u8]) -> Option<usize> {
    let (words, rest) = text.as_chunks::<8>();
    for (number, &eight) in words.iter().enumerate() {
        let marks = marks(signs, u64::from_le_bytes(eight));
        if marks != 0 {
            return Some(number * 8 + marks.trailing_zeros() as usize / 8);
        }
    }
    // What the last word is filled up with may be one of the signs.
    let at = marks(signs, word(rest)).trailing_zeros() as usize / 8;
    (at < rest.len()).then_some(words.len() * 8 + at)
}

/// The highest bit of each byte that is one of these signs. Of the bytes marked the first is one for certain; those after it may
/// be marked by its borrow.
#[inline]
fn marks<const N: usize>(signs: [u8; N], word: u64) -> u64 {
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    signs.into_iter().fold(0, |marks, sign| marks | zeros(word ^ (ONES * u64::from(sign)))) & HIGHS
}

/// Up to seven bytes as the lower ones of a word; the others are zero. Of more bytes the first and the last four.
#[inline]
#[must_use]
pub fn word(bytes: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let shift = 8 * (bytes.len().min(8) - 4);
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << shift;
    }
    match *bytes {
        [one] => u64::from(one),
        [one, two] => u64::from(u16::from_le_bytes([one, two])),
        [one, two, three] => u64::from(u32::from_le_bytes([one, two, three, 0])),
        _ => 0,
    }
}

/// A number that is the same for texts that differ in ASCII case only, and hardly ever for others. Whoever can choose the text can
/// choose it to be that of another.
#[must_use]
pub fn caseless(text: &[u8]) -> u64 {
    let (words, rest) = text.as_chunks::<8>();
    let folded = words.iter().fold(0, |folded, &word| mix(folded, u64::from_le_bytes(word)));
    if rest.is_empty() { folded } else { mix(folded, word(rest)) }
}

/// The same of one more word. Setting the bit that tells upper from lower case in every byte also merges a few signs.
#[must_use]
pub fn mix(folded: u64, word: u64) -> u64 {
    let caseless = word | 0x2020_2020_2020_2020;
    (folded.rotate_left(23) ^ caseless).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sign_is_found_wherever_it_stands() {
        for length in 0..40 {
            for place in 0..length {
                for sign in [b'"', b'\\', b'/'] {
                    for filler in [b'!', b'#', b'.', b'0', b'[', b']', b'a', 0xa2, 0xdc, 0xaf, 0xff, 0] {
                        let mut text = vec![filler; length];
                        let found = |text: &[u8]| first_of([b'"', b'\\', b'/'], text);
                        assert_eq!(found(&text), None);
                        text[place] = sign;
                        assert_eq!(found(&text), Some(place), "{text:?}");
                        text[length - 1] = b'"';
                        assert_eq!(found(&text), Some(place), "{text:?}");
                    }
                }
            }
        }
        assert_eq!((first_of([0], b"ab"), first_of([0], b"ab\0"), first_of([], b"ab")), (None, Some(2), None));
    }

    #[test]
    fn a_short_text_is_the_lower_bytes_of_a_word() {
        let text = [1, 2, 3, 0x84, 5, 6, 0xf7, 8];
        for length in 0..=text.len() {
            let mut filled = [0; 8];
            filled[..length].copy_from_slice(&text[..length]);
            assert_eq!(word(&text[..length]), u64::from_le_bytes(filled));
        }
    }
}
