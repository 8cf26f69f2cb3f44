//! The parts of a store that fail apart from each other, each with a breaker of its own: the store as a whole, and the shards of a
//! cluster, so that the loss of one primary is nothing to the accounts of the others.
//!
//! Which slots belong together is learned from the cluster ([`Shards::learn`]); until then there is only the whole. Shards are
//! numbered by their lowest slot, so a failover changes no number; a slot that moves has its new shard's breaker from the next look
//! on. Beyond [`MOST`] shards some share a breaker.

use super::breaker::Breaker;
use crate::engine::Nanos;
use arc_swap::ArcSwap;
use redis::Value;

/// Breakers of a cluster.
const MOST: usize = 64;
/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// The number of a part.
pub(super) type Shard = usize;
/// The store as a whole.
pub(super) const WHOLE: Shard = 0;

/// All parts.
#[derive(Debug)]
pub(super) struct Shards {
    whole: Breaker,
    others: Box<[Breaker]>,
    /// By their last slots, in order.
    ranges: ArcSwap<Vec<Range>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    shard: Shard,
}

impl Shards {
    pub(super) fn new(is_cluster: bool) -> Shards {
        let others = (0..if is_cluster { MOST } else { 0 }).map(|_| Breaker::default());
        Shards { whole: Breaker::default(), others: others.collect(), ranges: ArcSwap::default() }
    }

    /// Whether there are shards that fail apart.
    pub(super) fn are_several(&self) -> bool {
        !self.others.is_empty()
    }

    /// The part that has a key.
    pub(super) fn of_key(&self, key: &[u8]) -> Shard {
        if !self.are_several() {
            return WHOLE;
        }
        let (slot, ranges) = (slot(key), self.ranges.load());
        let place = ranges.partition_point(|range| range.last < slot);
        ranges.get(place).filter(|range| range.first <= slot).map_or(WHOLE, |range| range.shard)
    }

    /// A part's breaker.
    pub(super) fn breaker(&self, shard: Shard) -> &Breaker {
        shard.checked_sub(1).and_then(|other| self.others.get(other)).unwrap_or(&self.whole)
    }

    fn each(&self) -> impl Iterator<Item = &Breaker> {
        std::iter::once(&self.whole).chain(&self.others)
    }

    /// Whether every part is worth asking.
    pub(super) fn all_closed(&self) -> bool {
        self.each().all(Breaker::is_closed)
    }

    /// How often any has closed again.
    pub(super) fn recoveries(&self) -> u64 {
        self.each().map(Breaker::recoveries).sum()
    }

    /// The shards whose probe is due.
    pub(super) fn due(&self, now: Nanos) -> Vec<Shard> {
        let due = |shard: &Shard| self.breaker(*shard).probe_at().is_some_and(|at| at <= now);
        (1..=self.others.len()).filter(due).collect()
    }

    /// A key of this part, with this prefix; `None` where it has no slot any more.
    pub(super) fn key_in(&self, shard: Shard, prefix: &str) -> Option<String> {
        // Each number has an equal chance of any slot: a part with one slot in a thousand is found, too.
        let keys = (0..u32::from(SLOTS)).map(|number| format!("{{{prefix}:probe-{number}}}"));
        let mut keys = keys.filter(|key| self.of_key(key.as_bytes()) == shard);
        keys.next()
    }

    /// Takes in the answer of `CLUSTER SLOTS`. One that makes no sense changes nothing.
    pub(super) fn learn(&self, answer: &Value) {
        if let Some(ranges) = ranges(answer)
            && **self.ranges.load() != ranges
        {
            self.ranges.store(ranges.into());
        }
    }
}

fn ranges(answer: &Value) -> Option<Vec<Range>> {
    let Value::Array(rows) = answer else { return None };
    let mut rows: Vec<(u16, u16, &Value)> = rows.iter().map(row).collect::<Option<_>>()?;
    rows.sort_by_key(|(first, ..)| *first);
    let mut primaries: Vec<&Value> = Vec::new();
    let mut ranges = Vec::with_capacity(rows.len());
    for (first, last, primary) in rows {
        let known = primaries.iter().position(|known| *known == primary);
        let shard = known.unwrap_or_else(|| {
            primaries.push(primary);
            primaries.len() - 1
        });
        ranges.push(Range { first, last, shard: 1 + shard % MOST });
    }
    Some(ranges).filter(|ranges| !ranges.is_empty())
}

/// First and last slot, and what names the primary.
fn row(row: &Value) -> Option<(u16, u16, &Value)> {
    let Value::Array(row) = row else { return None };
    let [Value::Int(first), Value::Int(last), primary, ..] = row.as_slice() else { return None };
    Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, primary))
}

/// A key's slot, by its hash tag where it has one.
fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}').filter(|length| *length > 0)?;
        rest.get(..close)
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, as Redis Cluster has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 { shifted } else { shifted ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::breaker::Failure;
    use super::*;

    fn cluster() -> Shards {
        let row = |first: i64, last: i64, primary: &str| {
            let node = Value::Array(vec![Value::BulkString(primary.into()), Value::Int(6379)]);
            Value::Array(vec![Value::Int(first), Value::Int(last), node])
        };
        let shards = Shards::new(true);
        shards.learn(&Value::Array(vec![row(10_923, 16_383, "c"), row(0, 5_460, "a"), row(5_461, 10_922, "b")]));
        shards
    }

    #[test]
    fn keys_are_where_redis_has_them() {
        // As CLUSTER KEYSLOT says.
        assert_eq!([&b"123456789"[..], b"{user1000}.following", b"foo"].map(slot), [12_739, 3_443, 12_182]);
        assert_eq!(slot(b"{}foo"), crc16(b"{}foo") % SLOTS, "an empty tag is none");
        assert_eq!([&b"123456789"[..], b"{user1000}.x"].map(|key| cluster().of_key(key)), [3, 1]);
    }

    #[test]
    fn one_that_is_open_is_nothing_to_the_others() {
        let shards = cluster();
        assert!(shards.all_closed());
        assert!(shards.breaker(2).failed(Failure::Certain, Nanos(0)));
        assert!(!shards.all_closed());
        assert_eq!([WHOLE, 1, 2, 3].map(|shard| shards.breaker(shard).is_closed()), [true, true, false, true]);
        assert_eq!((shards.due(Nanos(0)), shards.due(Nanos(u64::MAX))), (vec![], vec![2]));
        for shard in [1, 2, 3] {
            let key = shards.key_in(shard, "tollgate").unwrap();
            assert_eq!(shards.of_key(key.as_bytes()), shard);
        }
        assert_eq!(shards.key_in(4, "tollgate"), None);
        assert!(shards.breaker(2).probed(true, Nanos(1)));
        assert!(shards.all_closed());
        assert_eq!(shards.recoveries(), 1);
    }

    #[test]
    fn without_a_cluster_there_is_only_the_whole() {
        let shards = Shards::new(false);
        assert!([&b"a"[..], b"{b}", b""].into_iter().all(|key| shards.of_key(key) == WHOLE));
        assert!(shards.breaker(WHOLE).failed(Failure::Certain, Nanos(0)));
        assert!(!shards.all_closed() && shards.due(Nanos(u64::MAX)).is_empty());
    }

    #[test]
    fn nonsense_changes_nothing() {
        let shards = cluster();
        for nonsense in [Value::Nil, Value::Array(vec![]), Value::Array(vec![Value::Array(vec![Value::Int(-1)])])] {
            shards.learn(&nonsense);
            assert_eq!(shards.of_key(b"123456789"), 3, "{nonsense:?}");
        }
    }
}
