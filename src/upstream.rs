//! FLOOR 2: connections to upstream servers, one pool a thread.
//!
//! An HTTP/1 connection carries one request at a time, an HTTP/2 connection many: it stays in the pool while they are on it, and
//! one more is made when all have as many as their upstream takes, at most `max_idle` a server and thread.
//!
//! A pool is a stack per server: the connection that came back last goes out first, so that few stay warm and the rest age
//! out. Nothing is locked and no task is woken to hand a connection on. Bounds: `max_idle` idle connections a server and
//! thread; one that waited longer than `idle_timeout` is closed; heads of answers are at most [`MAX_HEAD_BYTES`] and
//! [`MAX_HEADERS`] long.

mod body;
mod client_body;
mod connect;
mod gather;
mod http2;
mod pipe;
mod read_ahead;
mod shared;
mod watched;

pub use body::{BodyError, BodyFault, Deadline, RequestBody, ResponseBody, Tick};
pub use client_body::{ClientBody, Leftover, MAX_DRAIN_BYTES, drain};
pub use connect::{CaError, ConnectError, check_ca};
pub use gather::Gather;
pub use http2::{StreamBody, Wanted};
pub use pipe::{Broken, Pipe};
pub use read_ahead::{Reach, ReadAhead, ReadFault};

use crate::clock::Time;
use crate::config::Upstream;
use crate::engine::{Clock, Nanos, time::nanos_of};
use connect::{Made, Target};
use http::{Request, Response};
use http2::Lane;
use hyper::client::conn::http1::SendRequest;
use shared::SharedConnections;
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
    pub sender: Sender,
    server: ServerId,
    /// Whether it has served a request before, so that it may have been closed meanwhile.
    pub reused: bool,
    /// Bounds the wait for an answer.
    pub deadline: Deadline,
}

/// What sends a request, by what the connection speaks.
pub enum Sender {
    /// HTTP/1.1: the connection is this request's alone.
    Http1(SendRequest<RequestBody>),
    /// HTTP/2: a place on a connection that others use too.
    Http2(SharedLane),
}

/// A request's place on a connection that it shares.
pub struct SharedLane(Lane);

/// Why there is no answer to a request.
#[derive(Debug, thiserror::Error)]
pub enum SendFault {
    /// The connection failed, or what came was not HTTP/1.
    #[error(transparent)]
    Http1(hyper::Error),
    /// The stream or its connection failed, or what came was not HTTP/2.
    #[error(transparent)]
    Http2(h2::Error),
    /// The request's own body failed.
    #[error("the request's body failed")]
    Body(#[source] BodyFault),
    /// The answer has more than [`MAX_HEADERS`] header fields.
    #[error("the answer has too many headers")]
    TooManyHeaders,
}

/// A request without an answer.
pub struct Unsent {
    /// Why.
    pub fault: SendFault,
    /// The request as it was, where the upstream has certainly not begun to act on it.
    pub request: Option<Request<RequestBody>>,
}

impl From<SendFault> for Unsent {
    fn from(fault: SendFault) -> Unsent {
        Unsent { fault, request: None }
    }
}

impl Sender {
    /// Sends a request; ready with the head of its answer. Dropped before, the exchange is given up, and its stream reset.
    ///
    /// # Errors
    /// When no answer comes; with the request where it can be sent again.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<ResponseBody>, Unsent> {
        match self {
            Sender::Http1(sender) => match sender.try_send_request(request).await {
                Ok(response) => Ok(response.map(ResponseBody::Http1)),
                Err(mut failed) => {
                    let request = failed.take_message();
                    Err(Unsent { fault: SendFault::Http1(failed.into_error()), request })
                }
            },
            // Boxed: the future of a request over HTTP/1 is moved a lot, and must not grow by what this one holds.
            Sender::Http2(lane) => Box::pin(lane.0.send(request)).await,
        }
    }

    /// The upstream did not answer in time: nothing more is sent on this connection.
    pub fn distrust(&self) {
        match self {
            // It is this request's alone, and ends with it.
            Sender::Http1(_) => {}
            Sender::Http2(lane) => lane.0.retire(),
        }
    }
}

impl Connection {
    fn on(lane: Lane, server: ServerId, reused: bool) -> Connection {
        Connection { sender: Sender::Http2(SharedLane(lane)), server, reused, deadline: Deadline::default() }
    }
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
    shared: SharedConnections,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(time: Time) -> Pool {
        Pool { time, idle: RefCell::default(), turns: RefCell::default(), shared: SharedConnections::default() }
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
        if let Some(lane) = self.shared.join(server) {
            return Some(Connection::on(lane, server, true));
        }
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
                return Some(Connection { sender: Sender::Http1(sender), server, reused: true, deadline });
            }
            // Neither: it is still finishing its last exchange.
        }
        None
    }

    /// A new connection. Where connections are shared, one is made at a time, and who waits for it may find a place on it.
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
        tokio::time::timeout(timeout, self.connect_to(&target, server)).await.map_err(|_| ConnectError::TimedOut)?
    }

    async fn connect_to(&self, target: &Target, server: ServerId) -> Result<Connection, ConnectError> {
        let turn = if target.may_share() { self.shared.turn(server).await } else { None };
        // Whoever had the turn before may have made what this one wants.
        if let Some(lane) = turn.as_ref().and_then(|_| self.shared.join(server)) {
            return Ok(Connection::on(lane, server, false));
        }
        match target.connect(&self.time).await? {
            Made::Http1(sender) => {
                if turn.is_some() {
                    self.shared.speaks_http1(server);
                }
                let sender = Sender::Http1(sender);
                Ok(Connection { sender, server, reused: false, deadline: Deadline::default() })
            }
            Made::Http2(shared) => Ok(Connection::on(self.shared.add(server, shared), server, false)),
        }
    }

    /// Takes a connection back after a whole exchange. The oldest goes when there are more than `max_idle`.
    pub fn give_back(&self, connection: Connection, max_idle: usize) {
        let Connection { sender: Sender::Http1(sender), server, deadline, .. } = connection else { return };
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
        self.shared.expire(oldest);
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
