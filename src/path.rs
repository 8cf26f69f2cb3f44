//! FLOOR 1: the one canonical path of a request, used to classify, to limit, to log **and to forward**.
//!
//! If the upstream sees the very bytes that were classified, no difference between two parsers is left to dodge a limit with.
//! So a path is either brought into one form or refused; nothing ambiguous passes:
//!
//! - escapes of unreserved characters (RFC 3986 §2.3) are decoded, exactly once; the others stay, in upper case;
//! - everything that RFC 3986 does not allow raw in a path becomes an escape, raw UTF-8 too;
//! - repeated slashes are merged and dot segments removed, after decoding; `..` above the root stays at the root. A dot
//!   segment with matrix parameters (`..;x`) is one too, since servers that know such parameters read it so, and for the same
//!   reason a segment of nothing but parameters (`;x`) is none, where others would take it for a value;
//! - a trailing slash and `;parameters` are kept and forwarded; [`Endpoints::find`](crate::endpoints::Endpoints::find) looks
//!   past them;
//! - an encoded slash or backslash, a raw backslash, control characters, malformed escapes, `#`, and whatever does not decode
//!   to UTF-8 are refused.
//!
//! The form is a fixed point: the canonical path of a canonical path is itself. It is plain ASCII, at most [`MAX_BYTES`] long,
//! begins with `/` and is always a valid `http::uri::PathAndQuery`.

use std::borrow::Cow;
use std::fmt;

/// The longest path, in bytes, before and after it is made canonical.
pub const MAX_BYTES: usize = 8 * 1024;

/// The most segments a path can have; follows from [`MAX_BYTES`], as each takes a slash and a byte.
pub const MAX_SEGMENTS: usize = MAX_BYTES / 2;

/// A path in its one canonical form. See the module for what that is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalPath<'a>(Cow<'a, str>);

impl<'a> CanonicalPath<'a> {
    /// A path that is in its canonical form: of a request whose target was [made so](canonical).
    pub(crate) fn of_canonical(path: &'a str) -> CanonicalPath<'a> {
        debug_assert!(path.starts_with('/'));
        debug_assert!(is_canonical(path.as_bytes()) || canonical_text(path).is_ok_and(|same| same.as_str() == path));
        CanonicalPath(Cow::Borrowed(path))
    }
}

impl CanonicalPath<'_> {
    /// The path: ASCII, beginning with `/`, with upper-case escapes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the path is the client's own bytes, so that the request's URI can be forwarded as it came.
    #[must_use]
    pub fn is_borrowed(&self) -> bool {
        matches!(self.0, Cow::Borrowed(_))
    }

    /// The segments, still escaped and with their `;parameters`. The empty one after a trailing slash is left out.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }

    /// The same path without a tie to the request.
    #[must_use]
    pub fn into_owned(self) -> CanonicalPath<'static> {
        CanonicalPath(Cow::Owned(self.0.into_owned()))
    }
}

impl fmt::Display for CanonicalPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a path cannot be made canonical, in words for the client. The path itself is never part of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PathError {
    /// There is no path at all.
    #[error("The request has no path.")]
    Empty,
    /// It does not begin with a slash (`a:80`, `*`).
    #[error("The request's path must begin with a slash.")]
    NotAbsolute,
    /// A `%` without two hexadecimal digits after it.
    #[error("The request's path has a percent sign that is not followed by two hexadecimal digits.")]
    BadEscape,
    /// `%2F`: servers disagree on whether it divides segments.
    #[error("The request's path has an encoded slash (%2F), which is not accepted.")]
    EncodedSlash,
    /// A backslash, raw or as `%5C`: some servers take it for a slash.
    #[error("The request's path has a backslash, which is not accepted.")]
    Backslash,
    /// A control character, raw or escaped, `%00` and DEL among them.
    #[error("The request's path has a control character, which is not accepted.")]
    Control,
    /// Its bytes, once decoded, are not UTF-8; overlong forms are not.
    #[error("The request's path is not valid UTF-8.")]
    NotUtf8,
    /// A `#`: a fragment is the client's own affair and is never sent.
    #[error("The request's path has a fragment (#), which must not be sent.")]
    Fragment,
    /// Longer than [`MAX_BYTES`], as it came or in canonical form.
    #[error("The request's path is too long.")]
    TooLong,
}

/// The canonical form of `raw`, the path of a request target without its query.
///
/// One pass and no allocation where nothing needs doing, as for every path that an SDK sends without escapes; time and memory
/// are linear in `raw` otherwise.
///
/// # Errors
/// The first reason found why the path cannot be made canonical.
pub fn canonical(raw: &[u8]) -> Result<CanonicalPath<'_>, PathError> {
    match raw.first() {
        None => return Err(PathError::Empty),
        Some(b'/') => {}
        Some(b'#') => return Err(PathError::Fragment),
        Some(_) => return Err(PathError::NotAbsolute),
    }
    if raw.len() > MAX_BYTES {
        return Err(PathError::TooLong);
    }
    if is_canonical(raw) {
        // Only ASCII is left, so this cannot fail.
        let path = std::str::from_utf8(raw).map_err(|_| PathError::NotUtf8)?;
        return Ok(CanonicalPath(Cow::Borrowed(path)));
    }
    let path = remove_dot_segments(&normalize_escapes(raw)?);
    if path.len() > MAX_BYTES { Err(PathError::TooLong) } else { Ok(CanonicalPath(Cow::Owned(path))) }
}

/// The same of a text, as a request's URI has it: one that is canonical is not proved to be text a second time.
///
/// # Errors
/// As [`canonical`].
pub fn canonical_text(raw: &str) -> Result<CanonicalPath<'_>, PathError> {
    if raw.starts_with('/') && raw.len() <= MAX_BYTES && is_canonical(raw.as_bytes()) {
        return Ok(CanonicalPath(Cow::Borrowed(raw)));
    }
    canonical(raw.as_bytes())
}

/// The bytes that a piece of a path stands for: escapes decoded once. A `%` that begins no escape stands for itself; there is
/// none in a canonical path.
pub(crate) fn decoded(escaped: &str) -> impl Iterator<Item = u8> + Clone {
    let mut rest = escaped.as_bytes();
    std::iter::from_fn(move || {
        let (&first, tail) = rest.split_first()?;
        if first == b'%'
            && let [high, low, after @ ..] = tail
            && let Some(byte) = escape_value(*high, *low)
        {
            rest = after;
            return Some(byte);
        }
        rest = tail;
        Some(first)
    })
}

/// What to do with a byte of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Byte {
    /// Stands as it is, and an escape of it is decoded.
    Unreserved,
    /// Stands as it is, and so does an escape of it, since the two need not mean the same.
    Reserved,
    /// Divides segments.
    Slash,
    /// May stand only as an escape.
    Escaped,
    /// Begins an escape.
    Percent,
    /// Must not be there, raw or escaped.
    Backslash,
    /// Must not be there, raw or escaped.
    Control,
    /// Must not be there raw.
    Hash,
}

/// What to do with each of the 256 bytes: one load instead of a dozen comparisons on the hot path.
static BYTES: [Byte; 256] = byte_table();

const fn byte_table() -> [Byte; 256] {
    let mut table = [Byte::Escaped; 256];
    let mut index = 0;
    while index < 256 {
        table[index] = match index as u8 {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => Byte::Unreserved,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' => Byte::Reserved,
            b'/' => Byte::Slash,
            b'%' => Byte::Percent,
            b'\\' => Byte::Backslash,
            b'#' => Byte::Hash,
            0..=0x1f | 0x7f => Byte::Control,
            _ => Byte::Escaped,
        };
        index += 1;
    }
    table
}

fn kind(byte: u8) -> Byte {
    BYTES[usize::from(byte)]
}

/// The mark of a byte that does not stand as it is.
const UNFIT: u8 = 1;
/// The mark of a slash, and that of a sign that may begin a dot segment after one: one bit further.
const SLASH: u8 = 1 << 2;
const AFTER_SLASH: u8 = SLASH << 1;

/// What [`is_canonical`] looks for, of each of the 256 bytes.
static MARKS: [u8; 256] = mark_table();

const fn mark_table() -> [u8; 256] {
    let mut table = [UNFIT; 256];
    let mut index = 0;
    while index < 256 {
        if matches!(BYTES[index], Byte::Unreserved | Byte::Reserved | Byte::Slash) {
            table[index] = match index as u8 {
                b'/' => SLASH | AFTER_SLASH,
                b'.' | b';' => AFTER_SLASH,
                _ => 0,
            };
        }
        index += 1;
    }
    table
}

/// Whether nothing needs doing. Says no to every path with an escape: those are rare, and looking closer is the slow way's job.
fn is_canonical(raw: &[u8]) -> bool {
    // Every byte is looked at, without a question in between: nearly all paths are as they should be.
    let (mut found, mut before) = (0, 0);
    for &byte in raw {
        let mark = MARKS[usize::from(byte)];
        found |= mark & UNFIT | mark & before << 1;
        before = mark;
    }
    match found {
        0 => true,
        AFTER_SLASH => raw.iter().enumerate().all(|(at, &byte)| byte != b'/' || begins_segment(&raw[at + 1..])),
        _ => false,
    }
}

/// Whether what follows a slash is a segment that stays.
fn begins_segment(rest: &[u8]) -> bool {
    rest.first() != Some(&b'/') && dots(rest) == Dots::None
}

/// Whether a segment is a dot segment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dots {
    None,
    Here,
    Up,
}

/// Looks at the segment that `rest` begins with. The segment may go on with matrix parameters.
fn dots(rest: &[u8]) -> Dots {
    match rest {
        [b'.'] | [b'.', b'/' | b';', ..] | [b';', ..] => Dots::Here,
        [b'.', b'.'] | [b'.', b'.', b'/' | b';', ..] => Dots::Up,
        _ => Dots::None,
    }
}

/// Decodes, escapes and refuses byte by byte; slashes and dots stay. The result is ASCII.
fn normalize_escapes(raw: &[u8]) -> Result<String, PathError> {
    let mut normal = String::with_capacity(raw.len());
    let mut beyond_ascii = false;
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        let meant = match kind(byte) {
            Byte::Percent => {
                let (Some(high), Some(low)) = (bytes.next(), bytes.next()) else {
                    return Err(PathError::BadEscape);
                };
                push_escaped(&mut normal, escape_value(high, low).ok_or(PathError::BadEscape)?)?
            }
            _ => push_raw(&mut normal, byte)?,
        };
        beyond_ascii |= !meant.is_ascii();
    }
    // Before dot segments go: what is refused is refused wherever it stands.
    if beyond_ascii && std::str::from_utf8(&decoded(&normal).collect::<Vec<u8>>()).is_err() {
        return Err(PathError::NotUtf8);
    }
    Ok(normal)
}

/// Appends a byte that came raw; returns it.
fn push_raw(normal: &mut String, byte: u8) -> Result<u8, PathError> {
    match kind(byte) {
        Byte::Unreserved | Byte::Reserved | Byte::Slash => normal.push(char::from(byte)),
        Byte::Escaped | Byte::Percent => push_escape(normal, byte),
        Byte::Backslash => return Err(PathError::Backslash),
        Byte::Control => return Err(PathError::Control),
        Byte::Hash => return Err(PathError::Fragment),
    }
    Ok(byte)
}

/// Appends a byte that came as an escape; returns it.
fn push_escaped(normal: &mut String, byte: u8) -> Result<u8, PathError> {
    match kind(byte) {
        Byte::Unreserved => normal.push(char::from(byte)),
        Byte::Reserved | Byte::Escaped | Byte::Percent | Byte::Hash => push_escape(normal, byte),
        Byte::Slash => return Err(PathError::EncodedSlash),
        Byte::Backslash => return Err(PathError::Backslash),
        Byte::Control => return Err(PathError::Control),
    }
    Ok(byte)
}

fn push_escape(normal: &mut String, byte: u8) {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'A' + value - 10 });
    normal.push('%');
    normal.push(digit(byte >> 4));
    normal.push(digit(byte & 0xf));
}

fn escape_value(high: u8, low: u8) -> Option<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(value(high)? << 4 | value(low)?)
}

/// Merges slashes and resolves dot segments (RFC 3986 §5.2.4). `path` begins with a slash.
fn remove_dot_segments(path: &str) -> String {
    let mut kept = String::with_capacity(path.len());
    let mut ends_in_slash = true;
    for segment in path.split('/').skip(1) {
        let dots = dots(segment.as_bytes());
        ends_in_slash = segment.is_empty() || dots != Dots::None;
        if dots == Dots::Up {
            kept.truncate(kept.rfind('/').unwrap_or(0));
        } else if !ends_in_slash {
            kept.push('/');
            kept.push_str(segment);
        }
    }
    if ends_in_slash {
        kept.push('/');
    }
    kept
}

#[cfg(test)]
mod tests;
