//! A closed loop: each connection asks again as soon as it has its answer, as wrk does, but every request by another account.
//!
//! One thread, one read and one write for a request, and nothing but the last digits of its key is made anew. A script of wrk
//! keeps a million keys as strings that its collector goes through, and formats each request: beside an upstream alone it then
//! sends 48,000 requests a second or 10,000, which says nothing of a contender. Accounts are numbers here, which need no memory.

use super::client::Client;
use super::{keys, waits};
use mio::{Events, Poll};
use std::io::{Error, Result};
use std::time::{Duration, Instant};

pub(crate) struct Load {
    pub(crate) address: String,
    pub(crate) seconds: u32,
    pub(crate) connections: u32,
    pub(crate) accounts: u32,
    /// Where the sequence of accounts begins.
    pub(crate) seed: u32,
}

/// Longer than this, nobody takes to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints one line of JSON: how many answers there were, how many of them refusals, how many neither that nor a success, how
/// many a second, and percentiles of the waits in microseconds.
pub(crate) fn run(load: &Load, request: Vec<u8>) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut turns = Turns::new(load, request)?;
    let clients = (0..load.connections as usize).map(|place| Client::connect(&load.address, place, &poll));
    let mut clients: Vec<(Client, Instant)> =
        clients.map(|client| Ok((client?, Instant::now()))).collect::<Result<_>>()?;
    let start = Instant::now();
    let end = start + Duration::from_secs(u64::from(load.seconds));
    for (client, sent) in &mut clients {
        *sent = Instant::now();
        client.send(turns.next())?;
    }
    let (mut events, mut under_way) = (Events::with_capacity(clients.len()), clients.len());
    while under_way > 0 {
        poll.poll(&mut events, Some(PATIENCE))?;
        if events.is_empty() {
            return Err(Error::other("no answer"));
        }
        for event in &events {
            let (client, sent) = &mut clients[event.token().0];
            let Some(status) = client.answer(event)? else { continue };
            let now = Instant::now();
            turns.answered(status, now - *sent);
            if now < end {
                *sent = now;
                client.send(turns.next())?;
            } else {
                under_way -= 1;
            }
        }
    }
    turns.print(start.elapsed());
    Ok(())
}

/// Who asks next, and what was answered.
struct Turns {
    request: Vec<u8>,
    /// Where in the request the digits are that tell accounts apart.
    digits: usize,
    accounts: u64,
    state: u64,
    waits: Vec<u32>,
    refused: usize,
    other: usize,
}

impl Turns {
    fn new(load: &Load, request: Vec<u8>) -> Result<Self> {
        let secret = keys::secret(0);
        let place = memchr::memmem::find(&request, secret.as_bytes());
        let digits = place.ok_or_else(|| Error::other("no key in the headers"))? + secret.len() - 8;
        // More than anybody answers, so that they never move.
        let waits = Vec::with_capacity(load.seconds as usize * 250_000);
        let state = u64::from(load.seed) * 7919 + 88_172_645;
        Ok(Turns { request, digits, accounts: u64::from(load.accounts), state, waits, refused: 0, other: 0 })
    }

    /// Lehmer's generator: the same sequence for every contender.
    fn next(&mut self) -> &[u8] {
        self.state = self.state * 48_271 % 2_147_483_647;
        let account = self.state % self.accounts;
        for (place, digit) in self.request[self.digits..][..8].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(account >> (28 - 4 * place)) as usize & 15];
        }
        &self.request
    }

    fn answered(&mut self, status: usize, wait: Duration) {
        self.waits.push(waits::tenths(wait));
        match status {
            200..300 => {}
            429 => self.refused += 1,
            _ => self.other += 1,
        }
    }

    fn print(mut self, took: Duration) {
        let rate = self.waits.len() as f64 / took.as_secs_f64();
        let percentiles = waits::fields(&mut self.waits);
        println!("{{\"refused\":{},\"other\":{},\"rate\":{rate:.1},{percentiles}}}", self.refused, self.other);
    }
}
