//! Request targets and `Host`: which forms and bytes may pass.

use crate::swar;
use crate::wire_fault::WireFault;
use std::ops::Range;

/// Checks a request target: origin-form, absolute-form of http or https, or `*` for OPTIONS. Answers where the authority of
/// an absolute target stands in it.
///
/// Stricter than hyper in every byte, so that hyper never meets a target that it answers on its own.
pub(in crate::server) fn check(target: &[u8], is_options: bool) -> Result<Option<Range<usize>>, WireFault> {
    check_bytes(target)?;
    if target.first() == Some(&b'/') || (target == b"*" && is_options) {
        return Ok(None);
    }
    let authority_start = if starts_with(target, b"http://") {
        7
    } else if starts_with(target, b"https://") {
        8
    } else {
        return Err(WireFault::TargetForm);
    };
    let rest = target.get(authority_start..).unwrap_or_default();
    let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let authority = rest.get(..length).unwrap_or_default();
    if authority.contains(&b'@') {
        return Err(WireFault::TargetUserInfo);
    }
    check_authority(authority)?;
    Ok(Some(authority_start..authority_start + length))
}

fn starts_with(target: &[u8], scheme: &[u8]) -> bool {
    target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// Marks of a byte: where it must not be, and what else is asked of the query if it is there.
const NOT_IN_PATH: u8 = 1;
const NOT_IN_QUERY: u8 = 1 << 1;
const FRAGMENT: u8 = 1 << 2;
const NOT_ASCII: u8 = 1 << 3;

/// The marks of each of the 256 bytes.
static MARKS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            0..=b' ' | 0x7f | b'<' | b'>' => NOT_IN_PATH | NOT_IN_QUERY,
            b'`' => NOT_IN_PATH,
            b'"' => NOT_IN_QUERY,
            b'#' => FRAGMENT,
            0x80..=0xff => NOT_IN_PATH | NOT_ASCII,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// Whether any of these bytes has a mark.
fn has_marked(block: &[u8; 32]) -> bool {
    let is_marked = |byte: u8| {
        (byte <= b' ')
            | (byte > b'~')
            | (byte == b'<')
            | (byte == b'>')
            | (byte == b'`')
            | (byte == b'"')
            | (byte == b'#')
    };
    block.iter().fold(false, |has, &byte| has | is_marked(byte))
}

/// The path in ASCII; the query in UTF-8, as it goes through untouched.
fn check_bytes(target: &[u8]) -> Result<(), WireFault> {
    let split = swar::find(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at_checked(split).ok_or(WireFault::TargetByte)?;
    let table = |bytes: &[u8]| bytes.iter().fold(0, |marks, &byte| marks | MARKS[usize::from(byte)]);
    // Blocks without a marked byte, as nearly all of a long query are, are passed over by vector code, which looks no byte up.
    let marks = |bytes: &[u8]| {
        let (blocks, rest) = bytes.as_chunks::<32>();
        blocks.iter().filter(|block| has_marked(block)).fold(table(rest), |marks, block| marks | table(block))
    };
    let (in_path, in_query) = (marks(path), marks(query));
    if (in_path | in_query) & FRAGMENT != 0 {
        return Err(WireFault::TargetFragment);
    }
    let is_text = || in_query & NOT_ASCII == 0 || std::str::from_utf8(query).is_ok();
    if in_path & NOT_IN_PATH != 0 || in_query & NOT_IN_QUERY != 0 || !is_text() {
        return Err(WireFault::TargetByte);
    }
    Ok(())
}

/// Checks `host[:port]`: a name of letters, digits, `-`, `.`, `_` and `~`, an IPv4 address, or an IPv6 address in brackets;
/// a port of 1 to 65535.
///
/// RFC 3986 also allows commas, percent signs and other marks in a registered name. No host of an API has them, and two
/// parsers may read them as two things.
pub(in crate::server) fn check_authority(authority: &[u8]) -> Result<(), WireFault> {
    let (host_is_good, port) = if let Some(literal) = authority.strip_prefix(b"[") {
        let end = literal.iter().position(|&byte| byte == b']').ok_or(WireFault::HostInvalid)?;
        let (address, port) = literal.split_at_checked(end).ok_or(WireFault::HostInvalid)?;
        let address = std::str::from_utf8(address).ok().and_then(|text| text.parse::<std::net::Ipv6Addr>().ok());
        (address.is_some(), port.get(1..).unwrap_or_default())
    } else {
        let end = authority.iter().position(|&byte| byte == b':').unwrap_or(authority.len());
        let (host, port) = authority.split_at_checked(end).ok_or(WireFault::HostInvalid)?;
        (!host.is_empty() && host.iter().all(|&byte| is_name_byte(byte)), port)
    };
    let port_is_good = match port {
        [] => true,
        [b':', digits @ ..] => is_port(digits),
        _ => false,
    };
    if host_is_good && port_is_good { Ok(()) } else { Err(WireFault::HostInvalid) }
}

/// Whether a byte may be in a name.
fn is_name_byte(byte: u8) -> bool {
    NAME[usize::from(byte)]
}

static NAME: [bool; 256] = swar::alphanumeric_or(b"-._~");

fn is_port(digits: &[u8]) -> bool {
    let port = || digits.iter().fold(0_u64, |port, digit| port * 10 + u64::from(digit.wrapping_sub(b'0')));
    (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) && (1..=65_535).contains(&port())
}
