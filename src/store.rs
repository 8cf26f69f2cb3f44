//! FLOOR 2: where counts live that several gateways share: Redis.
//!
//! Every thread has a connection of its own ([`Link`]), so that nothing on a request's way is locked; what is known of Redis's
//! health ([`Breaker`]) and who else counts there belongs to the process ([`Store`]).

mod breaker;
mod connect;
mod fault;
pub mod lender;
pub mod lending;
mod link;

pub use breaker::{Breaker, FIRST_PAUSE, Failure, LONGEST_PAUSE, TIMEOUTS};
pub use connect::{Connection, Dialer};
pub use fault::Fault;
use lender::Waiting;
pub use lender::{Answers, Lender};
pub use link::Link;

use crate::clock::Time;
use crate::config::Redis;
use crate::engine::{Clock, Seed};
use crate::metrics::{Metrics, StoreMetrics};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What the threads of one gateway share of a store.
pub struct Store {
    settings: Redis,
    dialer: Dialer,
    breaker: Breaker,
    gateway: Box<str>,
    time: Time,
    /// Microseconds of the wall clock when the process's own clock began, so that words of a later process are later.
    since_us: u64,
    /// Who waits for what others have asked for.
    waiting: Waiting,
    metrics: Arc<Metrics>,
}

impl Store {
    /// A store that nobody has asked yet. `random` names this gateway where the configuration does not.
    #[must_use]
    pub fn new(settings: Redis, time: Time, metrics: Arc<Metrics>, random: Seed) -> Arc<Store> {
        let gateway = settings.gateway_id.clone().unwrap_or_else(|| format!("{:016x}", random.0[0]));
        let dialer = Dialer::new(settings.clone());
        metrics.store.up.set(1);
        let since = time.wall().as_microsecond().saturating_sub_unsigned(time.now().0 / 1_000);
        Arc::new(Store {
            settings,
            dialer,
            breaker: Breaker::default(),
            gateway: gateway.into(),
            since_us: u64::try_from(since).unwrap_or_default(),
            time,
            waiting: Waiting::default(),
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
        &self.breaker
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

    /// Notes a call that failed.
    pub fn failed(&self, fault: &Fault) {
        self.metrics().failed(fault.label());
        let failure = match fault {
            Fault::Timeout => Failure::Slow,
            Fault::Connection(_) | Fault::Server(_) | Fault::Unusable(_) => Failure::Certain,
            Fault::Open => return,
        };
        if self.breaker.failed(failure, self.time.now()) {
            self.metrics().up.set(0);
            tracing::warn!(%fault, "Redis is not asked any more: limits go on as on_store_failure says");
        }
    }

    /// Looks after the store, for ever: tries Redis again while it is not asked.
    pub async fn attend(self: Arc<Self>) {
        loop {
            tokio::time::sleep(FIRST_PAUSE / 4).await;
            let now = self.time.now();
            if self.breaker.probe_at().is_none_or(|due| due > now) {
                continue;
            }
            let probed = self.probe().await;
            let why = probed.as_ref().err().map(ToString::to_string);
            if self.breaker.probed(probed.is_ok(), self.time.now()) {
                self.metrics().up.set(1);
                tracing::info!("Redis is asked again");
            } else {
                tracing::debug!(why, "Redis is still out of order");
            }
        }
    }

    /// Whether Redis can be written to, over a connection of its own.
    async fn probe(&self) -> Result<(), Fault> {
        let mut connection = self.dialer.dial().await?;
        let key = format!("{}:probe", self.settings.prefix);
        let mut command = redis::cmd("SET");
        command.arg(key).arg(&*self.gateway).arg("EX").arg(60);
        let answer = tokio::time::timeout(self.settings.command_timeout, command.query_async::<()>(&mut connection));
        Ok(answer.await.unwrap_or(Err((redis::ErrorKind::Io, "no answer in time").into()))?)
    }
}

/// The seed of all ids of the gateways with this prefix: partitions must have the same keys everywhere.
#[must_use]
pub fn seed(prefix: &str) -> Seed {
    let digest = Sha256::digest(format!("tollgate store seed\0{prefix}"));
    let word = |bytes: &[u8]| bytes.iter().fold(0_u64, |word, &byte| word << 8 | u64::from(byte));
    let (first, second) = digest.split_at(8);
    Seed([word(first), word(second.get(..8).unwrap_or_default())])
}
