//! An upstream as it runs: its servers, what it may be given at once, and who of them gets a request.
//!
//! There is one for each upstream of each configuration. Over a reload its counts go on by its name, and servers whose URL,
//! authorities and address are the same keep everything: health, ejection, connections, requests in flight. Servers that are no
//! longer there serve what they have; their idle connections are closed.

use super::balance::{Choice, Dice};
use super::budget::Budget;
use super::connect::Target;
use super::ejection::most_ejected;
use super::resolve::Site;
use super::secure::UpstreamTls;
use super::server::{Open, Server, ServerId, Slots};
use crate::config::{Ejection, Upstream};
use crate::engine::Nanos;
use crate::metrics::UpstreamMetrics;
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio::time::Instant;

/// Why an upstream takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// `max_in_flight` requests are in flight.
    InFlight,
    /// `max_pending` requests wait for a connection.
    Pending,
    /// No connection became free within `connect_timeout`.
    Connections,
}

impl Overload {
    /// The `bound` label of `tollgate_upstream_overloads_total`.
    #[must_use]
    pub fn bound(self) -> &'static str {
        match self {
            Overload::InFlight => "max_in_flight",
            Overload::Pending => "max_pending",
            Overload::Connections => "max_connections",
        }
    }
}

/// An upstream as it runs.
#[derive(Debug)]
pub struct Group {
    pub(super) settings: Upstream,
    pub(super) sites: Box<[Arc<Site>]>,
    members: ArcSwap<Members>,
    tally: Arc<Tally>,
    slots: Arc<Slots>,
    /// All names have been looked up once, with whatever outcome.
    is_settled: AtomicBool,
    /// Counts changes of members.
    changes: watch::Sender<u64>,
}

/// What is counted by the upstream's name.
#[derive(Debug)]
struct Tally {
    in_flight: AtomicU32,
    pending: AtomicU32,
    turn: AtomicUsize,
    budget: Budget,
    /// Held while a server is ejected: the share holds whoever ejects.
    ejecting: Mutex<()>,
    metrics: UpstreamMetrics,
}

/// The servers of an upstream, in the order of their URLs, then of their addresses.
#[derive(Debug)]
struct Members(Box<[Arc<Server>]>);

impl Members {
    fn new(servers: Box<[Arc<Server>]>) -> Members {
        servers.iter().for_each(|server| server.list());
        Members(servers)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.0.iter().for_each(|server| server.unlist());
    }
}

impl Group {
    /// The upstream as it is now configured, with all that it keeps of the one before.
    pub(super) fn new(
        upstream: &Upstream,
        tls: &Arc<UpstreamTls>,
        before: Option<&Arc<Group>>,
        slots: &Arc<Slots>,
        metrics: &UpstreamMetrics,
    ) -> Arc<Group> {
        let site = |server| {
            let target = Target::new(server, tls);
            let same = before.and_then(|group| group.sites.iter().find(|site| *site.target == target));
            same.cloned().unwrap_or_else(|| Arc::new(Site::new(target)))
        };
        let sites: Box<[Arc<Site>]> = upstream.servers.iter().map(site).collect();
        if let Some(before) = before.filter(|before| before.settings == *upstream && same(&before.sites, &sites)) {
            return Arc::clone(before);
        }
        let known = before.map(|group| group.servers());
        let servers = servers(&sites, known.as_deref().unwrap_or_default(), slots);
        if upstream.health.is_none() {
            servers.iter().for_each(|server| server.health.forget());
        }
        Arc::new(Group {
            settings: upstream.clone(),
            is_settled: AtomicBool::new(!sites.iter().any(|site| site.has_name())),
            sites,
            members: ArcSwap::from_pointee(Members::new(servers)),
            tally: before.map_or_else(|| Arc::new(Tally::new(metrics)), |before| Arc::clone(&before.tally)),
            slots: Arc::clone(slots),
            changes: watch::Sender::new(0),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &Upstream {
        &self.settings
    }

    /// Its servers now.
    #[must_use]
    pub fn servers(&self) -> Box<[Arc<Server>]> {
        self.members.load().0.clone()
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.tally.in_flight.load(Relaxed)
    }

    /// Requests that wait for a connection.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.tally.pending.load(Relaxed)
    }

    /// Its metrics.
    #[must_use]
    pub fn metrics(&self) -> &UpstreamMetrics {
        &self.tally.metrics
    }

    /// A request comes. Each one that was let in must [`Group::leave`].
    ///
    /// # Errors
    /// When there are `max_in_flight` already.
    pub fn enter(&self, now: Nanos) -> Result<(), Overload> {
        if self.tally.in_flight.fetch_add(1, Relaxed) >= self.settings.bounds.max_in_flight {
            self.leave();
            return Err(self.refuse(Overload::InFlight));
        }
        self.tally.budget.request(now);
        Ok(())
    }

    /// A request has ended.
    pub fn leave(&self) {
        self.tally.in_flight.fetch_sub(1, Relaxed);
    }

    /// Does something with the server to use for a request; those in `tried` have failed it. `None` where there is no server.
    pub fn with_choice<T>(
        &self,
        dice: &Dice,
        tried: &[ServerId],
        now: Nanos,
        then: impl FnOnce(&Arc<Server>) -> T,
    ) -> Option<T> {
        let members = self.members.load();
        let choice = Choice { balance: self.settings.balance, dice, turn: &self.tally.turn, now, tried };
        choice.of(&members.0).map(then)
    }

    /// Another server that takes a connection, where the chosen one takes no more.
    #[must_use]
    pub fn open_elsewhere(&self, tried: &[ServerId], now: Nanos) -> Option<Open> {
        let members = self.members.load();
        let fits = |server: &&Arc<Server>| server.is_available(now) && !tried.contains(&server.id);
        members.0.iter().filter(fits).find_map(|server| server.open(self.settings.bounds.max_connections))
    }

    /// A request begins to wait for a connection.
    ///
    /// # Errors
    /// When `max_pending` wait already.
    pub(super) fn pend(&self) -> Result<Pending<'_>, Overload> {
        let pending = Pending(&self.tally.pending);
        if self.tally.pending.fetch_add(1, Relaxed) >= self.settings.bounds.max_pending {
            drop(pending);
            return Err(self.refuse(Overload::Pending));
        }
        Ok(pending)
    }

    /// Counts a refusal.
    pub(super) fn refuse(&self, overload: Overload) -> Overload {
        self.tally.metrics.overload(self.name(), overload.bound());
        overload
    }

    /// Waits for the first answer to the look-ups of its names, but no longer than `until`. Afterwards there may be servers.
    pub(super) async fn settle(&self, until: Instant) {
        let mut changes = self.changes.subscribe();
        let settled = changes.wait_for(|_| self.is_settled.load(Relaxed) || !self.members.load().0.is_empty());
        // Whoever gives up finds no servers, and says so.
        let _ = tokio::time::timeout_at(until, settled).await;
    }

    /// A request to a server succeeded, or failed in a way that speaks against the server.
    pub fn note(&self, server: &Server, succeeded: bool, now: Nanos) {
        if succeeded {
            server.outlier.succeeded();
        } else if server.outlier.failed(&self.settings.ejection, now) {
            self.eject(server, now);
        }
    }

    /// Leaves a server out. Where the share is used up, the one whose time would end first comes back for it: what failed a
    /// while ago may be well again, what fails now is not.
    fn eject(&self, server: &Server, now: Nanos) {
        let settings: &Ejection = &self.settings.ejection;
        let _ejecting = self.tally.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let members = self.members.load();
        let ejected = || members.0.iter().filter(|member| member.outlier.is_ejected(now));
        let is_member = members.0.iter().any(|member| member.id == server.id);
        let most = most_ejected(members.0.len(), settings);
        if server.outlier.is_ejected(now) || !is_member || most == 0 {
            return;
        }
        if ejected().count() >= most
            && let Some(first) = ejected().min_by_key(|member| member.outlier.until())
        {
            first.outlier.readmit(now);
            tracing::info!(upstream = self.name(), server = %first.address, "a server is used again: another one fails now");
        }
        let length = server.outlier.eject(settings, now);
        self.tally.metrics.ejection(self.name());
        let failures = server.outlier.failures();
        tracing::warn!(upstream = self.name(), server = %server.address, failures, ?length, "a server is left out");
    }

    /// Takes one retry out of the budget, if there is one.
    #[must_use]
    pub fn may_retry(&self, now: Nanos) -> bool {
        self.tally.budget.retry(self.settings.retries.budget, now)
    }

    /// The addresses of its servers may have changed, or all have been looked up.
    pub(super) fn refresh(&self, is_settled: bool) {
        let before = self.members.load_full();
        let servers = servers(&self.sites, &before.0, &self.slots);
        if !(servers.len() == before.0.len() && servers.iter().zip(&before.0).all(|(one, two)| one.id == two.id)) {
            let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
            tracing::info!(upstream = self.name(), ?addresses, "the servers of an upstream have changed");
            self.members.store(Arc::new(Members::new(servers)));
        }
        if is_settled {
            self.is_settled.store(true, Relaxed);
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Tells of changes of its servers.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Tally {
    fn new(metrics: &UpstreamMetrics) -> Tally {
        Tally {
            in_flight: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            turn: AtomicUsize::new(0),
            budget: Budget::default(),
            ejecting: Mutex::new(()),
            metrics: metrics.clone(),
        }
    }
}

/// A request that waits for a connection, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Pending<'a>(&'a AtomicU32);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn same(before: &[Arc<Site>], now: &[Arc<Site>]) -> bool {
    before.len() == now.len() && before.iter().zip(now).all(|(one, two)| Arc::ptr_eq(one, two))
}

/// A server for each address of each site: the one that is known, else a new one.
fn servers(sites: &[Arc<Site>], known: &[Arc<Server>], slots: &Slots) -> Box<[Arc<Server>]> {
    let server = |site: &Site, address| {
        let same = |server: &&Arc<Server>| Arc::ptr_eq(&server.target, &site.target) && server.address == address;
        known.iter().find(same).cloned().unwrap_or_else(|| slots.make(&site.target, address))
    };
    sites.iter().flat_map(|site| site.addresses().into_iter().map(move |address| server(site, address))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{group, upstream};
    use super::*;
    use crate::config::{Share, UpstreamBounds};
    use crate::metrics::Metrics;
    use std::time::Duration;

    const NOW: Nanos = Nanos(1_000_000_000);

    fn ids(group: &Group) -> Vec<u32> {
        group.servers().iter().map(|server| server.id.0).collect()
    }

    #[test]
    fn never_more_than_the_share_is_ejected_and_never_the_last() {
        let group = group(&["http://10.0.0.1", "http://10.0.0.2", "http://10.0.0.3", "http://10.0.0.4"]);
        let ejected = || group.servers().iter().filter(|server| server.outlier.is_ejected(NOW)).count();
        for _ in 0..20 {
            group.servers().iter().for_each(|server| group.note(server, false, NOW));
        }
        assert_eq!(ejected(), 2);
        let fourth = &group.servers()[3];
        assert!(fourth.outlier.is_ejected(NOW), "who fails now takes the place of who failed before");
        let later = Nanos(NOW.0 + 300_000_000_000);
        assert!(group.servers().iter().all(|server| server.is_available(later)));
        let alone = super::super::tests::group(&["http://10.0.0.1"]);
        for _ in 0..20 {
            alone.note(&alone.servers()[0], false, NOW);
        }
        assert!(alone.servers()[0].is_available(NOW));
    }

    #[test]
    fn a_reload_keeps_the_servers_that_stay_with_their_state() {
        let (metrics, slots) = (Metrics::new().unwrap(), Arc::new(Slots::default()));
        let of =
            |urls: &[&str], before| Group::new(&upstream(urls), &Arc::default(), before, &slots, &metrics.upstreams);
        let first = of(&["http://10.0.0.1", "http://10.0.0.2"], None);
        first.enter(NOW).unwrap();
        for _ in 0..5 {
            first.note(&first.servers()[1], false, NOW);
        }
        let same = of(&["http://10.0.0.1", "http://10.0.0.2"], Some(&first));
        assert!(Arc::ptr_eq(&first, &same), "nothing has changed");
        let second = of(&["http://10.0.0.3", "http://10.0.0.2"], Some(&first));
        assert_eq!((ids(&second), second.in_flight()), (vec![2, 1], 1));
        let [fresh, kept] = &*second.servers() else { panic!() };
        assert!(fresh.is_available(NOW) && !kept.is_available(NOW));
        let gone = Arc::clone(&first.servers()[0]);
        assert!(gone.is_listed(), "as long as a request has the configuration it was in");
        drop((first, same));
        assert!(!gone.is_listed() && kept.is_listed());
        second.leave();
        assert_eq!(second.in_flight(), 0);
    }

    #[test]
    fn names_bring_servers_when_they_are_found() {
        let group = group(&["http://api.test", "http://10.0.0.9"]);
        assert_eq!(group.servers().len(), 1);
        let found = |ips: &[&str]| {
            let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
            assert!(group.sites[0].learn(Ok(ips)).unwrap());
            group.refresh(true);
            group.servers().iter().map(|server| server.address.ip().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(&["10.0.0.2", "10.0.0.1"]), ["10.0.0.1", "10.0.0.2", "10.0.0.9"]);
        let kept = Arc::clone(&group.servers()[1]);
        assert_eq!(found(&["10.0.0.2", "10.0.0.3"]), ["10.0.0.2", "10.0.0.3", "10.0.0.9"]);
        assert!(Arc::ptr_eq(&kept, &group.servers()[0]), "it keeps its state");
    }

    #[test]
    fn bounds_refuse_and_give_back() {
        let mut settings = upstream(&["http://10.0.0.1", "http://10.0.0.2"]);
        settings.bounds = UpstreamBounds { max_connections: 1, max_pending: 1, max_in_flight: 2 };
        settings.retries.budget = Share(0);
        let metrics = Metrics::new().unwrap();
        let group = Group::new(&settings, &Arc::default(), None, &Arc::default(), &metrics.upstreams);
        assert!(group.enter(NOW).is_ok() && group.enter(NOW).is_ok());
        assert_eq!(group.enter(NOW), Err(Overload::InFlight));
        group.leave();
        assert!(group.enter(NOW).is_ok());
        let one = group.pend().unwrap();
        assert_eq!(group.pend().err(), Some(Overload::Pending));
        drop(one);
        assert!(group.pend().is_ok());
        let open = group.servers()[0].open(1).unwrap();
        let other = group.open_elsewhere(&[], NOW).unwrap();
        assert_ne!(open.server().id, other.server().id);
        assert!(group.open_elsewhere(&[], NOW).is_none());
        drop(other);
        assert!(group.open_elsewhere(&[group.servers()[1].id], NOW).is_none(), "it has failed already");
        assert!(metrics.text().unwrap().contains(r#"overloads_total{bound="max_in_flight",upstream="api"} 1"#));
    }

    #[test]
    fn ejection_goes_on_for_longer_while_a_server_stays_dead() {
        let group = group(&["http://10.0.0.1", "http://10.0.0.2"]);
        let server = Arc::clone(&group.servers()[0]);
        let mut now = NOW;
        for round in 1..=3 {
            while server.is_available(now) {
                group.note(&server, false, now);
            }
            assert_eq!(server.outlier.left(now), Duration::from_secs(10 * round));
            now = Nanos(now.0 + 10_000_000_000 * round);
        }
        group.note(&server, true, now);
        group.note(&server, false, now);
        assert!(server.is_available(now), "a success begins anew");
    }
}
