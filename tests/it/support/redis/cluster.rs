//! A Redis Cluster of three primaries, each with a replica where wanted.

use super::{Options, Redis, Reply, find_line};
use crate::support::wait::wait_until;

/// Slots of a cluster.
const SLOTS: usize = 16_384;

/// A primary is taken for dead after so many milliseconds.
const NODE_TIMEOUT_MS: u32 = 1_000;

/// Three primaries, the slots in equal parts.
pub(crate) struct Cluster {
    pub(crate) primaries: Vec<Redis>,
    /// In the order of their primaries; empty without replicas.
    pub(crate) replicas: Vec<Redis>,
}

impl Cluster {
    /// Without replicas: a lost primary's slots are lost, the other two go on.
    pub(crate) fn start() -> Cluster {
        Cluster::start_with(0)
    }

    /// With a replica of each primary, which takes over when it is lost.
    pub(crate) fn start_replicated() -> Cluster {
        Cluster::start_with(3)
    }

    fn start_with(replicas: usize) -> Cluster {
        let node = || {
            let options = Options { bus: true, ..Options::default() };
            let options = options.line(&format!("cluster-node-timeout {NODE_TIMEOUT_MS}"));
            options.line("cluster-require-full-coverage no").line("cluster-replica-validity-factor 0").start()
        };
        let primaries: Vec<Redis> = (0..3).map(|_| node()).collect();
        let replicas: Vec<Redis> = (0..replicas).map(|_| node()).collect();
        let cluster = Cluster { primaries, replicas };
        cluster.join();
        cluster
    }

    /// `[store] urls`: all primaries.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.primaries.iter().map(Redis::url).collect()
    }

    /// The primary that has a key's slot, by its place in [`Cluster::primaries`].
    pub(crate) fn primary_of(&self, key: &str) -> usize {
        let slot = self.primaries[0].command(&["CLUSTER", "KEYSLOT", key]).number() as usize;
        (0..3).find(|&index| slot < bound(index + 1)).unwrap()
    }

    fn join(&self) {
        for (index, primary) in self.primaries.iter().enumerate() {
            let (first, last) = (bound(index).to_string(), (bound(index + 1) - 1).to_string());
            ok(&primary.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]));
            ok(&primary.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]));
        }
        let first = &self.primaries[0];
        let (ip, port) = (first.address().ip().to_string(), first.address().port().to_string());
        for node in self.primaries[1..].iter().chain(&self.replicas) {
            ok(&node.command(&["CLUSTER", "MEET", &ip, &port, &first.ports.bus.to_string()]));
        }
        let size = self.primaries.len() + self.replicas.len();
        for (primary, replica) in self.primaries.iter().zip(&self.replicas) {
            let id = primary.command(&["CLUSTER", "MYID"]).text().unwrap().to_owned();
            // Refused until the replica has heard of its primary.
            wait_until("a replica takes its place", || {
                replica.command(&["CLUSTER", "REPLICATE", &id]) == Reply::Text("OK".to_owned())
            });
        }
        for node in self.primaries.iter().chain(&self.replicas) {
            wait_until("the cluster agrees", || {
                let info = node.command(&["CLUSTER", "INFO"]);
                let says = |name| find_line(&info, name).unwrap_or_default();
                says("cluster_state") == "ok"
                    && says("cluster_slots_ok") == SLOTS.to_string()
                    && says("cluster_known_nodes") == size.to_string()
            });
        }
        for replica in &self.replicas {
            wait_until("a replica is in step", || replica.info("replication", "master_link_status") == "up");
        }
    }
}

/// The first slot of a primary.
fn bound(index: usize) -> usize {
    SLOTS * index / 3
}

#[track_caller]
fn ok(reply: &Reply) {
    assert_eq!(reply, &Reply::Text("OK".to_owned()));
}
