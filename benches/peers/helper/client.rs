//! A connection of a load that one thread drives: a request at a time, and its answer.
//!
//! Readiness comes by edges, so what is ready must be read until nothing is left. A read that does not fill its buffer has
//! taken everything, so one is enough.

use super::answer;
use mio::Token;
use mio::event::Event;
use mio::net::TcpStream;
use std::io::{Error, ErrorKind, Read, Result, Write};

/// More than any answer or request of a load has.
const ROOM: usize = 16 * 1024;

/// A socket and what has come from it.
pub(crate) struct Peer {
    socket: TcpStream,
    held: Box<[u8]>,
    filled: usize,
}

impl Peer {
    pub(crate) fn new(mut socket: TcpStream, token: Token, registry: &mio::Registry) -> Result<Self> {
        socket.set_nodelay(true)?;
        registry.register(&mut socket, token, mio::Interest::READABLE)?;
        Ok(Peer { socket, held: vec![0; ROOM].into(), filled: 0 })
    }

    /// One read.
    pub(crate) fn fill(&mut self) -> Result<()> {
        match self.socket.read(&mut self.held[self.filled..]) {
            Ok(more) if self.filled + more < ROOM => self.filled += more,
            Ok(_) => return Err(Error::other("more than a load has room for")),
            Err(none) if none.kind() == ErrorKind::WouldBlock => {}
            Err(other) => return Err(other),
        }
        Ok(())
    }

    pub(crate) fn held(&self) -> &[u8] {
        &self.held[..self.filled]
    }

    /// Forgets the first bytes of what is held.
    pub(crate) fn consume(&mut self, length: usize) {
        self.held.copy_within(length..self.filled, 0);
        self.filled -= length;
    }

    /// All at once, or not at all: a socket has room for much more than what is sent here.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = self.socket.write(bytes)?;
        if sent == bytes.len() { Ok(()) } else { Err(Error::other("a socket took a part only")) }
    }
}

/// A peer that is asked.
pub(crate) struct Client(Peer);

impl Client {
    /// Known to `poll` by its place.
    pub(crate) fn connect(address: &str, place: usize, poll: &mio::Poll) -> Result<Self> {
        let socket = std::net::TcpStream::connect(address)?;
        socket.set_nonblocking(true)?;
        Ok(Client(Peer::new(TcpStream::from_std(socket), Token(place), poll.registry())?))
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> Result<()> {
        self.0.send(request)
    }

    /// The status of the answer, once all of it is there.
    pub(crate) fn answer(&mut self, event: &Event) -> Result<Option<usize>> {
        self.0.fill()?;
        let status = match answer::head(self.0.held())? {
            Some((status, length)) if length == self.0.filled => {
                self.0.filled = 0;
                Some(status)
            }
            Some((_, length)) if length < self.0.filled => return Err(Error::other("an answer that nobody asked for")),
            _ => None,
        };
        if event.is_read_closed() { Err(Error::other("a connection was closed under the load")) } else { Ok(status) }
    }
}
