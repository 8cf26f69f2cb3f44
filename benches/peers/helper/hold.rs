//! Connections that are open and do nothing.

use super::pace::read_answer;
use std::io::{Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Prints `ready` once each connection has had an answer.
pub(crate) fn run(address: &str, connections: u32, request: &[u8]) -> Result<()> {
    let mut held = Vec::new();
    let mut answer = [0; 4096];
    for _ in 0..connections {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.write_all(request)?;
        read_answer(&mut socket, &mut answer)?;
        held.push(socket);
    }
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(held);
    Ok(())
}
