//! The key in an `Authorization` header.

use crate::keys::secret::{MAX_SECRET_BYTES, Secret, SecretError};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// The longest value that is looked at, in bytes.
pub const MAX_AUTHORIZATION_BYTES: usize = 8 * 1024;

/// The longest Basic credentials that can hold a key: the key, a colon, and rounding up, in base64.
const MAX_BASIC_BYTES: usize = (MAX_SECRET_BYTES + 3) / 3 * 4 + 4;

/// Padding makes no difference; everything else about base64 does.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why there is no key in an `Authorization` header. Says nothing of what the header holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AuthorizationError {
    /// The value is empty.
    #[error("the Authorization header is empty")]
    Empty,
    /// Longer than [`MAX_AUTHORIZATION_BYTES`], or the key longer than [`MAX_SECRET_BYTES`].
    #[error("the Authorization header is too long")]
    TooLong,
    /// Neither Bearer nor Basic.
    #[error("the Authorization header's scheme is neither Bearer nor Basic")]
    UnknownScheme,
    /// Nothing after the scheme, or an empty user name.
    #[error("the Authorization header has a scheme but no key")]
    NoKey,
    /// Basic credentials that are not base64.
    #[error("the Basic credentials are not base64")]
    BadBase64,
    /// Basic credentials that are not UTF-8.
    #[error("the Basic credentials are not UTF-8")]
    NotUtf8,
    /// A NUL in Basic credentials.
    #[error("the Basic credentials have a NUL character")]
    Nul,
    /// Basic credentials without the colon that ends the user name.
    #[error("the Basic credentials have no colon after the key")]
    NoColon,
    /// Basic credentials with a password.
    #[error("the Basic credentials have a password; the key is the user name and the password is empty")]
    Password,
    /// A key with characters that no key has: blanks around it, look-alike letters.
    #[error("the key has a character that no key has")]
    Character,
}

impl From<SecretError> for AuthorizationError {
    fn from(error: SecretError) -> AuthorizationError {
        match error {
            SecretError::Empty => AuthorizationError::NoKey,
            SecretError::TooLong => AuthorizationError::TooLong,
            SecretError::Character => AuthorizationError::Character,
        }
    }
}

/// The key in the value of an `Authorization` header: `Bearer KEY`, `Basic` with base64 of `KEY:`, or `Basic KEY`. The scheme
/// may be in any case; one blank follows it. Time and memory are linear in the value; Bearer allocates nothing.
///
/// # Errors
/// Why there is no key in it.
pub fn from_authorization(value: &[u8]) -> Result<Secret<'_>, AuthorizationError> {
    if value.is_empty() {
        return Err(AuthorizationError::Empty);
    }
    if value.len() > MAX_AUTHORIZATION_BYTES {
        return Err(AuthorizationError::TooLong);
    }
    let end = value.iter().position(|&byte| byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    let credentials = rest.strip_prefix(b" ").unwrap_or(rest);
    if scheme.eq_ignore_ascii_case(b"Bearer") {
        plain(credentials)
    } else if scheme.eq_ignore_ascii_case(b"Basic") {
        basic(credentials)
    } else {
        Err(AuthorizationError::UnknownScheme)
    }
}

fn plain(credentials: &[u8]) -> Result<Secret<'_>, AuthorizationError> {
    let text = std::str::from_utf8(credentials).map_err(|_| AuthorizationError::Character)?;
    Ok(Secret::new(text)?)
}

fn basic(credentials: &[u8]) -> Result<Secret<'_>, AuthorizationError> {
    // A key has an underscore, which base64 has not: the two cannot be confused.
    if credentials.contains(&b'_') {
        return plain(credentials);
    }
    if credentials.is_empty() {
        return Err(AuthorizationError::NoKey);
    }
    if credentials.len() > MAX_BASIC_BYTES {
        return Err(AuthorizationError::TooLong);
    }
    let mut decoded = Zeroizing::new([0; MAX_BASIC_BYTES]);
    let length = BASE64.decode_slice(credentials, &mut *decoded).map_err(|_| AuthorizationError::BadBase64)?;
    let decoded = decoded.get(..length).unwrap_or_default();
    if decoded.contains(&0) {
        return Err(AuthorizationError::Nul);
    }
    let text = std::str::from_utf8(decoded).map_err(|_| AuthorizationError::NotUtf8)?;
    let (key, password) = text.split_once(':').ok_or(AuthorizationError::NoColon)?;
    if !password.is_empty() {
        return Err(AuthorizationError::Password);
    }
    Ok(Secret::from_owned(Zeroizing::new(key.to_owned()))?)
}
