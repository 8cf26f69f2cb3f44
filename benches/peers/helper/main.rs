//! Small programs for `benches/peers/run`, in one binary so that nothing else has to be installed:
//!
//! - `peer_helper upstream ADDRESS`: answers every request with the same 200, on connections that stay open.
//! - `peer_helper forward ADDRESS UPSTREAM`: the floor. One thread copies bytes both ways and reads none of them.
//! - `peer_helper closed ADDRESS SECONDS CONNECTIONS ACCOUNTS SEED HEADER…`: requests by many accounts, as many as are answered.
//! - `peer_helper open UPSTREAM HEADER…`: an upstream that also sends requests at a steady rate, whatever the answers do, and
//!   says what each one had to wait. Each line of its standard input is a load: `ADDRESS RATE SECONDS CONNECTIONS`.
//! - `peer_helper pace ADDRESS RATE SECONDS CONNECTIONS HEADER…`: the same without the upstream, and it sleeps until the next
//!   request is due, so that others on its core can work.
//! - `peer_helper trip ADDRESS RATE SECONDS CONNECTIONS WORD…`: the same with one command of Redis.
//! - `peer_helper hold ADDRESS CONNECTIONS HEADER…`: opens connections, sends one request on each, and keeps them open until
//!   its standard input ends.
//! - `peer_helper keys FILE`: a keys file of one account.
//! - `peer_helper trace FILE REQUESTS`: a trace to replay, as `benches/replay.rs` does.
//!
//! None is a server or a client for anything else.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "it measures time and prints what it saw")]

mod answer;
mod client;
mod closed;
mod forward;
mod hold;
mod keys;
mod open;
mod pace;
#[path = "../../replay/trace.rs"]
mod trace;
mod upstream;
mod waits;

use std::io::{Error, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        ["upstream", address] => threadless()?.block_on(upstream::serve(address)),
        ["forward", address, to] => threadless()?.block_on(forward::serve(address, to)),
        ["closed", address, seconds, connections, accounts, seed, headers @ ..] => {
            let [seconds, connections] = [number(seconds)?, number(connections)?];
            let [accounts, seed] = [number(accounts)?, number(seed)?];
            let load = closed::Load { address: (*address).to_owned(), seconds, connections, accounts, seed };
            closed::run(&load, request(headers))
        }
        ["open", address, headers @ ..] => open::serve(address, &request(headers)),
        ["pace", address, rate, seconds, connections, headers @ ..] => {
            let load = load(address, [rate, seconds, connections])?;
            pace::run(&load, &request(headers), pace::read_answer)
        }
        ["trip", address, rate, seconds, connections, words @ ..] => {
            let load = load(address, [rate, seconds, connections])?;
            pace::run(&load, &command(words), pace::read_reply)
        }
        ["hold", address, connections, headers @ ..] => hold::run(address, number(connections)?, &request(headers)),
        ["keys", file] => keys::write(file),
        ["trace", file, requests] => trace::write(file.as_ref(), number(requests)?.into()),
        _ => Err(Error::other("usage: see the top of benches/peers/helper/main.rs")),
    }
}

fn number(text: &str) -> Result<u32> {
    text.parse().map_err(Error::other)
}

fn load(address: &str, figures: [&str; 3]) -> Result<pace::Load> {
    let [rate, seconds, connections] = figures.map(number);
    Ok(pace::Load { address: address.to_owned(), rate: rate?, seconds: seconds?, connections: connections? })
}

fn threadless() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The one request that all cases send.
fn request(headers: &[&str]) -> Vec<u8> {
    let mut text = "GET /v1/charges?limit=3 HTTP/1.1\r\nHost: 127.0.0.1\r\n".to_owned();
    for header in headers {
        text += header;
        text += "\r\n";
    }
    (text + "\r\n").into_bytes()
}

/// A command of Redis.
fn command(words: &[&str]) -> Vec<u8> {
    let each = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), each.collect::<String>()).into_bytes()
}
