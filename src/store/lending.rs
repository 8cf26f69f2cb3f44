//! What leases look like in Redis: keys, the script's arguments, its answers.
//!
//! A bucket is counted there in nanoseconds where its depth allows (numbers in scripts are exact below 2^53), else in microseconds,
//! rounded to the strict side.

use super::{Connection, Fault};
use crate::engine::{Answer, Ask, Gcra, Limiter, Partition};
use redis::{Cmd, ErrorKind, ServerErrorKind, cmd};
use std::fmt::Write;
use std::sync::LazyLock;

const SCRIPT: &str = include_str!("scripts/lend.lua");

static HASH: LazyLock<String> = LazyLock::new(|| redis::Script::new(SCRIPT).get_hash().to_owned());

/// The largest number that a script counts exactly, with room for sums.
const MOST: u64 = 1 << 52;

/// Partitions of one call.
pub(super) const MOST_KEYS: usize = 64;

/// How a gateway is known where slots are counted.
#[derive(Clone, Copy, Debug)]
pub struct Speaker<'a> {
    /// Its name.
    pub gateway: &'a str,
    /// What all keys begin with.
    pub prefix: &'a str,
    /// Microseconds to add to the moment of a word, so that a later process's words are later.
    pub since_us: u64,
    /// How long slots stay lent to a gateway that is not heard of.
    pub slot_ttl_ms: u64,
    /// The time in microseconds in place of the server's own, for tests.
    pub now_us: Option<u64>,
}

/// One call for partitions of one slot.
pub(super) async fn call(
    connection: &mut Connection,
    speaker: &Speaker<'_>,
    asks: &[(Partition, Ask)],
) -> Result<Vec<Answer>, Fault> {
    let answered: Result<Vec<i64>, _> = by_hash(speaker, asks).query_async(connection).await;
    let numbers = match answered {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            in_full(speaker, asks).query_async(connection).await?
        }
        answered => answered?,
    };
    let answers: Vec<Answer> =
        asks.iter().zip(numbers.chunks_exact(3)).map(|(ask, three)| answer(ask, three)).collect();
    if answers.len() < asks.len() {
        return Err(Fault::Server("a script answered too little".into()));
    }
    Ok(answers)
}

/// A call that names the script.
#[must_use]
pub fn by_hash(speaker: &Speaker<'_>, asks: &[(Partition, Ask)]) -> Cmd {
    arguments(cmd("EVALSHA").arg(&*HASH), speaker, asks).to_owned()
}

/// A call that sends the script, for a server that does not know it yet.
#[must_use]
pub fn in_full(speaker: &Speaker<'_>, asks: &[(Partition, Ask)]) -> Cmd {
    arguments(cmd("EVAL").arg(SCRIPT), speaker, asks).to_owned()
}

/// What the script's numbers say, in the order of the asks.
#[must_use]
pub fn answers(asks: &[(Partition, Ask)], numbers: &[i64]) -> Vec<Answer> {
    asks.iter().zip(numbers.chunks_exact(3)).map(|(ask, three)| answer(ask, three)).collect()
}

fn arguments<'a>(command: &'a mut Cmd, speaker: &Speaker<'_>, asks: &[(Partition, Ask)]) -> &'a mut Cmd {
    command.arg(asks.len());
    for (partition, _) in asks {
        command.arg(key(speaker.prefix, partition));
    }
    match speaker.now_us {
        Some(now_us) => command.arg(now_us),
        None => command.arg(""),
    };
    for (partition, ask) in asks {
        add(command, speaker, partition, ask);
    }
    command
}

/// `{prefix:GROUP}:lease:KEY`: what is of one account lies in one slot of a cluster.
fn key(prefix: &str, partition: &Partition) -> String {
    let mut key = String::with_capacity(prefix.len() + 80);
    let [high, low] = partition.group.0;
    // Writing to a string cannot fail.
    let _ = write!(key, "{{{prefix}:{high:016x}{low:016x}}}:lease:");
    for byte in partition.key.0 {
        let _ = write!(key, "{byte:02x}");
    }
    key
}

fn add(command: &mut Cmd, speaker: &Speaker<'_>, partition: &Partition, ask: &Ask) {
    let most = |amount: u64| amount.min(MOST);
    let wanted = [most(ask.want), most(ask.least)];
    match &partition.limiter {
        Limiter::Gcra(figures) => {
            let Bucket { emission, depth, scale } = Bucket::of(figures);
            let down = |ns: u64| most(ns / (1_000 / scale));
            let up = |ns: u64| most(ns.div_ceil(1_000 / scale));
            command.arg("bucket").arg(&[emission, depth, scale]).arg(&wanted);
            command.arg(&[down(ask.back), 0, up(ask.known), up(ask.owed), 0]);
        }
        Limiter::SlidingWindow(figures) => {
            let slice_us = figures.slice_ns().get().div_ceil(1_000);
            command.arg("window").arg(&[u64::from(figures.limit()), most(slice_us), 0]).arg(&wanted);
            command.arg(&[most(ask.back), most(ask.slice), most(ask.known), most(ask.owed), 0]);
        }
        Limiter::Concurrency(figures) => {
            let word = speaker.since_us.saturating_add(ask.asked_at.0 / 1_000);
            command.arg("slots").arg(&[u64::from(figures.slots), speaker.slot_ttl_ms]).arg(speaker.gateway);
            command.arg(&wanted).arg(&[0, most(word), 0, 0, most(ask.slots)]);
        }
        // Allocations are counted by each gateway for itself: one that got here lends nothing.
        Limiter::Allocation(_) => drop(command.arg("window").arg(&[0, 1, 0, 0, 1, 0, 0, 0, 0, 0])),
    }
}

/// A bucket's figures as the script counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    emission: u64,
    depth: u64,
    /// Units of a microsecond: 1,000 or 1.
    scale: u64,
}

impl Bucket {
    fn of(figures: &Gcra) -> Bucket {
        let (emission_ns, depth_ns) = (figures.emission_ns().get(), figures.depth_ns());
        if depth_ns <= MOST && emission_ns <= MOST {
            return Bucket { emission: emission_ns, depth: depth_ns, scale: 1_000 };
        }
        Bucket { emission: emission_ns.div_ceil(1_000).min(MOST), depth: (depth_ns / 1_000).min(MOST), scale: 1 }
    }
}

fn answer((partition, _): &(Partition, Ask), three: &[i64]) -> Answer {
    let number = |place: usize| three.get(place).copied().unwrap_or_default();
    let [lent, lacks] = [0, 1].map(|place| u64::try_from(number(place)).unwrap_or_default());
    let rest = number(2);
    let scale = match &partition.limiter {
        Limiter::Gcra(figures) => 1_000 / Bucket::of(figures).scale,
        _ => 1,
    };
    Answer {
        lent,
        lacks: lacks.saturating_mul(scale),
        slice: u64::try_from(rest).unwrap_or_default(),
        wait_ns: u64::try_from(rest.saturating_neg()).unwrap_or_default().saturating_mul(1_000),
    }
}
