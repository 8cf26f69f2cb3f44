//! From an upstream to a connection for one request: an idle one, a new one, or the wait for one.

use super::connect::ConnectError;
use super::group::{Group, Overload};
use super::server::{Open, Server, ServerId};
use super::{Connection, Pool};
use crate::clock::timer_now;
use crate::engine::Nanos;
use std::sync::Arc;

/// Why there is no connection. Nothing has been sent then.
#[derive(Clone, Debug)]
pub enum Unreached {
    /// This server failed.
    Failed(ConnectError, Arc<Server>),
    /// There is no server: none of their names has been found.
    NoServer,
    /// The upstream takes no more.
    Overloaded(Overload),
}

/// What is at hand for a request.
pub enum AtHand {
    /// A connection.
    Ready(Connection),
    /// This server was chosen, and there is no idle connection to it.
    Server(Arc<Server>),
    /// There is no server.
    Nothing,
}

impl Pool {
    /// Chooses a server, other than those in `tried` where there are others, and takes an idle connection to it, unless a fresh
    /// one is asked for.
    #[must_use]
    pub fn choose(&self, group: &Group, tried: &[ServerId], now: Nanos, is_fresh: bool) -> AtHand {
        let idle_timeout = group.settings().idle_timeout;
        let take = |server: &Arc<Server>| {
            let idle = if is_fresh { None } else { self.take(server.id, idle_timeout, now) };
            idle.map_or_else(|| AtHand::Server(Arc::clone(server)), AtHand::Ready)
        };
        group.with_choice(&self.dice, tried, now, take).unwrap_or(AtHand::Nothing)
    }

    /// Makes a connection where there is no idle one, or waits for one where `max_connections` are open.
    ///
    /// # Errors
    /// When no connection comes about within `connect_timeout`, or too many wait already.
    pub async fn reach(
        &self,
        group: &Group,
        mut chosen: AtHand,
        tried: &[ServerId],
        now: Nanos,
    ) -> Result<Connection, Unreached> {
        let settings = group.settings();
        if matches!(chosen, AtHand::Nothing) {
            group.settle(timer_now() + settings.connect_timeout).await;
            chosen = self.choose(group, tried, now, false);
        }
        let server = match chosen {
            AtHand::Ready(connection) => return Ok(connection),
            AtHand::Nothing => return Err(Unreached::NoServer),
            AtHand::Server(server) => server,
        };
        let room = server.open(settings.bounds.max_connections).or_else(|| group.open_elsewhere(tried, now));
        let open = match room {
            Some(open) => open,
            None => match self.wait(group, &server).await? {
                Room::Idle(connection) => return Ok(*connection),
                Room::New(open) => open,
            },
        };
        let server = Arc::clone(open.server());
        self.connect(open, settings.connect_timeout).await.map_err(|error| Unreached::Failed(error, server))
    }

    /// Waits until the server takes another connection, or one of this thread's becomes idle.
    async fn wait(&self, group: &Group, server: &Arc<Server>) -> Result<Room, Unreached> {
        let settings = group.settings();
        let _pending = group.pend().map_err(Unreached::Overloaded)?;
        let _waiting = server.wait();
        let here = self.wait_here(server.id);
        let until = timer_now() + settings.connect_timeout;
        loop {
            // Before looking, so that nothing is missed between the two.
            let (freed, idle) = (server.freed.notified(), here.idle.notified());
            if let Some(connection) = self.take(server.id, settings.idle_timeout, self.now()) {
                return Ok(Room::Idle(Box::new(connection)));
            }
            if let Some(open) = server.open(settings.bounds.max_connections) {
                return Ok(Room::New(open));
            }
            tokio::select! {
                () = freed => {}
                () = idle => {}
                () = tokio::time::sleep_until(until) => {
                    return Err(Unreached::Overloaded(group.refuse(Overload::Connections)));
                }
            }
        }
    }
}

/// What a wait ends with.
enum Room {
    /// A connection that became idle.
    Idle(Box<Connection>),
    /// Room for a new one.
    New(Open),
}
