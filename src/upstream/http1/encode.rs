//! The head of a request, as bytes. Its framing is made here, whatever its fields say.

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, Request};

/// How a request's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// There is none.
    Empty,
    /// So many bytes.
    Length(u64),
    /// Chunks, since nobody knows its length yet.
    Chunked,
}

/// Appends a request's head, with `further` lines of fields behind its own.
pub(super) fn head<B>(out: &mut Vec<u8>, request: &Request<B>, further: &[u8], coding: Coding) {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    out.extend_from_slice(request.method().as_str().as_bytes());
    // A query may come without a path.
    out.extend_from_slice(if target.starts_with('/') { b" " } else { b" /" });
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut says_length = false;
    for (name, value) in request.headers() {
        if *name == header::CONTENT_LENGTH {
            says_length = true;
        } else if *name != header::TRANSFER_ENCODING {
            field(out, name, value.as_bytes());
        }
    }
    out.extend_from_slice(further);
    match coding {
        Coding::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Coding::Length(length) => content_length(out, length),
        // Where its client said so, and where servers ask for a length (RFC 9110 §8.6).
        Coding::Empty if says_length || wants_length(request.method()) => content_length(out, 0),
        Coding::Empty => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether servers expect a body of this method, and thus a length.
fn wants_length(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Appends a chunk's size line.
pub(super) fn chunk_size(out: &mut Vec<u8>, size: usize) {
    put_number::<16>(out, size as u64);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body, with those of its trailers that may go on.
pub(super) fn last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if !super::section::is_never_trailer(name) {
            field(out, name, value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Neither names nor values can hold CR or LF: their types do not let them.
fn field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    put_number::<10>(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Appends digits in base 10 or 16; `write!` costs as much as all of a head.
pub fn put_number<const BASE: u64>(out: &mut Vec<u8>, mut number: u64) {
    const MOST_DIGITS: usize = 20;
    let (mut digits, mut start) = ([0; MOST_DIGITS], MOST_DIGITS);
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number % BASE) as usize];
        number /= BASE;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}
