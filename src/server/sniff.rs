//! Which protocol a client begins to speak on a plain connection.

use crate::frames::PREFACE;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// Enough of the preface to tell: no method begins like it.
const TELLING_BYTES: usize = 4;

/// Whether the client begins with the preface of HTTP/2 (prior knowledge, RFC 9113 §3.3). Waits for its first bytes, and takes
/// none. Whoever begins so and goes on otherwise is HTTP/2's to refuse.
///
/// # Errors
/// When the connection broke.
pub(super) async fn begins_with_preface(socket: &TcpStream, patience: Duration) -> io::Result<bool> {
    // Clients send the preface in one piece. One that dribbles wakes us now and then, until it has told or time is up.
    const SELDOM: Duration = Duration::from_millis(50);
    let mut pause = Duration::from_millis(1);
    let mut waited = Duration::ZERO;
    loop {
        let mut bytes = [0; TELLING_BYTES];
        let length = socket.peek(&mut bytes).await?;
        let begun = bytes.get(..length).unwrap_or_default();
        let fits = length > 0 && PREFACE.starts_with(begun);
        if !fits || length == TELLING_BYTES || waited >= patience {
            return Ok(fits && length == TELLING_BYTES);
        }
        tokio::time::sleep(pause).await;
        waited += pause;
        pause = (pause * 2).min(SELDOM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// What is told of a client that sends `pieces`, and then ends.
    async fn told(pieces: &[&[u8]]) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        let sending = async {
            client.set_nodelay(true).unwrap();
            for piece in pieces {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let (told, ()) = tokio::join!(begins_with_preface(&socket, Duration::from_millis(20)), sending);
        let mut read = Vec::new();
        socket.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, pieces.concat(), "nothing is taken");
        told.unwrap()
    }

    #[tokio::test]
    async fn the_first_bytes_tell() {
        assert!(told(&[PREFACE]).await);
        assert!(told(&[b"P", b"RI", b" * HTTP/2.0\r\n"]).await);
        for other in
            [&b"POST / HTTP/1.1\r\n"[..], b"PRINT / HTTP/1.1\r\n", b"GET /", b"PRI", b"P", b"", b"\x16\x03\x01"]
        {
            assert!(!told(&[other]).await, "{other:?}");
        }
    }
}
