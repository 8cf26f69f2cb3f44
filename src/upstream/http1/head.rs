//! The head of an answer: read strictly, once it is whole.

use super::Malformed;
use super::lines::{self, Lines};
use super::section;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

/// What an answer's head says, but for its fields.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// Whether the server agrees to another request on the connection.
    pub(super) keeps: bool,
    pub(super) framing: Framing,
    /// Its fields, where they are in no map.
    pub(super) lines: Option<Lines>,
}

/// How an answer's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Empty,
    /// After so many bytes.
    Length(u64),
    /// As its chunks say.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// What of a request decides how its answer is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// It is a HEAD: the answer has no body, whatever its head says.
    pub(super) is_head: bool,
    /// It asks for another protocol.
    pub(super) upgrade: bool,
    /// Whoever asks is content with fields in lines.
    pub(super) in_lines: bool,
}

impl Asked {
    pub(super) fn new(method: &Method, headers: &HeaderMap, in_lines: bool) -> Asked {
        // There are few, mostly none of them this one: to look at their names costs less than to hash this one.
        let upgrade = headers.keys().any(|name| *name == header::UPGRADE);
        Asked { is_head: *method == Method::HEAD, upgrade, in_lines }
    }
}

/// Bytes of `HTTP/1.1 200`.
const STATUS_BYTES: usize = 12;

/// Whether `bytes`, however few, can be the beginning of an answer: what is no HTTP is not waited for.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    const PREFIX: &[u8] = b"HTTP/1.";
    bytes.iter().zip(PREFIX).all(|(byte, known)| byte == known)
}

/// The first line of a head.
pub(super) struct StatusLine {
    pub(super) status: StatusCode,
    /// Whether it is HTTP/1.1.
    pub(super) is_modern: bool,
    /// Where the next line begins.
    pub(super) end: usize,
}

/// Reads the first line of a whole head.
pub(super) fn status_line(head: &[u8]) -> Result<StatusLine, Malformed> {
    let is_modern = match head.get(..9) {
        Some(b"HTTP/1.1 ") => true,
        Some(b"HTTP/1.0 ") => false,
        _ => return Err(Malformed::NotHttp),
    };
    let digits = head.get(9..STATUS_BYTES).unwrap_or_default();
    let status = StatusCode::from_bytes(digits).ok().filter(|status| status.as_u16() < 600);
    let status = status.ok_or(Malformed::StatusLine)?;
    let rest = head.get(STATUS_BYTES..).unwrap_or_default();
    let length = memchr::memchr(b'\r', rest).ok_or(Malformed::StatusLine)?;
    let reason = rest.get(..length).unwrap_or_default();
    let is_bad = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    if !matches!(reason, [] | [b' ', ..]) || reason.iter().any(is_bad) || rest.get(length + 1) != Some(&b'\n') {
        return Err(Malformed::StatusLine);
    }
    Ok(StatusLine { status, is_modern, end: STATUS_BYTES + length + 2 })
}

/// The same of a head that is as most are, with its fields in lines. `None` of any other, which [`parse`] reads or refuses.
pub(super) fn plain(head: &[u8], line: &StatusLine, asked: Asked) -> Option<Head> {
    let status = line.status;
    let has_body = !asked.is_head && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !(asked.in_lines && line.is_modern && has_body) || status.is_informational() {
        return None;
    }
    let (lines, length, closes) = lines::read(head.get(line.end..)?)?;
    let framing = match length {
        Some(0) => Framing::Empty,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    Some(Head { status, keeps: !closes, framing, lines: Some(lines) })
}

/// Reads what is behind the first line of a whole head. Its fields go to `headers`, which is empty; their values share the head's bytes.
pub(super) fn parse(head: &Bytes, line: StatusLine, asked: Asked, headers: &mut HeaderMap) -> Result<Head, Malformed> {
    let StatusLine { status, is_modern, end } = line;
    let (mut length, mut is_chunked, mut wish) = (None, false, Wish { stays: is_modern, closes: false });
    section::fields(head, end, |name, value| {
        if name == header::CONTENT_LENGTH {
            if length.replace(content_length(value.as_bytes())?).is_some() {
                return Err(Malformed::ContentLength);
            }
        } else if name == header::TRANSFER_ENCODING {
            if is_chunked || !is_modern || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::TransferEncoding);
            }
            is_chunked = true;
        } else if name == header::CONNECTION {
            wish.hear(&value);
        }
        headers.append(name, value);
        Ok(())
    })?;
    let framing = match (length, is_chunked) {
        (Some(_), true) => return Err(Malformed::TransferEncoding),
        _ if asked.is_head || status == StatusCode::NOT_MODIFIED => Framing::Empty,
        _ if status == StatusCode::NO_CONTENT || status.is_informational() => {
            // It describes a body that cannot be there (RFC 9110 §8.6).
            headers.remove(header::CONTENT_LENGTH);
            Framing::Empty
        }
        (Some(0), false) => Framing::Empty,
        (Some(length), false) => Framing::Length(length),
        (None, true) => Framing::Chunked,
        (None, false) => Framing::UntilClose,
    };
    let keeps = wish.stays && !wish.closes && framing != Framing::UntilClose;
    Ok(Head { status, keeps, framing, lines: None })
}

/// Digits only: `+3`, `3, 3` and the empty string are read differently by different readers.
pub(super) fn content_length(digits: &[u8]) -> Result<u64, Malformed> {
    if digits.is_empty() {
        return Err(Malformed::ContentLength);
    }
    let number = digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    number.ok_or(Malformed::ContentLength)
}

/// What a server's `Connection` fields want. `close` wins.
struct Wish {
    stays: bool,
    closes: bool,
}

impl Wish {
    fn hear(&mut self, value: &HeaderValue) {
        for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.closes |= option.eq_ignore_ascii_case(b"close");
            self.stays |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}
