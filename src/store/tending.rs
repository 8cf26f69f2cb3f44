//! What goes on behind the requests of one thread: slots and tokens are given back, slots that are held are renewed.
//!
//! Nothing is lost silently: what could not be told is told again until it is heard, in the order in which it came about. At
//! most [`MOST`] things wait for that; beyond, the oldest are left to their expiry.

use super::exact::{Key, Taken, number};
use super::shards::Shard;
use super::{Connection, Fault, Link, Script};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Things that may wait to be told.
const MOST: usize = 65_536;
/// Things told at once.
const BATCH: usize = 256;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);
/// Slots renewed by one call.
const SLOTS_A_CALL: usize = 1_000;
/// How long an answer may take: nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// One thread's part of it.
pub(super) struct Tending {
    link: Rc<Link>,
    script: Script,
    /// What its slots' names begin with.
    thread: String,
    names: Cell<u64>,
    held: RefCell<HashMap<String, Key>>,
    waiting: RefCell<VecDeque<Deed>>,
    under_way: Cell<usize>,
    woken: Notify,
    started: Cell<bool>,
    /// The recoveries that its slots have been renewed after.
    recoveries: Cell<u64>,
}

/// Something to tell of a key.
#[derive(Clone)]
struct Deed {
    key: Key,
    /// Where the key is.
    shard: Shard,
    words: Vec<Vec<u8>>,
}

impl Tending {
    pub(super) fn new(link: Rc<Link>) -> Rc<Tending> {
        let thread = link.store().next_thread();
        let recoveries = Cell::new(link.store().shards.recoveries());
        Rc::new(Tending {
            link,
            script: Script::new(include_str!("scripts/tend.lua")),
            thread,
            names: Cell::new(0),
            held: RefCell::default(),
            waiting: RefCell::default(),
            under_way: Cell::new(0),
            woken: Notify::new(),
            started: Cell::new(false),
            recoveries,
        })
    }

    /// A name for a slot that no other has, on any gateway.
    pub(super) fn name(&self) -> String {
        let number = self.names.get();
        self.names.set(number.wrapping_add(1));
        format!("{}:{number:x}", self.thread)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.waiting.borrow().is_empty() && self.under_way.get() == 0
    }

    /// Whether something waits to be told that could be.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.borrow().is_empty() && self.link.store().shards.all_closed()
    }

    /// A slot is renewed from now on.
    pub(super) fn hold(self: &Rc<Self>, taken: &Taken) {
        if let Taken::Slot { key, name } = taken {
            self.held.borrow_mut().insert(name.clone(), Rc::clone(key));
            self.start();
        }
    }

    /// Gives something back that was taken at this time of the server's.
    pub(super) fn give_back(self: &Rc<Self>, taken: Taken, at_us: f64) {
        let shard = self.link.store().shards.of_key(taken.key());
        let deed = match taken {
            Taken::Slot { key, name } => {
                self.held.borrow_mut().remove(&name);
                Deed { key, shard, words: vec![b"slots".to_vec(), name.into_bytes()] }
            }
            Taken::Tokens { key, worth_us, lacking_us, disturbances } => {
                let tat_us = number(at_us + lacking_us);
                let words = [number(worth_us), number(at_us), tat_us, disturbances.to_string()];
                let words = std::iter::once("tokens".to_owned()).chain(words).map(String::into_bytes).collect();
                Deed { key, shard, words }
            }
            Taken::Counts { key, slice, cost, length_us } => {
                let words = ["counts".to_owned(), slice.to_string(), cost.to_string(), number(length_us)];
                Deed { key, shard, words: words.map(String::into_bytes).to_vec() }
            }
        };
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= MOST {
            waiting.pop_front();
        }
        waiting.push_back(deed);
        drop(waiting);
        self.link.store().metrics().give_backs.inc();
        self.start();
        self.woken.notify_one();
    }

    /// After an outage, has the slots that are held told to Redis before anything else is asked: it may know nothing of them.
    pub(super) fn recover(self: &Rc<Self>) {
        let recoveries = self.link.store().shards.recoveries();
        if self.recoveries.replace(recoveries) == recoveries || self.held.borrow().is_empty() {
            return;
        }
        let this = Rc::clone(self);
        tokio::task::spawn_local(async move { this.renew().await });
    }

    /// Begins to work, once.
    fn start(self: &Rc<Self>) {
        // A thread that ends drops its slots when its runtime has gone: they expire.
        if tokio::runtime::Handle::try_current().is_err() || self.started.replace(true) {
            return;
        }
        let (teller, renewer) = (Rc::clone(self), Rc::clone(self));
        tokio::task::spawn_local(async move {
            loop {
                teller.tell().await;
            }
        });
        tokio::task::spawn_local(async move {
            let pause = renewer.link.store().settings().lease_ttl / 3;
            loop {
                tokio::time::sleep(pause).await;
                renewer.renew().await;
            }
        });
    }

    /// Tells what waits, or waits for something to tell.
    async fn tell(&self) {
        if self.waiting.borrow().is_empty() {
            self.woken.notified().await;
            return;
        }
        let batch = self.batch();
        self.under_way.set(batch.len());
        let untold = self.tell_all(&batch).await;
        let is_stuck = batch.is_empty() || !untold.is_empty();
        self.put_back(untold);
        self.under_way.set(0);
        if is_stuck {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The oldest that can be told; what waits for a part that is not asked goes on waiting.
    fn batch(&self) -> Vec<Deed> {
        let (store, mut waiting) = (self.link.store(), self.waiting.borrow_mut());
        if store.shards.all_closed() {
            let most = waiting.len().min(BATCH);
            return waiting.drain(..most).collect();
        }
        let (mut batch, mut later) = (Vec::new(), VecDeque::with_capacity(waiting.len()));
        for deed in waiting.drain(..) {
            if batch.len() < BATCH && store.is_asked(deed.shard) {
                batch.push(deed);
            } else {
                later.push_back(deed);
            }
        }
        *waiting = later;
        batch
    }

    /// What was not told goes before what has come since, as far as there is room.
    fn put_back(&self, batch: Vec<Deed>) {
        let mut waiting = self.waiting.borrow_mut();
        for deed in batch.into_iter().rev() {
            if waiting.len() < MOST {
                waiting.push_front(deed);
            }
        }
    }

    /// All at once, and what was not told; each may be told twice without harm but tokens, of which less and less is left to give
    /// back.
    async fn tell_all(&self, batch: &[Deed]) -> Vec<Deed> {
        let Some(first) = batch.first() else { return Vec::new() };
        let connection = match self.link.connection().await {
            Ok(connection) => connection,
            Err(fault) => {
                self.link.failed(first.shard, &fault);
                return batch.to_vec();
            }
        };
        let told = batch.iter().map(|deed| {
            let told = timeout(PATIENCE, self.tell_one(connection.clone(), deed));
            async { told.await.unwrap_or(Err(Fault::Timeout)) }
        });
        let answers = futures_util::future::join_all(told).await;
        let mut untold = Vec::new();
        for (deed, answer) in batch.iter().zip(answers) {
            if let Err(fault) = answer {
                self.link.failed(deed.shard, &fault);
                untold.push(deed.clone());
            }
        }
        untold
    }

    async fn tell_one(&self, mut connection: Connection, deed: &Deed) -> Result<(), Fault> {
        let store = self.link.store();
        let mut words = vec![store.script_words(store.now())];
        words.extend(deed.words.iter().cloned());
        self.script.run(&mut connection, &[&deed.key], &words).await?;
        Ok(())
    }

    /// Holds every slot on for another `lease_ttl`.
    async fn renew(&self) {
        let mut by_key: HashMap<Key, Vec<Vec<u8>>> = HashMap::new();
        for (name, key) in &*self.held.borrow() {
            by_key.entry(Rc::clone(key)).or_default().push(name.clone().into_bytes());
        }
        let store = self.link.store();
        let ttl = number(store.lease_ttl_us()).into_bytes();
        let calls = by_key.into_iter().flat_map(|(key, names)| {
            let shard = store.shards.of_key(&key);
            let chunks: Vec<Deed> = names
                .chunks(SLOTS_A_CALL)
                .map(|names| {
                    let words = [b"renew".to_vec(), ttl.clone()].into_iter().chain(names.iter().cloned()).collect();
                    Deed { key: Rc::clone(&key), shard, words }
                })
                .collect();
            chunks
        });
        let calls: Vec<Deed> = calls.filter(|deed| store.is_asked(deed.shard)).collect();
        for batch in calls.chunks(BATCH) {
            // What is not renewed now is after the next pause, or after the outage.
            drop(self.tell_all(batch).await);
        }
    }
}
