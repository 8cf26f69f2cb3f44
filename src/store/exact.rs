//! `mode = "exact"`: every request is decided in Redis, in one script and one round trip.
//!
//! - All or nothing, on Redis's own clock: the script looks at every partition first and takes afterwards.
//! - What a script has taken is a [`Grip`] from the moment its answer arrives. Whoever drops it uncommitted gives it back: a
//!   refusal elsewhere, a client that has left, a request that was not waited for any longer. The call goes on without whoever asked
//!   then ([`Outliving`]), so that nothing is lost.
//! - Slots have names of their own. Giving one back twice, or one that was never taken, does nothing; one that is not renewed comes
//!   back after `lease_ttl`. So a call without an answer costs a slot at most for a moment.
//! - Tokens of a call without an answer stay spent: the strict side.

use super::fault::Fault;
use super::outliving::Outliving;
use super::packed::{self, Said};
use super::shards::WHOLE;
use super::tending::Tending;
use super::{Connection, Link, Script};
use crate::config::Topology;
use crate::engine::{Id, Limiter, Nanos, Outcome, Question, Questions, Told};
use redis::{RedisResult, Value};
use std::cell::Cell;
use std::rc::Rc;

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
    at_us: f64,
    committed: bool,
}

/// Something taken from one partition.
pub(super) enum Taken {
    Tokens { key: Key, worth_us: f64, lacking_us: f64, disturbances: u16 },
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

/// A partition that is asked about.
struct Asked {
    key: Key,
    /// The name of the slot, where it is for one.
    slot: Option<String>,
}

/// One call of the script.
struct Call {
    questions: Vec<Question>,
    asked: Vec<Asked>,
    words: Vec<Vec<u8>>,
    cost: u32,
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

    /// Whether Redis is worth asking about these.
    #[must_use]
    pub fn is_open_for(&self, questions: &Questions) -> bool {
        let store = self.link.store();
        let is_asked = |question: &Question| store.is_asked(store.shard(question.partition.group));
        store.shards.all_closed() || questions.asked.iter().all(is_asked)
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

    /// Asks, as of the moment `at` where the clock is one that a test moves. Times to come back count from the answer: Redis says how long to wait, and
    /// nobody knows when in between it did.
    ///
    /// # Errors
    /// When there is no answer within `command_timeout`. What it takes all the same is given back.
    pub async fn ask(self: Rc<Self>, questions: Questions, cost: u32, at: Nanos) -> Result<Answer, Fault> {
        let Questions { asked, in_vain } = questions;
        let mut answer = Answer { told: Vec::with_capacity(asked.len() + 1), grip: self.grip(0.0) };
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
        if self.tending.has_waiting() {
            // What was given back before is told before: else a client could miss the slot that its last request had.
            tokio::task::yield_now().await;
        }
        let owed = self.link.store().settle(questions.iter().map(|question| question.partition.key));
        let (asked, words) = self.put_all(&questions, &owed, (cost, at, take));
        self.tending.recover();
        let shard = questions.first().map_or(WHOLE, |question| self.link.store().shard(question.partition.group));
        let (exact, late) = (Rc::clone(&self), Rc::new(Cell::new(false)));
        let given_up = Rc::clone(&late);
        let keys: Vec<_> = questions.iter().map(|question| question.partition.key).collect();
        let answered = self
            .link
            .call(shard, async move |connection| {
                Outliving::new(exact.run(connection, Call { questions, asked, words, cost, late })).await
            })
            .await;
        if answered.is_err() {
            given_up.set(true);
            self.link.store().owe_again(keys.into_iter().zip(owed));
        }
        answered
    }

    /// Runs the script. It must be run to its end, whoever waits for it: what nobody takes any more gives itself back.
    async fn run(self: Rc<Self>, mut connection: Connection, call: Call) -> Result<Answer, Fault> {
        let Call { questions, asked, words, cost, late } = call;
        let keys: Vec<&[u8]> = asked.iter().map(|asked| &*asked.key).collect();
        let value = self.decide.run(&mut connection, &keys, &words).await;
        let mut answer = value.and_then(|value| self.read(&value, &questions, &asked, cost));
        if let (true, Ok(answer)) = (late.get(), &mut answer) {
            answer.grip.count_once();
        }
        if answer.is_err() {
            self.unsure(asked);
        }
        Ok(answer?)
    }

    fn grip(&self, at_us: f64) -> Grip {
        Grip { tending: Rc::clone(&self.tending), taken: Vec::new(), at_us, committed: false }
    }

    /// Nobody knows whether a call has taken its slots: they are given back in any case.
    fn unsure(&self, asked: Vec<Asked>) {
        for Asked { key, slot, .. } in asked {
            if let Some(name) = slot {
                self.tending.give_back(Taken::Slot { key, name }, 0.0);
            }
        }
    }

    /// The questions as the script wants them.
    fn put_all(&self, questions: &[Question], owed: &[u64], how: (u32, Nanos, bool)) -> (Vec<Asked>, Vec<Vec<u8>>) {
        let (cost, at, take) = how;
        let store = self.link.store();
        let mut packed = packed::head(store.script_time(at), take, questions.len());
        let mut names = Vec::new();
        let mut asked = Vec::with_capacity(questions.len());
        for (question, owed) in questions.iter().zip(owed) {
            packed::question(&mut packed, question, (cost, *owed), store.lease_ttl_us());
            let is_slot = matches!(question.partition.limiter, Limiter::Concurrency(_));
            let slot = is_slot.then(|| self.tending.name());
            names.extend(slot.iter().map(|name| name.clone().into_bytes()));
            asked.push(Asked { key: store.key(question.partition.group, question.partition.key).into(), slot });
        }
        names.insert(0, packed);
        (asked, names)
    }

    fn read(&self, value: &Value, questions: &[Question], asked: &[Asked], cost: u32) -> RedisResult<Answer> {
        let Some((at_us, took, each)) = packed::answer(value) else {
            return Err((redis::ErrorKind::UnexpectedReturnType, "a script's answer is too short").into());
        };
        let mut answer = Answer { told: Vec::with_capacity(questions.len()), grip: self.grip(at_us) };
        let now = self.link.store().now();
        for ((question, asked), said) in questions.iter().zip(asked).zip(each) {
            answer.told.push(told(question, &said, now));
            if took && said.admitted {
                answer.grip.taken.extend(taken(question, asked, cost, &said));
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

fn told(question: &Question, said: &Said, now: Nanos) -> Told {
    let outcome = if said.admitted {
        Outcome::Admitted { remaining: said.remaining as u64 }
    } else {
        // Rounded up: whoever comes then is not too early.
        let wait = (said.wait >= 0.0).then_some(said.wait as u64);
        let retry_at = wait.map(|wait| now.saturating_add(wait.saturating_mul(125).div_ceil(2)));
        Outcome::Rejected { retry_at }
    };
    let lacking_ns = match question.partition.limiter {
        Limiter::Gcra(_) => (said.last as u64).saturating_mul(125) / 2,
        Limiter::SlidingWindow(_) | Limiter::Concurrency(_) | Limiter::Allocation(_) => 0,
    };
    Told { limit: question.limit, account: question.account, outcome, lacking_ns }
}

fn taken(question: &Question, asked: &Asked, cost: u32, said: &Said) -> Option<Taken> {
    let key = Rc::clone(&asked.key);
    match question.partition.limiter {
        Limiter::Gcra(figures) => {
            let worth_us = sixteenths_up(figures.emission_ns().get()) * f64::from(cost);
            let (lacking_us, disturbances) = (said.last / 16.0, said.disturbances);
            (cost > 0).then_some(Taken::Tokens { key, worth_us, lacking_us, disturbances })
        }
        Limiter::SlidingWindow(figures) => {
            let length_us = sixteenths_up(figures.slice_ns().get());
            (cost > 0).then_some(Taken::Counts { key, slice: said.last as i64, cost, length_us })
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
pub(super) fn sixteenths(ns: u64) -> f64 {
    (u128::from(ns) * 2 / 125) as f64 / 16.0
}

/// The same, rounded up: a rate never admits more than it says.
pub(super) fn sixteenths_up(ns: u64) -> f64 {
    (u128::from(ns) * 2).div_ceil(125) as f64 / 16.0
}

pub(super) fn number(us: f64) -> String {
    us.to_string()
}
