//! What a thread does with what it was lent when it ends, and after Redis was away.
//!
//! A thread that ends gives back what no request uses, so that a restart of one gateway after the other loses nobody's share. What
//! requests of other threads still hold, or have let go of meanwhile, is looked after by those from then on.

use super::lender::Lender;
use crate::engine::{Clock, Nanos, Partition};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long limits go on as in an outage after it: by then all other gateways have noticed it too, and have told a Redis that may
/// be empty which slots they hold.
const SETTLING: Duration = Duration::from_millis(1_500);

/// Partitions of threads that have ended, for those that go on.
#[derive(Debug, Default)]
pub(super) struct Handed {
    partitions: Mutex<Vec<Partition>>,
    pub(super) more: Notify,
}

impl Handed {
    fn take(&self) -> Vec<Partition> {
        std::mem::take(&mut *self.partitions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, partitions: impl Iterator<Item = Partition>) {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner).extend(partitions);
        self.more.notify_one();
    }
}

/// Until when what Redis says is taken for incomplete.
#[derive(Debug, Default)]
pub(super) struct Settling {
    recoveries: AtomicU64,
    until: AtomicU64,
}

impl Settling {
    /// Notes how many recoveries there have been: with one more, it begins.
    pub(super) fn note(&self, recoveries: u64, now: Nanos) {
        if self.recoveries.load(Acquire) != recoveries {
            // Whoever finds the number as it is now must find this too.
            self.until.store(now.saturating_add(crate::engine::time::nanos_of(SETTLING)).0, Release);
            self.recoveries.store(recoveries, Release);
        }
    }

    /// Whether it has not been long since the last recovery.
    pub(super) fn is_on(&self, recoveries: u64, now: Nanos) -> bool {
        self.note(recoveries, now);
        now < Nanos(self.until.load(Relaxed))
    }
}

impl Lender {
    /// Gives back at once what no request uses.
    pub fn give_back(self: &Rc<Self>) {
        let now = self.link.store().time.now();
        let asks =
            self.watched().into_iter().filter_map(|partition| Some((partition, self.engine.give_up(&partition, now)?)));
        self.send(asks.collect());
    }

    /// Gives back what no request uses and leaves the rest to the other threads, for this one ends. What is dropped unfinished comes
    /// back in its time; a call takes `command_timeout` at most.
    pub async fn leave(self: &Rc<Self>) {
        self.tell_all().await;
        // Free slots too: those that came back since Redis was told, from requests of other threads.
        let rest = self.watched();
        self.link.store().handed.add(rest.into_iter().filter(|partition| self.engine.is_held(partition)));
        if self.link.store().lenders.fetch_sub(1, AcqRel) == 1 {
            // Those who have left before have left theirs to this one.
            self.tell_all().await;
        }
    }

    async fn tell_all(self: &Rc<Self>) {
        self.adopt();
        self.calls_end().await;
        self.give_back();
        self.calls_end().await;
    }

    /// Looks after what a thread has left that has ended.
    pub(super) fn adopt(&self) {
        let now = self.link.store().time.now();
        let mut ledger = self.ledger.borrow_mut();
        self.link.store().handed.take().into_iter().for_each(|partition| ledger.watch(now, partition));
    }

    /// After an outage, tells Redis of the slots that are held before anything else is asked: it may know nothing of them.
    pub(super) fn claim_after_recovery(self: &Rc<Self>) {
        let breaker = self.link.store().breaker();
        if !breaker.is_closed() || self.recoveries.replace(breaker.recoveries()) == breaker.recoveries() {
            return;
        }
        let now = self.link.store().time.now();
        let asks =
            self.watched().into_iter().filter_map(|partition| Some((partition, self.engine.claim(&partition, now)?)));
        self.send(asks.collect());
    }

    async fn calls_end(&self) {
        while self.under_way.get() > 0 {
            self.ended.notified().await;
        }
    }

    fn watched(&self) -> Vec<Partition> {
        self.ledger.borrow().partitions.values().copied().collect()
    }
}
