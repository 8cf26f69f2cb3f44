//! The fields that the gateway itself adds to a request's head, those of its own answers, and those of an upstream's that are passed
//! on as they are, as they go over the wire.
//!
//! They are the same few every time, and nobody reads them on the way: a header map would hash each of them, and make room
//! for it, only to be written out again.

use super::buffers;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Fields with their line ends, in the order in which they were added.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OwnFields {
    lines: Vec<u8>,
}

impl OwnFields {
    /// None yet.
    #[must_use]
    pub fn new() -> OwnFields {
        OwnFields { lines: buffers::take() }
    }

    /// Adds a field. Neither name nor value can hold CR or LF: their types do not let them.
    pub fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.put(name, value.as_bytes());
    }

    /// Adds a field with a value that is written here.
    pub fn add_static(&mut self, name: &HeaderName, value: &'static str) {
        self.put(name, value.as_bytes());
    }

    /// Adds a field with a value that was made here. What is not visible ASCII is left out, and could not end the line.
    pub fn add_ascii(&mut self, name: &HeaderName, value: &[u8]) {
        // A fold without an early end, so that the compiler makes vector code of it.
        if value.iter().fold(true, |is, &byte| is & (b' '..=b'~').contains(&byte)) {
            self.put(name, value);
        }
    }

    /// Appends a part of the lines that is known beforehand, line ends and all: names between values.
    pub fn text(&mut self, text: &'static str) -> &mut OwnFields {
        self.lines.extend_from_slice(text.as_bytes());
        self
    }

    /// Appends a value, which can hold neither CR nor LF.
    pub fn value(&mut self, value: &HeaderValue) -> &mut OwnFields {
        self.lines.extend_from_slice(value.as_bytes());
        self
    }

    /// Adds the fields of a map.
    pub fn add_map(&mut self, headers: &HeaderMap) {
        headers.iter().for_each(|(name, value)| self.add(name, value));
    }

    /// Adds other fields.
    pub fn add_all(&mut self, others: &OwnFields) {
        self.lines.extend_from_slice(&others.lines);
    }

    /// Where whole lines may be appended, by whoever has looked at each of their bytes.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.lines
    }

    fn put(&mut self, name: &HeaderName, value: &[u8]) {
        let name = name.as_str().as_bytes();
        self.lines.extend_from_slice(name);
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value);
        self.lines.extend_from_slice(b"\r\n");
    }

    /// The lines.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Puts the fields into a map: for a protocol that has no lines, and for a head that is kept or looked at.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        for line in self.lines.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = line.split_at(colon);
            let value = HeaderValue::from_bytes(value.get(2..).unwrap_or_default());
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
                headers.append(name, value);
            }
        }
    }
}

impl Drop for OwnFields {
    fn drop(&mut self) {
        buffers::keep(std::mem::take(&mut self.lines));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_map_say_the_same() {
        let mut own = OwnFields::new();
        own.add(&http::header::VIA, &HeaderValue::from_static("1.1 tollgate"));
        own.add_static(&http::header::TE, "trailers");
        own.add(&http::header::VIA, &HeaderValue::from_bytes(b"caf\xe9: x ").unwrap());
        own.add(&http::header::ACCEPT, &HeaderValue::from_static(""));
        own.add_ascii(&http::header::TE, b"a\r\nb: c");
        assert_eq!(own.lines(), b"via: 1.1 tollgate\r\nte: trailers\r\nvia: caf\xe9: x \r\naccept: \r\n");
        let mut map = HeaderMap::new();
        map.insert(http::header::VIA, HeaderValue::from_static("1.1 client"));
        own.add_to(&mut map);
        let vias: Vec<_> = map.get_all(http::header::VIA).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(vias, [&b"1.1 client"[..], b"1.1 tollgate", b"caf\xe9: x "]);
        assert_eq!(
            (&map[http::header::TE], map[http::header::ACCEPT].as_bytes(), map.len()),
            (&"trailers".parse().unwrap(), &b""[..], 5)
        );
        drop(own);
        assert!(OwnFields::new().lines().is_empty());
    }
}
