//! One health check: connect, ask, read the status. A connection of its own each time, so that it shows whether the server takes
//! any, and so that it depends on nothing that requests depend on.

use super::server::Server;
use crate::config::{HealthCheck, Scheme};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of an answer that are read to find its status.
const MAX_STATUS_BYTES: usize = 64;

/// Whether a server answers with one of the statuses that are asked for.
///
/// # Errors
/// Why there is no such answer.
pub(super) async fn probe(server: &Server, settings: &HealthCheck) -> Result<(), ProbeError> {
    let asking = async {
        let host = settings.host.as_deref().unwrap_or_else(|| server.target.authority());
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {host}\r\nuser-agent: tollgate-health\r\naccept: */*\r\nconnection: close\r\n\r\n",
            settings.path
        );
        let stream = server.target.connect_to_ask(server.address).await?;
        if server.target.is_http2() {
            return status_over_http2(stream, server.target.scheme(), host, &settings.path).await;
        }
        status(stream, &request).await
    };
    let status = tokio::time::timeout(settings.timeout, asking).await.map_err(|_| ProbeError::Late)??;
    let is_good = settings.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status));
    if is_good { Ok(()) } else { Err(ProbeError::Status(status)) }
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("no answer in time")]
    Late,
    #[error("status {0}")]
    Status(u16),
    #[error(transparent)]
    Io(#[from] io::Error),
}

async fn status(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Result<u16, io::Error> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::with_capacity(MAX_STATUS_BYTES);
    while answer.len() < MAX_STATUS_BYTES && !answer.contains(&b'\n') {
        let mut rest = (&mut stream).take((MAX_STATUS_BYTES - answer.len()) as u64);
        if rest.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an answer of HTTP/1"))
}

/// The same of a server that speaks nothing but HTTP/2.
async fn status_over_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    scheme: Scheme,
    host: &str,
    path: &str,
) -> Result<u16, io::Error> {
    let scheme = if scheme == Scheme::Https { "https" } else { "http" };
    let uri = http::Uri::builder().scheme(scheme).authority(host).path_and_query(path).build();
    let request = http::Request::get(uri.map_err(io::Error::other)?).header("user-agent", "tollgate-health");
    let request = request.body(()).map_err(io::Error::other)?;
    let asking = async {
        let (mut sender, connection) = h2::client::handshake(stream).await?;
        let (answer, _) = sender.send_request(request, true)?;
        tokio::select! {
            answer = answer => answer.map(|answer| answer.status().as_u16()),
            ended = connection => Err(ended.err().unwrap_or_else(|| h2::Reason::NO_ERROR.into())),
        }
    };
    asking.await.map_err(io::Error::other)
}

fn parse(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, end) = (rest.get(..3)?, rest.get(3)?);
    let is_whole = digits.iter().all(u8::is_ascii_digit) && matches!(end, b' ' | b'\r' | b'\n');
    std::str::from_utf8(digits).ok().filter(|_| is_whole)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_an_answer() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nrest"), Some(200));
        assert_eq!(parse(b"HTTP/1.0 503\r\n"), Some(503));
        for bad in [
            "",
            "HTTP/1.1 ",
            "HTTP/1.1 20",
            "HTTP/1.1 200",
            "HTTP/1.1 2000 ",
            "HTTP/2 200 \r\n",
            "SSH-2.0",
            "HTTP/1.1 +20 ",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn no_more_is_read_than_it_takes() {
        let (near, mut far) = tokio::io::duplex(16);
        let answering = async {
            let mut request = vec![0; 8];
            far.read_exact(&mut request).await.unwrap();
            far.write_all(&[b'x'; 200]).await
        };
        let (asked, answered) = tokio::join!(status(near, "GET / \r\n"), answering);
        assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(answered.is_err(), "the rest goes nowhere");
    }
}
