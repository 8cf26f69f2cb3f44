//! HTTP/1.1 by hand, for both ends: every byte sent is written in the test, every byte read is kept as it came.

use super::wait::PATIENCE;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffered: Vec<u8>,
}

/// A request's or a response's head, its fields in order and spelled as they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
}

/// A whole response.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

/// A body and its trailers.
type Framed = (Vec<u8>, Vec<(String, String)>);

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Head {
    /// The first field of this name.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1.as_str())
    }

    /// All fields of this name, in order.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1.as_str()).collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Of a response.
    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// Of a request.
    pub(crate) fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// Of a request.
    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    fn framing(&self, without: Framing) -> Framing {
        if self.value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return Framing::Chunked;
        }
        self.value("content-length").map_or(without, |length| Framing::Length(length.parse().unwrap()))
    }
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The `error` object of one of the gateway's own answers.
    #[track_caller]
    pub(crate) fn error(&self) -> serde_json::Map<String, serde_json::Value> {
        let whole: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"));
        let whole = whole.as_object().unwrap();
        assert_eq!(whole.keys().collect::<Vec<_>>(), ["error"], "{self:?}");
        whole["error"].as_object().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn message(&self) -> String {
        self.error()["message"].as_str().unwrap().to_owned()
    }

    /// Whether the head says that the connection ends.
    pub(crate) fn closes(&self) -> bool {
        self.head.value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

impl Wire {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Wire {
        Wire::over(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Wire {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Wire { stream, buffered: Vec::new() }
    }

    /// The same connection for another thread, to write while this one reads.
    pub(crate) fn writer(&self) -> Wire {
        Wire { stream: self.stream.try_clone().unwrap(), buffered: Vec::new() }
    }

    /// How long one write may wait for room.
    pub(crate) fn set_write_patience(&self, patience: std::time::Duration) {
        self.stream.set_write_timeout(Some(patience)).unwrap();
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        let request = request.as_ref();
        self.send(request);
        self.answer_to(if request.starts_with(b"HEAD ") { "HEAD" } else { "" })
    }

    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to("")
    }

    /// The answer to a request of this method: one to HEAD has no body.
    #[track_caller]
    pub(crate) fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.head().expect("an answer");
        let bare = method == "HEAD" || matches!(head.status(), 100..=199 | 204 | 304);
        let framing = if bare { Framing::Length(0) } else { head.framing(Framing::UntilClose) };
        let (body, trailers) = self.framed(framing).expect("a whole answer");
        Answer { head, body, trailers }
    }

    /// The next head; `None` when the connection ends or breaks before it is whole.
    pub(crate) fn head(&mut self) -> Option<Head> {
        let line = self.line().ok()?;
        Some(Head { line, fields: self.fields().ok()? })
    }

    /// The body of a request with this head.
    pub(crate) fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        self.framed(head.framing(Framing::Length(0))).map(|framed| framed.0)
    }

    /// Body and trailers of a request.
    pub(crate) fn body_and_trailers(&mut self, head: &Head) -> io::Result<Framed> {
        self.framed(head.framing(Framing::Length(0)))
    }

    /// The body of a response with this head.
    pub(crate) fn response_body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        self.framed(head.framing(Framing::UntilClose)).map(|framed| framed.0)
    }

    /// One chunk's data; empty for the last.
    pub(crate) fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let size = usize::from_str_radix(self.line()?.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        let data = self.exactly(size)?;
        if size > 0 {
            self.exactly(2)?;
        }
        Ok(data)
    }

    /// Exactly so many bytes.
    pub(crate) fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffered.len() < length {
            if self.more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffered.drain(..length).collect())
    }

    /// Whether the other end has closed, cleanly or not, with nothing more to read.
    pub(crate) fn is_over(&mut self) -> bool {
        let silent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        match self.more() {
            Ok(length) => length == 0 && self.buffered.is_empty(),
            Err(error) => !silent(&error),
        }
    }

    /// No more will be written.
    pub(crate) fn finish_writing(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset, so that the other end sees it break.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    fn framed(&mut self, framing: Framing) -> io::Result<Framed> {
        let mut body = Vec::new();
        match framing {
            Framing::Length(length) => body = self.exactly(length)?,
            Framing::UntilClose => {
                while self.more()? > 0 {}
                body.append(&mut self.buffered);
            }
            Framing::Chunked => loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    return Ok((body, self.fields()?));
                }
                body.extend(chunk);
            },
        }
        Ok((body, Vec::new()))
    }

    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) => fields.push((name.to_owned(), value.trim().to_owned())),
                None => return Ok(fields),
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffered.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffered.drain(..end + 2).take(end).map(char::from).collect();
                return Ok(line);
            }
            if self.more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads once; 0 is the end.
    fn more(&mut self) -> io::Result<usize> {
        let mut piece = [0; 64 * 1024];
        let length = self.stream.read(&mut piece)?;
        self.buffered.extend_from_slice(&piece[..length]);
        Ok(length)
    }
}
