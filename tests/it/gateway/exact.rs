//! Every case through the stack whose limits are decided in Redis, one script a request.

use super::stack::{assert_verdict, candidate_reject, finish, keys_of, request};
use crate::support::cases::{Case, Entry, cases, configuration};
use crate::support::redis::Redis;
use crate::support::seed;
use crate::support::stub::{Deed, InFlight, Stack, StubResponse, peer};
use crate::support::wait::PATIENCE;
use bytes::Bytes;
use prometheus::IntCounter;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};
use tollgate::gateway::Peer;
use tollgate::metrics::LimitCounters;

/// Long enough for a machine that is busy with other things.
const STORE: &str = "mode = 'exact'\ncommand_timeout = '10s'";

#[test]
fn redis_answers_every_case_as_the_engine_does() {
    let redis = Redis::start();
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    let cases = cases();
    assert!(cases.len() >= 12, "the cases are there");
    for (number, (file, case)) in (0..).zip(cases) {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let store = format!("\n[store]\nkind = 'redis'\nurls = '{}'\nprefix = 'case-{number}'\n{STORE}", redis.url());
        runtime.block_on(Run::new(&case, store).through(&name, &case));
    }
}

struct Run {
    stack: Stack,
    keys: String,
    store: String,
    waiting: HashMap<String, (Rc<Peer>, InFlight)>,
}

impl Run {
    fn new(case: &Case, store: String) -> Run {
        let keys = keys_of(case);
        let stack = Stack::new(configuration(&format!("{}{store}", case.policy), &seed()), &keys);
        Run { stack, keys, store, waiting: HashMap::new() }
    }

    async fn through(mut self, name: &str, case: &Case) {
        for (number, entry) in (1..).zip(&case.timeline) {
            let place = format!("{name}, entry {number}: {}", entry.request.as_deref().unwrap_or_default());
            self.stack.clock.set(entry.at());
            self.happen(&place, entry).await;
            self.settle(&place).await;
        }
        self.waiting.clear();
        self.settle(name).await;
        let shared = &self.stack.home.shared;
        assert_eq!(shared.metrics.exchanges.get(), 0, "{name}");
        assert_eq!(shared.metrics.store.fallbacks.get(), 0, "{name}: all was decided in Redis");
        let census = shared.engine.census(&shared.current().config.policy);
        assert!(census.values().all(|count| count.in_flight == 0), "{name}: {census:?}");
    }

    async fn happen(&mut self, place: &str, entry: &Entry) {
        if let Some(policy) = &entry.reload {
            self.stack.reload(configuration(&format!("{policy}{}", self.store), &seed()), &self.keys);
        } else if entry.sweep {
            self.stack.home.shared.engine.sweep(entry.at());
        } else if let Some(name) = &entry.end {
            let (peer, waiting) = self.waiting.remove(name).unwrap();
            assert_eq!(finish(self.stack.release(waiting)), 200, "{place}");
            peer.let_go();
        } else if let Some(name) = &entry.cancel {
            drop(self.waiting.remove(name).unwrap());
        } else {
            for time in 1..=entry.times.unwrap_or(1) {
                self.arrive(&format!("{place}, time {time}"), entry).await;
            }
        }
    }

    async fn arrive(&mut self, place: &str, entry: &Entry) {
        let before = (self.counted(|own| Some(&own.shadow_reject)), self.counted(candidate_reject));
        let peer = peer(entry.ip.as_deref().unwrap_or("192.0.2.1"));
        let deed = if entry.hold.is_some() { Deed::Wait } else { Deed::Answer };
        let call = self.stack.send(&peer, request(entry, deed).map(|()| Bytes::from(entry.form.clone())));
        match self.decided(place, call).await {
            Ok(response) => assert_verdict(place, response, entry.expect.as_ref().unwrap()),
            Err(waiting) => drop(self.waiting.insert(entry.hold.clone().unwrap(), (Rc::clone(&peer), waiting))),
        }
        peer.let_go();
        let after = (self.counted(|own| Some(&own.shadow_reject)), self.counted(candidate_reject));
        let more = |before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>| -> BTreeSet<String> {
            after.iter().filter(|(name, count)| before[*name] < **count).map(|it| it.0.clone()).collect()
        };
        let sorted = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(more(&before.0, &after.0), sorted(&entry.shadow), "{place}: shadow limits");
        assert_eq!(more(&before.1, &after.1), sorted(&entry.candidate), "{place}: candidates");
    }

    /// The answer, or the request once it waits at the upstream.
    async fn decided(&self, place: &str, mut call: InFlight) -> Result<StubResponse, InFlight> {
        let arrived = self.stack.arrived.get();
        let look = async {
            loop {
                if let Poll::Ready(response) = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
                    return Some(response);
                }
                if self.stack.arrived.get() > arrived {
                    return None;
                }
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        let looked = tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{place}: no verdict"));
        looked.ok_or(call)
    }

    /// Until what was given back has been told.
    async fn settle(&self, place: &str) {
        let exact = self.stack.home.exact.as_ref().unwrap();
        let told = async {
            while !exact.is_settled() {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("{place}: something is not given back"));
    }

    fn counted(&self, counter: fn(&LimitCounters) -> Option<&IntCounter>) -> BTreeMap<String, u64> {
        let snapshot = self.stack.home.shared.current();
        let limits = snapshot.config.policy.limits();
        let counted = limits.zip(&snapshot.limits);
        counted.map(|((_, limit), own)| (limit.name.to_string(), counter(own).map_or(0, IntCounter::get))).collect()
    }
}
