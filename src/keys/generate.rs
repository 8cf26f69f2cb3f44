//! Making the secret of a new key.

use crate::engine::Mode;
use crate::keys::principal::KeyKind;
use crate::keys::secret::{Secret, SecretError};
use zeroize::Zeroizing;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Random characters of a secret, 5.95 bits each: 238 bits.
const RANDOM_CHARACTERS: usize = 40;

/// Characters of the checksum at the end: 62 to the sixth is more than 2 to the 32nd.
const CHECKSUM_CHARACTERS: usize = 6;

/// Why a secret could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The operating system gave no random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// What was made is none.
    #[error("the made key is none: {0}")]
    Secret(#[from] SecretError),
}

/// A new secret: the prefix (`sk_live_`), 238 random bits in base 62, and the CRC-32 of both, by which a scanner tells a leaked
/// key from a look-alike without asking anybody.
///
/// # Errors
/// When the operating system gives no random numbers.
pub fn generate(kind: KeyKind, mode: Mode) -> Result<Secret<'static>, GenerateError> {
    let prefix = format!("{}_{}_", kind.prefix(), mode.as_str());
    // Sized at once: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + RANDOM_CHARACTERS + CHECKSUM_CHARACTERS));
    text.push_str(&prefix);
    push_random(&mut text, RANDOM_CHARACTERS)?;
    let checksum = checksum(&text);
    text.extend(checksum);
    Ok(Secret::from_owned(text)?)
}

/// The id of a new key: `key_` and 95 random bits, so that it need not be looked up whether it is taken.
///
/// # Errors
/// When the operating system gives no random numbers.
pub fn new_id() -> Result<String, GenerateError> {
    let mut id = "key_".to_owned();
    push_random(&mut id, 16)?;
    Ok(id)
}

/// Appends `missing` random characters, all equally likely.
fn push_random(text: &mut String, mut missing: usize) -> Result<(), GenerateError> {
    let mut bytes = Zeroizing::new([0_u8; 64]);
    while missing > 0 {
        getrandom::fill(&mut *bytes).map_err(GenerateError::Random)?;
        // 248 is four times 62; what lies above would make some characters likelier.
        let even = bytes.iter().filter(|&&byte| byte < 248).take(missing);
        for &byte in even {
            text.push(base62(u32::from(byte)));
            missing -= 1;
        }
    }
    Ok(())
}

/// Whether a text ends in the checksum that [`generate`] gives. Says nothing about whether such a key exists; keys made elsewhere
/// have no such checksum.
#[must_use]
pub fn has_valid_checksum(secret: &str) -> bool {
    let Some((front, end)) = secret.len().checked_sub(CHECKSUM_CHARACTERS).and_then(|at| secret.split_at_checked(at))
    else {
        return false;
    };
    !front.is_empty() && end.chars().eq(checksum(front))
}

fn checksum(text: &str) -> [char; CHECKSUM_CHARACTERS] {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = ['0'; CHECKSUM_CHARACTERS];
    for digit in digits.iter_mut().rev() {
        *digit = base62(rest);
        rest /= 62;
    }
    digits
}

/// The last digit of a number in base 62.
fn base62(number: u32) -> char {
    char::from(BASE62[number as usize % BASE62.len()])
}
