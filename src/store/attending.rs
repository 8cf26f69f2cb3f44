//! What a gateway tells Redis of itself, whoever asks for what: that it is there, how large a part of each limit it would go on with
//! if Redis failed, and in the end that it is gone.

use super::exact::number;
use super::shards::WHOLE;
use super::{Connection, FIRST_PAUSE, Fault, Script, Store};
use crate::engine::time::nanos_of;
use crate::engine::{Engine, Nanos, Portion};
use futures_util::future::join;
use redis::FromRedisValue;
use std::sync::Arc;
use std::time::Duration;

/// How often a gateway says that it is there.
const SEEN_EVERY: Duration = Duration::from_secs(1);
/// How soon again while it has no part yet, and when its part has changed: others wait for it to say so.
const SEEN_SOON: Duration = Duration::from_millis(200);
/// How long that may take: nobody waits for it.
const ANNOUNCE: Duration = Duration::from_millis(500);
/// How long the last word may take: the process ends after it.
const FAREWELL: Duration = Duration::from_secs(2);
/// After an outage, for so long no gateway takes a larger part: a Redis that was emptied has not heard of all yet.
const CAUTION: Duration = Duration::from_secs(3);

const SCRIPT: &str = include_str!("scripts/tend.lua");

/// What a gateway knows of its part of the limits.
#[derive(Debug, Default)]
struct Standing {
    /// One of so many; 0: none yet.
    parts: u32,
    has_changed: bool,
    /// When Redis was last told.
    told_at: Option<Nanos>,
    recoveries: u64,
    cautious_until: Nanos,
}

impl Standing {
    /// Whether it is time to tell Redis again; soon, too, where a shard is lost and its limits go on by parts.
    fn is_due(&self, now: Nanos, is_lost: bool) -> bool {
        let every = if self.parts == 0 || self.has_changed || is_lost { SEEN_SOON } else { SEEN_EVERY };
        self.told_at.is_none_or(|at| now.since(at) >= nanos_of(every))
    }

    /// Whether it may take a larger part if others leave it one.
    fn may_take_more(&mut self, recoveries: u64, now: Nanos) -> bool {
        if std::mem::replace(&mut self.recoveries, recoveries) != recoveries {
            self.cautious_until = now.saturating_add(nanos_of(CAUTION));
        }
        self.parts == 0 || now >= self.cautious_until
    }

    /// Takes in what Redis has said, and answers the part and how many gateways there may be.
    fn take(&mut self, parts: u32, place: u32, gateways: u32) -> (Portion, u32) {
        self.has_changed = std::mem::replace(&mut self.parts, parts) != parts;
        let portion = if parts == 0 { Portion::NEXT_TO_NOTHING } else { Portion { of: parts, place: place % parts } };
        // A Redis that was emptied knows of fewer than there are.
        (portion, gateways.max(parts).max(1))
    }
}

impl Store {
    /// Looks after the store, for ever: says that this gateway is there, learns its part, and tries Redis again while it is not
    /// asked.
    pub async fn attend(self: Arc<Self>, engine: Arc<Engine>) {
        join(Arc::clone(&self).attend_whole(engine), self.attend_shards()).await;
    }

    async fn attend_whole(self: Arc<Self>, engine: Arc<Engine>) {
        let (script, mut connection, mut standing) = (Script::new(SCRIPT), None, Standing::default());
        loop {
            tokio::time::sleep(FIRST_PAUSE / 4).await;
            let now = self.now();
            let probes = match self.breaker().probe_at() {
                Some(due) if due > now => continue,
                Some(_) => true,
                None if !standing.is_due(now, !self.shards.all_closed()) => continue,
                None => false,
            };
            if probes {
                connection = None;
            }
            // A probe that succeeds is a recovery, which is not counted yet.
            let recoveries = self.breaker().recoveries() + u64::from(probes);
            let more = standing.may_take_more(recoveries, now);
            let seen = self.announce(&script, &mut connection, standing.parts, more).await;
            match &seen {
                Ok([parts, place, gateways]) => {
                    standing.told_at = Some(now);
                    let (portion, gateways) = standing.take(*parts, *place, *gateways);
                    engine.set_portion(portion, gateways);
                    self.metrics().gateways.set(gateways.into());
                    self.metrics().parts.set((*parts).into());
                }
                Err(fault) => {
                    connection = None;
                    self.failed(WHOLE, fault);
                }
            }
            if probes {
                self.probed(WHOLE, seen.is_ok());
                self.settling.note(self.breaker().recoveries(), self.now());
            }
        }
    }

    /// Says that this gateway is there and learns its part. It writes, so a server that cannot be written to fails it.
    async fn announce(
        &self,
        script: &Script,
        connection: &mut Option<Connection>,
        parts: u32,
        more: bool,
    ) -> Result<[u32; 3], Fault> {
        let mut open = match connection.take() {
            Some(open) => open,
            None => self.dialer().dial().await?,
        };
        let (ttl, more) = (number(self.lease_ttl_us()), u32::from(more).to_string());
        let words = [String::new(), "seen".to_owned(), ttl, self.gateway().to_owned(), parts.to_string(), more];
        let answer = tokio::time::timeout(ANNOUNCE, self.tell(script, &mut open, &words)).await;
        let numbers = <[u32; 3]>::from_redis_value(answer.map_err(|_| Fault::Timeout)??);
        let numbers = numbers.map_err(|error| Fault::Server(error.to_string().into()))?;
        *connection = Some(open);
        Ok(numbers)
    }

    /// Says that this gateway is gone, so that the others take its part soon. Two seconds at most; where it is not heard, they notice
    /// after `lease_ttl`.
    pub async fn leave(&self) {
        if !self.breaker().is_closed() {
            return;
        }
        let told = async {
            let mut connection = self.dialer().dial().await?;
            let words = [String::new(), "gone".to_owned(), self.gateway().to_owned()];
            self.tell(&Script::new(SCRIPT), &mut connection, &words).await?;
            Ok::<_, Fault>(())
        };
        if let Ok(Err(fault)) = tokio::time::timeout(FAREWELL, told).await {
            tracing::debug!(%fault, "Redis was not told that this gateway ends");
        }
    }

    async fn tell(
        &self,
        script: &Script,
        connection: &mut Connection,
        words: &[String],
    ) -> redis::RedisResult<redis::Value> {
        let [names, parts] = ["gateways", "parts"].map(|what| format!("{{{}}}:{what}", self.settings().prefix));
        let words: Vec<_> = words.iter().map(|word| word.clone().into_bytes()).collect();
        script.run(connection, &[names.as_bytes(), parts.as_bytes()], &words).await
    }
}
