//! The whole path of a request in one process, for counting instructions: a gateway under the Stripe preset, an upstream and a
//! client, over real sockets, one request after another. `path forward N` sends N requests that are forwarded, `path refuse N`
//! as many that a limit refuses, `path post N` as many with a body of 1,000 bytes. It prints nothing and measures nothing:
//! `scripts/instructions` runs it twice under callgrind, and the difference is what the requests cost.
//!
//! Without arguments (as `cargo test --all-targets` calls it) it does a few of each, so that it cannot rot.

use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use tollgate::keys::Secret;
use tollgate::process::{Gateway, Source};

/// Not a key of anybody's.
const SECRET: &str = "sk_live_515151515151515151515151515151515151515151515151";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 60\r\n\r\n\
    {\"id\":\"ch_1PkT2eLkdIwHu7ix\",\"object\":\"charge\",\"amount\":1099}";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => ["forward", "refuse", "post"].into_iter().try_for_each(|kind| run(kind, 3)),
        [kind, count] => run(kind, count.parse().map_err(Error::other)?),
        _ => Err(Error::other("usage: path [forward|refuse|post COUNT]")),
    }
}

fn run(kind: &str, count: usize) -> Result<()> {
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let gateway = gateway(upstream.local_addr()?)?;
    std::thread::spawn(move || upstream.incoming().flatten().for_each(|socket| drop(std::thread::spawn(|| answer(socket)))));
    let (request, status) = request(kind)?;
    let address = gateway.addresses().first().copied().ok_or(Error::other("nothing to listen on"))?;
    let mut client = TcpStream::connect(address)?;
    client.set_nodelay(true)?;
    // Whatever is made once is made by the first, which the refusing limit still admits.
    exchange(&mut client, &request)?;
    for _ in 0..count {
        let answered = exchange(&mut client, &request)?;
        assert_eq!(answered, status, "{kind}");
    }
    drop(client);
    gateway.handle().stop();
    gateway.join();
    Ok(())
}

/// The request, and the status it should get.
fn request(kind: &str) -> Result<(Vec<u8>, u16)> {
    let (line, body, status) = match kind {
        "forward" => ("GET /v1/charges?limit=3", String::new(), 200),
        "refuse" => ("GET /v1/files", String::new(), 429),
        "post" => ("POST /v1/charges", format!("amount=1099&description={}", "x".repeat(976)), 200),
        _ => return Err(Error::other("not a kind of request")),
    };
    let framing = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n"),
    };
    let head = format!(
        "{line} HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {SECRET}\r\nAccept: */*\r\n\
         User-Agent: Stripe/v1 PythonBindings/12.0.0\r\nStripe-Version: 2025-03-31.basil\r\n{framing}\r\n"
    );
    Ok(([head.as_bytes(), body.as_bytes()].concat(), status))
}

/// Sends a request and reads the whole answer; its status.
fn exchange(client: &mut TcpStream, request: &[u8]) -> Result<u16> {
    client.write_all(request)?;
    let (mut held, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = client.read(&mut buffer)?;
        if read == 0 {
            return Err(Error::other("the gateway closed the connection"));
        }
        held.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&held);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() >= length.unwrap_or(0) {
            return head.get(9..12).and_then(|status| status.parse().ok()).ok_or(Error::other("no status"));
        }
    }
}

/// An upstream's connection: each request gets the same answer.
fn answer(mut socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let (mut held, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = socket.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        held.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&held);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if head.starts_with("POST") && body.len() < 1_000 {
            continue;
        }
        held.clear();
        socket.write_all(ANSWER)?;
    }
}

fn gateway(upstream: SocketAddr) -> Result<Gateway> {
    let config = format!(
        r#"
        presets = ["stripe"]
        [server]
        listen = "127.0.0.1:0"
        threads = 1
        [admin]
        listen = "127.0.0.1:0"
        [auth]
        keys_file = "keys.toml"
        [upstreams.api]
        servers = ["http://{upstream}"]
        idle_timeout = "1h"
        [[limits]]
        name = "account-slots"
        stage = "global"
        concurrency = 100
        [[limits]]
        name = "endpoint-slots"
        stage = "endpoint"
        concurrency = 100
        [accounts.acct_bench.limits]
        global-live = {{ rate = "1000000/s", burst = 4000000000 }}
        endpoint-default = {{ rate = "1000000/s", burst = 4000000000 }}
        files-read = {{ rate = "1/24h", burst = 1 }}
    "#
    );
    let hash = Secret::new(SECRET).map_or_else(|_| String::new(), |secret| secret.digest().to_string());
    let keys = format!("[[keys]]\nid = \"key_bench\"\nhash = \"{hash}\"\naccount = \"acct_bench\"\nmode = \"live\"\n");
    Gateway::start(Source::Text { config, keys }).map_err(Error::other)
}
