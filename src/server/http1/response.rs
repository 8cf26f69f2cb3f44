//! The head of an answer, and how its body is framed.

use super::request::Asked;
use super::spares::Spares;
use crate::gateway::Answer;
use crate::server::wire;
use crate::upstream::http1;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body;

/// How the body of an answer is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none, whatever the head says of a length.
    None,
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
    /// The end of the connection ends it: for HTTP/1.0, which knows no chunks.
    UntilClose,
    /// There is no body but another protocol. Trailers are the end of what the upstream sends.
    Tunnel,
    /// The same, and the client is to be told of that end.
    TunnelEnding,
}

/// An answer whose head does not fit its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unframed;

/// Appends the head of an answer to `asked`, whose connection `stays` or not, and answers how the body is to follow.
///
/// # Errors
/// When the head names a length that is none.
pub(super) fn put_head<B: Answer>(
    out: &mut Vec<u8>,
    asked: &Asked,
    parts: &Parts,
    body: &B,
    stays: bool,
    spares: &Spares,
) -> Result<(Framing, bool), Unframed> {
    let declared = declared_length(&parts.headers)?;
    let framing = framing(asked, parts.status, declared, body);
    let stays = stays && !matches!(framing, Framing::UntilClose | Framing::Tunnel);
    put_status(out, asked.is_http10, parts.status);
    let names_length = has_length(parts.status);
    let mut has_date = body.is_dated();
    for (name, value) in &parts.headers {
        // What frames this connection is the connection's own to say.
        if *name == header::CONNECTION
            || *name == header::TRANSFER_ENCODING
            || (*name == header::CONTENT_LENGTH && !names_length)
        {
            continue;
        }
        has_date |= *name == header::DATE;
        put_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    body.put_head_lines(out);
    match framing {
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(length) if declared.is_none() => put_length(out, length),
        // What a GET would be answered with, where it is known.
        Framing::None if asked.is_head && declared.is_none() && names_length => {
            if let Some(length @ 1..) = body.size_hint().exact() {
                put_length(out, length);
            }
        }
        Framing::None | Framing::Length(_) | Framing::UntilClose | Framing::Tunnel | Framing::TunnelEnding => {}
    }
    match (stays, asked.is_http10) {
        _ if framing == Framing::Tunnel => out.extend_from_slice(b"connection: upgrade\r\n"),
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, false) => {}
    }
    if !has_date {
        out.extend_from_slice(b"date: ");
        spares.put_date_of(body.made(), out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok((framing, stays))
}

/// Appends what begins a chunk of `length` bytes.
pub(super) fn put_chunk_size(out: &mut Vec<u8>, length: usize) {
    http1::put_number::<16>(out, length as u64);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body, with the trailers that may be sent as such.
pub(super) fn put_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if !wire::is_never_trailer(name.as_str().as_bytes()) {
            put_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether the head itself asks for the connection's end.
pub(super) fn closes(headers: &HeaderMap) -> bool {
    let is_close = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"close");
    headers.get(header::CONNECTION).is_some_and(is_close)
}

fn declared_length(headers: &HeaderMap) -> Result<Option<u64>, Unframed> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    value.to_str().ok().and_then(|digits| digits.parse().ok()).map(Some).ok_or(Unframed)
}

/// Whether an answer of this status may have a length (RFC 9110 §8.6).
fn has_length(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT
}

fn framing<B: Body>(asked: &Asked, status: StatusCode, declared: Option<u64>, body: &B) -> Framing {
    if status == StatusCode::SWITCHING_PROTOCOLS && asked.tunnel.is_some() {
        return Framing::Tunnel;
    }
    if asked.is_head || !has_length(status) || status == StatusCode::NOT_MODIFIED {
        return Framing::None;
    }
    match declared.or_else(|| body.size_hint().exact()) {
        Some(length) => Framing::Length(length),
        None if body.is_end_stream() => Framing::Length(0),
        None if asked.is_http10 => Framing::UntilClose,
        None => Framing::Chunked,
    }
}

fn put_status(out: &mut Vec<u8>, is_http10: bool, status: StatusCode) {
    match status {
        StatusCode::OK if !is_http10 => return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
        StatusCode::TOO_MANY_REQUESTS if !is_http10 => {
            return out.extend_from_slice(b"HTTP/1.1 429 Too Many Requests\r\n");
        }
        _ => {}
    }
    out.extend_from_slice(if is_http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn put_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    http1::put_number::<10>(out, length);
    out.extend_from_slice(b"\r\n");
}

fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
