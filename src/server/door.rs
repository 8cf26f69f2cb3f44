//! Where a thread's connections come in: who may, and how many.
//!
//! At `max_connections`, and while buffers hold `max_buffer_memory`, nobody is accepted: further clients wait in the kernel's
//! queue, at most one of each listener in ours, and connections without a request are asked to leave, the longest idle first.
//! One address may have `max_connections_per_address`; what is more is closed at once, and so cannot keep others waiting.

use super::Phase;
use super::connection;
use super::crowd::{Counted, Crowd};
use super::guests::Guests;
use super::http1::Spares;
use crate::budget::Charge;
use crate::gateway::Home;
use crate::metrics::{Closed, Paused};
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

/// Bytes that any connection holds, whatever it does: its task, its record, its TLS session.
const CONNECTION_BYTES: usize = 8 * 1024;

/// A thread's door.
pub(super) struct Door {
    pub(super) home: Rc<Home>,
    phase: watch::Receiver<Phase>,
    /// Those that speak HTTP.
    pub(super) guests: Guests,
    /// What connections without anything to do lend the others.
    pub(super) spares: Rc<Spares>,
    crowd: Arc<Crowd>,
    inside: Cell<usize>,
    left: Notify,
}

/// A connection's place; the next one may come in when it is dropped.
pub(super) struct Place {
    pub(super) door: Rc<Door>,
    counted: Option<Counted>,
    _held: Charge,
}

impl Door {
    pub(super) fn new(home: Rc<Home>, phase: watch::Receiver<Phase>, crowd: Arc<Crowd>) -> Door {
        let guests = Guests::default();
        let spares = Rc::new(Spares::within(home.shared.time.clone(), &home.shared.budget));
        Door { home, phase, guests, spares, crowd, inside: Cell::new(0), left: Notify::new() }
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Waits until no more connections are accepted.
    pub(super) async fn closes(&self) {
        // An error means that nobody can tell us to go on.
        let _ = self.phase().wait_for(|phase| !phase.accepts()).await;
    }

    /// Waits until nobody is inside.
    pub(super) async fn emptied(&self) {
        while self.inside.get() > 0 {
            self.left.notified().await;
        }
    }

    /// Lets a client in as soon as there is a place, or closes its connection where its address has too many.
    pub(super) async fn enter(self: &Rc<Self>, socket: TcpStream, peer: IpAddr) {
        let peer = peer.to_canonical();
        let counted = if self.is_behind_balancer() {
            // The address that counts is not known yet.
            None
        } else {
            match self.count(peer) {
                Ok(counted) => counted,
                Err(()) => return,
            }
        };
        let mut place = self.place().await;
        place.counted = counted;
        tokio::task::spawn_local(connection::serve(place, socket, peer));
    }

    /// Whether connections begin with a PROXY protocol header.
    pub(super) fn is_behind_balancer(&self) -> bool {
        self.home.view().snapshot.config.server.proxy_protocol
    }

    /// Whether the peer may name other addresses than its own. Without a list, everybody may.
    pub(super) fn believes(&self, peer: IpAddr) -> bool {
        let view = self.home.view();
        let trusted = &view.snapshot.config.server.trusted_proxies;
        trusted.is_empty() || trusted.iter().any(|network| network.contains(&peer))
    }

    /// A warning that says how often it would have come, at most one a second.
    pub(super) fn complain(&self, error: &std::io::Error) {
        if let Some(times) = self.crowd.complain() {
            tracing::warn!(%error, times, "connections cannot be accepted");
        }
    }

    /// Asks who has been idle for longest to leave, since others wait.
    pub(super) fn make_room(&self) {
        self.guests.press(self.home.now());
    }

    /// The same where somebody waits on any thread.
    pub(super) fn make_room_if_waited_for(&self) {
        if self.crowd.is_waited_for() {
            self.make_room();
        }
    }

    /// Counts a connection of this address, where it counts. An error: it has too many.
    fn count(&self, address: IpAddr) -> Result<Option<Counted>, ()> {
        let view = self.home.view();
        let server = &view.snapshot.config.server;
        let is_proxy = || server.trusted_proxies.iter().any(|network| network.contains(&address));
        if server.max_connections_per_address == 0 || is_proxy() {
            return Ok(None);
        }
        let counted = self.crowd.count(address, server.max_connections_per_address);
        if counted.is_none() {
            self.home.shared.metrics.accept.refuse(Closed::Address);
        }
        counted.map(Some).ok_or(())
    }

    async fn place(self: &Rc<Self>) -> Place {
        /// Room comes with a reload too, and memory is given back in silence.
        const LOOK_AGAIN: Duration = Duration::from_millis(50);
        let full = match self.try_place() {
            Ok(place) => return place,
            Err(full) => full,
        };
        self.home.shared.metrics.accept.pause(full);
        let _waiting = self.crowd.wait();
        loop {
            self.make_room();
            self.crowd.left(LOOK_AGAIN).await;
            if let Ok(place) = self.try_place() {
                return place;
            }
        }
    }

    fn try_place(self: &Rc<Self>) -> Result<Place, Paused> {
        let shared = &self.home.shared;
        let mut held = Charge::none(&shared.budget);
        if !self.phase.borrow().accepts() {
            // One for each listener, and then none: who was accepted is served.
            self.crowd.enter();
            held.set(CONNECTION_BYTES);
        } else if !held.try_set(CONNECTION_BYTES) {
            return Err(Paused::Memory);
        } else if !self.crowd.try_enter(self.home.view().snapshot.config.server.max_connections) {
            return Err(Paused::Connections);
        }
        shared.metrics.connections.inc();
        self.inside.set(self.inside.get() + 1);
        Ok(Place { door: Rc::clone(self), counted: None, _held: held })
    }
}

impl Place {
    /// Counts the connection by the address that its balancer names. False: that one has too many.
    pub(super) fn count(&mut self, address: IpAddr) -> bool {
        let counted = self.door.count(address);
        let is_welcome = counted.is_ok();
        self.counted = counted.ok().flatten();
        is_welcome
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let door = &self.door;
        door.crowd.leave();
        door.home.shared.metrics.connections.dec();
        door.inside.set(door.inside.get() - 1);
        door.left.notify_waiters();
    }
}
