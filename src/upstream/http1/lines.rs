//! The fields of an answer as lines: most are passed on as they came, and a map would hash each of them, and make room for it, only
//! to be written out again.
//!
//! Read so only where nobody looks at a field before it is written, or changes one: towards a client over HTTP/1, on a route without rules
//! for fields of answers. And only what is plainly good is read here. Anything else, good or bad, is left to the reader that knows all rules
//! ([`section`](super::section)): this one must never take what that one refuses, nor understand it otherwise.

use super::MAX_HEADERS;
use super::head::content_length;
use crate::fields::HOP_BY_HOP;
use crate::swar;
use crate::upstream::OwnFields;
use memchr::memchr;

/// The fields of an answer, but for those that end with the connection it came on and those that frame it.
#[derive(Debug, PartialEq, Eq)]
pub struct Lines {
    /// With their names in small letters, in the order in which they came.
    pub fields: OwnFields,
    /// Whether there is a `Date` among them.
    pub has_date: bool,
    /// Whether there is a `Request-Id` among them.
    pub has_request_id: bool,
}

/// Whether a byte stands in plain names. Some others may.
static IN_NAMES: [bool; 256] = swar::alphanumeric_or(b"-");

/// What is known of the fields so far.
#[derive(Default)]
struct Found {
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    has_date: bool,
    has_request_id: bool,
}

/// Reads all lines behind the first one of a head: what goes on of them, the length that they name, or none for a chunked body,
/// and whether the server will close.
pub(super) fn read(mut rest: &[u8]) -> Option<(Lines, Option<u64>, bool)> {
    let (mut fields, mut found) = (OwnFields::new(), Found::default());
    let out = fields.buffer();
    for _ in 0..MAX_HEADERS {
        let length = memchr(b'\r', rest)?;
        let (line, after) = rest.split_at_checked(length + 2)?;
        if !line.ends_with(b"\n") {
            return None;
        }
        if length == 0 {
            let Found { length, is_chunked, closes, has_date, has_request_id } = found;
            let is_framed = after.is_empty() && length.is_some() != is_chunked;
            return is_framed.then_some((Lines { fields, has_date, has_request_id }, length, closes));
        }
        take(line, out, &mut found)?;
        rest = after;
    }
    None
}

/// Takes one line, its end included.
fn take(line: &[u8], out: &mut Vec<u8>, found: &mut Found) -> Option<()> {
    let colon = line.iter().position(|&byte| !IN_NAMES[usize::from(byte)])?;
    let value = line.get(colon..)?.strip_prefix(b": ")?.strip_suffix(b"\r\n")?;
    // Folds without an early end, so that the compiler makes vector code of them.
    let is_text = value.iter().fold(true, |is, &byte| is & (byte >= b' ') & (byte != 0x7f));
    if colon == 0 || !is_text || matches!(value, [] | [b' ', ..] | [.., b' ']) {
        return None;
    }
    let start = out.len();
    out.extend_from_slice(line);
    let name = out.get_mut(start..start + colon)?;
    name.make_ascii_lowercase();
    let goes_on = match &*name {
        b"content-length" => {
            // As it will be written again.
            let is_plain = value.len() == 1 || !value.starts_with(b"0");
            let length = content_length(value).ok().filter(|_| is_plain)?;
            if found.length.replace(length).is_some() {
                return None;
            }
            false
        }
        b"transfer-encoding" => {
            if std::mem::replace(&mut found.is_chunked, true) || value != b"chunked" {
                return None;
            }
            false
        }
        b"connection" => {
            // It may name fields that go with it.
            let closes = value.eq_ignore_ascii_case(b"close");
            if !closes && !value.eq_ignore_ascii_case(b"keep-alive") {
                return None;
            }
            found.closes |= closes;
            false
        }
        b"date" => {
            found.has_date = true;
            true
        }
        b"request-id" => {
            found.has_request_id = true;
            true
        }
        name => !HOP_BY_HOP.iter().any(|hop| hop.as_bytes() == name),
    };
    if !goes_on {
        out.truncate(start);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::head::{Asked, Framing, Head, parse, plain, status_line};
    use super::*;
    use bytes::Bytes;
    use http::HeaderMap;
    use proptest::prelude::*;

    const ASKED: Asked = Asked { is_head: false, upgrade: false, in_lines: true };

    /// A head as it is read here, if it is, held against what the reader that knows all rules makes of it.
    fn checked(text: &str) -> Option<Head> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let head = plain(&bytes, &status_line(&bytes).ok()?, ASKED)?;
        let mut expected = HeaderMap::new();
        let other = parse(&bytes, status_line(&bytes).unwrap(), ASKED, &mut expected).expect(text);
        assert_eq!((head.status, head.keeps, head.framing), (other.status, other.keeps, other.framing), "{text}");
        for gone in HOP_BY_HOP.iter().copied().chain(["connection", "content-length"]) {
            expected.remove(gone);
        }
        let (mut fields, lines) = (HeaderMap::new(), head.lines.as_ref().unwrap());
        lines.fields.add_to(&mut fields);
        assert_eq!(fields, expected, "{text}");
        let has = |name| expected.contains_key(name);
        assert_eq!((lines.has_date, lines.has_request_id), (has("date"), has("request-id")), "{text}");
        Some(head)
    }

    #[test]
    fn what_is_plain_is_read_as_it_ever_was() {
        let read = |fields: &str| checked(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
        let head = read("Content-Type: a/b; c=\"d\"\r\nX-A: \u{e9}\r\nContent-Length: 120\r\nDATE: now\r\nx-a: 2\r\n")
            .unwrap();
        let lines = head.lines.unwrap();
        let expected = "content-type: a/b; c=\"d\"\r\nx-a: \u{e9}\r\ndate: now\r\nx-a: 2\r\n";
        assert_eq!(lines.fields.lines(), expected.as_bytes());
        assert_eq!((head.framing, head.keeps, lines.has_date), (Framing::Length(120), true, true));
        let head =
            read("Transfer-Encoding: chunked\r\nConnection: Close\r\nKeep-Alive: timeout=5\r\nRequest-Id: r\r\n")
                .unwrap();
        assert_eq!(head.lines.unwrap().fields.lines(), b"request-id: r\r\n");
        assert_eq!((head.framing, head.keeps), (Framing::Chunked, false));
        assert_eq!(read("content-length: 0\r\n").unwrap().framing, Framing::Empty);
        let most = "a: 1\r\n".repeat(MAX_HEADERS - 2) + "content-length: 1\r\n";
        assert!(read(&most).is_some() && read(&(most + "a: 1\r\n")).is_none());
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_other() {
        for fields in [
            "",
            "a: 1\r\n",
            "content-length: 1\r\ncontent-length: 1\r\n",
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: Chunked\r\n",
            "content-length: 01\r\n",
            "content-length: +1\r\n",
            "content-length: 99999999999999999999\r\n",
            "content-length:1\r\n",
            "content-length : 1\r\n",
            "content-length: 1\r\nconnection: x-a\r\nx-a: 1\r\n",
            "content-length: 1\r\nconnection: keep-alive, close\r\n",
            "content-length: 1\r\na:\r\n",
            "content-length: 1\r\na: \r\n",
            "content-length: 1\r\na: 1 \r\n",
            "content-length: 1\r\na: 1\tb\r\n",
            "content-length: 1\r\na: 1\r\n b\r\n",
            "content-length: 1\r\na: 1\0\r\n",
            "content-length: 1\r\na: 1\x7f\r\n",
            "content-length: 1\r\na: 1\nb: 2\r\n",
            "content-length: 1\r\na: 1\rb: 2\r\n",
            "content-length: 1\r\n: 1\r\n",
            "content-length: 1\r\na_b: 1\r\n",
            "content-length: 1\r\na\r\n",
        ] {
            assert_eq!(checked(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")), None, "{fields}");
        }
        for first in ["HTTP/1.0 200 OK", "HTTP/1.1 204 No Content", "HTTP/1.1 304 ", "HTTP/1.1 101 S", "HTTP/1.1 100 C"]
        {
            assert_eq!(checked(&format!("{first}\r\ncontent-length: 1\r\n\r\n")), None, "{first}");
        }
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n";
        let line = status_line(bytes).unwrap();
        assert!(plain(bytes, &line, ASKED).is_some());
        assert_eq!(plain(bytes, &line, Asked { is_head: true, ..ASKED }), None);
        assert_eq!(plain(bytes, &line, Asked { in_lines: false, ..ASKED }), None);
    }

    proptest! {
        #[test]
        fn no_head_is_read_in_two_ways(
            parts in prop::collection::vec(prop::sample::select(vec![
                "Content-Length", "content-length", "Transfer-Encoding", "Connection", "keep-alive", "upgrade", "Date", "x-a",
                ": ", ": ", ": ", ":", "\r\n", "\r\n", "\r\n", "\r", "\n", " ", "\t", "5", "0", "chunked", "close", "Keep-Alive",
                "a", "\u{e9}", "\0", "_", ",",
            ]), 0..24),
            is_framed in any::<bool>(),
        ) {
            let framing = if is_framed { "Content-Length: 5\r\n" } else { "" };
            checked(&format!("HTTP/1.1 200 OK\r\n{framing}{}\r\n\r\n", parts.concat()));
        }
    }
}
