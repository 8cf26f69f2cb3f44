//! HTTP/2 by hand: every frame a client sends is written in the test, every frame it gets is kept as it came.

use super::wait::PATIENCE;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The code of a RST_STREAM or a GOAWAY.
    pub(crate) fn code(&self) -> Option<u32> {
        let code = match self.kind {
            RST_STREAM => self.payload.get(..4)?,
            GOAWAY => self.payload.get(4..8)?,
            _ => return None,
        };
        Some(u32::from_be_bytes(code.try_into().unwrap()))
    }

    /// Whether the status of this head is 200, which is always written in one byte.
    pub(crate) fn is_200(&self) -> bool {
        self.kind == HEADERS && self.payload.contains(&0x88)
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A head, each field a literal that nobody remembers (RFC 7541 §6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(text.len(), &mut block);
            block.extend(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of 7 bits.
pub(crate) fn integer(number: usize, to: &mut Vec<u8>) {
    let Some(mut rest) = number.checked_sub(127) else {
        to.push(u8::try_from(number).unwrap());
        return;
    };
    to.push(127);
    while rest >= 128 {
        to.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    to.push(u8::try_from(rest).unwrap());
}

/// The fields of a good request.
pub(crate) fn fields<'a>(method: &'a str, path: &'a str, authorization: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", method),
        (":scheme", "http"),
        (":authority", "api.test"),
        (":path", path),
        ("authorization", authorization),
    ]
}

/// A client's end of a connection.
pub(crate) struct Raw {
    stream: TcpStream,
    buffered: Vec<u8>,
}

impl Raw {
    /// A connection on which nothing has been sent.
    #[track_caller]
    pub(crate) fn open(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream, buffered: Vec::new() }
    }

    /// A connection that has begun with these settings (identifier and value).
    #[track_caller]
    pub(crate) fn begin(address: SocketAddr, settings: &[(u16, u32)]) -> Raw {
        let mut raw = Raw::open(address);
        let settings: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        raw.send([PREFACE, &frame(SETTINGS, 0, 0, &settings), &frame(SETTINGS, ACK, 0, &[])].concat());
        raw
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a head in one frame.
    #[track_caller]
    pub(crate) fn head(&mut self, stream: u32, fields: &[(&str, &str)], ends: bool) {
        let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
        self.send(frame(HEADERS, flags, stream, &block(fields)));
    }

    /// The same connection for another thread, to write while this one reads.
    pub(crate) fn writer(&self) -> Raw {
        Raw { stream: self.stream.try_clone().unwrap(), buffered: Vec::new() }
    }

    pub(crate) fn set_read_patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
    }

    /// The next frame; `None` when the connection ends or breaks, or nothing comes for too long.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let head = self.exactly(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = self.exactly(usize::try_from(length).unwrap())?;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap()) & 0x7fff_ffff;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame that `wanted` picks.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// The code of the GOAWAY that ends the connection.
    pub(crate) fn goaway(&mut self) -> Option<u32> {
        self.until(|frame| frame.kind == GOAWAY)?.code()
    }

    /// All frames of a stream up to its end or its reset.
    pub(crate) fn stream(&mut self, stream: u32) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next() {
            let ends = frame.stream == stream && (frame.ends_stream() || frame.kind == RST_STREAM);
            if frame.stream == stream || frame.kind == GOAWAY {
                frames.push(frame);
            }
            if ends {
                break;
            }
        }
        frames
    }

    /// The body of a stream's answer.
    pub(crate) fn body(&mut self, stream: u32) -> String {
        let frames = self.stream(stream);
        let data = frames.iter().filter(|frame| frame.kind == DATA).flat_map(|frame| frame.payload.clone());
        String::from_utf8(data.collect()).unwrap()
    }

    /// Whether the other end has closed, with nothing more to read but frames.
    pub(crate) fn is_over(&mut self) -> bool {
        while self.next().is_some() {}
        let mut piece = [0; 1];
        match self.stream.read(&mut piece) {
            Ok(length) => length == 0,
            Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        }
    }

    fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffered.len() < length {
            let mut piece = [0; 64 * 1024];
            match self.stream.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.buffered.extend_from_slice(&piece[..read]),
            }
        }
        Some(self.buffered.drain(..length).collect())
    }
}
