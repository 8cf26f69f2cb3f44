//! Two small programs for `benches/peers/run`, in one binary so that nothing else has to be installed:
//!
//! - `peer_helper upstream ADDRESS`: answers every request head with the same 200, on connections that stay open.
//! - `peer_helper forward ADDRESS UPSTREAM`: the floor. One thread copies bytes both ways and reads none of them.
//!
//! Neither is a server for anything else: the upstream understands requests without a body only.

use std::io::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

const HEAD_END: &[u8] = b"\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 60\r\n\r\n\
    {\"id\":\"ch_1PkT2eLkdIwHu7ix\",\"object\":\"charge\",\"amount\":1099}";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments[..] {
        ["upstream", address] => runtime.block_on(upstream(address)),
        ["forward", address, to] => runtime.block_on(forward(address, to)),
        _ => Err(std::io::Error::other("usage: peer_helper upstream ADDRESS | forward ADDRESS UPSTREAM")),
    }
}

async fn upstream(address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(answer_all(socket));
    }
}

/// Ends with the connection.
async fn answer_all(mut socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut held = Vec::with_capacity(4096);
    let mut answers = Vec::new();
    while socket.read_buf(&mut held).await? > 0 {
        let mut seen = 0;
        while let Some(end) = held[seen..].windows(HEAD_END.len()).position(|bytes| bytes == HEAD_END) {
            seen += end + HEAD_END.len();
            answers.extend_from_slice(ANSWER);
        }
        held.drain(..seen);
        socket.write_all(&answers).await?;
        answers.clear();
    }
    Ok(())
}

async fn forward(address: &str, to: &str) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (mut client, _) = listener.accept().await?;
        let to = to.to_owned();
        tokio::spawn(async move {
            let mut server = TcpStream::connect(to).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}
