//! For each limit the smallest figure that would have refused nobody, and the one that would have refused 0.1 % of accounts.
//!
//! The engine is asked, nothing is computed beside it. The question is put to all traffic as it came, with nothing refused by
//! any limit: so figures that are found for several limits refuse nobody when they are set together. In its own probing
//! policy every limit is a shadow, in one or more copies with figures to try.
//!
//! - **Concurrency and quota**: one copy without bound; what the engine says is left tells how much an account had at most.
//! - **Rate**: its burst grows with it, in the proportion that is configured. Copies with several rates are tried at once; the
//!   range between the largest that refuses too many and the smallest that does not is cut again in the next pass, until the
//!   two are neighbors. An account that a rate does not refuse is not refused by a larger one either, so a pass asks for the
//!   accounts only that the last one left open.
//!
//! Accounts with figures of their own keep them and are not asked for. Allocations are left out.

use super::arrival::{AccountId, Accounts, Arrival, Classes, class_of};
use super::flight::{Durations, Flight, Then};
use super::tally::Bits;
use super::trace::{Tally, Traces, Turns, Watch};
use super::{ReplayError, SEED};
use crate::config::Config;
use crate::engine::{
    Concurrency, EndpointId, Enforce, Gcra, Limit, LimitId, Limiter, Nanos, Outcome, Policy, Profile, SlidingWindow,
    Stage, Step, Witness,
};
use std::sync::Arc;

/// Passes over the traces at most.
const MAX_PASSES: usize = 24;
/// Rates tried at once of one limit, when few accounts are left.
const TRIED: u64 = 6;
/// Of so many accounts one may be refused.
const FEW: u64 = 1_000;

/// What was found for one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Refuses nobody.
    pub nobody: Option<Limiter>,
    /// Refuses at most 0.1 % of accounts.
    pub few: Option<Limiter>,
}

/// The figures of every limit of a configuration, by limit.
pub(super) fn figures<W: Watch>(
    traces: &Traces,
    number: usize,
    configs: &[&Config],
    tally: &Tally,
    watch: &mut W,
) -> Result<Vec<Found>, ReplayError> {
    let Some(config) = configs.get(number) else { return Ok(Vec::new()) };
    let mut searches: Vec<Search> = config.policy.limits().map(|(id, limit)| Search::new(config, id, limit)).collect();
    if tally.requests == 0 {
        return Ok(vec![Found::default(); searches.len()]);
    }
    for pass in 1..=MAX_PASSES {
        let mut probes = Probes::new(number, config, &searches);
        if probes.groups.is_empty() {
            break;
        }
        let mut classes = Classes::new(SEED, configs);
        let name = format!("looking for figures, pass {pass}");
        traces.pass(&name, &mut classes, watch, &mut probes)?;
        let allowed = classes.accounts().len() as u64 / FEW;
        for probe in probes.groups.into_iter().flat_map(|group| group.probes) {
            if let Some(search) = searches.get_mut(probe.of.index()) {
                search.learn(probe, allowed);
            }
        }
        searches.iter_mut().for_each(Search::close);
    }
    Ok(searches.into_iter().map(|search| search.found).collect())
}

/// What is looked for of one limit.
struct Search {
    id: LimitId,
    enforced: bool,
    base: Limiter,
    /// Profiles with figures of their own, by place.
    own: Vec<bool>,
    open: bool,
    /// Refusing nobody, and refusing few.
    brackets: [Bracket; 2],
    found: Found,
}

/// Rates by their count a period.
#[derive(Clone, Debug, Default)]
struct Bracket {
    /// The largest known to refuse too many.
    bad: u64,
    /// Whom it refuses; `None` is everybody.
    left: Option<Arc<Bits>>,
    /// The smallest known not to.
    good: Option<u64>,
}

impl Search {
    fn new(config: &Config, id: LimitId, limit: &Limit) -> Search {
        let replaces = |profile| config.policy.profile(profile).limiters.contains_key(&id);
        let profiles = (0..config.policy.profiles()).filter_map(|place| u32::try_from(place).ok());
        Search {
            id,
            enforced: limit.enforce != Enforce::Never,
            base: limit.limiter,
            own: profiles.map(crate::engine::ProfileId).map(replaces).collect(),
            open: !matches!(limit.limiter, Limiter::Allocation(_)),
            brackets: <[Bracket; 2]>::default(),
            found: Found::default(),
        }
    }

    /// The limiters to try next.
    fn next(&self) -> Vec<(Limiter, u64)> {
        match self.base {
            _ if !self.open => Vec::new(),
            Limiter::Gcra(base) => {
                self.next_counts(&base).into_iter().map(|count| (scaled(&base, count), count)).collect()
            }
            Limiter::SlidingWindow(base) => {
                vec![(Limiter::SlidingWindow(SlidingWindow::new(u32::MAX, base.window())), 0)]
            }
            Limiter::Concurrency(_) => vec![(Limiter::Concurrency(Concurrency { slots: u32::MAX }), 0)],
            Limiter::Allocation(_) => Vec::new(),
        }
    }

    fn next_counts(&self, base: &Gcra) -> Vec<u64> {
        let most = most(base);
        let mut counts = Vec::new();
        for bracket in self.brackets.iter().filter(|bracket| !bracket.is_closed(base)) {
            match bracket.good {
                None if bracket.bad == 0 => {
                    let configured = base.count().max(1);
                    counts.extend([configured / 8, configured, configured.saturating_mul(8)]);
                }
                None => counts.extend([8, 64, 512].map(|times| bracket.bad.saturating_mul(times))),
                Some(good) => {
                    let between = good - bracket.bad;
                    let step = between.div_ceil(TRIED + 1);
                    counts.extend((1..=TRIED).map(|part| bracket.bad + step * part).filter(|&count| count < good));
                }
            }
        }
        counts.iter_mut().for_each(|count| *count = (*count).clamp(1, most));
        counts.sort_unstable();
        counts.dedup();
        counts
    }

    /// Takes in what one of its copies met.
    fn learn(&mut self, probe: Probe, allowed: u64) {
        match self.base {
            Limiter::Gcra(_) => {
                let (refused, left) = (probe.refused.count(), Arc::new(probe.refused));
                for (bracket, allowed) in self.brackets.iter_mut().zip([0, allowed]) {
                    if refused <= allowed {
                        bracket.good = Some(bracket.good.map_or(probe.count, |good| good.min(probe.count)));
                    } else if probe.count > bracket.bad {
                        (bracket.bad, bracket.left) = (probe.count, Some(Arc::clone(&left)));
                    }
                }
            }
            Limiter::SlidingWindow(base) => {
                let of = |limit| Limiter::SlidingWindow(SlidingWindow::new(limit, base.window()));
                self.found = probe.most_of(allowed, of);
            }
            Limiter::Concurrency(_) => {
                self.found = probe.most_of(allowed, |slots| Limiter::Concurrency(Concurrency { slots }));
            }
            Limiter::Allocation(_) => {}
        }
    }

    /// Whether it has ended, and with what.
    fn close(&mut self) {
        let Limiter::Gcra(base) = self.base else {
            self.open = false;
            return;
        };
        let [nobody, few] = &self.brackets;
        let of = |bracket: &Bracket| bracket.good.map(|good| scaled(&base, good));
        self.found = Found { nobody: of(nobody), few: of(few) };
        self.open = !(nobody.is_closed(&base) && few.is_closed(&base));
    }

    /// Whose requests matter: whom a rate did not refuse, no larger one does.
    fn left(&self) -> Option<Arc<Bits>> {
        let Limiter::Gcra(base) = &self.base else { return None };
        let [nobody, few] = &self.brackets;
        if few.is_closed(base) { nobody.left.clone() } else { few.left.clone() }
    }
}

impl Bracket {
    fn is_closed(&self, base: &Gcra) -> bool {
        match self.good {
            Some(good) => good <= self.bad + 1,
            None => self.bad >= most(base),
        }
    }
}

/// One token a nanosecond is the finest that time is told apart.
fn most(base: &Gcra) -> u64 {
    u64::try_from(base.period().as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// A rate of so many a period, its burst in the proportion of `base`.
fn scaled(base: &Gcra, count: u64) -> Limiter {
    let burst = u128::from(base.burst()) * u128::from(count) / u128::from(base.count().max(1));
    let burst = u64::try_from(burst).unwrap_or(u64::MAX).max(1);
    Limiter::Gcra(Gcra::new(count, base.period(), burst))
}

/// One pass: the copies of all limits that are still looked for.
struct Probes<'c> {
    number: usize,
    config: &'c Config,
    durations: Durations,
    groups: Vec<Group>,
}

/// Limits that are probed together. Those that are not enforced are probed apart from those that are, since a fallback that is
/// enforced does not step back for them.
struct Group {
    policy: Policy,
    flight: Flight,
    /// By the place of the copy in the policy.
    probes: Vec<Probe>,
}

/// One copy of a limit.
struct Probe {
    of: LimitId,
    own: Vec<bool>,
    /// Whose requests matter; `None`: everybody's.
    left: Option<Arc<Bits>>,
    count: u64,
    refused: Bits,
    /// The most that was taken at once, by account; the last is of all others.
    most: Vec<u32>,
    beyond: u32,
    measures: bool,
}

impl Turns for &mut Probes<'_> {
    fn ahead(&mut self, next: &[(u64, Arrival)], accounts: &Accounts) {
        for group in &self.groups {
            let asked = next.iter().filter(|(_, arrival)| group.asks_for(arrival.account));
            let classes = asked.filter_map(|(_, arrival)| class_of(arrival, self.number, self.config, accounts));
            group.flight.engine().read_ahead(&group.policy, classes);
        }
    }

    fn take(&mut self, at: Nanos, arrival: &Arrival, accounts: &Accounts) {
        self.arrive(at, arrival, accounts);
    }
}

impl<'c> Probes<'c> {
    fn new(number: usize, config: &'c Config, searches: &[Search]) -> Probes<'c> {
        let groups = [true, false].into_iter().filter_map(|enforced| Group::new(config, searches, enforced)).collect();
        Probes { number, config, durations: Durations::default(), groups }
    }

    fn arrive(&mut self, now: Nanos, arrival: &Arrival, accounts: &Accounts) {
        let Some(class) = class_of(arrival, self.number, self.config, accounts) else { return };
        let duration = self.durations.of(arrival, class.endpoint);
        for group in &mut self.groups {
            let account = arrival.account;
            if !group.asks_for(account) {
                continue;
            }
            group.flight.advance(now, &group.policy);
            let (engine, hold) = group.flight.meet();
            let profile = class.profile.0 as usize;
            let mut seen = Seen { probes: &mut group.probes, account, profile };
            for stage in Stage::ALL {
                // Every limit is a shadow: none refuses.
                let _ = engine.stage(&group.policy, stage, &class, now, hold, &mut seen);
            }
            let then = if arrival.given_up { Then::GivenUp } else { Then::Nothing };
            group.flight.depart(now, duration, then, &group.policy);
        }
    }
}

impl Group {
    /// Whether an account's requests matter to one of the copies.
    fn asks_for(&self, account: AccountId) -> bool {
        self.probes.iter().any(|probe| probe.left.as_ref().is_none_or(|left| left.has(account)))
    }

    fn new(config: &Config, searches: &[Search], enforced: bool) -> Option<Group> {
        let mut limits = Vec::new();
        let mut probes = Vec::new();
        let fallbacks = config.policy.limits().any(|(_, limit)| limit.fallback);
        let of_group = |search: &&Search| search.enforced || !enforced;
        for search in searches.iter().filter(of_group) {
            let limit = config.policy.limit(search.id);
            let wanted = search.enforced == enforced;
            let mut tried = if wanted { search.next() } else { Vec::new() };
            // One that is not looked for still covers requests that fallbacks leave to it.
            if tried.is_empty() && fallbacks && !limit.fallback {
                tried = vec![(search.base, 0)];
            }
            let left = search.left();
            for (limiter, count) in tried {
                let name = format!("{}#{count}", limit.name).into();
                limits.push(Limit { name, limiter, enforce: Enforce::Never, candidate: None, ..limit.clone() });
                probes.push(Probe::new(search, if wanted { left.clone() } else { None }, count));
            }
        }
        if !searches.iter().filter(of_group).any(|search| search.enforced == enforced && search.open) {
            return None;
        }
        let endpoints = (0..config.endpoints.len()).filter_map(|place| u32::try_from(place).ok());
        let endpoints = endpoints.map(|place| config.policy.endpoint(EndpointId(place)).clone()).collect();
        let policy = Policy::new(&SEED, limits, endpoints, vec![Profile::default()]);
        Some(Group { policy, flight: Flight::new(&config.server), probes })
    }
}

impl Probe {
    fn new(search: &Search, left: Option<Arc<Bits>>, count: u64) -> Probe {
        let measures = !matches!(search.base, Limiter::Gcra(_));
        let own = search.own.clone();
        Probe { of: search.id, own, left, count, refused: Bits::default(), most: Vec::new(), beyond: 0, measures }
    }

    fn note_most(&mut self, account: AccountId, taken: u32) {
        let place = account.0 as usize;
        if account == AccountId::BEYOND {
            self.beyond = self.beyond.max(taken);
            return;
        }
        if self.most.len() <= place {
            self.most.resize(place + 1, 0);
        }
        if let Some(most) = self.most.get_mut(place) {
            *most = (*most).max(taken);
        }
    }

    /// What refuses nobody, and what refuses as many as are allowed.
    fn most_of(self, allowed: u64, of: impl Fn(u32) -> Limiter) -> Found {
        let mut most = self.most;
        most.push(self.beyond);
        most.sort_unstable_by(|one, other| other.cmp(one));
        let at = |place: u64| usize::try_from(place).ok().and_then(|place| most.get(place)).copied();
        let figure = |figure: Option<u32>| figure.map(|figure| of(figure.max(1)));
        Found { nobody: figure(at(0)), few: figure(at(allowed)) }
    }
}

/// Hears what the copies say.
struct Seen<'g> {
    probes: &'g mut [Probe],
    account: AccountId,
    profile: usize,
}

impl Witness for Seen<'_> {
    fn saw(&mut self, step: Step) {
        let Step::Decided { limit, outcome, .. } = step else { return };
        let Some(probe) = self.probes.get_mut(limit.index()) else { return };
        if probe.own.get(self.profile).copied().unwrap_or(false) {
            return;
        }
        match outcome {
            Outcome::Admitted { remaining } if probe.measures => {
                let taken = u64::from(u32::MAX).saturating_sub(remaining);
                probe.note_most(self.account, u32::try_from(taken).unwrap_or(u32::MAX));
            }
            Outcome::Admitted { .. } => {}
            Outcome::Rejected { .. } => probe.refused.set(self.account),
        }
    }
}
