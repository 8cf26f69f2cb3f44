//! An open loop that leaves its core to others: a thread for each connection, which sleeps until its next moment (timers of an
//! event loop are a millisecond coarse). What it counts is as in `open.rs`, which is steadier, but has a core to itself.

use super::{answer, waits};
use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

pub(crate) struct Load {
    pub(crate) address: String,
    /// Requests a second, over all connections.
    pub(crate) rate: u32,
    pub(crate) seconds: u32,
    pub(crate) connections: u32,
}

impl Load {
    /// When the request of that number is due, counted from the start and over all connections, which take turns.
    pub(crate) fn moment(&self, number: u32) -> Duration {
        Duration::from_secs_f64(f64::from(number) / f64::from(self.rate))
    }
}

/// Reads one answer into a buffer that it may use.
type Reader = fn(&mut TcpStream, &mut [u8]) -> Result<()>;

/// Prints one line of JSON: the number of answers, and percentiles of the waits in microseconds.
pub(crate) fn run(load: &Load, request: &[u8], read: Reader) -> Result<()> {
    let start = Instant::now() + Duration::from_millis(100);
    let waits: Vec<Result<Vec<u32>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..load.connections)
            .map(|place| scope.spawn(move || connection(load, place, start, (request, read))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(Error::other("panicked")))).collect()
    });
    let mut all = Vec::new();
    for one in waits {
        all.extend(one?);
    }
    println!("{{{}}}", waits::fields(&mut all));
    Ok(())
}

/// The waits of one connection, in tenths of a microsecond.
fn connection(load: &Load, place: u32, start: Instant, (request, read): (&[u8], Reader)) -> Result<Vec<u32>> {
    let mut socket = TcpStream::connect(&load.address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut next, mut due) = (place, start + load.moment(place));
    let end = start + Duration::from_secs(u64::from(load.seconds));
    let mut waits = Vec::new();
    let mut answer = [0; 4096];
    while due < end {
        let now = Instant::now();
        let from = if now < due {
            std::thread::sleep(due - now);
            Instant::now()
        } else {
            due
        };
        socket.write_all(request)?;
        read(&mut socket, &mut answer)?;
        waits.push(waits::tenths(from.elapsed()));
        next += load.connections;
        due = start + load.moment(next);
    }
    Ok(waits)
}

/// One answer with a `content-length`; anything but a 200 is an error.
pub(crate) fn read_answer(socket: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    loop {
        let more = socket.read(&mut buffer[filled..])?;
        if more == 0 {
            return Err(Error::other("the connection ended in the middle of an answer"));
        }
        filled += more;
        match answer::head(&buffer[..filled])? {
            Some((200, length)) if filled >= length => return Ok(()),
            Some((200, _)) | None => {}
            Some((status, _)) => return Err(Error::other(format!("an answer with status {status}"))),
        }
    }
}

/// One answer of Redis that comes in one piece, and is not an error.
pub(crate) fn read_reply(socket: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let filled = socket.read(buffer)?;
    match &buffer[..filled] {
        [b'+' | b':' | b'$', .., b'\r', b'\n'] => Ok(()),
        other => Err(Error::other(String::from_utf8_lossy(other).into_owned())),
    }
}
