//! Lines and header fields: the syntax that heads and trailers share.

use super::known::Known;
use crate::swar;
use crate::wire_fault::WireFault;
use memchr::memchr;
use std::ops::Range;

/// A place in a message that is read line by line while it grows. Offsets count from the message's first byte, so the message
/// may move in memory between calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    /// Where the first line begins that is not taken yet.
    pub(super) start: usize,
    /// Up to where no LF was found, so that a message that comes byte by byte is searched once.
    searched: usize,
}

impl Lines {
    /// The next whole line without its CR LF, or `None` when it is not there yet.
    ///
    /// # Errors
    /// `Err(None)` when the message is longer than `max` bytes before the line ends; otherwise the fault.
    pub(super) fn next<'a>(&mut self, bytes: &'a [u8], max: usize) -> Result<Option<&'a [u8]>, Option<WireFault>> {
        let fresh = bytes.get(self.searched..).unwrap_or_default();
        // An empty line, at the end of a head or before one, is known without a search.
        if self.searched == self.start && matches!(fresh, [b'\r', b'\n', ..]) && self.start + 1 < max {
            self.start += 2;
            self.searched = self.start;
            return Ok(Some(&[]));
        }
        let Some(offset) = memchr(b'\n', fresh) else {
            self.searched = bytes.len();
            return if bytes.len() > max { Err(None) } else { Ok(None) };
        };
        let feed = self.searched + offset;
        if feed >= max {
            return Err(None);
        }
        let line = bytes.get(self.start..feed).unwrap_or_default();
        self.start = feed + 1;
        self.searched = self.start;
        line.strip_suffix(b"\r").map(Some).ok_or(Some(WireFault::BareLineFeed))
    }

    /// The next line where it is whole and a field without anything odd, as nearly all are: found out in one pass. Where it is not,
    /// nothing is taken, and [`Lines::next`] and [`split`] say what is wrong or missing.
    #[inline]
    pub(super) fn next_plain<'a>(&mut self, bytes: &'a [u8], max: usize) -> Option<Field<'a>> {
        let line = bytes.get(self.start..)?;
        // What came in pieces is not searched from its start again. The empty line has no colon, and none is looked for in the body behind it.
        if self.searched != self.start || line.first() == Some(&b'\r') {
            return None;
        }
        let colon = swar::find(b':', line)?;
        let (name, after) = line.split_at_checked(colon)?;
        let known = Known::of(name);
        if known.is_none() && !is_token(name) {
            return None;
        }
        // The one control character of a good line but for tabs, which are odd, is the CR at its end.
        let rest = after.get(1..)?;
        let (value, end) = rest.split_at_checked(swar::find_control(rest)?)?;
        let feed = self.start + colon + 1 + value.len() + 1;
        if !matches!(end, [b'\r', b'\n', ..]) || feed >= max {
            return None;
        }
        self.start = feed + 1;
        self.searched = self.start;
        Some(Field::new(name, value, known))
    }
}

/// A header line in its parts, the bytes of both checked.
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    /// Without the blanks around it.
    pub(super) value: &'a [u8],
    /// Where the value stands in the line.
    pub(super) place: Range<usize>,
    pub(super) known: Option<Known>,
    has_underscore: bool,
}

/// Splits a header line in its name and its value.
pub(super) fn split(line: &[u8]) -> Result<Field<'_>, WireFault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(WireFault::Folded);
    }
    let colon = line.iter().position(|&byte| !is_token_byte(byte)).ok_or(WireFault::HeaderName)?;
    let (name, rest) = line.split_at_checked(colon).ok_or(WireFault::HeaderName)?;
    let (false, [b':', value @ ..]) = (name.is_empty(), rest) else { return Err(WireFault::HeaderName) };
    // A fold without an early end, so that the compiler makes vector code of it.
    let bad = value.iter().fold(false, |bad, &byte| bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f));
    if bad { Err(WireFault::HeaderValue) } else { Ok(Field::new(name, value, Known::of(name))) }
}

impl<'a> Field<'a> {
    /// The field of a line with these two sides of its first colon.
    fn new(name: &'a [u8], mut value: &'a [u8], known: Option<Known>) -> Field<'a> {
        let mut start = name.len() + 1;
        while let [b' ' | b'\t', rest @ ..] = value {
            value = rest;
            start += 1;
        }
        while let [rest @ .., b' ' | b'\t'] = value {
            value = rest;
        }
        let has_underscore = known.is_none() && name.contains(&b'_');
        Field { name, value, place: start..start + value.len(), known, has_underscore }
    }
}

impl Field<'_> {
    /// Whether the name is spelled with underscores and would be, with dashes, a header that decides something or that the
    /// gateway sets itself.
    pub(super) fn is_shadow(&self) -> bool {
        self.has_underscore && shadows(self.name)
    }
}

/// Without the spaces and tabs at both ends, and no other kind of blank.
pub(in crate::server) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether `bytes` is a token: at least one byte, each a letter, a digit, or one of the marks that RFC 9110 §5.6.2 lists.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// Whether `byte` may be in a token.
pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

static TOKEN: [bool; 256] = swar::alphanumeric_or(b"!#$%&'*+-.^_`|~");

/// A header that decides something, or that the guard reads. Each may come once only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Deciding {
    Host,
    ContentLength,
    TransferEncoding,
    ContentType,
    Authorization,
    StripeAccount,
    StripeContext,
    IdempotencyKey,
    Expect,
}

impl Deciding {
    pub(super) const ALL: [Deciding; 9] = [
        Deciding::Host,
        Deciding::ContentLength,
        Deciding::TransferEncoding,
        Deciding::ContentType,
        Deciding::Authorization,
        Deciding::StripeAccount,
        Deciding::StripeContext,
        Deciding::IdempotencyKey,
        Deciding::Expect,
    ];

    /// The header of this name, in any case, if it is one of them.
    pub(super) fn of(name: &[u8]) -> Option<Deciding> {
        match Known::of(name)? {
            Known::Deciding(deciding) => Some(deciding),
            _ => None,
        }
    }

    pub(super) const fn name(self) -> &'static [u8] {
        match self {
            Deciding::Host => b"host",
            Deciding::ContentLength => b"content-length",
            Deciding::TransferEncoding => b"transfer-encoding",
            Deciding::ContentType => b"content-type",
            Deciding::Authorization => b"authorization",
            Deciding::StripeAccount => b"stripe-account",
            Deciding::StripeContext => b"stripe-context",
            Deciding::IdempotencyKey => b"idempotency-key",
            Deciding::Expect => b"expect",
        }
    }

    /// Its place in a set of bits.
    pub(super) fn bit(self) -> u16 {
        1 << (self as u16)
    }
}

/// Names besides the deciding ones that nobody may send in a spelling with underscores: CGI-like upstreams read `A_B` as `A-B`.
const SHADOWED: [&[u8]; 6] =
    [b"x-real-ip", b"request-id", b"x-request-id", b"keep-alive", b"proxy-authorization", b"proxy-connection"];
/// Beginnings of such names.
const SHADOWED_FAMILIES: [&[u8]; 4] = [b"x-forwarded-", b"tollgate-", b"stripe-", b"http2-"];

/// Whether `name` with dashes for underscores is a name that must not be spelled otherwise.
fn shadows(name: &[u8]) -> bool {
    let mut known = Deciding::ALL.iter().map(|deciding| deciding.name()).chain(SHADOWED);
    known.any(|known| known.len() == name.len() && dashed_prefix(name, known))
        || SHADOWED_FAMILIES.iter().any(|family| dashed_prefix(name, family))
}

/// Whether `name`, in lower case and with dashes for underscores, begins with `prefix`.
fn dashed_prefix(name: &[u8], prefix: &[u8]) -> bool {
    let dashed = name.iter().map(|&byte| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() });
    name.len() >= prefix.len() && dashed.zip(prefix).all(|(byte, &known)| byte == known)
}

/// Names that must not come as trailers, by RFC 9110 §6.5.1 and because a gateway has decided on them long before.
const NEVER_TRAILERS: [&[u8]; 21] = [
    b"te",
    b"via",
    b"date",
    b"range",
    b"cookie",
    b"pragma",
    b"trailer",
    b"upgrade",
    b"set-cookie",
    b"connection",
    b"keep-alive",
    b"request-id",
    b"x-real-ip",
    b"forwarded",
    b"max-forwards",
    b"cache-control",
    b"content-range",
    b"content-encoding",
    b"www-authenticate",
    b"x-http-method-override",
    b"x-request-id",
];
const NEVER_TRAILER_FAMILIES: [&[u8]; 5] = [b"x-forwarded-", b"tollgate-", b"stripe-", b"proxy-", b"if-"];

/// The same as [`Field::is_shadow`] for a name that came otherwise than in a line.
pub(in crate::server) fn is_shadow_name(name: &[u8]) -> bool {
    name.contains(&b'_') && shadows(name)
}

/// Whether a trailer of this name frames, routes, conditions or authenticates a message.
pub(in crate::server) fn is_never_trailer(name: &[u8]) -> bool {
    let begins = |family: &&[u8]| name.get(..family.len()).is_some_and(|start| start.eq_ignore_ascii_case(family));
    Deciding::of(name).is_some()
        || (name.contains(&b'_') && shadows(name))
        || NEVER_TRAILERS.iter().any(|known| known.eq_ignore_ascii_case(name))
        || NEVER_TRAILER_FAMILIES.iter().any(begins)
}
