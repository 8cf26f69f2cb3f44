//! FLOOR 0: bytes looked at, and written as digits, eight at a time (SIMD within a register), and tables of those that may stand somewhere.
//!
//! A word holds eight bytes, the first of them lowest. To look for bytes is to make of each word one that has the highest bit set
//! in the place of those looked for; only the first such place is read, since a borrow may set more of them above it.

/// The lowest bit of each byte of a word.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of each byte of a word.
const TOPS: u64 = ONES << 7;

/// Whether each of the 256 bytes is a letter or a digit of ASCII, or one of these: a load in place of half a dozen comparisons.
pub(crate) const fn alphanumeric_or(further: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut place = 0;
    while place < further.len() {
        table[further[place] as usize] = true;
        place += 1;
    }
    table
}

/// Where the first byte of this value stands.
pub(crate) fn find(wanted: u8, bytes: &[u8]) -> Option<usize> {
    let wanted = u64::from(wanted) * ONES;
    first(bytes, |word| zeros(word ^ wanted))
}

/// Where the first control character stands: below a space, or DEL.
pub(crate) fn find_control(bytes: &[u8]) -> Option<usize> {
    // What is long is passed over in blocks that the compiler makes vector code of.
    let has_one = |block: &[u8; 32]| block.iter().fold(false, |has, &byte| has | (byte < b' ') | (byte == 0x7f));
    let blocks = bytes.as_chunks().0.iter().take_while(|block| !has_one(block)).count();
    let space = u64::from(b' ') * ONES;
    let delete = 0x7f * ONES;
    let marks = |word: u64| (word.wrapping_sub(space) & !word) | zeros(word ^ delete);
    first(bytes.get(32 * blocks..)?, marks).map(|place| 32 * blocks + place)
}

/// Where the first byte stands that is one of three.
pub(crate) fn find_any(wanted: [u8; 3], bytes: &[u8]) -> Option<usize> {
    let [one, two, three] = wanted;
    let [one, two, three] = [u64::from(one) * ONES, u64::from(two) * ONES, u64::from(three) * ONES];
    first(bytes, |word| zeros(word ^ one) | zeros(word ^ two) | zeros(word ^ three))
}

/// Whether `name` is `known` in any case, which must be letters in lower case, digits and dashes.
pub(crate) fn is_in_any_case(name: &[u8], known: &[u8]) -> bool {
    // Two spellings of one letter differ in the bit 0x20 alone, and of these bytes only letters have the bit 0x40.
    let differs = |name: u64, known: u64| (name ^ known) & !((known & (0x40 * ONES)) >> 1) != 0;
    if name.len() != known.len() {
        return false;
    }
    let (Some(name_end), Some(known_end)) = (name.last_chunk(), known.last_chunk()) else {
        return !differs(short(name), short(known));
    };
    for (name, known) in name.as_chunks().0.iter().zip(known.as_chunks().0) {
        if differs(u64::from_le_bytes(*name), u64::from_le_bytes(*known)) {
            return false;
        }
    }
    // The last eight, of which some were among those before.
    !differs(u64::from_le_bytes(*name_end), u64::from_le_bytes(*known_end))
}

/// The highest bit of each byte that is zero, at least of the first such one.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word
}

/// Where the first byte stands that `marks` marks in its word.
fn first(bytes: &[u8], marks: impl Fn(u64) -> u64) -> Option<usize> {
    let (words, rest) = bytes.as_chunks();
    for (place, word) in words.iter().enumerate() {
        let found = marks(u64::from_le_bytes(*word)) & TOPS;
        if found != 0 {
            return Some(place * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    // Above the rest stand zeros, which may be marked as well: behind every byte that there is.
    let found = marks(short(rest)) & TOPS;
    let place = found.trailing_zeros() as usize / 8;
    (place < rest.len()).then_some(bytes.len() - rest.len() + place)
}

/// Up to seven bytes, with zeros above them.
pub(crate) fn short(bytes: &[u8]) -> u64 {
    // Halves that overlap, so that no byte is taken alone.
    if let (Some(low), Some(high)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (low, high) = (u64::from(u32::from_le_bytes(*low)), u64::from(u32::from_le_bytes(*high)));
        return low | high << (8 * (bytes.len() - 4));
    }
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// The hexadecimal digits of as many bytes as there is text for, four at a time.
pub(crate) fn hex(text: &mut [u8], bytes: &[u8]) {
    for (digits, bytes) in text.as_chunks_mut().0.iter_mut().zip(bytes.as_chunks().0) {
        *digits = eight_digits(u32::from_be_bytes(*bytes));
    }
}

/// The eight digits of a number.
fn eight_digits(number: u32) -> [u8; 8] {
    // Each digit in a byte of its own.
    let mut digits = u64::from(number);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Those from ten on, which alone reach 16 when 6 is added, are letters.
    let letters = ((digits + 6 * ONES) >> 4) & ONES;
    (digits + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte at every place of runs of every length up to three words, among bytes that differ from it in one bit or by one.
    #[test]
    fn every_byte_is_found_at_every_place() {
        for length in 0..=24 {
            for filler in [0, b' ', b'~', 0x7f, 0x80, 0x81, 0xff, b':', b'9'] {
                let mut bytes = vec![filler; length];
                for place in 0..length {
                    for byte in 0..=u8::MAX {
                        bytes[place] = byte;
                        assert_eq!(find(byte, &bytes), bytes.iter().position(|&found| found == byte));
                        assert_eq!(find(b':', &bytes), bytes.iter().position(|&found| found == b':'), "{bytes:x?}");
                        let any = bytes.iter().position(|found| [byte, b'8', b':'].contains(found));
                        assert_eq!(find_any([byte, b'8', b':'], &bytes), any, "{bytes:x?}");
                        let control = bytes.iter().position(u8::is_ascii_control);
                        assert_eq!(find_control(&bytes), control, "{bytes:x?}");
                    }
                    bytes[place] = filler;
                }
            }
        }
    }

    #[test]
    fn control_characters_are_found_in_long_runs() {
        for length in 0..=100 {
            for filler in [b' ', b'~', 0x80, 0xff] {
                let mut bytes = vec![filler; length];
                assert_eq!(find_control(&bytes), None);
                for place in (0..length).rev() {
                    for byte in [0, b'\t', b'\r', 0x1f, 0x7f] {
                        bytes[place] = byte;
                        assert_eq!(find_control(&bytes), Some(place));
                    }
                }
            }
        }
    }

    #[test]
    fn names_are_compared_as_by_the_standard_library() {
        let known = b"x-stripe-client-user-a9z";
        for length in 0..=known.len() {
            let known = &known[..length];
            assert!(!is_in_any_case(&known[..length.saturating_sub(1)], known) || length == 0);
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut name = known.to_vec();
                    name[place] = byte;
                    assert_eq!(is_in_any_case(&name, known), name.eq_ignore_ascii_case(known), "{name:x?}");
                }
            }
            assert!(is_in_any_case(&known.to_ascii_uppercase(), known));
        }
    }

    #[test]
    fn every_byte_has_its_digits() {
        for byte in 0..=u8::MAX {
            let mut text = [0; 16];
            let bytes = [byte, 0, byte ^ 0x5a, 255, byte, byte, 1, !byte];
            hex(&mut text, &bytes);
            assert_eq!(text, *format!("{:016x}", u64::from_be_bytes(bytes)).as_bytes());
        }
    }
}
