//! The wire guard: one verdict however the bytes are cut, and what passes is what a strict reader reads too.

use super::strict::{self, End};
use tollgate::server::wire::{Part, Scanner, WireFault, WireLimits};

/// A letter that says how to cut, then what a client sends.
pub(super) fn run(data: &[u8]) {
    let Some((&letter, stream)) = data.split_first() else { return };
    let limits = limits(letter);
    let whole = pass(&[stream], limits);
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(pass(&single, limits), whole, "byte by byte");
    let stride = 2 + usize::from(letter >> 1) % 61;
    let pieces: Vec<&[u8]> = stream.chunks(stride).collect();
    assert_eq!(pass(&pieces, limits), whole, "cut every {stride}");
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

#[derive(Debug, PartialEq, Eq)]
struct Passed {
    bytes: Vec<u8>,
    verdict: Option<WireFault>,
    requests: u64,
}

/// Reads everything through a scanner, a piece at a time.
fn pass(pieces: &[&[u8]], limits: WireLimits) -> Passed {
    let mut scanner = Scanner::new(limits);
    let (mut held, mut passed) = (Vec::new(), Passed { bytes: Vec::new(), verdict: None, requests: 0 });
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            match scanner.step(&held, &mut |_| {}) {
                Ok(Some(step)) => {
                    passed.requests += u64::from(matches!(step.part, Part::Head(_)));
                    passed.bytes.extend(held.drain(..step.length));
                }
                Ok(None) => break,
                Err(bad) => {
                    passed.bytes.extend(held.drain(..bad.good));
                    passed.verdict = Some(bad.fault);
                    return passed;
                }
            }
            if held.is_empty() {
                break;
            }
        }
    }
    passed
}
