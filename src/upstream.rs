//! FLOOR 2: connections to upstream servers, one pool a thread.
//!
//! A pool is a stack per server: the connection that came back last goes out first, so that few stay warm and the rest age
//! out. Nothing is locked and no task is woken to hand a connection on. Bounds: `max_idle` idle connections a server and
//! thread; one that waited longer than `idle_timeout` is closed; heads of answers are at most [`MAX_HEAD_BYTES`] and
//! [`MAX_HEADERS`] long.

mod body;
mod client_body;
mod connect;
mod gather;
mod pace;
mod read_ahead;

pub use body::{BodyFault, Deadline, RequestBody, Tick};
pub use client_body::{ClientBody, Leftover, MAX_DRAIN_BYTES, drain};
pub use connect::{CaError, ConnectError, check_ca};
pub use gather::Gather;
pub use pace::Pace;
pub use read_ahead::{Reach, ReadAhead, ReadFault};

use crate::clock::Time;
use crate::config::Upstream;
use crate::engine::{Clock, Nanos, time::nanos_of};
use connect::Target;
use hyper::client::conn::http1::SendRequest;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Bytes of the head of an upstream's answer.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Header fields of an upstream's answer.
pub const MAX_HEADERS: usize = 100;

/// A server's place among all servers the process ever knew: stable over reloads, so that a reload keeps connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerId(u32);

/// All servers ever configured. They are few: a reload adds at most the new ones.
#[derive(Debug, Default)]
pub struct Servers {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    targets: Vec<Arc<Target>>,
    ids: HashMap<Target, ServerId>,
}

impl Servers {
    /// The ids of an upstream's servers, in order.
    #[must_use]
    pub fn intern(&self, upstream: &Upstream) -> Box<[ServerId]> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        upstream
            .servers
            .iter()
            .map(|server| {
                let target = Target::new(server, upstream);
                if let Some(&id) = known.ids.get(&target) {
                    return id;
                }
                let id = ServerId(u32::try_from(known.targets.len()).unwrap_or(u32::MAX));
                known.targets.push(Arc::new(target.clone()));
                known.ids.insert(target, id);
                id
            })
            .collect()
    }

    fn target(&self, id: ServerId) -> Option<Arc<Target>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.targets.get(id.0 as usize).cloned()
    }
}

/// A connection that is out: give it back after a whole exchange, or drop it to close it.
pub struct Connection {
    /// Sends requests, one at a time.
    pub sender: SendRequest<RequestBody>,
    server: ServerId,
    /// Whether it has served a request before, so that it may have been closed meanwhile.
    pub reused: bool,
    /// Bounds the wait for an answer.
    pub deadline: Deadline,
}

struct Idle {
    sender: SendRequest<RequestBody>,
    deadline: Deadline,
    since: Nanos,
}

/// One thread's idle connections.
pub struct Pool {
    time: Time,
    idle: RefCell<Vec<Vec<Idle>>>,
    /// Whose turn it is among the servers that begin with this one: requests for one upstream never move another's turn.
    turns: RefCell<HashMap<ServerId, usize>>,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(time: Time) -> Pool {
        Pool { time, idle: RefCell::default(), turns: RefCell::default() }
    }

    /// The order in which to try an upstream's servers: round robin, then on.
    pub fn order<'a>(&self, servers: &'a [ServerId]) -> impl Iterator<Item = ServerId> + use<'a> {
        let start = match servers {
            [] | [_] => 0,
            [first, ..] => {
                let mut turns = self.turns.borrow_mut();
                let turn = turns.entry(*first).or_insert(0);
                *turn = (*turn + 1) % servers.len();
                *turn
            }
        };
        servers[start..].iter().chain(&servers[..start]).copied()
    }

    /// An idle connection that can take a request at `now`.
    #[must_use]
    pub fn take(&self, server: ServerId, idle_timeout: Duration, now: Nanos) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(server.0 as usize)?;
        let oldest = Nanos(now.0.saturating_sub(nanos_of(idle_timeout)));
        for place in (0..stack.len()).rev() {
            let idle = &stack[place];
            if idle.since < oldest {
                // What lies below waited even longer.
                stack.drain(..=place);
                return None;
            }
            if idle.sender.is_closed() {
                stack.remove(place);
            } else if idle.sender.is_ready() {
                let Idle { sender, deadline, .. } = stack.remove(place);
                return Some(Connection { sender, server, reused: true, deadline });
            }
            // Neither: it is still finishing its last exchange.
        }
        None
    }

    /// A new connection.
    ///
    /// # Errors
    /// When the server cannot be reached within `timeout`.
    pub async fn connect(
        &self,
        servers: &Servers,
        server: ServerId,
        timeout: Duration,
    ) -> Result<Connection, ConnectError> {
        let target = servers.target(server).ok_or(ConnectError::Unreachable)?;
        let sender = tokio::time::timeout(timeout, target.connect()).await.map_err(|_| ConnectError::TimedOut)??;
        Ok(Connection { sender, server, reused: false, deadline: Deadline::default() })
    }

    /// Takes a connection back after a whole exchange. The oldest goes when there are more than `max_idle`.
    pub fn give_back(&self, connection: Connection, max_idle: usize) {
        let Connection { sender, server, deadline, .. } = connection;
        if sender.is_closed() || max_idle == 0 {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let place = server.0 as usize;
        if idle.len() <= place {
            idle.resize_with(place + 1, Vec::new);
        }
        let stack = &mut idle[place];
        if stack.len() >= max_idle {
            stack.remove(0);
        }
        stack.push(Idle { sender, deadline, since: self.time.now() });
    }

    /// Closes connections that have been idle for longer than `idle_timeout`, whatever their server.
    pub fn expire(&self, idle_timeout: Duration) {
        let oldest = Nanos(self.time.now().0.saturating_sub(nanos_of(idle_timeout)));
        for stack in self.idle.borrow_mut().iter_mut() {
            stack.retain(|idle| idle.since >= oldest && !idle.sender.is_closed());
        }
    }

    /// Idle connections now.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle.borrow().iter().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_take_turns_within_their_upstream() {
        let pool = Pool::new(Time::system());
        let (one, other) = ([ServerId(0), ServerId(1)], [ServerId(2), ServerId(3)]);
        let mut firsts = Vec::new();
        for _ in 0..4 {
            firsts.extend(pool.order(&one).next());
            firsts.extend(pool.order(&other).next());
        }
        for server in one.iter().chain(&other) {
            assert_eq!(firsts.iter().filter(|first| *first == server).count(), 2, "{firsts:?}");
        }
        assert_eq!(pool.order(&[]).count(), 0);
        assert_eq!(pool.order(&one).count(), 2);
    }
}
