//! FLOOR 0: the decision engine. `std`, `dashmap` and a hasher, nothing else.
//!
//! It is pure: it never sleeps, spawns, logs, counts, or reads a clock or a random source. Time comes in as an argument, so
//! the live gateway, `explain` and `replay` run this very code, and every case can be tested without waiting.
//!
//! Invariants, each held by a test:
//! 1. A limit admits what it says: in any span of `t` seconds at most `rate * t + burst` tokens; never more than its slots at
//!    once. On any number of threads.
//! 2. All or nothing: a rejected request has given back everything it took before [`Engine::stage`] returns, so it costs
//!    nobody anything. A refund never gives back what time has already refilled.
//! 3. A slot comes back exactly once, when its [`Hold`] is dropped.
//! 4. Forgetting an idle partition ([`Engine::sweep`], and where a new one wants its room) changes no answer; but a window that
//!    counts nothing any more is forgotten with what a longer one, in force later by a reload or for another account, would still
//!    have counted.
//! 5. A shadow limit (`enforce = false`) and a candidate change no verdict and no other limit's state.
//! 6. Live and test traffic never share a partition.
//!
//! One sharp edge, by design: stages take one after another, so a request that a later stage is about to refuse holds its
//! earlier tokens for well under a microsecond. Another thread may be refused the last token in that time. The limit errs to
//! the strict side; it never admits more.

mod ahead;
mod cells;
pub mod class;
mod credit;
pub mod decision;
pub mod enforce;
mod gate;
pub mod hold;
mod keep;
mod key;
mod lease;
mod leasing;
pub mod limiter;
mod meeting;
pub mod policy;
mod sync;
pub mod time;
mod told;

pub use cells::{Alone, Count, Map, PartitionKey, Shards};
pub use class::{Access, EndpointId, Id, IdKind, Mode, Payers, ProfileId, RequestClass, RouteId, Seed};
pub use credit::Earned;
pub use decision::{Outcome, Rejection, Step, Witness};
pub use enforce::{Enforce, Share, lot};
pub use gate::Gate;
pub use hold::Hold;
pub use lease::{Answer, Ask, Due, MAX_ROUNDS, Terms};
pub use leasing::{Manner, Partition, Wanted};
pub use limiter::sliding_window::SavedWindow;
pub use limiter::{Allocation, Concurrency, Gcra, Limiter, Mechanism, SlidingWindow};
pub use policy::{Condition, EndpointClass, Exempt, Limit, LimitId, Part, Policy, Profile, Stage, Unmet, WithoutStore};
pub use time::{Clock, Nanos};
pub use told::{Portion, Question, Questions, Told};

use cells::Cells;
use class::Payer;
use hold::{Taken, What};
use key::{Key, Mixer, Place};
use leasing::LiveTerms;
use limiter::gcra::{Draw, Tokens};
use limiter::sliding_window::Spend;
use policy::Which;
use std::collections::HashMap;
use std::sync::Arc;

/// The state of all limits, shared by all threads, or [of one](Engine::for_one_thread). Policies come and go; state belongs to a
/// limit's name and mechanism.
#[derive(Debug)]
pub struct Engine<M: Map = Shards> {
    seed: Seed,
    /// Keys the mixing of partition keys.
    secret: Id,
    cells: Cells<M>,
    /// Of what a shared store lends.
    terms: LiveTerms,
}

/// One request at one moment: what every step of a decision needs.
#[derive(Clone, Copy)]
struct Query<'a> {
    policy: &'a Policy,
    class: &'a RequestClass,
    now: Nanos,
    manner: Manner,
    /// What a shared store has said.
    told: &'a [Told],
}

impl Query<'_> {
    /// Whether a limit is decided by what a store has lent. Candidates are on trial on each gateway for itself.
    fn is_lent(&self, id: LimitId, which: Which) -> bool {
        self.manner == Manner::Lent && which == Which::InForce && self.policy.limit(id).shared.is_some()
    }

    /// What a limit does that gateways share and whose store is gone.
    fn is_apart(&self, id: LimitId, which: Which) -> Option<WithoutStore> {
        if self.manner != Manner::Apart || which != Which::InForce { None } else { self.policy.limit(id).shared }
    }

    /// What a store has said in place of a limit. Candidates are on trial on each gateway for itself.
    fn told(&self, id: LimitId, which: Which, account: Id) -> Option<&Told> {
        self.told.iter().find(|told| told.limit == id && told.account == account && which == Which::InForce)
    }
}

impl Engine {
    /// An engine without state. `seed` should be the one that the policies' ids are made with. `max_partitions` bounds memory,
    /// at about 100 bytes each; what happens at the bound stands in the module `cells`: new partitions share one.
    #[must_use]
    pub fn new(seed: Seed, max_partitions: usize) -> Engine {
        Engine::on_map(seed, max_partitions)
    }
}

impl Engine<Alone> {
    /// An engine for one thread, whose time must never go back; then it gives the same answers as any other.
    #[must_use]
    pub fn for_one_thread(seed: Seed, max_partitions: usize) -> Engine<Alone> {
        Engine::on_map(seed, max_partitions)
    }
}

impl<M: Map> Engine<M> {
    fn on_map(seed: Seed, max_partitions: usize) -> Engine<M> {
        Engine {
            seed,
            secret: seed.hash(b"partition keys"),
            cells: Cells::new(max_partitions),
            terms: LiveTerms::default(),
        }
    }

    /// The secret that ids for this engine are made with.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// Lets `class` meet the limits of one stage at `now`. What they give is added to `hold`.
    ///
    /// # Errors
    /// The first limit that has no room. Everything in `hold` is given back then.
    pub fn stage(
        &self,
        policy: &Policy,
        stage: Stage,
        class: &RequestClass,
        now: Nanos,
        hold: &mut Hold<M>,
        witness: &mut impl Witness,
    ) -> Result<(), Rejection> {
        self.stages(policy, [stage], class, now, hold, witness)
    }

    /// Lets `class` meet the limits of several stages at `now`, one stage after the other, as [`stage`](Engine::stage) does.
    ///
    /// # Errors
    /// The first limit that has no room. Everything in `hold` is given back then, and no further stage is met.
    pub fn stages(
        &self,
        policy: &Policy,
        stages: impl IntoIterator<Item = Stage>,
        class: &RequestClass,
        now: Nanos,
        hold: &mut Hold<M>,
        witness: &mut impl Witness,
    ) -> Result<(), Rejection> {
        let (told, now) = (hold.take_told(), self.cells.moment(now));
        let query = Query { policy, class, now, manner: hold.manner(), told: told.as_deref().unwrap_or_default() };
        let verdict = stages.into_iter().try_for_each(|stage| self.meet(&query, stage, hold, witness));
        if told.is_some() {
            hold.keep_told(told);
        }
        verdict
    }

    fn meet(
        &self,
        query: &Query<'_>,
        stage: Stage,
        hold: &mut Hold<M>,
        witness: &mut impl Witness,
    ) -> Result<(), Rejection> {
        let &Query { policy, class, now, .. } = query;
        if stage == Stage::GlobalRate {
            self.warm(query);
        }
        for (id, applies) in policy.meeting(stage, class) {
            let limit = policy.limit(id);
            if let Err(exempt) = applies {
                witness.saw(Step::Skipped { limit: id, exempt });
                continue;
            }
            let (outcome, payer) = self.ask_payers(query, id, Which::InForce, hold);
            let enforced = limit.enforce.is_for(class);
            witness.saw(Step::Decided { limit: id, outcome, enforced });
            if let (Outcome::Rejected { retry_at }, true) = (outcome, enforced) {
                hold.cancel(now);
                if limit.candidate.is_some() {
                    self.try_instead(query, stage, id, hold, witness);
                }
                let limiter = policy.limiter(id, payer.profile);
                let of_connected = payer.account != class.account;
                return Err(Rejection { limit: id, stage, limiter, of_connected, retry_at });
            }
            if limit.candidate.is_some() {
                let (outcome, _) = self.ask_payers(query, id, Which::Candidate, hold);
                witness.saw(Step::Tried { limit: id, outcome });
            }
        }
        Ok(())
    }

    /// Asks the candidate of the limit that has just refused. What it takes stays taken where every limit after that one
    /// would admit: under the candidate the request would have been forwarded. A slot goes back at once, since nobody knows how
    /// long the request would have run. `hold` is empty before and after.
    fn try_instead(
        &self,
        query: &Query<'_>,
        stage: Stage,
        id: LimitId,
        hold: &mut Hold<M>,
        witness: &mut impl Witness,
    ) {
        let (outcome, _) = self.ask_payers(query, id, Which::Candidate, hold);
        witness.saw(Step::Tried { limit: id, outcome });
        if hold.is_empty() {
            return;
        }
        if self.others_admit(query, stage, id) { hold.settle() } else { hold.cancel(query.now) }
    }

    /// Whether every enforced limit that comes after this one of this stage would admit. Nothing is taken.
    fn others_admit(&self, query: &Query<'_>, stage: Stage, id: LimitId) -> bool {
        let rest = query.policy.meeting(stage, query.class).skip_while(|(other, _)| *other != id).skip(1);
        let later = Stage::ALL.into_iter().filter(|later| *later > stage);
        let mut others = rest.chain(later.flat_map(|later| query.policy.meeting(later, query.class)));
        others.all(|(other, applies)| {
            applies.is_err()
                || !query.policy.limit(other).enforce.is_for(query.class)
                || matches!(self.peek_which(query, other, Which::InForce), Outcome::Admitted { .. })
        })
    }

    /// Lets `class` meet all stages in order. Unlike [`stage`](Engine::stage), the witness also hears of the limits that the
    /// index rules out, in the order of the configuration after those that were looked at.
    ///
    /// # Errors
    /// The first limit that has no room. The request holds nothing then.
    pub fn walk(
        self: &Arc<Self>,
        policy: &Policy,
        class: &RequestClass,
        now: Nanos,
        witness: &mut impl Witness,
    ) -> Result<Hold<M>, Rejection> {
        let mut hold = Hold::new(Arc::clone(self));
        for stage in Stage::ALL {
            let verdict = self.stage(policy, stage, class, now, &mut hold, witness);
            tell_ruled_out(policy, stage, class, witness);
            verdict?;
        }
        Ok(hold)
    }

    /// What a limit would say to `class` now, without taking anything. For limits that apply; see [`Limit::applies`].
    #[must_use]
    pub fn peek(&self, policy: &Policy, id: LimitId, class: &RequestClass, now: Nanos) -> Outcome {
        self.peek_which(&Query { policy, class, now, manner: self.manner(), told: &[] }, id, Which::InForce)
    }

    /// The same for the limit's candidate; `None` where it has none.
    #[must_use]
    pub fn peek_candidate(&self, policy: &Policy, id: LimitId, class: &RequestClass, now: Nanos) -> Option<Outcome> {
        policy.limit(id).candidate?;
        Some(self.peek_which(&Query { policy, class, now, manner: self.manner(), told: &[] }, id, Which::Candidate))
    }

    fn peek_which(&self, query: &Query<'_>, id: LimitId, which: Which) -> Outcome {
        let (first, second) = payers(query.policy.limit(id), query.class);
        let outcome = self.peek_payer(query, id, which, first);
        match second {
            Some(second) => outcome.and(self.peek_payer(query, id, which, second)),
            None => outcome,
        }
    }

    fn peek_payer(&self, query: &Query<'_>, id: LimitId, which: Which, payer: Payer) -> Outcome {
        let (class, now) = (query.class, query.now);
        let place = self.place(query, id, which, payer.account);
        let limiter = query.policy.figures(id, which, payer.profile);
        if query.is_lent(id, which)
            && let Some(outcome) = self.peek_lent(query, &place.of_lease(), &limiter)
        {
            return outcome;
        }
        let key = place.key;
        match limiter {
            Limiter::Gcra(figures) => {
                let tat = self.cells.peek_tat(key, &figures, now);
                match figures.draw(tat, now, class.cost) {
                    Draw::Taken { tat } => Outcome::Admitted { remaining: figures.remaining(tat, now) },
                    Draw::Refused { retry_at } => Outcome::Rejected { retry_at },
                }
            }
            Limiter::SlidingWindow(figures) => self.peek_window(key, &figures, now, class.cost),
            Limiter::Allocation(figures) => {
                let figures = figures.requests(self.transactions(query, id, payer.account));
                self.peek_window(key, &figures, now, class.cost)
            }
            Limiter::Concurrency(figures) => match figures.take(self.cells.peek_slots(key)) {
                Some(taken) => Outcome::Admitted { remaining: figures.remaining(taken) },
                None => Outcome::Rejected { retry_at: None },
            },
        }
    }

    /// Forgets partitions whose loss changes no answer: buckets that are full, windows that count nothing, limits without a slot taken, and
    /// not in the last ten milliseconds only (requests under way may have read the clock earlier). Holds one of 768 locks at a time.
    /// Returns how many were forgotten.
    pub fn sweep(&self, now: Nanos) -> usize {
        self.cells.sweep(now)
    }

    /// Partitions with state, of all limits.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.cells.len()
    }

    /// Partitions and slots of each limit of `policy`. Visits every partition: for a scrape, not for a request.
    #[must_use]
    pub fn census(&self, policy: &Policy) -> HashMap<LimitId, Count> {
        let tags = policy.tags();
        self.cells.census().into_iter().filter_map(|(tag, count)| Some((*tags.get(&tag)?, count))).collect()
    }

    pub(in crate::engine) fn cells(&self) -> &Cells<M> {
        &self.cells
    }

    /// Asks a limit for everybody who pays, and answers who had no room, or the first. When the second has no room, the first
    /// has given nothing.
    fn ask_payers(&self, query: &Query<'_>, id: LimitId, which: Which, hold: &mut Hold<M>) -> (Outcome, Payer) {
        let (first, second) = payers(query.policy.limit(id), query.class);
        let held = hold.len();
        let outcome = self.ask(query, id, which, first, hold);
        match (outcome, second) {
            (Outcome::Admitted { .. }, Some(second)) => {
                let outcome = outcome.and(self.ask_second(query, id, which, second, held, hold));
                (outcome, if matches!(outcome, Outcome::Admitted { .. }) { first } else { second })
            }
            _ => (outcome, first),
        }
    }

    /// Asks for the second who pays, after the first had room; where the second has none, what was taken after `held` things goes
    /// back.
    #[inline(never)]
    fn ask_second(
        &self,
        query: &Query<'_>,
        id: LimitId,
        which: Which,
        second: Payer,
        held: usize,
        hold: &mut Hold<M>,
    ) -> Outcome {
        let outcome = self.ask(query, id, which, second, hold);
        if matches!(outcome, Outcome::Rejected { .. }) {
            hold.cancel_from(held, query.now);
        }
        outcome
    }

    /// Taken in where it is called: once on the way of a request, and once where two pay.
    #[inline(always)]
    fn ask(&self, query: &Query<'_>, id: LimitId, which: Which, payer: Payer, hold: &mut Hold<M>) -> Outcome {
        let place = self.place(query, id, which, payer.account);
        let limiter = query.policy.figures(id, which, payer.profile);
        if query.is_lent(id, which) {
            return self.ask_lent(query, &place.of_lease(), &limiter, hold);
        }
        if let Some(told) = query.told(id, which, payer.account) {
            return self.repeat(query, told, &place, &limiter, hold);
        }
        let limiter = match query.is_apart(id, which).map(|without| self.without_store(query, without, &limiter)) {
            None => limiter,
            Some(Ok(outcome)) => return outcome,
            Some(Err(share)) => self.begin_apart(&place, share, query.now),
        };
        match limiter {
            Limiter::Gcra(figures) => {
                let (now, cost) = (query.now, query.class.cost);
                let drawn = self.cells.draw(&place, &figures, now, cost);
                match drawn.answer.draw {
                    Draw::Taken { tat } => {
                        let emission_ns = figures.emission_ns();
                        let tokens = Tokens { cost, emission_ns, taken_at: now, tat_after: tat };
                        let what = What::Tokens(tokens, drawn.answer.disturbances);
                        hold.push(Taken { key: drawn.key, what });
                        Outcome::Admitted { remaining: figures.remaining(tat, now) }
                    }
                    Draw::Refused { retry_at } => Outcome::Rejected { retry_at },
                }
            }
            Limiter::SlidingWindow(figures) => self.spend(query, &place, &figures, hold),
            Limiter::Allocation(figures) => {
                // Of the limit's own partition, which its candidate's is not.
                let transactions = match which {
                    Which::InForce => self.cells.counted(place.key.of_transactions(), query.now),
                    Which::Candidate => self.transactions(query, id, payer.account),
                };
                self.spend(query, &place, &figures.requests(transactions), hold)
            }
            Limiter::Concurrency(figures) => {
                let taken = self.cells.take_slot(&place, figures, query.now);
                match taken.answer {
                    Some(in_flight) => {
                        hold.push(Taken { key: taken.key, what: What::Slot });
                        Outcome::Admitted { remaining: figures.remaining(in_flight) }
                    }
                    None => Outcome::Rejected { retry_at: None },
                }
            }
        }
    }

    fn spend(&self, query: &Query<'_>, place: &Place, figures: &SlidingWindow, hold: &mut Hold<M>) -> Outcome {
        let cost = query.class.cost;
        let spent = self.cells.spend(place, figures, query.now, cost);
        match spent.answer {
            Spend::Taken { slice, remaining } => {
                let what = What::Counted { cost, slice, slice_ns: figures.slice_ns() };
                hold.push(Taken { key: spent.key, what });
                Outcome::Admitted { remaining: remaining.into() }
            }
            Spend::Refused { retry_at } => Outcome::Rejected { retry_at },
        }
    }

    fn peek_window(&self, key: Key, figures: &SlidingWindow, now: Nanos, cost: u32) -> Outcome {
        match self.cells.peek_window(key, figures, now, cost) {
            Spend::Taken { remaining, .. } => Outcome::Admitted { remaining: remaining.into() },
            Spend::Refused { retry_at } => Outcome::Rejected { retry_at },
        }
    }

    /// The transactions that have earned the partition of an allocation: its own and its candidate's.
    fn transactions(&self, query: &Query<'_>, id: LimitId, account: Id) -> u64 {
        self.cells.counted(self.place(query, id, Which::InForce, account).key.of_transactions(), query.now)
    }

    /// The partition of a limit that a request falls in when `account` pays.
    #[inline(always)]
    fn place(&self, query: &Query<'_>, id: LimitId, which: Which, account: Id) -> Place {
        let (policy, class) = (query.policy, query.class);
        let salt = policy.salt(id, which);
        let mut key = Mixer::new(self.secret, salt, class.mode as u8);
        for &part in &policy.limit(id).per {
            key.push(match part {
                Part::Account => account,
                Part::ConnectedAccount => class.connected,
                Part::Key => class.key,
                Part::Ip => class.ip,
                Part::Endpoint => policy.endpoint_key(class.endpoint),
                Part::Value(extractor) => {
                    policy.value_slot(class.endpoint, extractor).map_or(Id::NONE, |slot| class.values[slot])
                }
            });
        }
        Place { key: key.key(), overflow: Key::overflow(salt, class.mode as u8), tag: policy::tag(salt) }
    }
}

/// Who pays for a limit: one account, or two where it counts by account and the request charges both.
fn payers(limit: &Limit, class: &RequestClass) -> (Payer, Option<Payer>) {
    let (first, second) = class.payers();
    (first, second.filter(|_| limit.per.contains(&Part::Account)))
}

/// Tells the witness of the limits of a stage that the index leaves out for this endpoint and mode.
fn tell_ruled_out(policy: &Policy, stage: Stage, class: &RequestClass, witness: &mut impl Witness) {
    let listed = policy.listed(stage, class);
    for (id, limit) in policy.limits() {
        if limit.stage == stage
            && !listed.contains(&id)
            && let Err(exempt) = limit.applies(policy, class)
        {
            witness.saw(Step::Skipped { limit: id, exempt });
        }
    }
}
