//! An open loop that is also the upstream: requests leave at a steady rate, whether or not earlier ones have been answered.
//!
//! A closed loop (wrk, h2load) waits for an answer before it asks again, so a server that stops for a second is asked less
//! often just then, and its percentiles look good ("coordinated omission"). Here a request that could not leave at its moment,
//! because its connection still waited, counts from that moment. One that could counts from when it left: how late this
//! program was is no fault of the server.
//!
//! One thread does everything on its core and never sleeps while a load runs, so nothing on that core is ever woken or put
//! off: what is measured is the contender, and how the kernel wakes it. Where another process needs the core as well (Redis),
//! a load that sleeps is the one to take: `pace.rs`.

use super::client::{Client, Peer};
use super::pace::Load;
use super::{upstream, waits};
use mio::event::Event;
use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::io::{Error, ErrorKind, Result};
use std::time::{Duration, Instant};

const COMMANDS: Token = Token(1 << 20);
const LISTENER: Token = Token(COMMANDS.0 + 1);
/// Connections that contenders opened are numbered from here on.
const SERVED: usize = LISTENER.0 + 1;
/// How many windows a second has. Percentiles are of each by itself as well: what stops a core for a moment (a kernel thread,
/// the host) spoils the windows around it, and says nothing about the others.
const WINDOWS: u32 = 10;
/// Longer than this, nobody takes to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers at `address`, and puts each load on that a line of standard input asks for, until there are no more.
pub(crate) fn serve(address: &str, request: &[u8]) -> Result<()> {
    let mut program = Program::new(address)?;
    let mut events = Events::with_capacity(1024);
    loop {
        program.poll.poll(&mut events, None)?;
        let mut asked = false;
        for event in &events {
            match event.token() {
                COMMANDS => asked = true,
                _ => program.serve(event)?,
            }
        }
        if asked {
            let mut line = String::new();
            if std::io::stdin().read_line(&mut line)? == 0 {
                return Ok(());
            }
            let &[address, rate, seconds, connections] = &line.split_whitespace().collect::<Vec<_>>()[..] else {
                return Err(Error::other("a load is an address and three figures"));
            };
            println!("{}", program.run(&super::load(address, [rate, seconds, connections])?, request)?);
        }
    }
}

struct Program {
    poll: Poll,
    listener: TcpListener,
    served: Slab<Peer>,
}

impl Program {
    fn new(address: &str) -> Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address.parse().map_err(Error::other)?)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        poll.registry().register(&mut SourceFd(&0), COMMANDS, Interest::READABLE)?;
        Ok(Program { poll, listener, served: Slab::new() })
    }

    /// What an upstream does.
    fn serve(&mut self, event: &Event) -> Result<()> {
        if event.token() == LISTENER {
            return self.accept();
        }
        let place = event.token().0 - SERVED;
        let peer = &mut self.served[place];
        let done = peer.fill().and_then(|()| {
            while let Some(length) = upstream::whole_request(peer.held()) {
                peer.consume(length);
                peer.send(upstream::ANSWER)?;
            }
            Ok(())
        });
        if done.is_err() || event.is_read_closed() {
            self.served.remove(place);
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    let place = self.served.vacant_entry();
                    let token = Token(SERVED + place.key());
                    place.insert(Peer::new(socket, token, self.poll.registry())?);
                }
                Err(none) if none.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(other) => return Err(other),
            }
        }
    }

    /// One line of JSON: the number of answers, and percentiles of the waits in microseconds: of all, and of each window.
    fn run(&mut self, load: &Load, request: &[u8]) -> Result<String> {
        // Until then, connections are accepted.
        let start = Instant::now() + Duration::from_millis(50);
        let end = start + Duration::from_secs(u64::from(load.seconds));
        let clients = (0..load.connections).map(|place| Paced::new(load, place, start, &self.poll));
        let mut clients = clients.collect::<Result<Vec<_>>>()?;
        let a_window = load.rate.div_ceil(WINDOWS) as usize + 1;
        let mut windows: Vec<Vec<u32>> = (0..load.seconds * WINDOWS).map(|_| Vec::with_capacity(a_window)).collect();
        let mut events = Events::with_capacity(1024);
        while clients.iter().any(|client| client.left.is_some() || client.due < end) {
            if Instant::now() > end + PATIENCE {
                return Err(Error::other("no answer"));
            }
            for client in &mut clients {
                client.send(end, request)?;
            }
            self.poll.poll(&mut events, Some(Duration::ZERO))?;
            for event in &events {
                match clients.get_mut(event.token().0) {
                    Some(client) => client.receive(event, load, start, &mut windows)?,
                    None if event.token() == COMMANDS => return Err(Error::other("one load at a time")),
                    None => self.serve(event)?,
                }
            }
        }
        let each: Vec<_> = windows.iter_mut().map(|window| format!("{{{}}}", waits::fields(window))).collect();
        Ok(format!("{{{},\"windows\":[{}]}}", waits::fields(&mut windows.concat()), each.join(",")))
    }
}

/// A connection whose requests have their moments.
struct Paced {
    client: Client,
    /// The next request, and its moment.
    next: u32,
    due: Instant,
    /// When the request that is under way left, or should have.
    left: Option<Instant>,
    /// When the last answer came.
    free: Instant,
}

impl Paced {
    fn new(load: &Load, place: u32, start: Instant, poll: &Poll) -> Result<Self> {
        let client = Client::connect(&load.address, place as usize, poll)?;
        Ok(Paced { client, next: place, due: start + load.moment(place), left: None, free: start })
    }

    /// Sends the next request if its moment has come and nothing is under way.
    fn send(&mut self, end: Instant, request: &[u8]) -> Result<()> {
        if self.left.is_some() || self.due >= end {
            return Ok(());
        }
        let now = Instant::now();
        if now >= self.due {
            self.left = Some(if self.free > self.due { self.due } else { now });
            self.client.send(request)?;
        }
        Ok(())
    }

    /// Notes what an answer was waited for, if it is all there, with the window in which its request was due.
    fn receive(&mut self, event: &Event, load: &Load, start: Instant, windows: &mut [Vec<u32>]) -> Result<()> {
        let Some(status) = self.client.answer(event)? else { return Ok(()) };
        let (Some(left), 200) = (self.left.take(), status) else {
            return Err(Error::other(format!("an answer with status {status}")));
        };
        self.free = Instant::now();
        let window = (self.due - start).as_secs_f64() * f64::from(WINDOWS);
        let last = windows.len() - 1;
        windows[(window as usize).min(last)].push(waits::tenths(self.free - left));
        self.next += load.connections;
        self.due = start + load.moment(self.next);
        Ok(())
    }
}
