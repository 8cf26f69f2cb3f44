//! The connections of a thread that many requests share, by server.

use super::ServerId;
use super::http2::{Lane, Shared};
use crate::engine::Nanos;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All of them, at most `max_connections` a server. Servers that never shared a connection leave nothing here.
#[derive(Default)]
pub(super) struct SharedConnections {
    servers: RefCell<HashMap<ServerId, Server>>,
}

struct Server {
    connections: Vec<Rc<Shared>>,
    /// Who makes a new one; the others wait for it.
    turn: std::sync::Arc<Semaphore>,
    /// Whether its connections turned out not to be shared.
    speaks_http1: bool,
}

impl Default for Server {
    fn default() -> Server {
        Server { connections: Vec::new(), turn: std::sync::Arc::new(Semaphore::new(1)), speaks_http1: false }
    }
}

impl SharedConnections {
    /// A place on a connection that has room, if there is one.
    pub(super) fn join(&self, server: ServerId) -> Option<Lane> {
        let servers = self.servers.borrow();
        let known = servers.get(&server)?;
        known.connections.iter().find(|connection| connection.has_room()).map(Shared::join)
    }

    /// The turn to make a connection to a server, once nobody else has it; `None` where connections are not shared.
    pub(super) async fn turn(&self, server: ServerId) -> Option<OwnedSemaphorePermit> {
        let turn = {
            let mut servers = self.servers.borrow_mut();
            let known = servers.entry(server).or_default();
            (!known.speaks_http1).then(|| std::sync::Arc::clone(&known.turn))?
        };
        let permit = turn.acquire_owned().await.ok()?;
        let speaks_http1 = self.servers.borrow().get(&server).is_some_and(|known| known.speaks_http1);
        (!speaks_http1).then_some(permit)
    }

    /// A server's connections are not shared after all. What it says is asked again once it has shared one.
    pub(super) fn speaks_http1(&self, server: ServerId) {
        self.servers.borrow_mut().entry(server).or_default().speaks_http1 = true;
    }

    /// Adds a new connection, and takes a place on it.
    pub(super) fn add(&self, server: ServerId, connection: Rc<Shared>) -> Lane {
        let lane = connection.join();
        let mut servers = self.servers.borrow_mut();
        let known = servers.entry(server).or_default();
        known.connections.retain(|connection| connection.is_fit());
        known.connections.push(connection);
        known.speaks_http1 = false;
        lane
    }

    /// Closes those on which nothing has been in flight since `oldest`, and forgets those that end anyway.
    pub(super) fn expire(&self, oldest: Nanos) {
        for known in self.servers.borrow_mut().values_mut() {
            known.connections.retain(|connection| {
                connection.is_fit() && connection.idle_since().is_none_or(|since| since >= oldest)
            });
        }
    }
}
