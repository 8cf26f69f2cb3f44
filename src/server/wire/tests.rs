//! The scanner against scripted reads. `table` holds every bad input; how a connection behaves on them is tested in
//! [`crate::server::http1`].

pub(in crate::server) mod properties;
mod reference;
mod table;

use super::*;
use crate::wire_fault::fault_of;
use std::io;

/// What came through the guard.
#[derive(Debug, PartialEq, Eq)]
struct Passed {
    bytes: Vec<u8>,
    /// Of these, what belongs to bodies.
    data: Vec<u8>,
    verdict: Option<WireFault>,
    requests: u64,
    error: Option<io::ErrorKind>,
}

/// Scans `pieces` to the end as a connection does: what is incomplete is kept, `room` bytes are read at once.
fn pass<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, room: usize, limits: WireLimits) -> Passed {
    let mut scanner = Scanner::new(limits);
    let mut passed = Passed { bytes: Vec::new(), data: Vec::new(), verdict: None, requests: 0, error: None };
    let mut held = Vec::new();
    for fresh in pieces.into_iter().flat_map(|piece| piece.chunks(room)) {
        held.extend_from_slice(fresh);
        loop {
            let is_in_body = scanner.is_in_body();
            let mut data = Vec::new();
            let outcome = scanner.step(&held, &mut |range| data.extend_from_slice(&held[range]));
            passed.data.extend(data);
            let length = match outcome {
                Ok(Some(step)) => {
                    assert!(step.length > 0);
                    passed.requests += u64::from(matches!(step.part, Part::Head(_)));
                    step.length
                }
                Ok(None) => 0,
                Err(bad) => {
                    passed.bytes.extend_from_slice(&held[..bad.good]);
                    passed.verdict = Some(bad.fault);
                    passed.error = is_in_body.then_some(io::ErrorKind::InvalidData);
                    return passed;
                }
            };
            if length == 0 {
                break;
            }
            passed.bytes.extend(held.drain(..length));
        }
        let bound = limits.max_head_bytes.max(limits.max_trailer_bytes) + room;
        assert!(held.len() <= bound, "{} bytes held back", held.len());
    }
    passed
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
fn half_a_head_does_not_pass() {
    let passed = pass([&b"GET / HTTP/1.1\r\nHo"[..]], 64, WireLimits::default());
    assert_eq!((passed.bytes.len(), passed.requests, passed.verdict), (0, 0, None));
}

#[test]
fn a_bodys_own_bytes_are_told_from_what_frames_them() {
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nX-T: e\r\n\r\n";
    let plain = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nefg";
    let passed = pass_in_all_ways(&[&chunked[..], plain].concat());
    assert_eq!((&passed.data[..], passed.requests, passed.verdict), (&b"abcdefg"[..], 2, None));
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
