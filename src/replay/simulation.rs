//! One configuration on virtual time: every request meets the engine at the moment it began, and ends as it was recorded.

use super::arrival::{AccountId, Accounts, Arrival, MAX_ACCOUNTS, class_of};
use super::flight::{Durations, Flight, Then};
use super::tally::{Bits, Peak, Timeline};
use crate::config::Config;
use crate::engine::{Alone, Engine, Hold, LimitId, Nanos, Outcome, Rejection, RequestClass, Stage, Step, Witness};
use std::collections::HashMap;
use std::hint::black_box;

const SECOND_NS: u64 = 1_000_000_000;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Admitted,
    /// This limit refused it.
    Refused(LimitId),
}

/// What one limit did.
#[derive(Clone, Debug, Default)]
pub struct LimitTally {
    /// It had room.
    pub admitted: u64,
    /// It had none.
    pub refused: u64,
    /// It had none, but is not enforced for this account.
    pub would_refuse: u64,
    /// Its candidate had room.
    pub tried_admitted: u64,
    /// Its candidate had none.
    pub tried_refused: u64,
    /// Whom it refused.
    pub accounts: Bits,
    /// The busiest second, of all it was asked for.
    pub asked_peak: Peak,
    /// The second with the most refusals.
    pub refused_peak: Peak,
    /// When it refused first.
    pub first: Option<u64>,
}

/// What became of an account's or an endpoint's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Admitted.
    pub admitted: u64,
    /// Refused.
    pub refused: u64,
    /// Admitted, but some limit that is not enforced would have refused.
    pub would_refuse: u64,
}

/// How the verdicts differ from those that were recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Requests that were refused when they were recorded.
    pub refused: u64,
    /// Served then, refused now.
    pub newly_refused: u64,
    /// Refused then, admitted now.
    pub newly_admitted: u64,
}

/// One configuration under way.
#[derive(Debug)]
pub struct Simulation<'c> {
    number: usize,
    /// The configuration.
    pub config: &'c Config,
    flight: Flight,
    durations: Durations,
    /// All requests.
    pub all: Count,
    /// By limit.
    pub limits: Vec<LimitTally>,
    /// By endpoint.
    pub endpoints: Vec<Count>,
    /// By account; the last of [`MAX_ACCOUNTS`] and one is of all others.
    pub accounts: Vec<Count>,
    /// Refusals by account and limit.
    pub by_account: HashMap<(AccountId, LimitId), u64>,
    /// Requests over time.
    pub timeline: Timeline,
    /// The busiest second.
    pub peak: Peak,
    /// Against what was recorded.
    pub recorded: Recorded,
    /// The first and the last moment.
    pub span: Option<(u64, u64)>,
}

impl<'c> Simulation<'c> {
    /// A replay of the configuration with this number, with no state.
    #[must_use]
    pub fn new(number: usize, config: &'c Config) -> Simulation<'c> {
        Simulation {
            number,
            config,
            flight: Flight::new(&config.server),
            durations: Durations::default(),
            all: Count::default(),
            limits: vec![LimitTally::default(); config.policy.len()],
            endpoints: vec![Count::default(); config.endpoints.len()],
            accounts: Vec::new(),
            by_account: HashMap::new(),
            timeline: Timeline::default(),
            peak: Peak::default(),
            recorded: Recorded::default(),
            span: None,
        }
    }

    /// From the next request on another configuration is in force, as after a reload of the gateway: the engine keeps its state.
    /// What was counted by limit and endpoint stays in its place, so a report is of one configuration only.
    pub fn reload(&mut self, config: &'c Config) {
        self.config = config;
    }

    /// Requests that ended early, see [`MAX_IN_FLIGHT`](super::flight::MAX_IN_FLIGHT).
    #[must_use]
    pub fn cut_short(&self) -> u64 {
        self.flight.cut_short
    }

    /// Has at hand what these requests will need: their accounts, their counts and their cells.
    pub fn ahead(&self, next: &[(u64, Arrival)], accounts: &Accounts) {
        let mut seen = 0;
        for (_, arrival) in next {
            // One account in four lies on two lines of a cache, and a class needs both.
            seen ^= accounts.get(arrival.account).map_or(0, |account| account.lot ^ account.id.0[0] ^ account.id.0[1]);
            seen ^= self.accounts.get(arrival.account.0 as usize).map_or(0, |count| count.admitted);
        }
        black_box(seen);
        let classes = next.iter().filter_map(|(_, arrival)| class_of(arrival, self.number, self.config, accounts));
        self.flight.engine().read_ahead(&self.config.policy, classes);
    }

    /// Decides about one request. `None`: it never comes to the limits of this configuration.
    pub fn arrive(&mut self, now: Nanos, arrival: &Arrival, accounts: &Accounts) -> Option<Verdict> {
        let class = class_of(arrival, self.number, self.config, accounts)?;
        let policy = &self.config.policy;
        self.flight.advance(now, policy);
        let (second, account) = (now.0 / SECOND_NS, arrival.account);
        let mut seen = Seen { limits: &mut self.limits, now, second, account, shadowed: false };
        let (engine, hold) = self.flight.meet();
        let verdict = decide(engine, self.config, &class, now, hold, &mut seen);
        let would = seen.shadowed;
        let verdict = match verdict {
            Ok(()) => {
                let duration = self.durations.of(arrival, class.endpoint);
                let then = self.then(arrival, &class);
                self.flight.depart(now, duration, then, policy);
                Verdict::Admitted
            }
            Err(rejection) => {
                self.flight.leave();
                Verdict::Refused(rejection.limit)
            }
        };
        self.count(now, arrival, &class, verdict, would);
        Some(verdict)
    }

    /// What happens when a request ends. One that was refused when it was recorded would have succeeded.
    fn then(&self, arrival: &Arrival, class: &RequestClass) -> Then {
        if arrival.given_up {
            return Then::GivenUp;
        }
        let endpoint = self.config.endpoints.get(class.endpoint.0 as usize);
        let succeeds = arrival.was_refused || arrival.succeeded;
        match endpoint.is_some_and(|endpoint| endpoint.transaction) && succeeds {
            true => Then::Earns(Box::new(*class)),
            false => Then::Nothing,
        }
    }

    fn count(&mut self, now: Nanos, arrival: &Arrival, class: &RequestClass, verdict: Verdict, would: bool) {
        let second = now.0 / SECOND_NS;
        let place = (arrival.account.0 as usize).min(MAX_ACCOUNTS);
        if self.accounts.len() <= place {
            self.accounts.resize(place + 1, Count::default());
        }
        let endpoint = self.endpoints.get_mut(class.endpoint.0 as usize);
        let account = self.accounts.get_mut(place);
        let counts = [Some(&mut self.all), endpoint, account];
        for count in counts.into_iter().flatten() {
            count.note(verdict, would);
        }
        let refused_by = match verdict {
            Verdict::Admitted => None,
            Verdict::Refused(limit) => {
                // As many pairs as accounts: most are refused by one limit.
                if self.by_account.len() < MAX_ACCOUNTS || self.by_account.contains_key(&(arrival.account, limit)) {
                    *self.by_account.entry((arrival.account, limit)).or_default() += 1;
                }
                Some(limit.index())
            }
        };
        self.timeline.note(second, refused_by);
        self.peak.note(second);
        self.recorded.note(arrival.was_refused, refused_by.is_some());
        self.span = Some((self.span.map_or(now.0, |span| span.0), now.0));
    }
}

impl Count {
    fn note(&mut self, verdict: Verdict, would: bool) {
        match verdict {
            Verdict::Admitted => self.admitted += 1,
            Verdict::Refused(_) => self.refused += 1,
        }
        self.would_refuse += u64::from(would && verdict == Verdict::Admitted);
    }
}

impl Recorded {
    fn note(&mut self, was: bool, is: bool) {
        self.refused += u64::from(was);
        self.newly_refused += u64::from(is && !was);
        self.newly_admitted += u64::from(was && !is);
    }
}

/// Lets a request meet all stages as live traffic does.
fn decide(
    engine: &Engine<Alone>,
    config: &Config,
    class: &RequestClass,
    now: Nanos,
    hold: &mut Hold<Alone>,
    witness: &mut impl Witness,
) -> Result<(), Rejection> {
    Stage::ALL.into_iter().try_for_each(|stage| engine.stage(&config.policy, stage, class, now, hold, witness))
}

/// Counts what each limit says.
struct Seen<'t> {
    limits: &'t mut [LimitTally],
    now: Nanos,
    second: u64,
    account: AccountId,
    shadowed: bool,
}

impl Witness for Seen<'_> {
    fn saw(&mut self, step: Step) {
        let (limit, outcome, enforced) = match step {
            Step::Decided { limit, outcome, enforced } => (limit, outcome, enforced),
            Step::Tried { limit, outcome } => return self.tried(limit, outcome),
            Step::Skipped { .. } => return,
        };
        let Some(tally) = self.limits.get_mut(limit.index()) else { return };
        tally.asked_peak.note(self.second);
        match outcome {
            Outcome::Admitted { .. } => {
                tally.admitted += 1;
                return;
            }
            Outcome::Rejected { .. } if enforced => tally.refused += 1,
            Outcome::Rejected { .. } => {
                tally.would_refuse += 1;
                self.shadowed = true;
            }
        }
        tally.accounts.set(self.account);
        tally.refused_peak.note(self.second);
        tally.first.get_or_insert(self.now.0);
    }
}

impl Seen<'_> {
    fn tried(&mut self, limit: LimitId, outcome: Outcome) {
        let Some(tally) = self.limits.get_mut(limit.index()) else { return };
        match outcome {
            Outcome::Admitted { .. } => tally.tried_admitted += 1,
            Outcome::Rejected { .. } => tally.tried_refused += 1,
        }
    }
}

/// What changes from one configuration to another.
#[derive(Debug, Default)]
pub struct Changes {
    /// Requests.
    pub all: Change,
    /// By the limit that refuses in one of them: its configuration's number and its place.
    pub limits: HashMap<(usize, LimitId), u64>,
    /// By the name of the endpoint, as the first configuration has it.
    pub endpoints: HashMap<Box<str>, Change>,
    /// By account.
    pub accounts: HashMap<AccountId, Change>,
}

/// Requests whose verdict is another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Admitted before, refused after.
    pub newly_refused: u64,
    /// Refused before, admitted after.
    pub newly_admitted: u64,
    /// Refused by another limit.
    pub elsewhere: u64,
}

impl Changes {
    /// Holds the verdicts on one request against each other.
    pub fn note(&mut self, configs: &[&Config], arrival: &Arrival, before: Verdict, after: Verdict) {
        let name = |number: usize, limit| {
            configs.get(number).map(|config| &*config.policy.limit(limit).name).unwrap_or_default()
        };
        let mut change = Change::default();
        match (before, after) {
            (Verdict::Admitted, Verdict::Refused(limit)) => {
                change.newly_refused = 1;
                *self.limits.entry((1, limit)).or_default() += 1;
            }
            (Verdict::Refused(limit), Verdict::Admitted) => {
                change.newly_admitted = 1;
                *self.limits.entry((0, limit)).or_default() += 1;
            }
            (Verdict::Refused(before), Verdict::Refused(after)) if name(0, before) != name(1, after) => {
                change.elsewhere = 1;
            }
            _ => return,
        }
        let brief = arrival.briefs.first().copied().flatten();
        if let Some((brief, config)) = brief.zip(configs.first()) {
            let endpoint = config.policy.endpoint(brief.endpoint).name.clone();
            self.endpoints.entry(endpoint).or_default().add(change);
        }
        self.accounts.entry(arrival.account).or_default().add(change);
        self.all.add(change);
    }
}

impl Change {
    fn add(&mut self, other: Change) {
        self.newly_refused += other.newly_refused;
        self.newly_admitted += other.newly_admitted;
        self.elsewhere += other.elsewhere;
    }
}
