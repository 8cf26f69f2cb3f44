//! The answer to a bad head.

use crate::wire_fault::WireFault;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long writing the answer, and after it waiting for the client to stop sending, may take each.
const MAX_LINGER: Duration = Duration::from_secs(1);
/// Bytes read and dropped while waiting for the client to stop sending.
const MAX_LINGER_BYTES: usize = 64 * 1024;

/// Answers `fault` with the JSON `body` and the given further headers (name and value, without CR or LF), then closes the
/// writing side and lingers: reads on for at most one second or 64 KiB, so that the client gets to read the answer before a
/// reset destroys it.
///
/// # Errors
/// The client is gone, or does not take the answer within one second (kind `TimedOut`). Nothing is left to do then but to drop
/// `io`.
pub async fn refuse<IO>(io: &mut IO, fault: WireFault, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let answer = answer(fault, headers, body);
    let write = async {
        io.write_all(&answer).await?;
        io.flush().await?;
        io.shutdown().await
    };
    timeout(MAX_LINGER, write).await??;
    // However the client ends, the connection is done.
    let _ = timeout(MAX_LINGER, drain(io)).await;
    Ok(())
}

/// Ends a connection whose last answer is written: closes the writing side and reads on for at most one second or 64 KiB, so
/// that a client that was still sending gets to read the answer before a reset destroys it.
pub async fn linger<IO>(io: &mut IO)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let close = async {
        io.shutdown().await?;
        drain(io).await
    };
    // However the client ends, the connection is done.
    let _ = timeout(MAX_LINGER, close).await;
}

fn answer(fault: WireFault, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let status = fault.status();
    let mut answer = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncache-control: no-store\r\nconnection: close\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or_default(),
    );
    if status == http::StatusCode::METHOD_NOT_ALLOWED {
        answer.push_str("allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n");
    }
    for (name, value) in headers {
        for part in [*name, ": ", *value, "\r\n"] {
            answer.push_str(part);
        }
    }
    answer.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut answer = answer.into_bytes();
    answer.extend_from_slice(body);
    answer
}

async fn drain<IO: AsyncRead + Unpin>(io: &mut IO) -> io::Result<()> {
    let mut scratch = [0; 4096];
    let mut drained = 0;
    while drained < MAX_LINGER_BYTES {
        match io.read(&mut scratch).await? {
            0 => break,
            length => drained += length,
        }
    }
    Ok(())
}
