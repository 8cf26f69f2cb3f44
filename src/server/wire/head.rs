//! One request head, line by line as it arrives.

use super::WireLimits;
use super::field::{self, Deciding, Field, Lines};
use super::known::Known;
use super::places::Places;
use super::target;
use crate::swar;
use crate::wire_fault::WireFault;
use std::ops::Range;

/// How the body after a head is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes, perhaps none.
    Length(u64),
    /// Chunks, then trailers.
    Chunked,
}

/// A whole head that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Its length in bytes, blank lines before it and after it included.
    pub(super) length: usize,
    pub(super) framing: Framing,
}

/// Blank lines forgiven before a request: RFC 9112 §2.2 asks for one, for clients that end a body with a line of its own.
const MAX_LEADING_LINES: u8 = 2;
/// Bytes of the longest method. The longest registered one has 17.
const MAX_METHOD_BYTES: usize = 32;

/// What is known of a head so far. Holds no bytes, only offsets from the head's first one.
#[derive(Clone, Debug, Default)]
pub(super) struct HeadScan {
    lines: Lines,
    leading_lines: u8,
    started: bool,
    http11: bool,
    headers: usize,
    seen: u16,
    authority: Option<Range<usize>>,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
}

impl HeadScan {
    /// Reads on in `bytes`, which begin with the head's first byte and hold at least what they held the last time. `None`
    /// while the head is incomplete. Where its parts stand is noted in `places`.
    pub(super) fn advance(
        &mut self,
        bytes: &[u8],
        limits: &WireLimits,
        places: &mut Places,
    ) -> Result<Option<Accepted>, WireFault> {
        loop {
            let line_start = self.lines.start;
            if !self.started {
                first_byte(bytes.get(line_start).copied())?;
            } else if let Some(field) = self.lines.next_plain(bytes, limits.max_head_bytes) {
                self.header(line_start, &field, limits, places)?;
                continue;
            }
            let too_large = if self.started { WireFault::HeadTooLarge } else { WireFault::TargetTooLong };
            let next = self.lines.next(bytes, limits.max_head_bytes);
            let Some(line) = next.map_err(|fault| fault.unwrap_or(too_large))? else {
                return Ok(None);
            };
            match (self.started, line.is_empty()) {
                (false, true) => self.leading_line()?,
                (false, false) => self.request_line(line_start, line, limits, places)?,
                (true, false) if self.headers >= limits.max_headers => return Err(WireFault::TooManyHeaders),
                (true, false) => self.header(line_start, &field::split(line)?, limits, places)?,
                (true, true) => return self.finish(bytes).map(Some),
            }
        }
    }

    fn leading_line(&mut self) -> Result<(), WireFault> {
        self.leading_lines += 1;
        if self.leading_lines > MAX_LEADING_LINES { Err(WireFault::LeadingLines) } else { Ok(()) }
    }

    fn request_line(
        &mut self,
        line_start: usize,
        line: &[u8],
        limits: &WireLimits,
        places: &mut Places,
    ) -> Result<(), WireFault> {
        self.started = true;
        let space = swar::find(b' ', line).ok_or(WireFault::RequestLine)?;
        let (method, rest) = line.split_at_checked(space).ok_or(WireFault::RequestLine)?;
        let rest = rest.get(1..).unwrap_or_default();
        // From the end: a space inside the target is then the target's fault, and is found there.
        let last_space = match rest.strip_suffix(b" HTTP/1.1") {
            Some(target) => target.len(),
            None => memchr::memrchr(b' ', rest).ok_or(WireFault::RequestLine)?,
        };
        let (target, version) = rest.split_at_checked(last_space).ok_or(WireFault::RequestLine)?;
        check_method(method)?;
        self.http11 = is_http11(version.get(1..).unwrap_or_default())?;
        if matches!(method, b"CONNECT" | b"TRACE") {
            return Err(WireFault::MethodRefused);
        }
        if target.len() > limits.max_target_bytes {
            return Err(WireFault::TargetTooLong);
        }
        let target_start = line_start + method.len() + 1;
        self.authority = target::check(target, method == b"OPTIONS")?
            .map(|authority| target_start + authority.start..target_start + authority.end);
        let target_place = target_start..target_start + target.len();
        places.begin(line_start..line_start + method.len(), target_place, self.http11, self.lines.start);
        Ok(())
    }

    fn header(
        &mut self,
        line_start: usize,
        field: &Field<'_>,
        limits: &WireLimits,
        places: &mut Places,
    ) -> Result<(), WireFault> {
        self.headers += 1;
        if self.headers > limits.max_headers {
            return Err(WireFault::TooManyHeaders);
        }
        if field.is_shadow() {
            return Err(WireFault::HeaderShadow);
        }
        places.note(field, line_start, self.lines.start);
        let Some(Known::Deciding(deciding)) = field.known else { return Ok(()) };
        if self.seen & deciding.bit() != 0 {
            return Err(WireFault::HeaderRepeated);
        }
        self.seen |= deciding.bit();
        let value = field.value;
        match deciding {
            Deciding::Host => {
                self.host = Some(line_start + field.place.start..line_start + field.place.end);
                target::check_authority(value)
            }
            Deciding::ContentLength => content_length(value).map(|length| self.length = Some(length)),
            Deciding::TransferEncoding => transfer_encoding(value).map(|()| self.chunked = true),
            Deciding::Expect if !value.eq_ignore_ascii_case(b"100-continue") => Err(WireFault::Expectation),
            Deciding::Expect
            | Deciding::ContentType
            | Deciding::Authorization
            | Deciding::StripeAccount
            | Deciding::StripeContext
            | Deciding::IdempotencyKey => Ok(()),
        }
    }

    fn finish(&mut self, bytes: &[u8]) -> Result<Accepted, WireFault> {
        if self.host.is_none() && self.http11 {
            return Err(WireFault::HostMissing);
        }
        if let (Some(authority), Some(host)) = (self.authority.clone(), self.host.clone()) {
            let (authority, host) = (bytes.get(authority).unwrap_or_default(), bytes.get(host).unwrap_or_default());
            if !authority.eq_ignore_ascii_case(host) {
                return Err(WireFault::HostContradicts);
            }
        }
        let framing = match (self.chunked, self.length) {
            (true, Some(_)) => return Err(WireFault::TwoLengths),
            (true, None) if !self.http11 => return Err(WireFault::TransferEncodingHttp10),
            (true, None) => Framing::Chunked,
            (false, length) => Framing::Length(length.unwrap_or(0)),
        };
        Ok(Accepted { length: self.lines.start, framing })
    }
}

/// Finds at once that no request begins here, instead of waiting for a line end that another protocol may never send.
fn first_byte(byte: Option<u8>) -> Result<(), WireFault> {
    match byte {
        Some(b'\n') => Err(WireFault::BareLineFeed),
        Some(byte) if byte != b'\r' && !field::is_token_byte(byte) => Err(WireFault::NotHttp),
        _ => Ok(()),
    }
}

fn check_method(method: &[u8]) -> Result<(), WireFault> {
    if !field::is_token(method) {
        return Err(WireFault::MethodByte);
    }
    if method.len() > MAX_METHOD_BYTES { Err(WireFault::MethodTooLong) } else { Ok(()) }
}

fn is_http11(version: &[u8]) -> Result<bool, WireFault> {
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(WireFault::Version)
        }
        _ => Err(WireFault::RequestLine),
    }
}

/// Digits only, no leading zero, and below 2^63: what no upstream can read as another number.
fn content_length(value: &[u8]) -> Result<u64, WireFault> {
    let plain =
        !value.is_empty() && value.iter().all(u8::is_ascii_digit) && (value.len() == 1 || !value.starts_with(b"0"));
    let number = std::str::from_utf8(value).ok().filter(|_| plain).and_then(|digits| digits.parse::<i64>().ok());
    number.and_then(|number| u64::try_from(number).ok()).ok_or(WireFault::ContentLength)
}

fn transfer_encoding(value: &[u8]) -> Result<(), WireFault> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value.rsplit(|&byte| byte == b',').map(field::trim);
    let last_is_chunked = codings.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    let others_are_known = codings.all(|coding| {
        [&b"gzip"[..], b"x-gzip", b"deflate", b"compress", b"x-compress"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(coding))
    });
    // The framing of these is clear: they are understood, only not supported.
    Err(if last_is_chunked && others_are_known { WireFault::TransferCoding } else { WireFault::TransferEncoding })
}
