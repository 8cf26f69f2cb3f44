//! The PROXY protocol, versions 1 and 2: what a balancer says of the client before the client's own first byte.
//!
//! Read strictly: whatever could name the wrong client closes the connection. Bounds: a header of version 1 has at most 107
//! bytes, one of version 2 at most 16 and `MAX_V2_BYTES`; time is the caller's to bound. Nothing behind the header is taken
//! from the socket.

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Bytes of a header of version 2 behind its first 16: addresses, and what else the balancer tells.
pub(super) const MAX_V2_BYTES: usize = 4 * 1024;
/// Bytes of a whole header of version 1, its line end included.
const MAX_V1_BYTES: usize = 107;
/// Bytes looked at together.
const PEEK_BYTES: usize = 256;

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Of version 2 before the length counts: signature, version and command, family, length.
const FIXED_V2_BYTES: usize = 16;

/// Why a connection's beginning is no PROXY protocol header.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyFault {
    /// What is there is something else.
    #[error("{0}")]
    Malformed(&'static str),
    /// The connection ended or broke.
    #[error("the connection ended within its PROXY protocol header")]
    Gone(#[from] io::Error),
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its bytes.
    pub length: usize,
    /// The client it names. `None` where it names none: the balancer speaks for itself (a health check).
    pub client: Option<IpAddr>,
}

/// Takes the header from the socket, and nothing behind it.
///
/// # Errors
/// When the connection does not begin with one.
pub(super) async fn read(socket: &mut TcpStream) -> Result<Option<IpAddr>, ProxyFault> {
    let mut header = Vec::with_capacity(PEEK_BYTES);
    loop {
        let known = header.len();
        header.resize(known + PEEK_BYTES, 0);
        let fresh = socket.peek(header.get_mut(known..).unwrap_or_default()).await?;
        if fresh == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        header.truncate(known + fresh);
        let whole = parse(&header).map_err(ProxyFault::Malformed)?;
        // What is incomplete belongs to the header, all of it: taken, so that only more bytes wake this again.
        let taken = whole.map_or(header.len(), |header| header.length) - known;
        header.truncate(known + taken);
        socket.read_exact(header.get_mut(known..).unwrap_or_default()).await?;
        if let Some(header) = whole {
            return Ok(header.client);
        }
    }
}

/// Reads a header from the first bytes of a connection. `None`: they may be the beginning of one.
///
/// # Errors
/// What is wrong, in words.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    let is_either = |signature: &[u8]| bytes.iter().zip(signature).all(|(a, b)| a == b);
    if is_either(SIGNATURE_V1) {
        parse_v1(bytes)
    } else if is_either(SIGNATURE_V2) {
        parse_v2(bytes)
    } else {
        Err("the connection does not begin with a PROXY protocol header")
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    let seen = bytes.get(..MAX_V1_BYTES).unwrap_or(bytes);
    let Some(end) = seen.iter().position(|&byte| byte == b'\n') else {
        let too_long = seen.len() == MAX_V1_BYTES;
        return if too_long { Err("a PROXY line is longer than 107 bytes") } else { Ok(None) };
    };
    let line = seen.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or("a PROXY line without CR LF")?;
    let rest = line.strip_prefix(SIGNATURE_V1).ok_or("not a PROXY line")?;
    let rest = std::str::from_utf8(rest).map_err(|_| "a PROXY line with foreign bytes")?;
    Ok(Some(Header { length: end + 1, client: client_v1(rest)? }))
}

/// What follows `PROXY `.
fn client_v1(rest: &str) -> Result<Option<IpAddr>, &'static str> {
    let mut words = rest.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // Whatever else such a line says is to be ignored.
        return Ok(None);
    }
    let [Some(source), Some(destination), Some(source_port), Some(destination_port), None] =
        [words.next(), words.next(), words.next(), words.next(), words.next()]
    else {
        return Err("a PROXY line without two addresses and two ports");
    };
    if !is_port(source_port) || !is_port(destination_port) {
        return Err("a PROXY line with a port that is none");
    }
    let ipv4 = |text: &str| text.parse::<Ipv4Addr>().map(IpAddr::from);
    let ipv6 = |text: &str| text.parse::<Ipv6Addr>().map(IpAddr::from);
    let parsed = match family {
        "TCP4" => ipv4(source).and_then(|client| ipv4(destination).map(|_| client)),
        "TCP6" => ipv6(source).and_then(|client| ipv6(destination).map(|_| client)),
        _ => return Err("a PROXY line of another family than TCP4, TCP6 and UNKNOWN"),
    };
    parsed.map(Some).map_err(|_| "a PROXY line with an address that is none")
}

fn is_port(text: &str) -> bool {
    let is_plain = text == "0" || !text.starts_with('0');
    is_plain && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    let Some(&[command, family, high, low]) = bytes.get(SIGNATURE_V2.len()..FIXED_V2_BYTES) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2_BYTES {
        return Err("a PROXY header longer than is read");
    }
    let Some(block) = bytes.get(FIXED_V2_BYTES..FIXED_V2_BYTES + length) else {
        // Told at once: nothing that comes could make it good.
        return check_v2(command, family).map(|_| None);
    };
    let client = match check_v2(command, family)? {
        Names::Nobody => None,
        Names::Ipv4 => Some(client_of(block, |source: [u8; 4]| Ipv4Addr::from(source).into())?),
        Names::Ipv6 => Some(client_of(block, |source: [u8; 16]| Ipv6Addr::from(source).into())?),
    };
    Ok(Some(Header { length: FIXED_V2_BYTES + length, client }))
}

/// Whom a header of version 2 names.
enum Names {
    Nobody,
    Ipv4,
    Ipv6,
}

fn check_v2(command: u8, family: u8) -> Result<Names, &'static str> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    match (command, family) {
        // The balancer speaks for itself: the rest says nothing.
        (LOCAL, _) => Ok(Names::Nobody),
        (PROXY, 0x11) => Ok(Names::Ipv4),
        (PROXY, 0x21) => Ok(Names::Ipv6),
        // Not told, or a socket of the balancer's own machine.
        (PROXY, 0x00 | 0x31) => Ok(Names::Nobody),
        (PROXY, _) => Err("a PROXY header of a family that no TCP connection has"),
        _ => Err("a PROXY header of another version or with an unknown command"),
    }
}

/// The first of two addresses of `N` bytes, which two ports follow, and then well-formed further fields.
fn client_of<const N: usize>(block: &[u8], address: impl Fn([u8; N]) -> IpAddr) -> Result<IpAddr, &'static str> {
    const SHORT: &str = "a PROXY header without room for its addresses";
    let source = block.first_chunk::<N>().ok_or(SHORT)?;
    let mut fields = block.get(2 * N + 4..).ok_or(SHORT)?;
    while let [_, high, low, rest @ ..] = fields {
        fields = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..).ok_or("a PROXY header with a cut field")?;
    }
    if fields.is_empty() { Ok(address(*source)) } else { Err("a PROXY header with a cut field") }
}
