//! What a shared store has lent to this gateway of one partition: tokens ahead of their use, or slots.
//!
//! The store takes tokens from its own bucket (or window) before it lends them, so they are spent at most once, whoever spends
//! them. Here they wait to be spent. Pure like the rest of the engine: the store's answers come in as arguments, and what to
//! ask for goes out as an [`Ask`].
//!
//! Bounds, with `C` the tokens one gateway may hold at once ([`Terms::share`]) and `N` gateways:
//! - Any span of `t` seconds admits at most `rate * t + burst + N * C` tokens of a rate, and `quota + N * C` in a window of a
//!   quota: what was lent before the span began, and what the store gives during it.
//! - A rate's tokens overflow as they would have in the bucket they came from: a lease of one that lacked `l` tokens when it
//!   answered keeps at most `l - rate * (age - ttl)`. So a gateway that is alone exceeds `rate * t + burst` by at most
//!   `rate * ttl`, and after a calm the bucket is full and nothing is lent.
//! - Slots in use or free here are never more than the store has lent, and free ones are given out only until the lease ends.
//!
//! Refusing costs little: an empty bucket says by itself when the next token can be there, and until then nobody asks. From then on a
//! gateway asks at once where it has not asked for a while, otherwise after so many requests ([`asking::REQUESTS_PER_ASK`]).

mod asking;
mod demand;
mod slots;
#[cfg(test)]
mod tests;
mod tokens;

use super::decision::Outcome;
use super::limiter::Limiter;
use super::limiter::gcra::Tokens;
use super::time::Nanos;
use demand::Demand;
use std::num::NonZeroU64;

/// A request waits for so many answers at most. After the first, what has come meanwhile is asked for together.
pub const MAX_ROUNDS: u32 = 4;

/// Gateways as many as these share a burst, even while fewer are known of.
const LEAST_SHARES: u64 = 4;

/// A lease that nobody looks after is kept for so long, for what its demand was.
const IDLE_NS: u64 = 1_000_000_000;

/// What holds for all leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long tokens may be kept before they overflow or go back.
    pub ttl_ns: u64,
    /// How long slots stay lent to a gateway that is not heard of.
    pub slot_ttl_ns: u64,
    /// Gateways that share the store, this one among them.
    pub gateways: u32,
}

impl Terms {
    /// The most tokens (or spare slots) that one gateway holds of a limit that has `whole` at once. A request that costs more
    /// is lent what it costs.
    #[must_use]
    pub fn share(&self, whole: u64) -> u64 {
        (whole / u64::from(self.gateways).max(LEAST_SHARES)).max(1)
    }
}

/// What to ask the store for, for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Tokens or slots wanted.
    pub want: u64,
    /// With fewer than these nobody is helped: then none should be lent.
    pub least: u64,
    /// What goes back unused: nanoseconds of a bucket, tokens of a window.
    pub back: u64,
    /// The slice of the window that `back` was counted in, at the earliest.
    pub slice: u64,
    /// What the partition lacked by the last answers, for a store that has forgotten it: nanoseconds of a bucket, tokens of a window.
    pub known: u64,
    /// What was spent while the store could not be asked: nanoseconds of a bucket, tokens of a window.
    pub owed: u64,
    /// Slots that this gateway holds, in use or free, without those wanted. The store takes this for the truth.
    pub slots: u64,
    /// When this was asked. The store takes no word about slots for one that is older than what it has heard.
    pub asked_at: Nanos,
}

/// What the store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Tokens or slots lent.
    pub lent: u64,
    /// What the partition lacks now: nanoseconds of a bucket, tokens of a window, slots.
    pub lacks: u64,
    /// The present slice of the window.
    pub slice: u64,
    /// Where a window has lent nothing: nanoseconds until it has room for the least that was asked for.
    pub wait_ns: u64,
}

/// How a lease stands to a request before it draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// There is enough.
    Nothing,
    /// There is enough, but more will be needed soon.
    Soon(Ask),
    /// There is not enough, and it is known that the store has none either.
    InVain,
    /// The store must be asked first.
    Now(Ask),
    /// The store has been asked already; its answer must be waited for.
    Asked,
}

impl Need {
    /// The same with what is asked changed.
    pub(super) fn map(self, change: impl FnOnce(Ask) -> Ask) -> Need {
        match self {
            Need::Soon(ask) => Need::Soon(change(ask)),
            Need::Now(ask) => Need::Now(change(ask)),
            Need::Nothing | Need::InVain | Need::Asked => self,
        }
    }
}

/// What a look at a lease after its time finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Look again then.
    Later(Nanos),
    /// There is nothing to look after any more.
    Done,
    /// Tell the store, then look again.
    Tell(Ask),
}

/// What a draw on a lease did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drawn {
    /// Admitted; what a refund has to know, for tokens of a bucket.
    Taken {
        tokens: Option<(Tokens, u16)>,
        remaining: u64,
    },
    Refused {
        retry_at: Option<Nanos>,
    },
}

/// One partition's lease. Amounts are in units: nanoseconds of a bucket, tokens of a window, slots.
#[derive(Debug)]
pub(super) struct Lease {
    tag: u32,
    /// Units a token.
    unit: NonZeroU64,
    /// A bucket's: time alone brings back what it lacks.
    is_bucket: bool,
    /// Lent and not spent.
    held: u64,
    /// Slots in use. They are not in `held`.
    used: u32,
    /// What the partition lacked by the last answer; what is lent counts as lacking.
    lacked: u64,
    /// What other gateways took of what time gave to a bucket between the last two answers, in thousandths.
    others: u16,
    answered_at: Nanos,
    /// Until when slots are lent; what a window has not before then.
    until: Nanos,
    /// The fewest tokens that a window did not have.
    refused: u64,
    /// Where a window counts the oldest token held.
    slice: u64,
    /// Below this it is time to ask for more.
    low: u64,
    /// The last answer was less than wanted.
    is_short: bool,
    /// The store has been asked and has not answered.
    is_asking: bool,
    /// Somebody will look after it when its time has come.
    is_watched: bool,
    asked_at: Nanos,
    /// Requests since then.
    seen: u32,
    /// Tokens that waiting requests need.
    waiting: u32,
    demand: Demand,
    /// As those of any bucket, see [`Tokens::refund_ns`].
    disturbances: u16,
    /// The fewest free slots since the last look.
    spare: u64,
    /// What the store has yet to be told of.
    owed: u64,
    /// Lent and lost to everybody: too old when it was needed.
    stranded: u64,
    /// The store has yet to be told of other figures, even if there is nothing to be had.
    is_changed: bool,
}

impl Lease {
    /// Nothing lent yet.
    pub(super) fn new(limiter: &Limiter, tag: u32) -> Lease {
        Lease {
            tag,
            unit: unit_of(limiter),
            is_bucket: matches!(limiter, Limiter::Gcra(_)),
            held: 0,
            used: 0,
            lacked: 0,
            others: 0,
            answered_at: Nanos::ZERO,
            until: Nanos::ZERO,
            refused: 0,
            slice: 0,
            low: 0,
            is_short: false,
            is_asking: false,
            is_watched: false,
            asked_at: Nanos::ZERO,
            seen: 0,
            waiting: 0,
            demand: Demand::default(),
            disturbances: 0,
            spare: 0,
            owed: 0,
            stranded: 0,
            is_changed: false,
        }
    }

    pub(super) fn tag(&self) -> u32 {
        self.tag
    }

    /// Slots in use.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// Whether there is anything that the store has lent.
    pub(super) fn is_held(&self) -> bool {
        self.used > 0 || self.held > 0
    }

    pub(super) fn is_asking(&self) -> bool {
        self.is_asking
    }

    /// Whether a request can be decided here, and nothing need be asked for: without changing anything.
    pub(super) fn is_ready(&self, limiter: &Limiter, now: Nanos, cost: u32, terms: &Terms) -> bool {
        let price = self.price(tokens_of(limiter, cost));
        let Some(left) = self.free(limiter, now, terms).checked_sub(price) else { return false };
        self.unit == unit_of(limiter) && (left >= self.low || self.is_asking)
    }

    /// How the lease stands to a request that is about to draw; `again` where it has waited for an answer already. What is to be
    /// asked by this must be asked.
    pub(super) fn need(&mut self, limiter: &Limiter, now: Nanos, cost: u32, again: bool, terms: &Terms) -> Need {
        self.fit(limiter, now);
        let cost = tokens_of(limiter, cost);
        let waits = if again { 0 } else { cost };
        let (price, free) = (self.price(cost), self.free(limiter, now, terms));
        if let Some(left) = free.checked_sub(price) {
            if left >= self.low || self.is_asking {
                return Need::Nothing;
            }
            let ask = self.ask(limiter, now, cost, 0, terms);
            return if ask.want > 0 { Need::Soon(self.send(now, ask)) } else { Need::Nothing };
        }
        if self.is_asking {
            self.waiting = self.waiting.saturating_add(waits);
            return Need::Asked;
        }
        // Others may give back what they have not used.
        let others_gave_at = if terms.gateways > 1 { self.asked_at.saturating_add(terms.ttl_ns) } else { Nanos::MAX };
        let ask_at = if self.is_changed { now } else { others_gave_at };
        if self.wait_for(limiter, now, price, free, terms).is_none_or(|at| at.min(ask_at) > now) {
            return Need::InVain;
        }
        self.waiting = self.waiting.saturating_add(waits);
        if !self.is_bucket {
            let ask = self.ask(limiter, now, 0, price - free, terms);
            return Need::Now(self.send(now, ask));
        }
        // What is here may be a fraction of a token: the bucket it came from has the rest, and lends whole ones.
        let back = free.min(self.lacking(now));
        self.drop_but(back);
        let ask = Ask { back, ..self.ask(limiter, now, 0, cost.into(), terms) };
        Need::Now(self.send(now, ask))
    }

    /// Takes `cost` tokens, or a slot.
    pub(super) fn draw(&mut self, limiter: &Limiter, now: Nanos, cost: u32, terms: &Terms) -> Drawn {
        self.fit(limiter, now);
        let cost = tokens_of(limiter, cost);
        self.seen = self.seen.saturating_add(1);
        self.waiting = self.waiting.saturating_sub(cost);
        self.demand.add(now, cost);
        let (price, free) = (self.price(cost), self.free(limiter, now, terms));
        let Some(left) = free.checked_sub(price) else {
            return Drawn::Refused { retry_at: self.retry_at(limiter, now, price, free, terms) };
        };
        self.strand(self.held.saturating_sub(free));
        self.held = left;
        match limiter {
            Limiter::Gcra(figures) => {
                let tat = now.saturating_add(self.lacking(now).saturating_sub(left));
                let tokens = Tokens { cost, emission_ns: self.unit, taken_at: now, tat_after: tat };
                Drawn::Taken { tokens: Some((tokens, self.disturbances)), remaining: figures.remaining(tat, now) }
            }
            Limiter::SlidingWindow(figures) => {
                let remaining = u64::from(figures.limit()).saturating_sub(self.lacked).saturating_add(left);
                Drawn::Taken { tokens: None, remaining }
            }
            Limiter::Concurrency(_) => {
                self.used = self.used.saturating_add(1);
                self.spare = self.spare.min(left);
                Drawn::Taken { tokens: None, remaining: left }
            }
            Limiter::Allocation(_) => Drawn::Refused { retry_at: None },
        }
    }

    /// What [`draw`](Lease::draw) would say if the store lent what it is known to have; nothing is taken.
    pub(super) fn peek(&self, limiter: &Limiter, now: Nanos, cost: u32, terms: &Terms) -> Outcome {
        let (price, free) = (self.price(tokens_of(limiter, cost)), self.free(limiter, now, terms));
        let whole = match limiter {
            Limiter::Gcra(figures) => figures.depth_ns(),
            Limiter::SlidingWindow(figures) => figures.limit().into(),
            Limiter::Concurrency(figures) => figures.slots.into(),
            Limiter::Allocation(_) => 0,
        };
        let left = whole.saturating_sub(self.lacking(now)).saturating_add(free);
        match left.checked_sub(price) {
            Some(left) => Outcome::Admitted { remaining: left / self.unit },
            None => Outcome::Rejected { retry_at: self.retry_at(limiter, now, price, free, terms) },
        }
    }

    fn retry_at(&self, limiter: &Limiter, now: Nanos, price: u64, free: u64, terms: &Terms) -> Option<Nanos> {
        if let Limiter::Concurrency(_) = limiter {
            return None;
        }
        self.wait_for(limiter, now, price, free, terms).map(|at| at.max(now.saturating_add(1)))
    }

    /// Takes in what the store has answered. Answers whether somebody must begin to look after the lease.
    pub(super) fn answered(
        &mut self,
        limiter: &Limiter,
        ask: &Ask,
        answer: &Answer,
        now: Nanos,
        terms: &Terms,
    ) -> bool {
        self.fit(limiter, now);
        self.is_asking = false;
        self.is_short = answer.lent < ask.want;
        let free = self.free(limiter, now, terms);
        self.strand(self.held.saturating_sub(free));
        // To ask ahead for what is about to run out brings little.
        let is_scarce = match limiter {
            Limiter::Gcra(figures) => figures.depth_ns().saturating_sub(answer.lacks) < self.units(ask.want),
            _ => self.is_short,
        };
        self.low = if is_scarce { 0 } else { free.saturating_add(self.units(answer.lent)) / 4 };
        match limiter {
            Limiter::Gcra(figures) => self.lent_tokens(figures.depth_ns(), free, ask, answer, now),
            Limiter::SlidingWindow(_) => self.lent_counts(free, ask, answer, now),
            Limiter::Concurrency(_) => self.lent_slots(ask, answer, now, terms),
            Limiter::Allocation(_) => {}
        }
        !std::mem::replace(&mut self.is_watched, true)
    }

    /// The store has not answered. What it may have lent is lost, and so is what went back. What was owed still is.
    pub(super) fn unanswered(&mut self, ask: &Ask) {
        (self.is_asking, self.is_short, self.low) = (false, false, 0);
        self.owed = self.owed.saturating_add(ask.owed);
        self.strand(ask.back);
    }

    /// Whether forgetting it changes no answer. What comes back to a lease that nobody looks after is lost with it.
    pub(super) fn is_idle(&self, now: Nanos) -> bool {
        let told_at = self.answered_at.max(self.asked_at).saturating_add(IDLE_NS);
        let known_until = if self.is_bucket { self.answered_at.saturating_add(self.lacked) } else { Nanos::ZERO };
        let is_in_use = self.is_asking || self.is_watched || self.used > 0;
        !is_in_use && now >= told_at.max(known_until).max(self.until)
    }

    /// Looks after the lease when its time may have come: what was not spent goes back, slots are claimed anew.
    pub(super) fn due(&mut self, limiter: &Limiter, now: Nanos, terms: &Terms) -> Due {
        self.fit(limiter, now);
        let due = match limiter {
            Limiter::Concurrency(figures) => self.slots_due(figures.slots, now, terms),
            _ => self.tokens_due(limiter, now, terms),
        };
        self.is_watched = due != Due::Done;
        due
    }

    /// Free to be spent at `now`.
    fn free(&self, limiter: &Limiter, now: Nanos, terms: &Terms) -> u64 {
        match limiter {
            Limiter::Gcra(_) => {
                let age_ns = now.since(self.answered_at).saturating_sub(terms.ttl_ns);
                self.held.min(self.lacked.saturating_sub(age_ns))
            }
            Limiter::SlidingWindow(_) if now.since(self.answered_at) > terms.ttl_ns.saturating_mul(2) => 0,
            Limiter::Concurrency(_) if now >= self.until => 0,
            _ => self.held,
        }
    }

    fn price(&self, cost: u32) -> u64 {
        self.units(cost.into())
    }

    fn units(&self, tokens: u64) -> u64 {
        self.unit.get().saturating_mul(tokens)
    }
}

/// Slots are taken one by one, whatever a request costs.
fn tokens_of(limiter: &Limiter, cost: u32) -> u32 {
    if let Limiter::Concurrency(_) = limiter { 1 } else { cost }
}

fn unit_of(limiter: &Limiter) -> NonZeroU64 {
    match limiter {
        Limiter::Gcra(figures) => figures.emission_ns(),
        _ => NonZeroU64::MIN,
    }
}
