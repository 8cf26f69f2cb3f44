//! The wire guard: one verdict however the bytes are cut, and what passes is what a strict reader reads too.

use super::strict::{self, End};
use tollgate::server::wire::{Part, Scanner, WireFault, WireLimits};

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
    let bodies: Vec<u8> = requests.iter().flat_map(|request| request.body.iter().copied()).collect();
    assert!(bodies == whole.data, "what bodies hold");
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

#[derive(Debug, PartialEq, Eq)]
struct Passed {
    bytes: Vec<u8>,
    /// Of these, what belongs to bodies.
    data: Vec<u8>,
    verdict: Option<WireFault>,
    requests: u64,
    failed: bool,
}

/// Scans everything, `room` bytes a read at most, as a connection does: what is incomplete is kept.
fn pass(pieces: &[&[u8]], room: usize, limits: WireLimits) -> Passed {
    let mut scanner = Scanner::new(limits);
    let mut passed = Passed { bytes: Vec::new(), data: Vec::new(), verdict: None, requests: 0, failed: false };
    let mut held = Vec::new();
    for fresh in pieces.iter().flat_map(|piece| piece.chunks(room)) {
        held.extend_from_slice(fresh);
        loop {
            let is_in_body = scanner.is_in_body();
            let data = &mut passed.data;
            match scanner.step(&held, &mut |range| data.extend_from_slice(&held[range])) {
                Ok(Some(step)) => {
                    passed.requests += u64::from(matches!(step.part, Part::Head(_)));
                    passed.bytes.extend(held.drain(..step.length));
                }
                Ok(None) => break,
                Err(bad) => {
                    passed.bytes.extend_from_slice(&held[..bad.good]);
                    passed.verdict = Some(bad.fault);
                    passed.failed = is_in_body;
                    return passed;
                }
            }
        }
    }
    passed
}
