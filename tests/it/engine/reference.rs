//! The reference: what the limits should do, written as plainly as possible and differently from the engine. Buckets are
//! levels that fill, slots are lists of request numbers, all-or-nothing is a copy of everything put back, and every limit is
//! looked at by name for every request.
//!
//! A bucket's level is counted in parts: a token has as many parts as its emission interval has nanoseconds, and one part
//! comes back each nanosecond. So everything is exact in whole numbers.

use crate::support::{Figures, LimitSpec, MatchSpec, PartSpec, RequestSpec, has_id};
use std::collections::BTreeMap;
use tollgate::engine::{Mode, Stage};

/// The state of everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Reference {
    buckets: BTreeMap<Partition, Bucket>,
    in_flight: BTreeMap<Partition, Vec<u64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Partition {
    limit: String,
    live: bool,
    parts: Vec<String>,
}

/// A bucket's figures in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    token: u128,
    full: u128,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    size: Size,
    level: u128,
    at_ns: u64,
    /// How often tokens came back other than by time, unless it was the last draw that was undone.
    disturbances: u64,
}

/// What one limit said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// So many tokens or slots are left.
    Yes { remaining: u64 },
    /// Come back then; `None`: unknown or never.
    No { retry_at_ns: Option<u64> },
}

/// The verdict on one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    /// What each limit that was asked said, in order.
    pub(super) said: Vec<(String, Said)>,
    /// The limit that refused, its stage, and when to come back.
    pub(super) refused: Option<(String, Stage, Option<u64>)>,
    /// What was taken; nothing where it was refused.
    pub(super) taken: Vec<Took>,
}

/// One thing taken.
#[derive(Clone, Debug)]
pub(super) enum Took {
    Slot { partition: PartitionName, request: u64 },
    Tokens { partition: PartitionName, tokens: Tokens },
}

/// What was taken from a bucket, and how the bucket was then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens {
    token: u128,
    parts: u128,
    lacking_after: u128,
    at_ns: u64,
    disturbances: u64,
}

/// A partition, opaque to the tests.
#[derive(Clone, Debug)]
pub(super) struct PartitionName(Partition);

impl Reference {
    /// Lets request number `number` meet `limits` at `now_ns`.
    pub(super) fn request(&mut self, limits: &[LimitSpec], request: &RequestSpec, number: u64, now_ns: u64) -> Verdict {
        let mut verdict = Verdict::default();
        let mut before = self.clone();
        for stage in Stage::ALL {
            for limit in applying(limits, stage, request) {
                let partition = partition(limit, request);
                let figures = limit.figures_of(&request.account);
                // New figures take hold when a request meets them, whatever becomes of the request.
                self.resize(&partition, figures, now_ns);
                before.resize(&partition, figures, now_ns);
                let said = match self.take(&partition, figures, request.cost, number, now_ns) {
                    Ok((took, remaining)) => {
                        verdict.taken.push(took);
                        Said::Yes { remaining }
                    }
                    Err(retry_at_ns) => Said::No { retry_at_ns },
                };
                verdict.said.push((limit.name.clone(), said.clone()));
                if let (Said::No { retry_at_ns }, true) = (said, limit.enforce) {
                    *self = before;
                    verdict.taken.clear();
                    verdict.refused = Some((limit.name.clone(), stage, retry_at_ns));
                    return verdict;
                }
            }
        }
        verdict
    }

    /// The request ends: its slots come back. Tokens too when it was given up before it was forwarded (`refund`).
    pub(super) fn end(&mut self, taken: &[Took], refund: bool, now_ns: u64) {
        for took in taken {
            match took {
                Took::Slot { partition, request } => {
                    let holders = self.in_flight.get_mut(&partition.0).unwrap();
                    let place = holders.iter().position(|holder| holder == request).unwrap();
                    holders.remove(place);
                }
                Took::Tokens { partition, tokens } if refund => {
                    let bucket = self.buckets.get_mut(&partition.0).unwrap();
                    bucket.refill(now_ns);
                    bucket.give_back(tokens);
                }
                Took::Tokens { .. } => {}
            }
        }
    }

    /// Slots taken of one limit.
    pub(super) fn in_flight(&self, limit: &str) -> usize {
        self.in_flight.iter().filter(|(partition, _)| partition.limit == limit).map(|(_, holders)| holders.len()).sum()
    }

    fn resize(&mut self, partition: &Partition, figures: Figures, now_ns: u64) {
        if let (Some(size), Some(bucket)) = (Size::of(figures), self.buckets.get_mut(partition)) {
            bucket.refill(now_ns);
            bucket.resize(size);
        }
    }

    fn take(
        &mut self,
        partition: &Partition,
        figures: Figures,
        cost: u32,
        number: u64,
        now_ns: u64,
    ) -> Result<(Took, u64), Option<u64>> {
        let name = PartitionName(partition.clone());
        let size = match figures {
            Figures::Slots(slots) => {
                let holders = self.in_flight.entry(partition.clone()).or_default();
                let free = (slots as usize).checked_sub(holders.len() + 1).ok_or(None)?;
                holders.push(number);
                return Ok((Took::Slot { partition: name, request: number }, free as u64));
            }
            Figures::Rate { .. } => Size::of(figures).unwrap(),
        };
        let full = Bucket { size, level: size.full, at_ns: now_ns, disturbances: 0 };
        let bucket = self.buckets.entry(partition.clone()).or_insert(full);
        bucket.refill(now_ns);
        let parts = size.token * u128::from(cost);
        if parts > size.full {
            return Err(None);
        }
        if parts > bucket.level {
            return Err(Some(now_ns + u64::try_from(parts - bucket.level).unwrap()));
        }
        bucket.level -= parts;
        let lacking_after = size.full - bucket.level;
        let disturbances = bucket.disturbances;
        let tokens = Tokens { token: size.token, parts, lacking_after, at_ns: now_ns, disturbances };
        Ok((Took::Tokens { partition: name, tokens }, u64::try_from(bucket.level / size.token).unwrap()))
    }
}

impl Size {
    fn of(figures: Figures) -> Option<Size> {
        match figures {
            Figures::Slots(_) => None,
            // Gains nothing, so it never holds anything: every cost above zero is too much.
            Figures::Rate { count: 0, .. } => Some(Size { token: u128::from(u64::MAX), full: 0 }),
            Figures::Rate { count, period_ns, burst } => {
                let whole = period_ns / count;
                let token = u128::from(if period_ns % count == 0 { whole } else { whole + 1 }).max(1);
                Some(Size { token, full: token * u128::from(burst) })
            }
        }
    }
}

impl Bucket {
    fn refill(&mut self, now_ns: u64) {
        self.level = (self.level + u128::from(now_ns - self.at_ns)).min(self.size.full);
        self.at_ns = now_ns;
    }

    /// The tokens that are spent stay spent, rounded up, as far as the new bucket holds so many.
    fn resize(&mut self, size: Size) {
        if size == self.size {
            return;
        }
        self.disturbances += 1;
        let lacking = self.size.full - self.level;
        let lacking = (lacking * size.token).div_ceil(self.size.token).min(size.full);
        self.size = size;
        self.level = size.full - lacking;
    }

    /// Right after a refill: gives back what time has not refilled, where that is known, or surely not.
    fn give_back(&mut self, tokens: &Tokens) {
        let refilled = u128::from(self.at_ns - tokens.at_ns);
        let scaled = |parts: u128| parts * self.size.token / tokens.token;
        let due = if self.disturbances == tokens.disturbances {
            tokens.parts.min(tokens.lacking_after.saturating_sub(refilled))
        } else {
            scaled(tokens.parts.saturating_sub(refilled)).min(scaled(tokens.parts).saturating_sub(refilled))
        };
        let lacking = self.size.full - self.level;
        let last_draw = lacking > 0 && lacking + refilled == tokens.lacking_after;
        if due > 0 && !last_draw {
            self.disturbances += 1;
        }
        self.level = (self.level + due).min(self.size.full);
    }
}

/// The limits of a stage that apply to a request: the ordinary ones, then the fallbacks.
fn applying<'a>(limits: &'a [LimitSpec], stage: Stage, request: &RequestSpec) -> Vec<&'a LimitSpec> {
    let fits = |limit: &&LimitSpec| {
        limit.stage == stage
            && holds(&limit.when, request)
            && !limit.except.as_ref().is_some_and(|except| holds(except, request))
            && (has_id(request.endpoint) || !limit.per.contains(&PartSpec::PathId))
    };
    let ordinary: Vec<&LimitSpec> = limits.iter().filter(|limit| !limit.fallback).filter(fits).collect();
    let covers = |other: &LimitSpec, fallback: &LimitSpec| {
        other.figures.is_rate() == fallback.figures.is_rate() && (other.enforce || !fallback.enforce)
    };
    let fallbacks: Vec<&LimitSpec> = limits
        .iter()
        .filter(|limit| limit.fallback)
        .filter(fits)
        .filter(|fallback| !ordinary.iter().any(|other| covers(other, fallback)))
        .collect();
    [ordinary, fallbacks].concat()
}

fn holds(spec: &MatchSpec, request: &RequestSpec) -> bool {
    spec.mode.is_none_or(|mode| mode == request.mode)
        && spec.access.is_none_or(|access| access == request.access)
        && spec.connected.is_none_or(|connected| connected == request.connected.is_some())
        && spec.endpoints.as_ref().is_none_or(|names| names.contains(&request.endpoint))
        && spec.accounts.as_ref().is_none_or(|names| names.contains(&request.account.as_str()))
        && spec.routes.as_ref().is_none_or(|names| names.contains(&request.route))
}

fn partition(limit: &LimitSpec, request: &RequestSpec) -> Partition {
    let part = |part: &PartSpec| match part {
        PartSpec::Account => request.account.clone(),
        PartSpec::Connected => request.connected.unwrap_or("none").to_owned(),
        PartSpec::Key => request.key.to_owned(),
        PartSpec::Ip => request.ip.to_owned(),
        PartSpec::Endpoint => request.endpoint.to_owned(),
        PartSpec::PathId => request.object.to_owned(),
    };
    Partition {
        limit: limit.name.clone(),
        live: request.mode == Mode::Live,
        parts: limit.per.iter().map(part).collect(),
    }
}
