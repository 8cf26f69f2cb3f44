//! A small world written by name: limits as a configuration would say them, requests as a client would send them, and their
//! translation to what the engine takes.

use std::collections::HashSet;
use std::time::Duration;
use tollgate::engine::class::MAX_VALUES;
use tollgate::engine::policy::ExtractorId;
use tollgate::engine::{
    Access, Concurrency, Condition, EndpointClass, EndpointId, Enforce, Gcra, Id, IdKind, Limit, LimitId, Limiter,
    Mode, Part, Payers, Policy, Profile, ProfileId, RequestClass, RouteId, Seed, Stage,
};

/// The endpoints of the world. Those of [`has_id`] have a `path.id`.
const ENDPOINTS: [&str; 4] = ["charges.create", "payouts.create", "refunds.update", "files.retrieve"];
const ROUTES: [&str; 2] = ["main", "side"];
const ID_EXTRACTOR: ExtractorId = ExtractorId(7);

/// The seed of all tests.
pub(crate) fn seed() -> Seed {
    Seed([17, 42])
}

/// Whether an endpoint's path holds an id to count by.
pub(crate) fn has_id(endpoint: &str) -> bool {
    matches!(endpoint, "refunds.update" | "files.retrieve")
}

/// Which set of figures an account has; 0 is the base.
fn profile_of(account: &str) -> usize {
    match account {
        "acct_gold" => 1,
        "acct_slow" => 2,
        _ => 0,
    }
}

/// A limit's mechanism and figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figures {
    /// `count` tokens every `period_ns`, at most `burst`.
    Rate { count: u64, period_ns: u64, burst: u64 },
    /// In flight at once.
    Slots(u32),
}

impl Figures {
    pub(crate) fn limiter(self) -> Limiter {
        match self {
            Figures::Rate { count, period_ns, burst } => {
                Limiter::Gcra(Gcra::new(count, Duration::from_nanos(period_ns), burst))
            }
            Figures::Slots(slots) => Limiter::Concurrency(Concurrency { slots }),
        }
    }

    pub(crate) fn is_rate(self) -> bool {
        matches!(self, Figures::Rate { .. })
    }
}

/// One item of `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartSpec {
    Account,
    Connected,
    Key,
    Ip,
    Endpoint,
    PathId,
}

/// A `when` or an `except`.
#[derive(Clone, Debug, Default)]
pub(crate) struct MatchSpec {
    pub(crate) mode: Option<Mode>,
    pub(crate) access: Option<Access>,
    pub(crate) endpoints: Option<Vec<&'static str>>,
    pub(crate) connected: Option<bool>,
    pub(crate) accounts: Option<Vec<&'static str>>,
    pub(crate) routes: Option<Vec<&'static str>>,
}

/// A `[[limits]]` entry.
#[derive(Clone, Debug)]
pub(crate) struct LimitSpec {
    pub(crate) name: String,
    pub(crate) stage: Stage,
    pub(crate) figures: Figures,
    /// The figures of other profiles, by their number.
    pub(crate) overrides: Vec<(usize, Figures)>,
    pub(crate) when: MatchSpec,
    pub(crate) except: Option<MatchSpec>,
    pub(crate) fallback: bool,
    pub(crate) per: Vec<PartSpec>,
    pub(crate) enforce: bool,
    /// Figures on trial.
    pub(crate) candidate: Option<Figures>,
}

impl LimitSpec {
    /// An enforced limit on every request, counted by account.
    pub(crate) fn new(name: &str, stage: Stage, figures: Figures) -> LimitSpec {
        LimitSpec {
            name: name.to_owned(),
            stage,
            figures,
            overrides: Vec::new(),
            when: MatchSpec::default(),
            except: None,
            fallback: false,
            per: vec![PartSpec::Account],
            enforce: true,
            candidate: None,
        }
    }

    /// The figures for an account.
    pub(crate) fn figures_of(&self, account: &str) -> Figures {
        let profile = profile_of(account);
        self.overrides.iter().find(|own| own.0 == profile).map_or(self.figures, |own| own.1)
    }
}

/// `count` tokens a second, at most `burst`.
pub(crate) fn rate(count: u64, burst: u64) -> Figures {
    Figures::Rate { count, period_ns: 1_000_000_000, burst }
}

/// So many in flight.
pub(crate) fn slots(slots: u32) -> Figures {
    Figures::Slots(slots)
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct RequestSpec {
    pub(crate) mode: Mode,
    pub(crate) access: Access,
    pub(crate) endpoint: &'static str,
    pub(crate) route: &'static str,
    pub(crate) account: String,
    pub(crate) connected: Option<&'static str>,
    pub(crate) key: &'static str,
    pub(crate) ip: &'static str,
    pub(crate) object: &'static str,
    pub(crate) cost: u32,
}

impl RequestSpec {
    /// A live write of cost 1.
    pub(crate) fn of(account: &str) -> RequestSpec {
        RequestSpec {
            mode: Mode::Live,
            access: Access::Write,
            endpoint: "charges.create",
            route: "main",
            account: account.to_owned(),
            connected: None,
            key: "key_1",
            ip: "192.0.2.1",
            object: "obj_1",
            cost: 1,
        }
    }
}

/// The policy of these limits in this world.
pub(crate) fn policy(limits: &[LimitSpec]) -> Policy {
    let profiles = (0..3).map(|profile| profile_for(limits, profile)).collect();
    let endpoints = ENDPOINTS.map(|name| EndpointClass {
        name: name.into(),
        cost: 1,
        extractors: if has_id(name) { [ID_EXTRACTOR].into() } else { [].into() },
    });
    Policy::new(&seed(), limits.iter().map(limit).collect(), endpoints.into(), profiles)
}

/// What classification would make of the request.
pub(crate) fn class(request: &RequestSpec) -> RequestClass {
    let mut values = [Id::NONE; MAX_VALUES];
    if has_id(request.endpoint) {
        values[0] = id(IdKind::Value, request.object);
    }
    RequestClass {
        mode: request.mode,
        access: request.access,
        endpoint: endpoint(request.endpoint),
        route: route(request.route),
        profile: ProfileId(u32::try_from(profile_of(&request.account)).unwrap()),
        cost: request.cost,
        account: id(IdKind::Account, &request.account),
        connected: request.connected.map_or(Id::NONE, |name| id(IdKind::Account, name)),
        key: id(IdKind::Key, request.key),
        ip: id(IdKind::Ip, request.ip),
        values,
        facts: 0,
        payers: Payers::Account,
        lot: 0,
    }
}

fn id(kind: IdKind, name: &str) -> Id {
    seed().id(kind, name.as_bytes())
}

fn endpoint(name: &str) -> EndpointId {
    EndpointId(u32::try_from(ENDPOINTS.iter().position(|&known| known == name).unwrap()).unwrap())
}

fn route(name: &str) -> RouteId {
    RouteId(u32::try_from(ROUTES.iter().position(|&known| known == name).unwrap()).unwrap())
}

fn profile_for(limits: &[LimitSpec], profile: usize) -> Profile {
    let own = |limit: &LimitSpec| limit.overrides.iter().find(|own| own.0 == profile).map(|own| own.1.limiter());
    let limiters = (0..).map(LimitId).zip(limits).filter_map(|(id, limit)| Some((id, own(limit)?))).collect();
    Profile { limiters }
}

fn limit(spec: &LimitSpec) -> Limit {
    Limit {
        name: spec.name.as_str().into(),
        stage: spec.stage,
        limiter: spec.figures.limiter(),
        when: condition(&spec.when),
        except: spec.except.as_ref().map(condition),
        fallback: spec.fallback,
        per: spec.per.iter().map(|&part| part_of(part)).collect(),
        enforce: if spec.enforce { Enforce::Always } else { Enforce::Never },
        candidate: spec.candidate.map(Figures::limiter),
        shared: None,
    }
}

fn part_of(part: PartSpec) -> Part {
    match part {
        PartSpec::Account => Part::Account,
        PartSpec::Connected => Part::ConnectedAccount,
        PartSpec::Key => Part::Key,
        PartSpec::Ip => Part::Ip,
        PartSpec::Endpoint => Part::Endpoint,
        PartSpec::PathId => Part::Value(ID_EXTRACTOR),
    }
}

fn condition(spec: &MatchSpec) -> Condition {
    fn set<T: Eq + std::hash::Hash>(names: Option<&Vec<&'static str>>, id: impl Fn(&str) -> T) -> Option<HashSet<T>> {
        names.map(|names| names.iter().map(|name| id(name)).collect())
    }
    Condition {
        mode: spec.mode,
        access: spec.access,
        endpoints: set(spec.endpoints.as_ref(), endpoint),
        connected: spec.connected,
        accounts: set(spec.accounts.as_ref(), |name| id(IdKind::Account, name)),
        routes: set(spec.routes.as_ref(), route),
        facts: 0,
    }
}
