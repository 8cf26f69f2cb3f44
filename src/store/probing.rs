//! The shards of a cluster that are not asked are tried again here, and which slots are whose is asked once a second.

use super::shards::Shard;
use super::{Connection, FIRST_PAUSE, Fault, Script, Store};
use futures_util::future::join_all;
use redis::{Value, cmd};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How often the cluster is asked for its slots.
const LOOK_EVERY: u32 = 40;
/// How long any of it may take: nobody waits for it.
const PATIENCE: Duration = Duration::from_millis(500);

impl Store {
    /// Looks after the shards, for ever; there is nothing to do where the store is asked as a whole.
    pub(super) async fn attend_shards(self: Arc<Self>) {
        if !self.shards.are_several() {
            return;
        }
        let (script, mut connection, mut looks) = (Script::new(include_str!("scripts/tend.lua")), None, 0_u32);
        loop {
            if let Err(fault) = self.look(&mut connection, looks.is_multiple_of(LOOK_EVERY)).await {
                connection = None;
                tracing::debug!(%fault, "the cluster does not say which slots are whose");
            }
            if let Some(connection) = &connection {
                let due = self.shards.due(self.now()).into_iter();
                join_all(due.map(|shard| self.probe(&script, connection.clone(), shard))).await;
            }
            looks = looks.wrapping_add(1);
            tokio::time::sleep(FIRST_PAUSE / 4).await;
        }
    }

    /// Sees to it that there is a connection, and learns the slots where it is time.
    async fn look(&self, connection: &mut Option<Connection>, is_time: bool) -> Result<(), Fault> {
        let open = match connection {
            Some(open) if is_time => open,
            Some(_) => return Ok(()),
            None => connection.insert(self.dialer().dial().await?),
        };
        let slots = cmd("CLUSTER").arg("SLOTS").to_owned();
        let answer: Value = timeout(PATIENCE, slots.query_async(open)).await.map_err(|_| Fault::Timeout)??;
        self.shards.learn(&answer);
        Ok(())
    }

    /// Tries a shard again, with a write: a server that cannot be written to fails it.
    async fn probe(&self, script: &Script, mut connection: Connection, shard: Shard) {
        let Some(key) = self.shards.key_in(shard, &self.settings().prefix) else {
            // It has no slot any more, so nobody asks it.
            return self.probed(shard, true);
        };
        let words = ["", "probe"].map(|word| word.as_bytes().to_vec());
        let keys = [key.as_bytes()];
        let answer = timeout(PATIENCE, script.run(&mut connection, &keys, &words)).await;
        self.probed(shard, matches!(answer, Ok(Ok(_))));
    }
}
