//! Lines and header fields: the syntax that heads and trailers share.

use crate::wire_fault::WireFault;
use memchr::memchr;

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
}

/// A header line in its parts, the bytes of both checked.
pub(in crate::server) struct Field<'a> {
    pub(in crate::server) name: &'a [u8],
    /// Without the blanks around it.
    pub(in crate::server) value: &'a [u8],
    has_underscore: bool,
}

/// Splits a header line in its name and its value.
pub(in crate::server) fn split(line: &[u8]) -> Result<Field<'_>, WireFault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(WireFault::Folded);
    }
    let colon = line.iter().position(|&byte| !is_token_byte(byte)).ok_or(WireFault::HeaderName)?;
    let (name, rest) = line.split_at_checked(colon).ok_or(WireFault::HeaderName)?;
    let (false, [b':', value @ ..]) = (name.is_empty(), rest) else { return Err(WireFault::HeaderName) };
    let value = trim(value);
    // Folds without an early end, so that the compiler makes vector code of them.
    let bad = value.iter().fold(false, |bad, &byte| bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f));
    let has_underscore = name.iter().fold(false, |has, &byte| has | (byte == b'_'));
    if bad { Err(WireFault::HeaderValue) } else { Ok(Field { name, value, has_underscore }) }
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

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        byte += 1;
    }
    table
};

/// A header that decides something, or that the guard reads. Each may come once only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deciding {
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
    const ALL: [Deciding; 9] = [
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
        // Length and first letter leave one candidate: of an ordinary request's headers few get as far as a comparison.
        let candidate = match (name.len(), name.first()?.to_ascii_lowercase()) {
            (4, b'h') => Deciding::Host,
            (6, b'e') => Deciding::Expect,
            (12, b'c') => Deciding::ContentType,
            (13, b'a') => Deciding::Authorization,
            (14, b'c') => Deciding::ContentLength,
            (14, b's') if name.get(7).is_some_and(|byte| byte.eq_ignore_ascii_case(&b'a')) => Deciding::StripeAccount,
            (14, b's') => Deciding::StripeContext,
            (15, b'i') => Deciding::IdempotencyKey,
            (17, b't') => Deciding::TransferEncoding,
            _ => return None,
        };
        candidate.name().eq_ignore_ascii_case(name).then_some(candidate)
    }

    const fn name(self) -> &'static [u8] {
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
