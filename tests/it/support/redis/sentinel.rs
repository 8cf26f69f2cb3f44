//! A primary, its replica, and one sentinel that watches over them.

use super::{Options, Redis, Reply};
use crate::support::wait::wait_until;
use std::net::SocketAddr;

/// The name by which the sentinel knows the primary.
pub(crate) const MASTER_NAME: &str = "tollgate";

pub(crate) struct Sentinel {
    pub(crate) primary: Redis,
    pub(crate) replica: Redis,
    sentinel: Redis,
}

impl Sentinel {
    /// All three, once the sentinel knows both servers.
    pub(crate) fn start() -> Sentinel {
        let primary = Redis::start();
        let replica = Options::default().replica_of(primary.address()).start();
        wait_until("the replica is in step", || replica.info("replication", "master_link_status") == "up");
        let port = primary.address().port();
        let options = Options { sentinel: true, ..Options::default() };
        let sentinel = options
            .line(&format!("sentinel monitor {MASTER_NAME} 127.0.0.1 {port} 1"))
            .line(&format!("sentinel down-after-milliseconds {MASTER_NAME} 500"))
            .line(&format!("sentinel failover-timeout {MASTER_NAME} 5000"))
            .start();
        let all = Sentinel { primary, replica, sentinel };
        wait_until(
            "the sentinel knows the replica",
            || matches!(all.sentinel.command(&["SENTINEL", "REPLICAS", MASTER_NAME]), Reply::List(list) if !list.is_empty()),
        );
        all
    }

    /// `[store] urls`: the sentinel's own.
    pub(crate) fn url(&self) -> String {
        self.sentinel.url()
    }

    /// Whom the sentinel names the primary at the moment.
    pub(crate) fn current(&self) -> SocketAddr {
        let reply = self.sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME]);
        let [ip, port] = [0, 1].map(|index| reply.list()[index].text().unwrap().to_owned());
        format!("{ip}:{port}").parse().unwrap()
    }
}
