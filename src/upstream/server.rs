//! One server: an address of a configured URL, with its state that all threads share.
//!
//! Everything here is an atomic that is read and moved without order: each figure is true by itself, none says anything about
//! memory elsewhere. A server lives as long as anything holds it: a list of members, a connection, an idle one in some thread's
//! pool. Its id is given to another one only after that.

use super::connect::Target;
use super::ejection::Outlier;
use super::health::Health;
use crate::engine::Nanos;
use crate::metrics::SERVER_STATES;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::Notify;

/// A server's place in each thread's pool. Unique among the servers that live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerId(pub(super) u32);

/// Whether a server is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It is.
    Up,
    /// Not: its health checks fail.
    Unhealthy,
    /// Not: requests to it failed.
    Ejected,
}

impl ServerState {
    /// Its name in metrics, logs and the admin API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        SERVER_STATES[self as usize]
    }
}

/// One server.
#[derive(Debug)]
pub struct Server {
    /// Its place in pools.
    pub id: ServerId,
    /// Where it listens.
    pub address: SocketAddr,
    /// What health checks say of it.
    pub health: Health,
    /// What requests say of it.
    pub outlier: Outlier,
    pub(super) target: Arc<Target>,
    in_flight: AtomicU32,
    open: AtomicU32,
    waiting: AtomicU32,
    listed: AtomicU32,
    /// A connection was closed while somebody waited for that.
    pub(super) freed: Notify,
}

impl Server {
    /// Requests in flight, of all threads.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Open connections, of all threads, unused ones included.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.open.load(Relaxed)
    }

    /// Whether anybody waits for a connection to it.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Whether any upstream still has it.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed.load(Relaxed) > 0
    }

    /// Whether it should get requests.
    #[must_use]
    pub fn is_available(&self, now: Nanos) -> bool {
        self.health.is_well() && !self.outlier.is_ejected(now)
    }

    /// Why it should get requests or not.
    #[must_use]
    pub fn state(&self, now: Nanos) -> ServerState {
        match (self.health.is_well(), self.outlier.is_ejected(now)) {
            (false, _) => ServerState::Unhealthy,
            (true, true) => ServerState::Ejected,
            (true, false) => ServerState::Up,
        }
    }

    /// Its URL, as it is configured.
    #[must_use]
    pub fn url(&self) -> String {
        self.target.url()
    }

    /// Room for one more connection, below `most`.
    #[must_use]
    pub fn open(self: &Arc<Self>, most: u32) -> Option<Open> {
        let one_more = |open: u32| (open < most).then_some(open + 1);
        self.open.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        Some(Open(Arc::clone(self)))
    }

    pub(super) fn list(&self) {
        self.listed.fetch_add(1, Relaxed);
    }

    pub(super) fn unlist(&self) {
        self.listed.fetch_sub(1, Relaxed);
    }

    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Relaxed);
        Waiting(Arc::clone(self))
    }
}

/// One open connection, counted until this is dropped.
#[derive(Debug)]
pub struct Open(Arc<Server>);

impl Open {
    /// To which server.
    #[must_use]
    pub fn server(&self) -> &Arc<Server> {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
        if self.0.is_awaited() {
            self.0.freed.notify_one();
        }
    }
}

/// One request in flight on an open connection, counted until this is dropped.
#[derive(Debug)]
pub struct Load(Option<On>);

/// What a request is in flight on.
#[derive(Debug)]
enum On {
    /// A connection of its own.
    Own(Open),
    /// One that others use too.
    Shared(Arc<Server>),
}

impl On {
    fn server(&self) -> &Arc<Server> {
        match self {
            On::Own(open) => open.server(),
            On::Shared(server) => server,
        }
    }
}

impl Load {
    /// A request begins.
    #[must_use]
    pub fn new(open: Open) -> Load {
        open.0.in_flight.fetch_add(1, Relaxed);
        Load(Some(On::Own(open)))
    }

    /// A request begins on a connection that others use too.
    #[must_use]
    pub fn shared(server: &Arc<Server>) -> Load {
        server.in_flight.fetch_add(1, Relaxed);
        Load(Some(On::Shared(Arc::clone(server))))
    }

    /// The request has ended well; its connection stays open, and is answered where it was the request's own.
    #[must_use]
    pub fn end(mut self) -> Option<Open> {
        if matches!(self.0, Some(On::Shared(_))) {
            return None;
        }
        let Some(On::Own(open)) = self.0.take() else { return None };
        open.0.in_flight.fetch_sub(1, Relaxed);
        Some(open)
    }

    /// At which server.
    #[must_use]
    pub fn server(&self) -> Option<&Arc<Server>> {
        self.0.as_ref().map(On::server)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let Some(on) = &self.0 else { return };
        let server = on.server();
        server.in_flight.fetch_sub(1, Relaxed);
        // There is room on a connection of some thread, and only the waiting ones of that thread can take it.
        if matches!(on, On::Shared(_)) && server.is_awaited() {
            server.freed.notify_waiters();
        }
    }
}

/// A request that waits for a connection, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Server>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
        // It may have been told of a free place that it does not take.
        if self.0.is_awaited() {
            self.0.freed.notify_one();
        }
    }
}

/// The ids of all servers that live.
#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<Vec<Weak<Server>>>);

impl Slots {
    /// A new server, in the first place that is free: there are never more places than servers lived at once.
    pub(super) fn make(&self, target: &Arc<Target>, address: SocketAddr) -> Arc<Server> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = slots.iter().position(|slot| slot.strong_count() == 0);
        let place = free.unwrap_or(slots.len());
        let server = Arc::new(Server {
            id: ServerId(u32::try_from(place).unwrap_or(u32::MAX)),
            address,
            health: Health::default(),
            outlier: Outlier::default(),
            target: Arc::clone(target),
            in_flight: AtomicU32::new(0),
            open: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            listed: AtomicU32::new(0),
            freed: Notify::new(),
        });
        match slots.get_mut(place) {
            Some(slot) => *slot = Arc::downgrade(&server),
            None => slots.push(Arc::downgrade(&server)),
        }
        server
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::servers;
    use super::*;

    #[test]
    fn connections_and_requests_are_counted_while_they_last() {
        let server = &servers(1)[0];
        let (first, second) = (server.open(2).unwrap(), server.open(2).unwrap());
        assert!(server.open(2).is_none(), "no more than so many");
        let load = Load::new(first);
        assert_eq!((server.connections(), server.in_flight()), (2, 1));
        let first = load.end().unwrap();
        assert_eq!((server.connections(), server.in_flight()), (2, 0));
        drop(Load::new(first));
        drop(second);
        assert_eq!((server.connections(), server.in_flight()), (0, 0));
    }

    #[test]
    fn an_id_is_given_again_only_when_nobody_holds_the_server() {
        let slots = Slots::default();
        let (target, address) = (Arc::clone(&servers(1)[0].target), SocketAddr::from(([127, 0, 0, 1], 1)));
        let first = slots.make(&target, address);
        let idle = first.open(9).unwrap();
        let second = slots.make(&target, address);
        drop(first);
        let third = slots.make(&target, address);
        assert_ne!(third.id, idle.server().id, "a connection holds it");
        let freed = idle.server().id;
        drop(idle);
        assert_eq!(slots.make(&target, address).id, freed);
        assert_ne!(second.id, third.id);
    }
}
