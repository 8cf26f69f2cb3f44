//! The wire guard: one verdict however the bytes are cut, and what passes is what a strict reader reads too.

use super::strict::{self, End};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tollgate::server::wire::{Guarded, WireFault, WireLimits};

/// A letter that says how to cut, then what a client sends.
pub(super) fn run(data: &[u8]) {
    let Some((&letter, stream)) = data.split_first() else { return };
    let limits = limits(letter);
    let whole = pass(&[stream], 1 << 16, limits);
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(pass(&single, 8192, limits), whole, "byte by byte");
    let stride = 2 + usize::from(letter >> 1) % 61;
    let pieces: Vec<&[u8]> = stream.chunks(stride).collect();
    assert_eq!(pass(&pieces, 1 + usize::from(letter) % 40, limits), whole, "cut every {stride}");
    assert!(stream.starts_with(&whole.bytes), "what passed is not what came");

    let (requests, end) = strict::read(&whole.bytes);
    if let End::Bad(why) = end {
        panic!("passed, and a strict reader refuses it: {why}");
    }
    assert_eq!(requests.len() as u64, whole.requests, "how many requests there are");
    assert!(end != End::InHead, "half a head has passed");
    for request in &requests {
        assert!(!matches!(&*request.method, b"CONNECT" | b"TRACE") && request.body.len() <= stream.len());
        assert!(!request.target.contains(&b'#'));
    }
    // The other way round: what a strict reader refuses is never left standing.
    if let (_, End::Bad(why)) = strict::read(stream) {
        assert!(whole.verdict.is_some() || whole.bytes.len() < stream.len(), "not refused: {why}");
    }
}

/// Small bounds for every other input, so that they are met.
fn limits(letter: u8) -> WireLimits {
    if letter & 1 == 0 {
        return WireLimits::default();
    }
    WireLimits {
        max_head_bytes: 160,
        max_headers: 5,
        max_target_bytes: 40,
        max_chunk_extension: 8,
        max_trailer_bytes: 40,
        ..WireLimits::default()
    }
}

/// A client that sends the given pieces, one a read, then ends.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.front_mut() {
            let length = piece.len().min(buf.remaining());
            buf.put_slice(&piece[..length]);
            piece.drain(..length);
            if piece.is_empty() {
                self.0.pop_front();
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

#[derive(Debug, PartialEq, Eq)]
struct Passed {
    bytes: Vec<u8>,
    verdict: Option<WireFault>,
    requests: u64,
    failed: bool,
}

/// Reads everything through a guard, `room` bytes a read, and answers each request as soon as its head has passed.
fn pass(pieces: &[&[u8]], room: usize, limits: WireLimits) -> Passed {
    let pieces = pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| piece.to_vec()).collect();
    let mut guard = Guarded::new(Pieces(pieces), limits);
    let (answers, mut answered) = (guard.answers(), 0);
    let (mut bytes, mut failed) = (Vec::new(), false);
    let mut space = vec![0; room];
    let mut context = Context::from_waker(Waker::noop());
    loop {
        let mut buf = ReadBuf::new(&mut space);
        match Pin::new(&mut guard).poll_read(&mut context, &mut buf) {
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                bytes.extend_from_slice(buf.filled());
                while answered < guard.requests() {
                    answers.answered();
                    answered += 1;
                }
                assert!(Pin::new(&mut guard).poll_flush(&mut context).is_ready());
            }
            Poll::Ready(Ok(())) | Poll::Pending => break,
            Poll::Ready(Err(_)) => {
                failed = true;
                break;
            }
        }
    }
    Passed { bytes, verdict: guard.verdict(), requests: guard.requests(), failed }
}
