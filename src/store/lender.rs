//! Leases of one thread: asks for what its requests need, and looks after what was lent.
//!
//! A call belongs to nobody's request, so that a client that leaves takes no answer along. Whoever needs what somebody has asked for
//! already waits for that answer, on whatever thread it is. Bounds: one call for a partition at a time; one entry in the ledger for a
//! partition that something is lent of; a waiting request is one entry for each partition it waits for.

use super::lending::{self, MOST_KEYS, Speaker};
use super::shards::WHOLE;
use super::{Connection, Fault, Link};
use crate::config::{Redis, Topology};
use crate::engine::time::nanos_of;
use crate::engine::{Answer, Ask, Clock, Due, Engine, Id, Nanos, Partition, PartitionKey, Terms, Wanted};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::atomic::Ordering::AcqRel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// How often a thread looks whether the time of a lease has come.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long tokens may be kept before they overflow or go back.
const TOKENS_TTL: Duration = Duration::from_secs(1);

/// What leases begin with: as many gateways as are seen are told later.
#[must_use]
pub fn terms(settings: &Redis) -> Terms {
    Terms { ttl_ns: nanos_of(TOKENS_TTL), slot_ttl_ns: nanos_of(settings.lease_ttl), gateways: 1 }
}

/// Who waits for the answers of whose calls, in the whole process.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<HashMap<PartitionKey, Vec<oneshot::Sender<bool>>>>);

impl Waiting {
    /// Waits for the answer about a partition, unless it has come.
    fn join(&self, engine: &Engine, partition: &Partition) -> Option<oneshot::Receiver<bool>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who answers lets go of the partition first and wakes after, so nobody who finds it asked for is forgotten.
        if !engine.is_asked(partition) {
            return None;
        }
        let (tell, told) = oneshot::channel();
        waiting.entry(partition.key).or_default().push(tell);
        Some(told)
    }

    fn wake(&self, partition: &Partition, answered: bool) {
        let woken = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition.key);
        for waiter in woken.into_iter().flatten() {
            // Who has gone needs no word.
            let _ = waiter.send(answered);
        }
    }
}

/// One thread's part in leases.
pub struct Lender {
    pub(super) link: Rc<Link>,
    pub(super) engine: Arc<Engine>,
    pub(super) ledger: RefCell<Ledger>,
    more: Notify,
    /// Calls that have not ended.
    pub(super) under_way: Cell<usize>,
    pub(super) ended: Notify,
    /// The recoveries of Redis that it has been told after what is held here.
    pub(super) recoveries: Cell<u64>,
}

/// What is lent, by when to look after it.
#[derive(Default)]
pub(super) struct Ledger {
    due: BTreeMap<(Nanos, u64), PartitionKey>,
    pub(super) partitions: HashMap<PartitionKey, Partition>,
    number: u64,
}

impl Ledger {
    pub(super) fn watch(&mut self, at: Nanos, partition: Partition) {
        self.number += 1;
        self.due.insert((at, self.number), partition.key);
        self.partitions.insert(partition.key, partition);
    }

    /// Those whose time has come.
    fn take_due(&mut self, now: Nanos) -> Vec<Partition> {
        let later = self.due.split_off(&(now.saturating_add(1), 0));
        let due = std::mem::replace(&mut self.due, later);
        due.into_values().filter_map(|key| self.partitions.get(&key).copied()).collect()
    }
}

impl Lender {
    /// One that asks over `link`.
    #[must_use]
    pub fn new(link: Rc<Link>, engine: Arc<Engine>) -> Rc<Lender> {
        let recoveries = Cell::new(link.store().breaker().recoveries());
        link.store().lenders.fetch_add(1, AcqRel);
        Rc::new(Lender {
            link,
            engine,
            ledger: RefCell::default(),
            more: Notify::new(),
            under_way: Cell::new(0),
            ended: Notify::new(),
            recoveries,
        })
    }

    /// Whether Redis can be asked at all.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.link.store().breaker().is_closed()
    }

    /// Whether Redis may not know yet of all that other gateways hold, and some may still go on with their parts: after an outage each
    /// has to notice that it is over, and to tell.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        let (store, recoveries) = (self.link.store(), self.link.store().breaker().recoveries());
        recoveries > 0 && self.engine.terms().gateways > 1 && store.settling.is_on(recoveries, store.time.now())
    }

    /// Sends what must be asked, and answers what the request has to wait for.
    pub fn provide(self: &Rc<Self>, wanted: &[Wanted]) -> Answers {
        let waited = wanted.iter().filter(|wanted| wanted.waits);
        let waiting = &self.link.store().waiting;
        let answers = waited.filter_map(|wanted| waiting.join(&self.engine, &wanted.partition)).collect();
        let asks = wanted.iter().filter_map(|wanted| Some((wanted.partition, wanted.ask?)));
        self.send(asks.collect());
        Answers(answers)
    }

    /// Looks after what this thread was lent, for ever.
    pub async fn attend(self: Rc<Self>) {
        loop {
            if self.ledger.borrow().due.is_empty() {
                tokio::select! {
                    () = self.more.notified() => {}
                    () = self.link.store().handed.more.notified() => {}
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
            self.adopt();
            self.claim_after_recovery();
            self.look_after(self.link.store().time.now());
        }
    }

    /// Gives back what is due at `now`, and claims anew what is kept.
    pub fn look_after(self: &Rc<Self>, now: Nanos) {
        let due = self.ledger.borrow_mut().take_due(now);
        let mut tell = Vec::new();
        for partition in due {
            let mut ledger = self.ledger.borrow_mut();
            match self.engine.look_after(&partition, now) {
                Due::Later(at) => ledger.watch(at, partition),
                Due::Done => {
                    let stranded = self.engine.take_stranded(&partition);
                    self.link.store().metrics().tokens_stranded.inc_by(stranded);
                    ledger.partitions.remove(&partition.key);
                }
                Due::Tell(ask) => {
                    ledger.watch(now.saturating_add(1), partition);
                    tell.push((partition, ask));
                }
            }
        }
        self.send(tell);
    }

    /// One call for each slot of a cluster, or as few as possible.
    pub(super) fn send(self: &Rc<Self>, mut asks: Vec<(Partition, Ask)>) {
        if asks.is_empty() {
            return;
        }
        let apart = self.link.store().settings().topology == Topology::Cluster;
        let place = |partition: &Partition| if apart { partition.group } else { Id::NONE };
        asks.sort_by_key(|(partition, _)| place(partition));
        for of_one in asks.chunk_by(|one, other| place(&one.0) == place(&other.0)) {
            for asks in of_one.chunks(MOST_KEYS) {
                self.under_way.set(self.under_way.get() + 1);
                let call = Call { lender: Rc::clone(self), asks: asks.to_vec(), answers: None };
                tokio::task::spawn_local(call.make());
            }
        }
    }

    fn take(&self, partition: &Partition, ask: &Ask, answer: Option<&Answer>) {
        let now = self.link.store().time.now();
        let metrics = self.link.store().metrics();
        if let (Some(answer), Some(back)) = (answer, partition.tokens(ask.back)) {
            metrics.tokens_lent.inc_by(answer.lent);
            metrics.tokens_returned.inc_by(back);
        }
        if self.engine.lend(partition, ask, answer, now) {
            let at = now.saturating_add(self.engine.terms().ttl_ns);
            let was_idle = self.ledger.borrow().due.is_empty();
            self.ledger.borrow_mut().watch(at, *partition);
            if was_idle {
                self.more.notify_one();
            }
        }
        metrics.tokens_stranded.inc_by(self.engine.take_stranded(partition));
        self.link.store().waiting.wake(partition, answer.is_some());
    }
}

/// What a request waits for.
#[derive(Debug)]
pub struct Answers(Vec<oneshot::Receiver<bool>>);

impl Answers {
    /// Whether there is nothing to wait for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When all have come, whether Redis has answered each time. Not later than a call's time-out.
    pub async fn come(self) -> bool {
        let mut answered = true;
        for answer in self.0 {
            answered &= answer.await.unwrap_or_default();
        }
        answered
    }
}

/// A call under way. However it ends, its partitions can be asked for again then, and whoever waits is told.
struct Call {
    lender: Rc<Lender>,
    asks: Vec<(Partition, Ask)>,
    answers: Option<Vec<Answer>>,
}

impl Call {
    async fn make(mut self) {
        let store = Arc::clone(self.lender.link.store());
        let slot_ttl_ms = self.lender.engine.terms().slot_ttl_ns / 1_000_000;
        let (gateway, prefix) = (store.gateway(), store.settings().prefix.as_str());
        let speaker = Speaker { gateway, prefix, since_us: store.since_us, slot_ttl_ms, now_us: None };
        let asks = &self.asks;
        let ask = async |mut connection: Connection| lending::call(&mut connection, &speaker, asks).await;
        let answers: Result<_, Fault> = self.lender.link.call(WHOLE, ask).await;
        self.answers = answers.ok();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        for (place, (partition, ask)) in self.asks.iter().enumerate() {
            let answer = self.answers.as_ref().and_then(|answers| answers.get(place));
            self.lender.take(partition, ask, answer);
        }
        self.lender.under_way.set(self.lender.under_way.get().saturating_sub(1));
        self.lender.ended.notify_one();
    }
}
