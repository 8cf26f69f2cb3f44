//! The stack alone: its order, every case through it with a clock that the test moves, and panics at every place.

use crate::support::cases::{Admit, Case, Entry, Expected, cases, configuration};
use crate::support::running::key;
use crate::support::stub::{Deed, InFlight, Stack, StubResponse, peer, poll_once, read};
use crate::support::{seed, wait::PATIENCE};
use bytes::Bytes;
use http::{HeaderMap, Request};
use prometheus::IntCounter;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use tollgate::engine::{Access, Mode, Nanos, Stage};
use tollgate::explain::{Explanation, Question, Written, explain};
use tollgate::gateway::{ADMIT_ORDER, Peer};
use tollgate::metrics::LimitCounters;

#[test]
fn stages_are_met_in_the_engines_order() {
    assert_eq!(ADMIT_ORDER, Stage::ALL);
}

#[test]
fn the_stack_answers_every_case_as_the_engine_does() {
    let cases = cases();
    assert!(cases.len() >= 12, "the cases are there");
    for (file, case) in cases {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        Run::new(&case).through(&name, &case);
    }
}

/// One case on its way through the stack.
struct Run {
    stack: Stack,
    keys: String,
    waiting: HashMap<String, (Rc<Peer>, InFlight)>,
}

impl Run {
    fn new(case: &Case) -> Run {
        let keys = keys_of(case);
        let stack = Stack::new(configuration(&case.policy, &seed()), &keys);
        Run { stack, keys, waiting: HashMap::new() }
    }

    fn through(mut self, name: &str, case: &Case) {
        for (number, entry) in (1..).zip(&case.timeline) {
            let place = format!("{name}, entry {number}: {}", entry.request.as_deref().unwrap_or_default());
            self.stack.clock.set(entry.at());
            self.happen(&place, entry, entry.at());
        }
        self.waiting.clear();
        let metrics = &self.stack.home.shared.metrics;
        assert_eq!(metrics.exchanges.get(), 0, "{name}");
        let policy = &self.stack.home.shared.current().config.policy;
        let census = self.stack.home.shared.engine.census(policy);
        assert!(census.values().all(|count| count.in_flight == 0), "{name}: {census:?}");
    }

    fn happen(&mut self, place: &str, entry: &Entry, now: Nanos) {
        if let Some(policy) = &entry.reload {
            self.stack.reload(configuration(policy, &seed()), &self.keys);
        } else if entry.sweep {
            self.stack.home.shared.engine.sweep(now);
        } else if let Some(name) = &entry.end {
            let (peer, waiting) =
                self.waiting.remove(name).unwrap_or_else(|| panic!("{place}: nobody is called {name}"));
            assert_eq!(finish(self.stack.release(waiting)), 200, "{place}");
            peer.let_go();
        } else if let Some(name) = &entry.cancel {
            drop(self.waiting.remove(name).unwrap_or_else(|| panic!("{place}: nobody is called {name}")));
        } else {
            for time in 1..=entry.times.unwrap_or(1) {
                self.arrive(&format!("{place}, time {time}"), entry);
            }
        }
    }

    fn arrive(&mut self, place: &str, entry: &Entry) {
        let before = (self.counted(|own| Some(&own.shadow_reject)), self.counted(candidate_reject));
        let decided = self.decisions();
        let explained = self.explained(entry);
        let peer = peer(entry.ip.as_deref().unwrap_or("192.0.2.1"));
        let deed = if entry.hold.is_some() { Deed::Wait } else { Deed::Answer };
        let mut call = self.stack.send(&peer, request(entry, deed).map(|()| Bytes::from(entry.form.clone())));
        match poll_once(&mut call) {
            std::task::Poll::Ready(response) => assert_verdict(place, response, entry.expect.as_ref().unwrap()),
            std::task::Poll::Pending => {
                assert_eq!(entry.expect, Some(Expected::Word(Admit::Admit)), "{place}");
                self.waiting.insert(entry.hold.clone().unwrap(), (Rc::clone(&peer), call));
            }
        }
        peer.let_go();
        assert_foretold(place, &explained, entry.expect.as_ref().unwrap());
        let after = self.decisions();
        let asked: BTreeSet<&str> =
            after.iter().filter(|(name, count)| decided[*name] < **count).map(|it| it.0.as_str()).collect();
        assert_eq!(asked, to_be_asked(&explained), "{place}: limits that apply, up to the one that refuses");
        let after = (self.counted(|own| Some(&own.shadow_reject)), self.counted(candidate_reject));
        let more = |before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>| -> Vec<String> {
            after.iter().filter(|(name, count)| before[*name] < **count).map(|it| it.0.clone()).collect()
        };
        let sorted = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
        assert_eq!(more(&before.0, &after.0), sorted(&entry.shadow), "{place}: shadow limits");
        assert_eq!(more(&before.1, &after.1), sorted(&entry.candidate), "{place}: candidates");
    }

    /// What is said of the request before it comes.
    fn explained(&self, entry: &Entry) -> Explanation {
        let shared = &self.stack.home.shared;
        let snapshot = shared.current();
        let (method, path) = entry.request.as_deref().unwrap().split_once(' ').unwrap();
        let headers: Vec<String> = entry.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let key = key_id(entry);
        let written = Written {
            method: Some(method),
            path,
            account: Some(entry.account()),
            mode: Some(entry.mode()),
            key_id: Some(&key),
            connected_account: entry.connected.as_deref(),
            ip: entry.ip.as_deref(),
            headers: headers.iter().map(String::as_str).collect(),
            form: entry.form.split('&').filter(|pair| !pair.is_empty()).collect(),
            json: None,
        };
        let question = Question::new(&written, &snapshot.config, None, &seed()).unwrap();
        explain(&question, &snapshot.config, &shared.engine, self.stack.home.now(), usize::MAX)
    }

    /// How often each limit was asked so far.
    fn decisions(&self) -> BTreeMap<String, u64> {
        let kinds = [
            self.counted(|own| Some(&own.admit)),
            self.counted(|own| Some(&own.reject)),
            self.counted(|own| Some(&own.shadow_reject)),
        ];
        let mut sum = BTreeMap::new();
        for (name, count) in kinds.into_iter().flatten() {
            *sum.entry(name).or_default() += count;
        }
        sum
    }

    /// One count of each limit so far.
    fn counted(&self, counter: fn(&LimitCounters) -> Option<&IntCounter>) -> BTreeMap<String, u64> {
        let snapshot = self.stack.home.shared.current();
        let limits = snapshot.config.policy.limits();
        limits
            .zip(&snapshot.limits)
            .map(|((_, limit), own)| (limit.name.to_string(), counter(own).map_or(0, |counter| counter.get())))
            .collect()
    }
}

fn to_be_asked(explained: &Explanation) -> BTreeSet<&str> {
    let mut asked = BTreeSet::new();
    for limit in explained.limits.iter().filter(|limit| limit.applies) {
        asked.insert(&*limit.name);
        if Some(&limit.name) == explained.refuses_now.as_ref() {
            break;
        }
    }
    asked
}

/// Holds what was said of a request against what it is to get.
fn assert_foretold(place: &str, explained: &Explanation, expected: &Expected) {
    let refused = match expected {
        Expected::Word(_) => None,
        Expected::Reject(refused) => Some(refused),
    };
    assert_eq!(explained.refuses_now.as_deref(), refused.map(|refused| refused.limit.as_str()), "{place}: foretold");
    let Some(refused) = refused else { return };
    let limit = explained.limits.iter().find(|limit| *limit.name == *refused.limit).unwrap();
    let exact = refused.retry_after.as_deref().map(|text| humantime::parse_duration(text).unwrap().as_nanos());
    let foretold = limit.state.as_ref().unwrap().next_free_ms.map(u128::from);
    assert_eq!(foretold, exact.map(|ns| ns.div_ceil(1_000_000)), "{place}: when the next passes");
    assert_eq!(limit.reason, refused.reason, "{place}");
}

/// A keys file with every key that a case needs.
pub(super) fn keys_of(case: &Case) -> String {
    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    for entry in case.timeline.iter().filter(|entry| entry.request.is_some()) {
        let secret = secret(entry);
        let (account, mode) = (entry.account(), entry.mode());
        let id = key_id(entry);
        let entry = key(&id, &secret, account, mode, "connected_accounts = \"*\"");
        keys.insert(secret, entry);
    }
    keys.into_values().collect()
}

pub(super) fn key_id(entry: &Entry) -> String {
    entry.key.clone().unwrap_or_else(|| format!("key_{}_{}", entry.account(), entry.mode()))
}

pub(super) fn candidate_reject(own: &LimitCounters) -> Option<&IntCounter> {
    own.candidate.as_ref().map(|candidate| &candidate.reject)
}

/// A secret of its own for each account, mode and key.
pub(super) fn secret(entry: &Entry) -> String {
    let name = format!("{}{}", entry.account(), entry.key.as_deref().unwrap_or_default());
    format!("sk_{}_{:0>40}", entry.mode(), name.replace('_', "0"))
}

pub(super) fn request(entry: &Entry, deed: Deed) -> Request<()> {
    let (method, path) = entry.request.as_deref().unwrap().split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path).header("host", "api.example.com");
    request = request.header("authorization", format!("Bearer {}", secret(entry))).header("x-stub", deed.as_str());
    if let Some(connected) = &entry.connected {
        request = request.header("stripe-account", connected);
    }
    for (name, value) in &entry.headers {
        request = request.header(name, value);
    }
    if !entry.form.is_empty() {
        request = request.header("content-type", "application/x-www-form-urlencoded");
    }
    request.body(()).unwrap()
}

pub(super) fn finish(response: StubResponse) -> u16 {
    let status = response.status().as_u16();
    read(response);
    status
}

/// Holds an answer against what the case expects; with the retry time rounded up to seconds, as headers have it.
pub(super) fn assert_verdict(place: &str, response: StubResponse, expected: &Expected) {
    let Expected::Reject(refused) = expected else {
        assert_eq!(finish(response), 200, "{place}");
        return;
    };
    assert_eq!(response.status(), 429, "{place}");
    let headers = response.headers().clone();
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(text("stripe-rate-limited-reason").as_ref(), Some(&refused.reason), "{place}");
    let named = |header: &str| text(header).unwrap().starts_with(&format!("\"{}\";", refused.limit));
    assert!(named("ratelimit") && named("ratelimit-policy"), "{place}: {headers:?}");
    assert_retry_after(place, &headers, refused.retry_after.as_deref());
    let error: serde_json::Value = serde_json::from_slice(&read(response)).unwrap();
    assert_eq!(error["error"]["code"], "rate_limit", "{place}");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains(&format!("'{}'", refused.limit)), "{place}: {message}");
}

fn assert_retry_after(place: &str, headers: &HeaderMap, expected: Option<&str>) {
    let got = headers.get("retry-after").map(|value| value.to_str().unwrap().parse::<u128>().unwrap());
    match expected {
        Some(duration) => {
            let exact = humantime::parse_duration(duration).unwrap().as_nanos();
            assert_eq!(got, Some(exact.div_ceil(1_000_000_000).max(1)), "{place}");
        }
        // Nobody knows when a slot comes back; and from a limit of nothing nothing comes.
        None => assert!(matches!(got, None | Some(1)), "{place}: {got:?}"),
    }
}

const POLICY: &str = r#"
[[limits]]
name = "slots"
stage = "global"
concurrency = 1
[[limits]]
name = "tokens"
stage = "global"
rate = "1/h"
burst = 1000
"#;

fn stack() -> (Stack, impl Fn(Deed) -> Request<()>) {
    let secret = "sk_live_000000000000000000000000000000000000";
    let stack = Stack::new(configuration(POLICY, &seed()), &key("key", secret, "acct_1", "live", ""));
    let ask = move |deed: Deed| {
        let builder = Request::builder().uri("/v1/charges").header("host", "a").header("x-stub", deed.as_str());
        builder.header("authorization", format!("Bearer {secret}")).body(()).unwrap()
    };
    (stack, ask)
}

/// Requests that the tokens' bucket still admits.
fn left(stack: &Stack, ask: &impl Fn(Deed) -> Request<()>) -> usize {
    let peer = peer("192.0.2.1");
    let admits = || {
        let response = stack.ask(&peer, ask(Deed::Answer));
        let admitted = finish(response) == 200;
        peer.let_go();
        admitted
    };
    (0..2_000).take_while(|_| admits()).count()
}

#[test]
fn a_panic_anywhere_costs_no_slot() {
    let (stack, ask) = stack();
    let peer = peer("192.0.2.1");
    for deed in [Deed::PanicBefore, Deed::PanicAfter, Deed::Fail, Deed::PanicInBody].into_iter().cycle().take(40) {
        let response = stack.ask(&peer, ask(deed));
        let status = response.status().as_u16();
        let read = catch_unwind(AssertUnwindSafe(|| read(response)));
        let expected = match deed {
            Deed::PanicBefore | Deed::PanicAfter => (500, true),
            Deed::Fail => (502, true),
            _ => (200, false),
        };
        assert_eq!((status, read.is_ok()), expected, "{deed:?}");
        assert_eq!(stack.count("slots").in_flight, 0, "{deed:?}");
    }
    let metrics = &stack.home.shared.metrics;
    assert_eq!((metrics.exchanges.get(), metrics.panics.get()), (0, 20));
    // What was sent on has spent its token: 30 of the 40. What was not has not.
    assert_eq!(left(&stack, &ask), 970);
}

#[test]
fn a_slot_is_held_until_the_last_byte_has_left() {
    let (stack, ask) = stack();
    let (first, second) = (peer("192.0.2.1"), peer("192.0.2.2"));
    let open = stack.ask(&first, ask(Deed::Answer));
    assert_eq!(stack.count("slots").in_flight, 1);
    assert_eq!(stack.ask(&second, ask(Deed::Answer)).status(), 429, "the answer's head is not its end");
    read(open);
    assert_eq!(stack.count("slots").in_flight, 1, "written, but not sent");
    first.let_go();
    assert_eq!(stack.count("slots").in_flight, 0);
    let unread = stack.ask(&first, ask(Deed::Answer));
    drop(unread);
    assert_eq!(stack.count("slots").in_flight, 0, "a client that is gone holds nothing");
}

#[test]
fn a_request_dropped_at_any_moment_gives_back_what_is_due() {
    let (stack, ask) = stack();
    let peer = peer("192.0.2.1");
    for polled in [false, true] {
        let mut call = stack.call(&peer, ask(Deed::Wait));
        if polled {
            assert!(poll_once(&mut call).is_pending());
        }
        drop(call);
        assert_eq!(stack.count("slots").in_flight, 0);
    }
    assert_eq!(left(&stack, &ask), 1_000, "nothing was sent, nothing is spent");
    assert!(stack.clock.wall() < jiff::Timestamp::UNIX_EPOCH + PATIENCE, "and no time passed");
}

#[test]
fn a_refusal_is_counted_though_its_client_leaves_before_it_is_told() {
    let (stack, ask) = stack();
    let (first, second) = (peer("192.0.2.1"), peer("192.0.2.2"));
    let open = stack.ask(&first, ask(Deed::Answer));
    // Never polled, as when the connection is reset before hyper comes to it.
    drop(stack.call(&second, ask(Deed::Answer)));
    drop(open);
    let metrics = &stack.home.shared.metrics;
    let snapshot = stack.home.shared.current();
    let slots = snapshot.config.policy.limits().position(|(_, limit)| &*limit.name == "slots").unwrap();
    let counted = &snapshot.limits[slots];
    assert_eq!((counted.reject.get(), counted.rejections.iter().map(|mode| mode.get()).sum()), (1, 1_u64));
    let refused = metrics.requests(&snapshot.config.routes[0].name, Some(Mode::Live), Some(Access::Read), 429);
    assert_eq!(refused.get(), 1);
}
