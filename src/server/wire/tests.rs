//! The guard against scripted reads. `table` holds every bad input, `served` a real hyper behind the guard.

mod properties;
mod served;
mod table;

use super::*;
use crate::wire_fault::fault_of;
use std::collections::VecDeque;

/// A peer that sends the given pieces, one a read, then the end of file.
struct Pieces {
    pieces: VecDeque<Vec<u8>>,
    reads: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.reads += 1;
        if let Some(piece) = self.pieces.front_mut() {
            let length = piece.len().min(buf.remaining());
            buf.put_slice(&piece.drain(..length).collect::<Vec<_>>());
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What came through the guard.
#[derive(Debug, PartialEq, Eq)]
struct Passed {
    bytes: Vec<u8>,
    verdict: Option<WireFault>,
    requests: u64,
    error: Option<io::ErrorKind>,
}

/// Reads `pieces` through a guard to the end, `room` bytes a read, and answers every request as soon as its head has passed.
fn pass<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, room: usize, limits: WireLimits) -> Passed {
    let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).map(<[u8]>::to_vec).collect();
    let mut guard = Guarded::new(Pieces { pieces, reads: 0 }, limits);
    let (mut bytes, mut error) = (Vec::new(), None);
    let mut space = vec![0; room];
    loop {
        let mut buf = ReadBuf::new(&mut space);
        let polled = Pin::new(&mut guard).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
        let bound = limits.max_head_bytes.max(limits.max_trailer_bytes) + HELD_READ_BYTES + room;
        assert!(guard.held.len() <= bound, "{} bytes held back", guard.held.len());
        match polled {
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                bytes.extend_from_slice(buf.filled());
                (guard.answers.count()..guard.requests()).for_each(|_| guard.answers.answered());
                assert!(Pin::new(&mut guard).poll_flush(&mut Context::from_waker(Waker::noop())).is_ready());
            }
            Poll::Ready(Err(failed)) => break error = Some(failed.kind()),
            Poll::Ready(Ok(())) | Poll::Pending => break,
        }
    }
    Passed { bytes, verdict: guard.verdict(), requests: guard.requests(), error }
}

/// Passes `bytes` whole, byte by byte, and cut in two everywhere (at 64 places, when long), and holds all answers equal.
fn pass_in_all_ways(bytes: &[u8]) -> Passed {
    let limits = WireLimits::default();
    let whole = pass([bytes], 1 << 20, limits);
    assert_eq!(pass(bytes.chunks(1), 8192, limits), whole, "byte by byte");
    assert_eq!(pass([bytes], 7, limits), whole, "into small buffers");
    let stride = if bytes.len() > 4096 { bytes.len() / 64 } else { 1 };
    for cut in (0..bytes.len()).step_by(stride) {
        assert_eq!(pass([&bytes[..cut], &bytes[cut..]], 8192, limits), whole, "cut at {cut}");
    }
    whole
}

#[test]
fn a_head_in_one_read_takes_one_read_and_is_not_moved() {
    let mut guard = Guarded::new(
        Pieces { pieces: [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()].into(), reads: 0 },
        WireLimits::default(),
    );
    let mut space = [0; 64];
    let mut buf = ReadBuf::new(&mut space);
    assert!(Pin::new(&mut guard).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf).is_ready());
    assert_eq!(buf.filled(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((guard.io.reads, guard.held.capacity()), (1, 0));
    assert!(!guard.is_mid_head());
}

#[test]
fn half_a_head_is_held_back_and_given_up_at_the_end() {
    let mut guard =
        Guarded::new(Pieces { pieces: [b"GET / HTTP/1.1\r\nHo".to_vec()].into(), reads: 0 }, WireLimits::default());
    let mut space = [0; 64];
    let mut buf = ReadBuf::new(&mut space);
    assert!(Pin::new(&mut guard).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf).is_ready());
    assert!(buf.filled().is_empty());
    assert!(guard.is_mid_head());
    assert_eq!((guard.verdict(), guard.unanswered()), (None, None));
}

#[test]
fn an_idle_connection_holds_no_memory_after_a_split_head() {
    let pieces = [&b"GET / HTTP/1.1\r\nHo"[..], b"st: a\r\n\r\n"].map(<[u8]>::to_vec).into();
    let mut guard = Guarded::new(Pieces { pieces, reads: 0 }, WireLimits::default());
    let mut space = [0; 64];
    let mut buf = ReadBuf::new(&mut space);
    assert!(Pin::new(&mut guard).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf).is_ready());
    assert_eq!(buf.filled(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(guard.held.capacity(), 0);
}

#[test]
fn the_fault_is_found_under_the_errors_that_wrap_it() {
    let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, WireFault::ChunkSize));
    assert_eq!(fault_of(&WireFault::Folded), Some(WireFault::Folded));
    assert_eq!(fault_of(wrapped.get_ref().unwrap()), Some(WireFault::ChunkSize));
    assert_eq!(fault_of(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_json_and_the_linger_is_bounded() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut client, mut server) = tokio::io::duplex(4096);
    client.write_all(b"rest of an upload").await.unwrap();
    // The client never closes: the paused clock runs to the end of the linger by itself.
    refuse(&mut server, WireFault::MethodRefused, &[("request-id", "req_1")], b"{\"error\":{}}").await.unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{head}");
    for line in ["content-type: application/json", "connection: close", "request-id: req_1", "content-length: 12"] {
        assert!(head.lines().any(|found| found == line), "{line} is not in {head}");
    }
    assert!(head.contains("allow: "));
    assert_eq!(body, "{\"error\":{}}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_refusal_is_given_up() {
    let (_client, mut server) = tokio::io::duplex(16);
    let refused = refuse(&mut server, WireFault::Folded, &[], b"{}").await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::TimedOut);
}
