//! The secret of a key, and what may be shown of it.

use crate::engine::Mode;
use crate::keys::KeyKind;
use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The longest secret, in bytes. Stripe's longest are 107.
pub const MAX_SECRET_BYTES: usize = 512;

/// The secret of an API key, as a client sent it or as [`generate`](super::generate()) made it.
///
/// Never empty, at most [`MAX_SECRET_BYTES`] of the letters of a bearer token (RFC 6750 §2.1). What it holds can be had from
/// [`expose`](Secret::expose) only; `Debug` prints the masked form and there is no `Display`. A secret that was decoded or made
/// here is wiped when dropped; one that a client sent in plain is borrowed, so that reading it allocates nothing.
pub struct Secret<'a>(Text<'a>);

enum Text<'a> {
    Borrowed(&'a str),
    Owned(Zeroizing<String>),
}

/// Why a text cannot be the secret of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SecretError {
    /// There is none.
    #[error("the key is empty")]
    Empty,
    /// Longer than [`MAX_SECRET_BYTES`].
    #[error("the key is too long")]
    TooLong,
    /// It has a character that no key has: a blank, a control character, anything beyond ASCII.
    #[error("the key has a character that no key has")]
    Character,
}

impl<'a> Secret<'a> {
    /// Takes a text for a secret.
    ///
    /// # Errors
    /// Why it cannot be one.
    pub fn new(text: &'a str) -> Result<Secret<'a>, SecretError> {
        check(text.as_bytes())?;
        Ok(Secret(Text::Borrowed(text)))
    }

    /// As [`new`](Secret::new), for a text that is to be wiped in the end.
    ///
    /// # Errors
    /// Why it cannot be a secret.
    pub fn from_owned(text: Zeroizing<String>) -> Result<Secret<'static>, SecretError> {
        check(text.as_bytes())?;
        Ok(Secret(Text::Owned(text)))
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        match &self.0 {
            Text::Borrowed(text) => text,
            Text::Owned(text) => text,
        }
    }

    /// What may be shown of it, see [`masked`].
    #[must_use]
    pub fn masked(&self) -> String {
        masked(self.expose())
    }

    /// Its SHA-256: what a keys file holds.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(self.expose()).into())
    }

    /// Live or test, where the prefix says so (`sk_live_…`).
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        let mut words = self.expose().split('_').skip(1);
        match (words.next(), words.next()) {
            (Some("live"), Some(_)) => Some(Mode::Live),
            (Some("test"), Some(_)) => Some(Mode::Test),
            _ => None,
        }
    }

    /// The kind that the prefix names, if it names one.
    #[must_use]
    pub fn kind(&self) -> Option<KeyKind> {
        let prefix = self.expose().split_once('_')?.0;
        KeyKind::ALL.into_iter().find(|kind| kind.prefix() == prefix)
    }
}

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.masked())
    }
}

fn check(text: &[u8]) -> Result<(), SecretError> {
    if text.is_empty() {
        Err(SecretError::Empty)
    } else if text.len() > MAX_SECRET_BYTES {
        Err(SecretError::TooLong)
    } else if text.iter().all(|&byte| is_key_byte(byte)) {
        Ok(())
    } else {
        Err(SecretError::Character)
    }
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
}

/// The SHA-256 of a secret. It reveals nothing of a secret with the entropy of a made key.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Reads `sha256:` and 64 hexadecimal digits, in either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Digest> {
        let digits = text.strip_prefix("sha256:")?.as_bytes();
        let mut digest = [0; 32];
        if digits.len() != 2 * digest.len() {
            return None;
        }
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            for &digit in pair {
                let value = char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())?;
                *byte = *byte << 4 | value;
            }
        }
        Some(Digest(digest))
    }

    /// The first half, for an index.
    pub(super) fn prefix(&self) -> [u8; 16] {
        let mut prefix = [0; 16];
        prefix.copy_from_slice(self.0.split_at(16).0);
        prefix
    }
}

impl PartialEq for Digest {
    /// Takes the same time whatever differs.
    fn eq(&self, other: &Digest) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

impl fmt::Display for Digest {
    /// As a keys file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// Of what follows the prefix, as many characters must stay hidden before any is shown.
const HIDDEN_AT_LEAST: usize = 12;

/// How many characters at the end of a secret are shown.
const SHOWN: usize = 4;

/// What may be shown of a secret, in Stripe's way: the prefix, a `*` for every hidden character, the last four. A short secret
/// shows no end, a text that cannot be a secret nothing at all. At most [`MAX_SECRET_BYTES`] long.
#[must_use]
pub fn masked(secret: &str) -> String {
    if check(secret.as_bytes()).is_err() {
        return "*".repeat(secret.chars().take(MAX_SECRET_BYTES).count());
    }
    let (prefix, body) = secret.split_at(prefix_length(secret));
    let shown = if body.len() >= HIDDEN_AT_LEAST + SHOWN { SHOWN } else { 0 };
    let (hidden, end) = body.split_at(body.len() - shown);
    format!("{prefix}{}{end}", "*".repeat(hidden.len()))
}

/// The length of `sk_live_`, `rk_test_` and the like at the start of a text; 0 where there is none.
fn prefix_length(text: &str) -> usize {
    let Some((kind, rest)) = text.split_once('_') else { return 0 };
    let of_kind = kind.len() == 2 && kind.bytes().all(|byte| byte.is_ascii_lowercase());
    if of_kind && (rest.starts_with("live_") || rest.starts_with("test_")) { "sk_live_".len() } else { 0 }
}

/// Whether a text is so much like a secret that it must not be shown: somebody may have put one in the wrong place.
pub(crate) fn looks_secret(text: &str) -> bool {
    prefix_length(text) > 0
}

/// Whether a secret may stand anywhere in a text: with a quote or a blank before it, it is one all the same.
pub(crate) fn holds_secret(text: &str) -> bool {
    let begins = |at: usize| text.get(at..).is_some_and(looks_secret);
    text.match_indices('_').any(|(at, _)| at.checked_sub(2).is_some_and(begins))
}
