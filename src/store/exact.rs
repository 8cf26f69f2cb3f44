//! `mode = "exact"`: every request is decided in Redis, in one script and one round trip.
//!
//! - All or nothing, on Redis's own clock: the script looks at every partition first and takes afterwards.
//! - What a script has taken is a [`Grip`] from the moment its answer arrives. Whoever drops it uncommitted gives it back: a
//!   refusal elsewhere, a client that has left, a request that was not waited for any longer. The call goes on in a task of its own
//!   then, so that nothing is lost with the one who asked.
//! - Slots have names of their own. Giving one back twice, or one that was never taken, does nothing; one that is not renewed comes
//!   back after `lease_ttl`. So a call without an answer costs a slot at most for a moment.
//! - Tokens of a call without an answer stay spent: the strict side.

use super::fault::Fault;
use super::tending::Tending;
use super::{Connection, Link, Script};
use crate::config::Topology;
use crate::engine::{Id, Limiter, Nanos, Outcome, Question, Questions, Told};
use redis::{FromRedisValue, RedisResult, Value};
use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::oneshot;

/// One thread's part of it.
pub struct Exact {
    link: Rc<Link>,
    tending: Rc<Tending>,
    decide: Script,
}

/// What Redis has said about a request.
pub struct Answer {
    /// About each partition that was looked at.
    pub told: Vec<Told>,
    /// What it has taken.
    pub grip: Grip,
}

/// What a request has taken in Redis: it goes back when this is dropped. Once committed, only slots do.
#[must_use]
pub struct Grip {
    tending: Rc<Tending>,
    taken: Vec<Taken>,
    at_us: i64,
    committed: bool,
}

/// Something taken from one partition.
pub(super) enum Taken {
    Tokens { key: Key, worth_us: f64, lacking_us: f64, disturbances: i64 },
    Counts { key: Key, slice: i64, cost: u32, length_us: f64 },
    Slot { key: Key, name: String },
}

/// A key in Redis.
pub(super) type Key = Rc<[u8]>;

impl Grip {
    /// The request is forwarded: its tokens are spent, its slots are held on.
    pub fn commit(&mut self) {
        self.committed = true;
        self.taken.retain(|taken| matches!(taken, Taken::Slot { .. }));
    }
}

impl Grip {
    /// The request was decided without Redis meanwhile, and what it spent there will be told: a bucket then lacks the more of both,
    /// not the sum, so its tokens must not go back.
    fn count_once(&mut self) {
        self.taken.retain(|taken| !matches!(taken, Taken::Tokens { .. }));
    }
}

impl Drop for Grip {
    fn drop(&mut self) {
        for taken in self.taken.drain(..) {
            self.tending.give_back(taken, self.at_us);
        }
    }
}

/// A partition's question as the script wants it.
struct Asked {
    key: Key,
    words: [Vec<u8>; 7],
    /// The name of the slot, where it is for one.
    slot: Option<String>,
}

/// One call of the script.
struct Call {
    questions: Vec<Question>,
    asked: Vec<Asked>,
    words: Vec<Vec<u8>>,
    cost: u32,
    at: Nanos,
    /// Whoever asked has given up waiting and gone on without the answer.
    late: Rc<Cell<bool>>,
}

impl Exact {
    /// Over this link. What it has to look after it does in the background, from the first request on.
    #[must_use]
    pub fn new(link: Rc<Link>) -> Rc<Exact> {
        let tending = Tending::new(Rc::clone(&link));
        Rc::new(Exact { link, tending, decide: Script::new(include_str!("scripts/decide.lua")) })
    }

    /// Whether Redis is worth asking.
    #[must_use]
    pub fn is_open_for_questions(&self) -> bool {
        self.link.store().breaker().is_closed()
    }

    /// Whether everything given back has been told to Redis.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.tending.is_settled()
    }

    /// Notes what a request spends that is decided without Redis: it will be told.
    pub fn owe(&self, questions: &Questions, cost: u32) {
        self.link.store().owe(questions.asked.iter().map(|question| question.partition.key), cost);
    }

    /// Asks. `at` is the moment that times to come back are counted from.
    ///
    /// # Errors
    /// When there is no answer within `command_timeout`. What it takes all the same is given back.
    pub async fn ask(self: Rc<Self>, questions: Questions, cost: u32, at: Nanos) -> Result<Answer, Fault> {
        let Questions { asked, in_vain } = questions;
        let mut answer = Answer { told: Vec::with_capacity(asked.len() + 1), grip: self.grip(0) };
        let mut rest = asked;
        while let Some(group) = rest.first().map(|question| question.partition.group) {
            let (now, later) = self.split(rest, group);
            rest = later;
            let part = Rc::clone(&self).ask_one(now, cost, at, in_vain.is_none()).await?;
            let Answer { told, mut grip } = part;
            answer.told.extend(told);
            answer.grip.at_us = grip.at_us;
            answer.grip.taken.append(&mut grip.taken);
        }
        answer.told.extend(in_vain);
        Ok(answer)
    }

    /// What one script may ask about: in a cluster, what is kept in one place; else everything.
    fn split(&self, asked: Vec<Question>, group: Id) -> (Vec<Question>, Vec<Question>) {
        match self.link.store().settings().topology {
            Topology::Cluster => asked.into_iter().partition(|question| question.partition.group == group),
            Topology::Single | Topology::Sentinel(_) => (asked, Vec::new()),
        }
    }

    async fn ask_one(
        self: Rc<Self>,
        questions: Vec<Question>,
        cost: u32,
        at: Nanos,
        take: bool,
    ) -> Result<Answer, Fault> {
        let owed = self.link.store().settle(questions.iter().map(|question| question.partition.key));
        let asked: Vec<Asked> =
            questions.iter().zip(&owed).map(|(question, owed)| self.put(question, cost, *owed)).collect();
        let now = self.link.store().script_time(at);
        let mut words = vec![now, if take { b"1".to_vec() } else { b"0".to_vec() }];
        words.extend(asked.iter().flat_map(|asked| asked.words.clone()));
        self.tending.recover();
        let (exact, late) = (Rc::clone(&self), Rc::new(Cell::new(false)));
        let given_up = Rc::clone(&late);
        let keys: Vec<_> = questions.iter().map(|question| question.partition.key).collect();
        let answered = self
            .link
            .call(async move |connection| exact.run(connection, Call { questions, asked, words, cost, at, late }).await)
            .await;
        if answered.is_err() {
            given_up.set(true);
            self.link.store().owe_again(keys.into_iter().zip(owed));
        }
        answered
    }

    /// Runs the script in a task of its own, which outlives whoever waits for it.
    async fn run(self: Rc<Self>, mut connection: Connection, call: Call) -> Result<Answer, Fault> {
        let Call { questions, asked, words, cost, at, late } = call;
        let (tell, told) = oneshot::channel();
        tokio::task::spawn_local(async move {
            let keys: Vec<&[u8]> = asked.iter().map(|asked| &*asked.key).collect();
            let value = self.decide.run(&mut connection, &keys, &words).await;
            let mut answer = value.and_then(|value| self.read(&value, &questions, &asked, cost, at));
            if let (true, Ok(answer)) = (late.get(), &mut answer) {
                answer.grip.count_once();
            }
            if answer.is_err() {
                self.unsure(asked);
            }
            // What nobody takes any more gives itself back.
            drop(tell.send(answer));
        });
        match told.await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Fault::Connection("the call was broken off".into())),
        }
    }

    fn grip(&self, at_us: i64) -> Grip {
        Grip { tending: Rc::clone(&self.tending), taken: Vec::new(), at_us, committed: false }
    }

    /// Nobody knows whether a call has taken its slots: they are given back in any case.
    fn unsure(&self, asked: Vec<Asked>) {
        for Asked { key, slot, .. } in asked {
            if let Some(name) = slot {
                self.tending.give_back(Taken::Slot { key, name }, 0);
            }
        }
    }

    fn put(&self, question: &Question, cost: u32, owed: u64) -> Asked {
        let store = self.link.store();
        let key = store.key(question.partition.group, question.partition.key);
        let flags = u8::from(question.enforced) + 2 * u8::from(question.second);
        let (mut name, known_us) = (None, number(sixteenths(question.known)));
        let (kind, interval, most, known, last) = match question.partition.limiter {
            Limiter::Gcra(figures) => {
                let interval_us = sixteenths_up(figures.emission_ns().get());
                let most = if figures.depth_ns() == 0 { 0.0 } else { interval_us * figures.burst() as f64 };
                (b"g", number(interval_us), number(most), known_us, owed.to_string())
            }
            Limiter::SlidingWindow(figures) => {
                let slice_us = number(sixteenths_up(figures.slice_ns().get()));
                (b"w", slice_us, figures.limit().to_string(), question.known.to_string(), owed.to_string())
            }
            Limiter::Concurrency(figures) => {
                let slot = self.tending.name();
                name = Some(slot.clone());
                (b"s", number(store.lease_ttl_us()), figures.slots.to_string(), "0".to_owned(), slot)
            }
            // Never asked: the configuration keeps allocations here.
            Limiter::Allocation(_) => (b"w", "1".to_owned(), "0".to_owned(), "0".to_owned(), "0".to_owned()),
        };
        let words = [kind.to_vec(), flags.to_string().into(), cost.to_string().into(), interval.into(), most.into()];
        let [kind, flags, cost, interval, most] = words;
        Asked { key: key.into(), words: [kind, flags, cost, interval, most, known.into(), last.into()], slot: name }
    }

    fn read(
        &self,
        value: &Value,
        questions: &[Question],
        asked: &[Asked],
        cost: u32,
        at: Nanos,
    ) -> RedisResult<Answer> {
        let numbers = Vec::<i64>::from_redis_value_ref(value)?;
        let &[at_us, took, ref each @ ..] = &numbers[..] else {
            return Err((redis::ErrorKind::UnexpectedReturnType, "a script's answer is too short").into());
        };
        let mut answer = Answer { told: Vec::with_capacity(questions.len()), grip: self.grip(at_us) };
        for ((question, asked), said) in questions.iter().zip(asked).zip(each.chunks_exact(5)) {
            let &[admitted, remaining, wait, last, disturbances] = said else { continue };
            answer.told.push(told(question, admitted == 1, remaining, wait, last, at));
            if took == 1 && admitted == 1 {
                answer.grip.taken.extend(taken(question, asked, cost, last, disturbances));
            }
        }
        // Where the second of two had no room, the first has given nothing either.
        drop_undone(&mut answer, questions, asked);
        for taken in &answer.grip.taken {
            self.tending.hold(taken);
        }
        Ok(answer)
    }
}

fn told(question: &Question, admitted: bool, remaining: i64, wait: i64, last: i64, at: Nanos) -> Told {
    let outcome = if admitted {
        Outcome::Admitted { remaining: u64::try_from(remaining).unwrap_or(0) }
    } else {
        // Rounded up: whoever comes then is not too early.
        let retry_at = u64::try_from(wait).ok().map(|wait| at.saturating_add(wait.saturating_mul(125).div_ceil(2)));
        Outcome::Rejected { retry_at }
    };
    let lacking_ns = match question.partition.limiter {
        Limiter::Gcra(_) => u64::try_from(last).unwrap_or(0).saturating_mul(125) / 2,
        Limiter::SlidingWindow(_) | Limiter::Concurrency(_) | Limiter::Allocation(_) => 0,
    };
    Told { limit: question.limit, account: question.account, outcome, lacking_ns }
}

fn taken(question: &Question, asked: &Asked, cost: u32, last: i64, disturbances: i64) -> Option<Taken> {
    let key = Rc::clone(&asked.key);
    match question.partition.limiter {
        Limiter::Gcra(figures) => {
            let worth_us = sixteenths_up(figures.emission_ns().get()) * f64::from(cost);
            let lacking_us = last as f64 / 16.0;
            (cost > 0).then_some(Taken::Tokens { key, worth_us, lacking_us, disturbances })
        }
        Limiter::SlidingWindow(figures) => {
            let length_us = sixteenths_up(figures.slice_ns().get());
            (cost > 0).then_some(Taken::Counts { key, slice: last, cost, length_us })
        }
        Limiter::Concurrency(_) => asked.slot.clone().map(|name| Taken::Slot { key, name }),
        Limiter::Allocation(_) => None,
    }
}

/// Takes out what the script has undone.
fn drop_undone(answer: &mut Answer, questions: &[Question], asked: &[Asked]) {
    let refused =
        |place: usize| answer.told.get(place).is_some_and(|told| matches!(told.outcome, Outcome::Rejected { .. }));
    let undone: Vec<Key> = (1..questions.len())
        .filter(|&place| questions.get(place).is_some_and(|question| question.second) && refused(place))
        .filter_map(|place| Some(Rc::clone(&asked.get(place - 1)?.key)))
        .collect();
    if !undone.is_empty() {
        answer.grip.taken.retain(|taken| !undone.iter().any(|key| Rc::ptr_eq(key, taken.key())));
    }
}

impl Taken {
    pub(super) fn key(&self) -> &Key {
        match self {
            Taken::Tokens { key, .. } | Taken::Counts { key, .. } | Taken::Slot { key, .. } => key,
        }
    }
}

/// Nanoseconds as microseconds, in whole sixteenths that a double holds exactly; rounded down.
fn sixteenths(ns: u64) -> f64 {
    (u128::from(ns) * 2 / 125) as f64 / 16.0
}

/// The same, rounded up: a rate never admits more than it says.
fn sixteenths_up(ns: u64) -> f64 {
    (u128::from(ns) * 2).div_ceil(125) as f64 / 16.0
}

pub(super) fn number(us: f64) -> String {
    us.to_string()
}

/// The time for a script when a test moves the clock.
pub(super) fn manual_time(now: Nanos) -> Vec<u8> {
    number(sixteenths(now.0)).into_bytes()
}
