//! A head that the scanner has let pass becomes a request. Nothing is copied: names aside, which are mostly known, every part of
//! the request is a slice of the head.

use crate::gateway::Arrived;
use crate::server::wire::{self, Framing, WireFault};
use crate::upstream::{ClientBody, Inlet};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use memchr::{memchr, memrchr};
use std::cell::Cell;
use std::rc::Rc;

/// What the answer to a request must know of it.
pub(super) struct Asked {
    pub(super) is_head: bool,
    pub(super) is_http10: bool,
    /// Whether the client would go on with another request.
    pub(super) stays: bool,
    pub(super) wants_trailers: bool,
    /// Whether an `Upgrade` field asks for another protocol.
    wants_upgrade: bool,
    /// Whether the client waits for `100 Continue` before it sends the body, and has not been sent it.
    pub(super) expects: Cell<bool>,
    /// Where the body goes in, if there is one.
    pub(super) inlet: Option<Rc<Inlet>>,
    /// Where what follows goes in, if both sides go on in another protocol.
    pub(super) tunnel: Option<Rc<Inlet>>,
}

impl Drop for Asked {
    /// Nobody feeds the body any more.
    fn drop(&mut self) {
        if let Some(inlet) = &self.inlet
            && !inlet.is_over()
        {
            inlet.break_off();
        }
    }
}

/// The request of `head`, its fields in `headers`, which must be empty.
///
/// # Errors
/// None that the scanner has not found before: it is stricter in every byte.
pub(super) fn request(
    head: &Bytes,
    framing: Framing,
    headers: HeaderMap,
) -> Result<(Arrived<ClientBody>, Asked), WireFault> {
    let (line, mut rest) = next_line(head, skip_blank_lines(head));
    let (method, target, is_http10) = request_line(head, line)?;
    let mut asked = Asked {
        is_head: method == Method::HEAD,
        is_http10,
        stays: !is_http10,
        wants_trailers: false,
        wants_upgrade: false,
        expects: Cell::new(false),
        inlet: None,
        tunnel: None,
    };
    let mut request = Arrived::from(Request::new(body(framing, &mut asked)));
    let parts = request.head.parts_mut();
    parts.method = method;
    parts.uri = target;
    parts.version = if is_http10 { Version::HTTP_10 } else { Version::HTTP_11 };
    parts.headers = headers;
    loop {
        let (line, after) = next_line(head, rest);
        if line.0 >= line.1 {
            break;
        }
        let (name, value) = field(head, line)?;
        note(&mut asked, &name, &value);
        request.head.append(name, value);
        rest = after;
    }
    if is_upgrade(&request.head, &asked) {
        let (tunnel, outlet) = Inlet::new(None);
        asked.tunnel = Some(tunnel);
        request.body = ClientBody::Upgrade(outlet);
    }
    // Nobody waits for more than there is, and HTTP/1.0 knows no interim answers.
    asked.expects.set(asked.expects.get() && asked.inlet.is_some() && !is_http10);
    Ok((request, asked))
}

/// Whether a request asks for another protocol in place of this one (RFC 9110 §7.8). Only a plain GET may: what follows it cannot
/// be taken for its body.
fn is_upgrade(parts: &Parts, asked: &Asked) -> bool {
    asked.wants_upgrade
        && !asked.is_http10
        && asked.inlet.is_none()
        && parts.method == Method::GET
        && parts
            .headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(options)
            .any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

/// The fields of a trailer section.
pub(super) fn trailers(section: &Bytes) -> HeaderMap {
    let (mut map, mut start) = (HeaderMap::new(), 0);
    loop {
        let (line, after) = next_line(section, start);
        if line.0 >= line.1 {
            return map;
        }
        if let Ok((name, value)) = field(section, line) {
            map.append(name, value);
        }
        start = after;
    }
}

/// Where a line begins and ends, without its CR LF.
type Line = (usize, usize);

fn skip_blank_lines(head: &Bytes) -> usize {
    head.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0)
}

/// The line at `start`, and where the next one begins.
fn next_line(bytes: &Bytes, start: usize) -> (Line, usize) {
    let rest = bytes.get(start..).unwrap_or_default();
    let feed = memchr(b'\n', rest).unwrap_or(rest.len());
    ((start, start + feed.saturating_sub(1)), start + feed + 1)
}

fn request_line(head: &Bytes, (start, end): Line) -> Result<(Method, Uri, bool), WireFault> {
    let line = head.get(start..end).unwrap_or_default();
    let method_end = memchr(b' ', line).ok_or(WireFault::RequestLine)?;
    let target_end = memrchr(b' ', line).filter(|end| *end > method_end).ok_or(WireFault::RequestLine)?;
    let method = line.get(..method_end).unwrap_or_default();
    let method = Method::from_bytes(method).map_err(|_| WireFault::MethodByte)?;
    let target = head.slice(start + method_end + 1..start + target_end);
    let target = Uri::from_maybe_shared(target).map_err(|_| WireFault::TargetByte)?;
    Ok((method, target, line.ends_with(b".0")))
}

fn field(bytes: &Bytes, (start, end): Line) -> Result<(HeaderName, HeaderValue), WireFault> {
    let line = bytes.get(start..end).unwrap_or_default();
    let colon = memchr(b':', line).ok_or(WireFault::HeaderName)?;
    let (name, value) = line.split_at_checked(colon).ok_or(WireFault::HeaderName)?;
    let name = HeaderName::from_bytes(name).map_err(|_| WireFault::HeaderName)?;
    let value = wire::trim(value.get(1..).unwrap_or_default());
    let value = if value.is_empty() { Bytes::new() } else { bytes.slice_ref(value) };
    let value = HeaderValue::from_maybe_shared(value).map_err(|_| WireFault::HeaderValue)?;
    Ok((name, value))
}

/// Takes from a field what the connection itself goes by.
fn note(asked: &mut Asked, name: &HeaderName, value: &HeaderValue) {
    if *name == header::CONNECTION {
        for option in options(value) {
            if option.eq_ignore_ascii_case(b"close") {
                asked.stays = false;
            } else if asked.is_http10 && option.eq_ignore_ascii_case(b"keep-alive") {
                asked.stays = true;
            }
        }
    } else if *name == header::TE {
        asked.wants_trailers |= options(value).any(|option| option.eq_ignore_ascii_case(b"trailers"));
    } else if *name == header::UPGRADE {
        asked.wants_upgrade = true;
    } else if *name == header::EXPECT {
        // The scanner has refused any other expectation.
        asked.expects.set(true);
    }
}

fn options(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(wire::trim)
}

fn body(framing: Framing, asked: &mut Asked) -> ClientBody {
    let length = match framing {
        Framing::Length(0) => return ClientBody::Empty,
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    };
    let (inlet, outlet) = Inlet::new(length);
    asked.inlet = Some(inlet);
    ClientBody::Own(outlet)
}
