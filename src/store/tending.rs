//! What goes on behind the requests of one thread: slots and tokens are given back, slots that are held are renewed.
//!
//! Nothing is lost silently: what could not be told is told again until it is heard, in the order in which it came about. At
//! most [`MOST`] things wait for that; beyond, the oldest are left to their expiry.

use super::exact::{Key, Taken, number};
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
    words: Vec<Vec<u8>>,
}

impl Tending {
    pub(super) fn new(link: Rc<Link>) -> Rc<Tending> {
        let thread = link.store().next_thread();
        let recoveries = Cell::new(link.store().breaker().recoveries());
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
        !self.waiting.borrow().is_empty() && self.link.store().breaker().is_closed()
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
        let deed = match taken {
            Taken::Slot { key, name } => {
                self.held.borrow_mut().remove(&name);
                Deed { key, words: vec![b"slots".to_vec(), name.into_bytes()] }
            }
            Taken::Tokens { key, worth_us, lacking_us, disturbances } => {
                let tat_us = number(at_us + lacking_us);
                let words = [number(worth_us), number(at_us), tat_us, disturbances.to_string()];
                let words = std::iter::once("tokens".to_owned()).chain(words).map(String::into_bytes).collect();
                Deed { key, words }
            }
            Taken::Counts { key, slice, cost, length_us } => {
                let words = ["counts".to_owned(), slice.to_string(), cost.to_string(), number(length_us)];
                Deed { key, words: words.map(String::into_bytes).to_vec() }
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
        let recoveries = self.link.store().breaker().recoveries();
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
        if !self.link.store().breaker().is_closed() {
            tokio::time::sleep(PAUSE).await;
            return;
        }
        let batch: Vec<Deed> = {
            let mut waiting = self.waiting.borrow_mut();
            let most = waiting.len().min(BATCH);
            waiting.drain(..most).collect()
        };
        self.under_way.set(batch.len());
        if let Err(fault) = self.tell_all(&batch).await {
            self.link.failed(&fault);
            self.put_back(batch);
            self.under_way.set(0);
            tokio::time::sleep(PAUSE).await;
        }
        self.under_way.set(0);
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

    /// All at once; each may be told twice without harm but tokens, of which less and less is left to give back.
    async fn tell_all(&self, batch: &[Deed]) -> Result<(), Fault> {
        let connection = self.link.connection().await?;
        let told = batch.iter().map(|deed| self.tell_one(connection.clone(), deed));
        let all = futures_util::future::join_all(told);
        let answers = timeout(PATIENCE, all).await.map_err(|_| Fault::Timeout)?;
        answers.into_iter().collect()
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
        if !self.link.store().breaker().is_closed() {
            return;
        }
        let mut by_key: HashMap<Key, Vec<Vec<u8>>> = HashMap::new();
        for (name, key) in &*self.held.borrow() {
            by_key.entry(Rc::clone(key)).or_default().push(name.clone().into_bytes());
        }
        let ttl = number(self.link.store().lease_ttl_us()).into_bytes();
        let calls = by_key.into_iter().flat_map(|(key, names)| {
            let chunks: Vec<Deed> = names
                .chunks(SLOTS_A_CALL)
                .map(|names| {
                    let words = [b"renew".to_vec(), ttl.clone()].into_iter().chain(names.iter().cloned()).collect();
                    Deed { key: Rc::clone(&key), words }
                })
                .collect();
            chunks
        });
        let calls: Vec<Deed> = calls.collect();
        for batch in calls.chunks(BATCH) {
            if let Err(fault) = self.tell_all(batch).await {
                self.link.failed(&fault);
                return;
            }
        }
    }
}
