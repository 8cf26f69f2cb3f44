//! FLOOR 2: upstreams, their servers, and connections to them, one pool a thread.
//!
//! In the order of reading: `registry` has all upstreams, `group` is one of them with its servers (`server`), `balance` chooses
//! among these by what `health` and `ejection` say, `reach` comes from there to a connection, `connect` makes one; `budget` bounds
//! retries. `upkeep` is what the control thread does: it looks names up (`resolve`) and checks health (`probe`).
//!
//! An HTTP/1 connection carries one request at a time, an HTTP/2 connection many (`http2`, `shared`): it stays in the pool while
//! they are on it, and one more is made when all have as many as their upstream takes.
//!
//! A pool is a stack per server: the connection that came back last goes out first, so that few stay warm and the rest age
//! out. Nothing is locked and no task is woken to hand a connection on. Bounds: `max_idle` idle connections a server and
//! thread; one that waited longer than `idle_timeout` is closed; heads of answers are at most [`MAX_HEAD_BYTES`] and
//! [`MAX_HEADERS`] long.

mod balance;
mod body;
mod budget;
pub mod buffers;
mod client_body;
mod connect;
mod ejection;
mod gather;
mod group;
mod health;
pub mod http1;
mod http2;
mod inlet;
mod own_fields;
mod pace;
mod pipe;
mod probe;
mod reach;
mod read_ahead;
mod registry;
mod resolve;
pub mod room;
mod secure;
mod server;
mod shared;
mod turn;
mod upkeep;
mod watched;

#[cfg(test)]
mod tests;

pub use balance::Dice;

pub use body::{BodyFault, Cause, Deadline, RequestBody, Tick, UpstreamBody};
pub use client_body::ClientBody;
pub use connect::ConnectError;
pub use ejection::Outlier;
pub use gather::Gather;
pub use group::{Group, Overload};
pub use health::Health;
pub use http2::{Lane, StreamBody, StreamFault, Wanted};
pub use inlet::{ClientFault, Inlet, Outlet};
pub use own_fields::OwnFields;
pub use pace::Pace;
pub use pipe::{Bodies, Broken, Pipe};
pub use reach::{AtHand, Unreached};
pub use read_ahead::{Reach, ReadAhead, ReadFault};
pub use registry::Servers;
pub use resolve::{Lookup, MAX_ADDRESSES, Resolve, SystemResolver};
pub use secure::UpstreamTls;
pub use server::{Load, Open, Server, ServerId, ServerState};
#[cfg(test)]
pub use turn::crowd;
pub use turn::{Turn, rest};
pub use upkeep::look_after;

use crate::clock::Time;
use crate::engine::{Clock, Nanos, time::nanos_of};
use bytes::Bytes;
use http::{Request, Response};
use http1::Failure;
use http2::{Fresh, Shared};
use shared::SharedConnections;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes of the head of an upstream's answer.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Header fields of an upstream's answer.
pub const MAX_HEADERS: usize = 100;

/// A connection that is out: give it back after a whole exchange, or drop it to close it.
pub struct Connection {
    /// Sends requests, one at a time.
    pub sender: Sender,
    /// The request in flight on it.
    load: Load,
    /// Whether it has served a request before, so that it may have been closed meanwhile.
    pub reused: bool,
    /// Bounds the wait for an answer.
    pub deadline: Deadline,
}

/// What sends a request, by what the connection speaks.
pub enum Sender {
    /// HTTP/1.1: the connection is this request's alone.
    Http1(http1::Sender),
    /// HTTP/2: a place on a connection that others use too.
    Http2(Lane),
}

impl Sender {
    /// Sends a request; ready with the head of its answer. Dropped before, the exchange is given up, and its stream reset.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn try_send(&mut self, request: Box<Request<RequestBody>>) -> Going<'_> {
        match self {
            Sender::Http1(sender) => {
                let in_lines = request.body().is_answered_in_lines();
                Going::Http1(sender.try_send_with(request, RequestBody::own_lines, in_lines))
            }
            // Boxed: the future of a request over HTTP/1 must not grow by what this one holds.
            Sender::Http2(lane) => Going::Http2(Box::pin(lane.send(*request))),
        }
    }

    /// The connection itself after an answer of 101, with what the server has sent behind it. `None` while anybody still reads
    /// the answer, and for a connection that others use too.
    #[must_use]
    pub fn into_io(self) -> Option<(http1::Stream, Bytes)> {
        match self {
            Sender::Http1(sender) => sender.into_io(),
            Sender::Http2(_) => None,
        }
    }

    /// Whether others use the connection too.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self, Sender::Http2(_))
    }

    /// The upstream did not answer in time: nothing more is sent on this connection.
    pub fn distrust(&self) {
        match self {
            // It is this request's alone, and ends with it.
            Sender::Http1(_) => {}
            Sender::Http2(lane) => lane.retire(),
        }
    }
}

/// What sending a request came to.
type Sent<B> = Result<Response<B>, Box<Failure<RequestBody>>>;

/// A request on its way, which gives its answer's head. No `async fn`: that would have room for the request twice.
#[expect(
    clippy::large_enum_variant,
    reason = "boxed with the whole future of its request, and nearly always the large one"
)]
pub enum Going<'a> {
    /// Over HTTP/1.
    Http1(http1::Sending<'a, RequestBody>),
    /// Over HTTP/2.
    Http2(Pin<Box<dyn Future<Output = Sent<StreamBody>> + 'a>>),
}

impl Future for Going<'_> {
    type Output = Sent<UpstreamBody>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Going::Http1(sending) => {
                Pin::new(sending).poll(cx).map(|sent| sent.map(|answer| answer.map(UpstreamBody::Http1)))
            }
            Going::Http2(sending) => {
                sending.as_mut().poll(cx).map(|sent| sent.map(|answer| answer.map(UpstreamBody::Http2)))
            }
        }
    }
}

impl Connection {
    fn on(lane: Lane, reused: bool) -> Connection {
        let load = Load::shared(lane.server());
        Connection { sender: Sender::Http2(lane), load, reused, deadline: Deadline::default() }
    }

    /// The server at its other end.
    #[must_use]
    pub fn server(&self) -> Option<&Arc<Server>> {
        self.load.server()
    }
}

/// What connecting came to.
enum Reached {
    Http1(http1::Stream),
    Http2(Fresh),
    Shared(Lane),
}

struct Idle {
    sender: http1::Sender,
    deadline: Deadline,
    open: Open,
    since: Nanos,
}

/// One thread's idle connections.
pub struct Pool {
    time: Time,
    idle: RefCell<Vec<Vec<Idle>>>,
    shared: SharedConnections,
    dice: Dice,
    /// Requests of this thread that wait for a connection, by server.
    waiting: RefCell<HashMap<ServerId, Rc<Waiters>>>,
}

/// Requests of one thread that wait for a connection to one server.
#[derive(Default)]
struct Waiters {
    count: Cell<usize>,
    /// A connection has become idle.
    idle: Notify,
}

/// One of them, counted until this is dropped.
struct WaitHere<'a> {
    pool: &'a Pool,
    server: ServerId,
    waiters: Rc<Waiters>,
}

impl std::ops::Deref for WaitHere<'_> {
    type Target = Waiters;

    fn deref(&self) -> &Waiters {
        &self.waiters
    }
}

impl Drop for WaitHere<'_> {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
        if self.count.get() == 0 {
            self.pool.waiting.borrow_mut().remove(&self.server);
        } else {
            // It may have been told of a connection that it does not take.
            self.idle.notify_one();
        }
    }
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(time: Time) -> Pool {
        let (idle, waiting) = (RefCell::default(), RefCell::default());
        Pool { time, idle, shared: SharedConnections::default(), dice: Dice::random(), waiting }
    }

    /// Chance for this thread.
    #[must_use]
    pub fn dice(&self) -> &Dice {
        &self.dice
    }

    fn now(&self) -> Nanos {
        self.time.now()
    }

    fn wait_here(&self, server: ServerId) -> WaitHere<'_> {
        let waiters = Rc::clone(self.waiting.borrow_mut().entry(server).or_default());
        waiters.count.set(waiters.count.get() + 1);
        WaitHere { pool: self, server, waiters }
    }

    /// An idle connection that can take a request at `now`.
    #[must_use]
    pub fn take(&self, server: ServerId, idle_timeout: Duration, now: Nanos) -> Option<Connection> {
        if let Some(lane) = self.shared.join(server) {
            return Some(Connection::on(lane, true));
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
                let Idle { sender, deadline, open, .. } = stack.remove(place);
                let sender = Sender::Http1(sender);
                return Some(Connection { sender, load: Load::new(open), reused: true, deadline });
            }
            // Neither: it is still finishing its last exchange.
        }
        None
    }

    /// A new connection, where there is room for it.
    ///
    /// # Errors
    /// When the server cannot be reached within `timeout`.
    async fn connect(&self, open: Open, timeout: Duration) -> Result<Connection, ConnectError> {
        // Counted from here on: a server that is slow to take connections is a busy one.
        let server = Arc::clone(open.server());
        let load = Load::new(open);
        let connected = tokio::time::timeout(timeout, self.connect_to(&server)).await;
        let (failure, error): (_, Box<dyn std::error::Error>) = match connected {
            Ok(Ok(Reached::Http1(stream))) => {
                let sender = Sender::Http1(http1::Sender::new(stream));
                return Ok(Connection { sender, load, reused: false, deadline: Deadline::default() });
            }
            Ok(Ok(Reached::Http2(fresh))) => {
                let Some(open) = load.end() else { return Err(ConnectError::Unreachable) };
                let lane = self.shared.add(server.id, Shared::new(fresh, open, &self.time));
                return Ok(Connection::on(lane, false));
            }
            Ok(Ok(Reached::Shared(lane))) => return Ok(Connection::on(lane, true)),
            Ok(Err(error)) => (ConnectError::Unreachable, error.into()),
            Err(late) => (ConnectError::TimedOut, late.into()),
        };
        // Once told is enough for a row of failures.
        if server.outlier.failures() > 0 {
            tracing::debug!(server = %server.address, %error, "cannot connect to an upstream server");
        } else {
            tracing::warn!(server = %server.address, %error, "cannot connect to an upstream server");
        }
        Err(failure)
    }

    /// Makes a connection. Where connections are shared, one is made at a time, and who waits for it may find a place on it.
    async fn connect_to(&self, server: &Server) -> std::io::Result<Reached> {
        let turn = if server.target.may_share() { self.shared.turn(server.id).await } else { None };
        // Whoever had the turn before may have made what this one wants.
        if turn.is_some()
            && let Some(lane) = self.shared.join(server.id)
        {
            return Ok(Reached::Shared(lane));
        }
        let stream = server.target.connect(server.address).await?;
        if server.target.speaks_http2(&stream)? {
            return Shared::handshake(stream).await.map(Reached::Http2).map_err(std::io::Error::other);
        }
        if turn.is_some() {
            self.shared.speaks_http1(server.id);
        }
        Ok(Reached::Http1(stream))
    }

    /// Takes a connection back after a whole exchange. The oldest goes when there are more than `max_idle`.
    pub fn give_back(&self, connection: Connection, max_idle: usize) {
        let Connection { sender: Sender::Http1(sender), load, deadline, .. } = connection else { return };
        let Some(open) = load.end() else { return };
        let server = open.server();
        if sender.is_closed() || max_idle == 0 || !server.is_listed() {
            return;
        }
        let place = server.id.0 as usize;
        if server.is_awaited() {
            match self.waiting.borrow().get(&server.id) {
                Some(waiters) => waiters.idle.notify_one(),
                // Only its place is of use to those who wait on other threads.
                None => return,
            }
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() <= place {
            idle.resize_with(place + 1, Vec::new);
        }
        let stack = &mut idle[place];
        if stack.len() >= max_idle {
            stack.remove(0);
        }
        stack.push(Idle { sender, deadline, open, since: self.time.now() });
    }

    /// Closes connections that have been idle for longer than `idle_timeout`, whatever their server, and those to servers that
    /// no upstream has any more.
    pub fn expire(&self, idle_timeout: Duration) {
        let oldest = Nanos(self.time.now().0.saturating_sub(nanos_of(idle_timeout)));
        for stack in self.idle.borrow_mut().iter_mut() {
            stack.retain(|idle| idle.since >= oldest && !idle.sender.is_closed() && idle.open.server().is_listed());
        }
        self.shared.expire(oldest);
    }

    /// Idle connections now.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle.borrow().iter().map(Vec::len).sum()
    }
}
