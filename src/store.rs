//! FLOOR 2: where counts live that several gateways share: Redis.
//!
//! Every thread has a connection of its own ([`Link`]), so that nothing on a request's way is locked; what is known of Redis's
//! health ([`Breaker`]) and who else counts there belongs to the process ([`Store`]).

mod attending;
mod breaker;
mod connect;
mod exact;
mod fault;
mod leaving;
pub mod lender;
pub mod lending;
mod link;
mod outliving;
mod owing;
mod packed;
mod probing;
mod script;
mod shards;
mod tending;

pub use breaker::{Breaker, FIRST_PAUSE, Failure, LONGEST_PAUSE, TIMEOUTS};
pub use connect::{Connection, Dialer};
pub use exact::{Answer, Exact, Grip};
pub use fault::Fault;
use lender::Waiting;
pub use lender::{Answers, Lender};
pub use link::Link;
pub use script::Script;

use crate::clock::Time;
use crate::config::{Redis, StoreMode, Topology};
use crate::engine::{Clock, Id, Nanos, PartitionKey, Seed};
use crate::metrics::{Metrics, StoreMetrics};
use owing::Owing;
use sha2::{Digest, Sha256};
use shards::{Shard, Shards, WHOLE};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What the threads of one gateway share of a store.
pub struct Store {
    settings: Redis,
    dialer: Dialer,
    shards: Shards,
    owing: Owing,
    gateway: Box<str>,
    /// Random: a gateway that starts anew under its old name holds none of the old slots.
    life: u64,
    threads: AtomicU64,
    time: Time,
    /// Microseconds of the wall clock when the process's own clock began, so that words of a later process are later.
    since_us: u64,
    /// Who waits for what others have asked for.
    waiting: Waiting,
    handed: leaving::Handed,
    /// Threads that take part in leases.
    lenders: AtomicUsize,
    settling: leaving::Settling,
    metrics: Arc<Metrics>,
}

impl Store {
    /// A store that nobody has asked yet. `random` names this gateway where the configuration does not.
    #[must_use]
    pub fn new(settings: Redis, time: Time, metrics: Arc<Metrics>, random: Seed) -> Arc<Store> {
        let gateway = settings.gateway_id.clone().unwrap_or_else(|| format!("{:016x}", random.0[0]));
        let dialer = Dialer::new(settings.clone());
        // Leases go by the whole: those of a shard that is lost are of use as long as they last.
        let shards = Shards::new(settings.topology == Topology::Cluster && settings.mode == StoreMode::Exact);
        metrics.store.up.set(1);
        let since = time.wall().as_microsecond().saturating_sub_unsigned(time.now().0 / 1_000);
        Arc::new(Store {
            settings,
            dialer,
            shards,
            owing: Owing::default(),
            gateway: gateway.into(),
            since_us: u64::try_from(since).unwrap_or_default(),
            waiting: Waiting::default(),
            handed: leaving::Handed::default(),
            lenders: AtomicUsize::new(0),
            settling: leaving::Settling::default(),
            life: random.0[1],
            threads: AtomicU64::new(0),
            time,
            metrics,
        })
    }

    /// The configuration.
    #[must_use]
    pub fn settings(&self) -> &Redis {
        &self.settings
    }

    /// Makes connections.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Whether Redis is worth asking.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        self.shards.breaker(WHOLE)
    }

    /// The part of it that has what belongs to a group.
    fn shard(&self, group: Id) -> Shard {
        match self.settings.topology {
            Topology::Cluster => self.shards.of_key(&self.key(group, PartitionKey([0; 16]))),
            Topology::Single | Topology::Sentinel(_) => WHOLE,
        }
    }

    /// Whether that part is worth asking.
    fn is_asked(&self, shard: Shard) -> bool {
        self.shards.breaker(shard).is_closed()
    }

    /// This gateway's name.
    #[must_use]
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// Its metrics.
    #[must_use]
    pub fn metrics(&self) -> &StoreMetrics {
        &self.metrics.store
    }

    /// The key of a partition in Redis: what belongs to one account is in one slot of a cluster.
    #[must_use]
    pub fn key(&self, group: Id, key: PartitionKey) -> Vec<u8> {
        let (prefix, partition) = (&self.settings.prefix, u128::from_be_bytes(key.0));
        format!("{{{prefix}:{:016x}}}:{partition:032x}", group.0[0]).into_bytes()
    }

    /// What a script is told of the time in microseconds: nothing that is one, so that Redis's own counts; a clock that a test
    /// moves is everybody's.
    fn script_time(&self, now: Nanos) -> f64 {
        match self.time {
            Time::System(_) => -1.0,
            Time::Manual(_) => exact::sixteenths(now.0),
        }
    }

    /// The same for scripts that read it as a word.
    fn script_words(&self, now: Nanos) -> Vec<u8> {
        let time = self.script_time(now);
        if time < 0.0 { Vec::new() } else { exact::number(time).into_bytes() }
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.time.now()
    }

    fn lease_ttl_us(&self) -> f64 {
        match self.time {
            Time::System(_) => self.settings.lease_ttl.as_micros() as f64,
            // A clock that a test moves jumps over any number of renewals.
            Time::Manual(_) => MANUAL_TTL_US,
        }
    }

    /// A name for a thread that no other has, on any gateway, before or after.
    fn next_thread(&self) -> String {
        format!("{}:{:x}:{:x}", self.gateway, self.life, self.threads.fetch_add(1, Relaxed))
    }

    /// Notes what was spent without Redis.
    fn owe(&self, keys: impl Iterator<Item = PartitionKey>, cost: u32) {
        self.owing.add(keys.map(|key| (key, u64::from(cost.max(1)))));
    }

    fn owe_again(&self, owed: impl Iterator<Item = (PartitionKey, u64)>) {
        let mut owed = owed.filter(|(_, tokens)| *tokens > 0).peekable();
        if owed.peek().is_some() {
            self.owing.add(owed);
        }
    }

    /// What is owed to partitions that Redis is about to hear of.
    fn settle(&self, keys: impl Iterator<Item = PartitionKey>) -> Vec<u64> {
        self.owing.take(keys)
    }

    /// Notes a call of a part that failed.
    fn failed(&self, shard: Shard, fault: &Fault) {
        self.metrics().failed(fault.label());
        let failure = match fault {
            Fault::Timeout => Failure::Slow,
            Fault::Connection(_) | Fault::Server(_) | Fault::Unusable(_) => Failure::Certain,
            Fault::Open => return,
        };
        if self.shards.breaker(shard).failed(failure, self.time.now()) {
            self.metrics().up.set(0);
            tracing::warn!(%fault, shard, "Redis is not asked any more: limits go on as on_store_failure says");
        }
    }

    /// Notes how a probe of a part went.
    fn probed(&self, shard: Shard, succeeded: bool) {
        if self.shards.breaker(shard).probed(succeeded, self.time.now()) {
            self.metrics().up.set(self.shards.all_closed().into());
            tracing::info!(shard, "Redis is asked again");
        }
    }
}

/// A thousand days.
const MANUAL_TTL_US: f64 = 86_400_000_000_000.0;

/// The seed of all ids of the gateways with this prefix: partitions must have the same keys everywhere.
#[must_use]
pub fn seed(prefix: &str) -> Seed {
    let digest = Sha256::digest(format!("tollgate store seed\0{prefix}"));
    let word = |bytes: &[u8]| bytes.iter().fold(0_u64, |word, &byte| word << 8 | u64::from(byte));
    let (first, second) = digest.split_at(8);
    Seed([word(first), word(second.get(..8).unwrap_or_default())])
}
