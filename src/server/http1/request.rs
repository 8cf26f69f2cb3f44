//! A head that the scanner has let pass becomes a request. Nothing is copied: names aside, which are mostly known, every part of
//! the request is a slice of the head. Where the parts stand the scanner has noted; only fields behind the first few are searched
//! for again.

use crate::gateway::{Arrived, Kept};
use crate::server::wire::{self, Framing, Places, WireFault};
use crate::upstream::{ClientBody, Inlet};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use memchr::memchr;
use std::cell::Cell;
use std::ops::Range;
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

/// The request of `head`, whose parts stand in `places`, its fields in `headers`, which must be empty.
///
/// # Errors
/// None that the scanner has not found before: it is stricter in every byte.
pub(super) fn request(
    head: &Bytes,
    framing: Framing,
    places: &Places,
    headers: HeaderMap,
) -> Result<(Arrived<ClientBody>, Asked), WireFault> {
    let method = head.get(places.method.clone()).ok_or(WireFault::RequestLine)?;
    let method = Method::from_bytes(method).map_err(|_| WireFault::MethodByte)?;
    let target = part(head, places.target.clone()).ok_or(WireFault::RequestLine)?;
    let target = Uri::from_maybe_shared(target).map_err(|_| WireFault::TargetByte)?;
    let is_http10 = !places.is_http11;
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
    let mut request = Arrived { head: Kept::blank(), body: body(framing, &mut asked) };
    let into = &mut *request.head;
    let parts = into.parts_mut();
    parts.method = method;
    parts.uri = target;
    parts.version = if is_http10 { Version::HTTP_10 } else { Version::HTTP_11 };
    parts.headers = headers;
    for place in places.fields() {
        let name = match place.known {
            Some(known) => known.name(),
            None => name(head.get(place.name()).unwrap_or_default())?,
        };
        let value = part(head, place.value()).ok_or(WireFault::HeaderValue)?;
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| WireFault::HeaderValue)?;
        note(&mut asked, &name, &value);
        into.append(name, value);
    }
    let mut rest = places.rest();
    // Up to the empty line.
    while rest + 2 < head.len() {
        let (line, after) = next_line(head, rest);
        let (name, value) = field(head, line)?;
        note(&mut asked, &name, &value);
        into.append(name, value);
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

/// The line at `start`, and where the next one begins.
fn next_line(bytes: &Bytes, start: usize) -> (Line, usize) {
    let rest = bytes.get(start..).unwrap_or_default();
    let feed = memchr(b'\n', rest).unwrap_or(rest.len());
    ((start, start + feed.saturating_sub(1)), start + feed + 1)
}

/// The bytes at a place, if it lies in the head.
fn part(head: &Bytes, place: Range<usize>) -> Option<Bytes> {
    head.get(place.clone()).map(|_| head.slice(place))
}

fn name(name: &[u8]) -> Result<HeaderName, WireFault> {
    HeaderName::from_bytes(name).map_err(|_| WireFault::HeaderName)
}

fn field(bytes: &Bytes, (start, end): Line) -> Result<(HeaderName, HeaderValue), WireFault> {
    let line = bytes.get(start..end).unwrap_or_default();
    let colon = memchr(b':', line).ok_or(WireFault::HeaderName)?;
    let (found, value) = line.split_at_checked(colon).ok_or(WireFault::HeaderName)?;
    let value = wire::trim(value.get(1..).unwrap_or_default());
    let value = if value.is_empty() { Bytes::new() } else { bytes.slice_ref(value) };
    let value = HeaderValue::from_maybe_shared(value).map_err(|_| WireFault::HeaderValue)?;
    Ok((name(found)?, value))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::wire::{Part, Scanner, Step, WireLimits};

    /// Of fields with known names and others, fewer and more than are noted: as they stand in the head, in their order.
    #[test]
    fn a_request_has_the_fields_of_its_head() {
        let names = ["Accept", "X-One", "USER-AGENT", "Stripe-Version", "x-one", "TE", "X-Stripe-Client-User-Agent"];
        for count in 0..40 {
            let name = |nth: usize| names[nth % names.len()];
            let lines: String =
                (0..count).map(|nth| format!("{}:{} v {nth}\t\r\n", name(nth), " ".repeat(nth % 3))).collect();
            let text =
                format!("\r\nPUT /a/b?c=%20 HTTP/1.1\r\nHost: a:80\r\n{lines}Empty:\r\nContent-Length: 7\r\n\r\n");
            let mut scanner = Scanner::new(WireLimits::default());
            let step = scanner.step(text.as_bytes(), &mut |_| {}).unwrap().unwrap();
            assert_eq!(step, Step { length: text.len(), part: Part::Head(Framing::Length(7)) });
            let head = Bytes::from(text);
            let (arrived, asked) =
                request(&head, Framing::Length(7), scanner.places(), HeaderMap::new()).unwrap_or_else(|_| panic!());
            assert_eq!((&arrived.head.method, &arrived.head.uri), (&Method::PUT, &Uri::from_static("/a/b?c=%20")));
            assert!(arrived.head.version == Version::HTTP_11 && asked.stays && asked.inlet.is_some());
            let mut expected = HeaderMap::new();
            let mut expect = |name: &str, value: &str| {
                expected
                    .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse::<HeaderValue>().unwrap());
            };
            expect("host", "a:80");
            (0..count).for_each(|nth| expect(name(nth), &format!("v {nth}")));
            expect("empty", "");
            expect("content-length", "7");
            assert_eq!(arrived.head.headers, expected);
            assert!(expected.keys().all(|name| arrived.head.has(name)));
        }
    }
}
