//! Request ids and trace contexts, made without a system call and, but for a block now and then, without an allocation.

use crate::engine::Seed;
use crate::swar;
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
        swar::hex(&mut value[3..35], &trace.to_be_bytes());
        swar::hex(&mut value[36..52], &(span | 1).to_be_bytes());
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
    fn traceparents_are_well_formed() {
        let value = RequestIds::new().traceparent();
        let fields: Vec<_> = value.to_str().unwrap().split('-').collect();
        assert_eq!(fields.iter().map(|field| field.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
    }
}
