//! One thread's connection to Redis, made in the background and made anew where it broke.
//!
//! Nobody waits for more than `command_timeout`, the connection included: a call that finds none begins to make one and waits for
//! it no longer than for an answer. The connection goes on being made for whoever comes next.

use super::shards::{Shard, WHOLE};
use super::{Connection, Fault, Store};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::timeout;

/// One thread's way to Redis.
pub struct Link {
    store: Arc<Store>,
    way: RefCell<Way>,
}

/// How far the connection is.
enum Way {
    None,
    /// It is being made; `true` when that has ended.
    Dialing(watch::Receiver<bool>),
    There {
        connection: Connection,
        /// The breaker's recoveries when it was begun.
        recoveries: u64,
    },
}

impl Link {
    /// A link that is not made yet.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Rc<Link> {
        Rc::new(Link { store, way: RefCell::new(Way::None) })
    }

    /// What all threads share.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Begins to make the connection, so that the first request finds it.
    pub fn prepare(self: &Rc<Self>) {
        if matches!(*self.way.borrow(), Way::None) {
            drop(self.dial());
        }
    }

    /// One call of a part of Redis, if that is worth asking: `ask` is given the connection. The answer or the fault is told to the breaker.
    ///
    /// # Errors
    /// Why there is no answer, after `command_timeout` at the latest.
    pub(super) async fn call<T>(
        self: &Rc<Self>,
        shard: Shard,
        ask: impl AsyncFnOnce(Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if !self.store.is_asked(shard) {
            return Err(Fault::Open);
        }
        let timer = self.store.metrics().calls.start_timer();
        let asked = async { ask(self.connection().await?).await };
        let answer = timeout(self.store.settings().command_timeout, asked).await.unwrap_or(Err(Fault::Timeout));
        timer.observe_duration();
        match &answer {
            Ok(_) => self.store.shards.breaker(shard).succeeded(),
            Err(fault) => self.failed(shard, fault),
        }
        answer
    }

    /// Tells the breaker of a fault, and gives up a connection that is of no use any more. That to a cluster is one to all of its
    /// shards, and mends itself.
    pub(super) fn failed(&self, shard: Shard, fault: &Fault) {
        if fault.ends_connection() && shard == WHOLE {
            self.forget();
        }
        self.store.failed(shard, fault);
    }

    /// Gives the connection up: the next call makes another.
    pub fn forget(&self) {
        let mut way = self.way.borrow_mut();
        if let Way::There { .. } = *way {
            *way = Way::None;
        }
    }

    /// Gives up a connection that is older than the last outage. It may have broken in it without this thread's notice, and the first
    /// call would begin another outage.
    fn outlive_outage(&self) {
        if self.store.shards.are_several() {
            // The client of a cluster looks after its connections, and those to other shards are of use.
            return;
        }
        let now = self.store.breaker().recoveries();
        let is_old = matches!(*self.way.borrow(), Way::There { recoveries, .. } if recoveries != now);
        if is_old {
            self.forget();
        }
    }

    /// The connection, once it is made.
    ///
    /// # Errors
    /// When it could not be made. Waits as long as that takes.
    pub async fn connection(self: &Rc<Self>) -> Result<Connection, Fault> {
        self.outlive_outage();
        let made = match &*self.way.borrow() {
            Way::There { connection, .. } => return Ok(connection.clone()),
            Way::Dialing(made) => Some(made.clone()),
            Way::None => None,
        };
        let mut made = made.unwrap_or_else(|| self.dial());
        // An error means that whoever made it has gone; there is no connection then either.
        let _ = made.wait_for(|made| *made).await;
        match &*self.way.borrow() {
            Way::There { connection, .. } => Ok(connection.clone()),
            Way::None | Way::Dialing(_) => Err(Fault::Connection("it could not be made".into())),
        }
    }

    fn dial(self: &Rc<Self>) -> watch::Receiver<bool> {
        let (tell, made) = watch::channel(false);
        *self.way.borrow_mut() = Way::Dialing(made.clone());
        let (link, recoveries) = (Rc::clone(self), self.store.breaker().recoveries());
        tokio::task::spawn_local(async move {
            let dialed = link.store.dialer().dial().await;
            if let Err(fault) = &dialed {
                link.store.failed(WHOLE, fault);
            }
            *link.way.borrow_mut() = dialed.map_or(Way::None, |connection| Way::There { connection, recoveries });
            tell.send_replace(true);
        });
        made
    }
}
