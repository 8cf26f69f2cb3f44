//! Request ids and trace contexts, made without a system call and, but for a block now and then, without an allocation.

use crate::engine::Seed;
use bytes::BytesMut;
use http::HeaderValue;
use std::cell::RefCell;

/// Makes ids that are unique in this process and not to be guessed from one another.
pub struct RequestIds {
    inner: RefCell<Inner>,
}

struct Inner {
    seed: Seed,
    count: u64,
    /// Header values are cut from blocks: one allocation for a few hundred of them.
    block: BytesMut,
}

const BLOCK_BYTES: usize = 16 * 1024;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestIds {
    /// A generator with a seed of its own.
    #[must_use]
    pub fn new() -> RequestIds {
        let inner = Inner { seed: random_seed(), count: 0, block: BytesMut::new() };
        RequestIds { inner: RefCell::new(inner) }
    }

    /// A `Request-Id` as Stripe's look: `req_` and 14 letters and digits.
    #[must_use]
    pub fn request_id(&self) -> HeaderValue {
        let mut inner = self.inner.borrow_mut();
        let random = inner.next();
        let mut id = *b"req_00000000000000";
        // Seven letters from each half, taken for a fraction: what stands before the point of 62 times it is a letter, the rest is
        // the next fraction. That takes no division.
        for (letters, mut half) in id[4..].chunks_mut(7).zip([(random >> 64) as u64, random as u64]) {
            for letter in letters {
                let scaled = u128::from(half) * ALPHABET.len() as u128;
                *letter = ALPHABET[usize::try_from(scaled >> 64).unwrap_or(0)];
                half = scaled as u64;
            }
        }
        inner.cut(&id)
    }

    /// A new W3C `traceparent`, version 00, sampled flag off: the gateway starts no trace of its own.
    #[must_use]
    pub fn traceparent(&self) -> HeaderValue {
        let value = self.traceparent_bytes();
        self.inner.borrow_mut().cut(&value)
    }

    /// The bytes of one, for whoever writes them somewhere anyway.
    #[must_use]
    pub fn traceparent_bytes(&self) -> [u8; 55] {
        let mut inner = self.inner.borrow_mut();
        let trace = inner.next();
        // Spans are told apart within their trace only, so that what sets traces apart does for them too.
        let span = (trace >> 64) as u64 ^ (trace as u64).rotate_left(32);
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex(&mut value[3..35], &trace.to_be_bytes());
        hex(&mut value[36..52], &(span | 1).to_be_bytes());
        value
    }
}

impl Inner {
    fn next(&mut self) -> u128 {
        self.count = self.count.wrapping_add(1);
        let [low, high] = self.seed.hash(&self.count.to_le_bytes()).0;
        u128::from(high) << 64 | u128::from(low)
    }

    /// A header value of these bytes, cut from the block.
    fn cut(&mut self, value: &[u8]) -> HeaderValue {
        if self.block.capacity() < value.len() {
            self.block = BytesMut::with_capacity(BLOCK_BYTES);
        }
        self.block.extend_from_slice(value);
        let bytes = self.block.split().freeze();
        HeaderValue::from_maybe_shared(bytes).unwrap_or(HeaderValue::from_static("req_00000000000000"))
    }
}

/// A seed of random numbers from the operating system.
///
/// Without them nothing may be served (partition keys could be guessed), so the process aborts: there is no answer to give.
#[must_use]
pub fn random_seed() -> Seed {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        tracing::error!("the operating system gives no random numbers");
        std::process::abort();
    }
    let half =
        |range: std::ops::Range<usize>| bytes[range].iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
    Seed([half(0..8), half(8..16)])
}

/// The digits of as many bytes as there is text for, four at a time.
fn hex(text: &mut [u8], bytes: &[u8]) {
    for (digits, bytes) in text.as_chunks_mut().0.iter_mut().zip(bytes.as_chunks().0) {
        *digits = eight_digits(u32::from_be_bytes(*bytes));
    }
}

/// The eight digits of a number.
fn eight_digits(number: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Each digit in a byte of its own.
    let mut digits = u64::from(number);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Those from ten on, which alone reach 16 when 6 is added, are letters.
    let letters = ((digits + 6 * ONES) >> 4) & ONES;
    (digits + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_look_like_stripes_and_differ() {
        let ids = RequestIds::new();
        let made: HashSet<_> = (0..5_000).map(|_| ids.request_id()).collect();
        assert_eq!(made.len(), 5_000);
        for id in made {
            let text = id.to_str().unwrap();
            assert!(text.len() == 18 && text.starts_with("req_"), "{text}");
            assert!(text[4..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
    }

    #[test]
    fn every_byte_has_its_digits() {
        for byte in 0..=u8::MAX {
            let mut text = [0; 16];
            let bytes = [byte, 0, byte ^ 0x5a, 255, byte, byte, 1, !byte];
            hex(&mut text, &bytes);
            assert_eq!(text, *format!("{:016x}", u64::from_be_bytes(bytes)).as_bytes());
        }
    }

    #[test]
    fn traceparents_are_well_formed() {
        let value = RequestIds::new().traceparent();
        let fields: Vec<_> = value.to_str().unwrap().split('-').collect();
        assert_eq!(fields.iter().map(|field| field.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
    }
}
