//! All upstreams of the running configuration, over reloads.

use super::group::Group;
use super::resolve::{Resolve, SystemResolver};
use super::secure::UpstreamTls;
use super::server::Slots;
use crate::config::Upstream;
use crate::engine::Nanos;
use crate::metrics::{UpstreamCensus, UpstreamMetrics};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// The upstreams as they run. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Servers(Arc<Registry>);

#[derive(Debug)]
struct Registry {
    slots: Arc<Slots>,
    current: Mutex<Box<[Arc<Group>]>>,
    resolver: Arc<dyn Resolve>,
    replaced: Notify,
}

impl Default for Servers {
    fn default() -> Servers {
        Servers::resolved_by(Arc::new(SystemResolver))
    }
}

impl Servers {
    /// No upstreams yet; names will be looked up there.
    #[must_use]
    pub fn resolved_by(resolver: Arc<dyn Resolve>) -> Servers {
        let (slots, current) = (Arc::default(), Mutex::default());
        Servers(Arc::new(Registry { slots, current, resolver, replaced: Notify::new() }))
    }

    /// The upstreams of a new configuration, in its order, each with its TLS. They keep what those of the same name have: see [`Group`].
    #[must_use]
    pub fn replace(
        &self,
        upstreams: &[Upstream],
        tls: &[Arc<UpstreamTls>],
        metrics: &UpstreamMetrics,
    ) -> Box<[Arc<Group>]> {
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        let group = |(upstream, tls): (&Upstream, &Arc<UpstreamTls>)| {
            let before = current.iter().find(|group| *group.name() == *upstream.name);
            Group::new(upstream, tls, before, &self.0.slots, metrics)
        };
        let groups: Box<[Arc<Group>]> = upstreams.iter().zip(tls).map(group).collect();
        *current = groups.clone();
        self.0.replaced.notify_one();
        groups
    }

    /// The upstreams of the running configuration.
    #[must_use]
    pub fn current(&self) -> Box<[Arc<Group>]> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a scrape shows of each upstream.
    #[must_use]
    pub fn census(&self, now: Nanos) -> Vec<(Box<str>, UpstreamCensus)> {
        let census = |group: &Arc<Group>| {
            let mut census =
                UpstreamCensus { in_flight: group.in_flight(), pending: group.pending(), ..UpstreamCensus::default() };
            for server in &group.servers() {
                census.servers[server.state(now) as usize] += 1;
                census.connections += server.connections();
            }
            (group.name().into(), census)
        };
        self.current().iter().map(census).collect()
    }

    pub(super) fn resolver(&self) -> &Arc<dyn Resolve> {
        &self.0.resolver
    }

    pub(super) async fn replaced(&self) {
        self.0.replaced.notified().await;
    }
}
