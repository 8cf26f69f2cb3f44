//! Header sections: lines up to an empty one. Heads and trailers share them.

use super::{MAX_HEADERS, Malformed};
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use memchr::memchr;

/// The search for a section's end in bytes that grow. Each byte is searched once, however the bytes come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Search {
    /// Where the line begins whose end is not found yet.
    start: usize,
    /// Up to where there is no LF.
    searched: usize,
}

impl Search {
    /// The section's length, its empty line included, once it is there.
    ///
    /// # Errors
    /// When a line ends in a bare LF, or there is no end within `max` bytes.
    pub(super) fn end(&mut self, bytes: &[u8], max: usize) -> Result<Option<usize>, Malformed> {
        while let Some(offset) = memchr(b'\n', bytes.get(self.searched..).unwrap_or_default()) {
            let feed = self.searched + offset;
            let line = bytes.get(self.start..feed).unwrap_or_default();
            self.start = feed + 1;
            self.searched = self.start;
            if self.start > max {
                return Err(Malformed::TooLarge);
            }
            match line {
                b"\r" => return Ok(Some(self.start)),
                [.., b'\r'] => {}
                _ => return Err(Malformed::BareLineFeed),
            }
        }
        self.searched = bytes.len();
        if bytes.len() >= max { Err(Malformed::TooLarge) } else { Ok(None) }
    }
}

/// Hands on each field of a section that [`Search`] found whole, from the line at `start`. Values share the section's bytes.
///
/// # Errors
/// When a name or a value has bytes that may not be there, a line is folded, or there are more than [`MAX_HEADERS`].
pub(super) fn fields(
    section: &Bytes,
    mut start: usize,
    mut found: impl FnMut(HeaderName, HeaderValue) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut count = 0;
    while let Some(length) = memchr(b'\r', section.get(start..).unwrap_or_default()).filter(|&length| length > 0) {
        count += 1;
        if count > MAX_HEADERS {
            return Err(Malformed::TooLarge);
        }
        let end = start + length;
        let line = section.get(start..end).unwrap_or_default();
        let colon = memchr(b':', line).ok_or(Malformed::Field)?;
        // Refuses what is no token: an empty name, a blank before the colon, a folded line.
        let name = HeaderName::from_bytes(line.get(..colon).unwrap_or_default()).map_err(|_| Malformed::Field)?;
        let value = trim(line, colon + 1);
        let value = section.slice(start + value.start..start + value.end);
        found(name, HeaderValue::from_maybe_shared(value).map_err(|_| Malformed::Field)?)?;
        // A CR that is not before the line's LF leaves that LF at the beginning of the next name.
        start = end + 2;
        if section.get(end + 1) != Some(&b'\n') {
            return Err(Malformed::Field);
        }
    }
    // Only its empty line may be left: a line that begins with CR is none.
    if section.get(start..) == Some(b"\r\n") { Ok(()) } else { Err(Malformed::Field) }
}

/// The part of `line` from `start` on without the spaces and tabs at both ends.
fn trim(line: &[u8], mut start: usize) -> std::ops::Range<usize> {
    let is_blank = |at: usize| matches!(line.get(at), Some(b' ' | b'\t'));
    let mut end = line.len();
    while start < end && is_blank(start) {
        start += 1;
    }
    while end > start && is_blank(end - 1) {
        end -= 1;
    }
    start..end
}

/// Names that may not come as trailers: they frame, route, authenticate or decide, and whoever cares has decided before.
const NEVER_TRAILERS: [&str; 26] = [
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "idempotency-key",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "request-id",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "www-authenticate",
];
const NEVER_TRAILER_FAMILIES: [&str; 6] = ["x-forwarded-", "tollgate-", "stripe-", "proxy-", "if-", "retry-"];

/// Whether a trailer of this name is dropped on its way through, in either direction.
pub(super) fn is_never_trailer(name: &HeaderName) -> bool {
    let name = name.as_str();
    NEVER_TRAILERS.contains(&name) || NEVER_TRAILER_FAMILIES.iter().any(|family| name.starts_with(family))
}
