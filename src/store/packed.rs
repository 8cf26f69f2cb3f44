//! What `scripts/decide.lua` is asked and what it answers: numbers packed into one string each way, since every word of a call and of an
//! answer costs Redis more than what is done with it.

use super::exact::{sixteenths, sixteenths_up};
use crate::engine::{Limiter, Question};
use redis::Value;

/// Bytes before the questions, and of one.
const HEAD: usize = 9;
const QUESTION: usize = 38;
/// Bytes of an answer about one partition.
const SAID: usize = 27;

/// What is said of one partition; times in sixteenths of a microsecond.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Said {
    pub(super) admitted: bool,
    pub(super) remaining: f64,
    /// Until it is worth coming again; negative where that is never or unknown.
    pub(super) wait: f64,
    /// What the bucket lacks, or the slice that counted.
    pub(super) last: f64,
    pub(super) disturbances: u16,
}

/// The beginning of a call about so many partitions.
pub(super) fn head(now_us: f64, take: bool, questions: usize) -> Vec<u8> {
    let mut packed = Vec::with_capacity(HEAD + questions * QUESTION);
    packed.extend_from_slice(&now_us.to_le_bytes());
    packed.push(u8::from(take));
    packed
}

/// One question: how much it costs, and what is owed.
pub(super) fn question(packed: &mut Vec<u8>, question: &Question, (cost, owed): (u32, u64), lease_ttl_us: f64) {
    let known = question.known;
    let (kind, [interval, most, known, owed]) = match question.partition.limiter {
        Limiter::Gcra(figures) => {
            let interval_us = sixteenths_up(figures.emission_ns().get());
            let most = if figures.depth_ns() == 0 { 0.0 } else { interval_us * figures.burst() as f64 };
            (1, [interval_us, most, sixteenths(known), owed as f64])
        }
        Limiter::SlidingWindow(figures) => {
            let slice_us = sixteenths_up(figures.slice_ns().get());
            (2, [slice_us, figures.limit().into(), known as f64, owed as f64])
        }
        Limiter::Concurrency(figures) => (3, [lease_ttl_us, figures.slots.into(), 0.0, 0.0]),
        // Never asked: the configuration keeps allocations here.
        Limiter::Allocation(_) => (2, [1.0, 0.0, 0.0, 0.0]),
    };
    packed.extend_from_slice(&[kind, u8::from(question.enforced) + 2 * u8::from(question.second)]);
    packed.extend_from_slice(&cost.to_le_bytes());
    for number in [interval, most, known, owed] {
        packed.extend_from_slice(&number.to_le_bytes());
    }
}

/// The server's time in microseconds, whether it has taken anything, and what it says of each partition that it looked at. `None` where
/// that is no answer of the script.
pub(super) fn answer(value: &Value) -> Option<(f64, bool, impl Iterator<Item = Said>)> {
    let Value::BulkString(bytes) = value else { return None };
    let (at_us, rest) = number(bytes)?;
    let (&took, each) = rest.split_first()?;
    Some((at_us, took == 1, each.chunks_exact(SAID).map_while(said)))
}

fn said(bytes: &[u8]) -> Option<Said> {
    let (&admitted, rest) = bytes.split_first()?;
    let (remaining, rest) = number(rest)?;
    let (wait, rest) = number(rest)?;
    let (last, rest) = number(rest)?;
    let (disturbances, _) = rest.split_first_chunk()?;
    Some(Said { admitted: admitted == 1, remaining, wait, last, disturbances: u16::from_le_bytes(*disturbances) })
}

fn number(bytes: &[u8]) -> Option<(f64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((f64::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_far_as_it_goes() {
        let mut bytes = [&7.5_f64.to_le_bytes()[..], &[1]].concat();
        let numbers = [3.0_f64, -1.0, 16.0].map(f64::to_le_bytes).concat();
        bytes.extend([&[1][..], &numbers, &513_u16.to_le_bytes()].concat());
        bytes.extend([0; SAID - 1]);
        let value = Value::BulkString(bytes);
        let (at_us, took, each) = answer(&value).unwrap();
        assert_eq!((at_us, took), (7.5, true));
        let expected = Said { admitted: true, remaining: 3.0, wait: -1.0, last: 16.0, disturbances: 513 };
        assert_eq!(each.collect::<Vec<_>>(), [expected], "half an answer is none");
    }

    #[test]
    fn anything_else_is_no_answer() {
        for value in [Value::Nil, Value::Int(1), Value::BulkString(vec![0; 8]), Value::Array(vec![])] {
            assert!(answer(&value).is_none(), "{value:?}");
        }
    }
}
