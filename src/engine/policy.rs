//! All limits, compiled: immutable, indexed so that a request meets its own limits only, by index and never by name.

mod beyond_index;
mod index;

use super::class::{Access, EndpointId, Id, IdKind, Mode, ProfileId, RequestClass, RouteId, Seed};
use super::enforce::Enforce;
use super::limiter::Limiter;
use beyond_index::BeyondIndex;
use index::Index;
use std::collections::{HashMap, HashSet};

/// One of the ordered checkpoints of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Rates and quotas over all of an account's traffic.
    GlobalRate,
    /// Requests in flight over all of an account's traffic.
    GlobalConcurrency,
    /// Rates and quotas of endpoints.
    EndpointRate,
    /// Requests in flight of endpoints.
    EndpointConcurrency,
    /// Limits on single objects, of any mechanism.
    Resource,
}

impl Stage {
    /// All stages in the order a request meets them. The gateway's layers and [`Engine::walk`](super::Engine::walk) both
    /// follow it.
    pub const ALL: [Stage; 5] =
        [Stage::GlobalRate, Stage::GlobalConcurrency, Stage::EndpointRate, Stage::EndpointConcurrency, Stage::Resource];

    /// The value of the reason header for a request refused at this stage; also the stage's name in metrics and logs.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Stage::GlobalRate => "global-rate",
            Stage::GlobalConcurrency => "global-concurrency",
            Stage::EndpointRate => "endpoint-rate",
            Stage::EndpointConcurrency => "endpoint-concurrency",
            Stage::Resource => "resource-specific",
        }
    }
}

/// A limit's place in its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitId(pub u32);

impl LimitId {
    /// The place as an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a limit counts by, one item of `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The account of the key.
    Account,
    /// The account acted for.
    ConnectedAccount,
    /// The API key.
    Key,
    /// The client's address.
    Ip,
    /// The endpoint.
    Endpoint,
    /// A value taken from the request, by its place among the configuration's extractors.
    Value(ExtractorId),
}

/// A way to take a value from a request (`path.NAME`, `header.NAME`): its place in the configuration's list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtractorId(pub u32);

/// How many items a `per` may list.
pub const MAX_PARTS: usize = 8;

/// What `when` or `except` asks of a request: everything that is given must hold; an empty condition always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Live or test.
    pub mode: Option<Mode>,
    /// Read or write.
    pub access: Option<Access>,
    /// One of these endpoints.
    pub endpoints: Option<HashSet<EndpointId>>,
    /// Whether the request acts for a connected account.
    pub connected: Option<bool>,
    /// One of these accounts.
    pub accounts: Option<HashSet<Id>>,
    /// One of these routes.
    pub routes: Option<HashSet<RouteId>>,
    /// All of these facts, a bit each; see [`RequestClass::facts`]. What a bit stands for is the configuration's to say.
    pub facts: u64,
}

impl Condition {
    /// Whether everything given holds for the request; otherwise the first part that does not.
    ///
    /// # Errors
    /// The part that does not hold.
    pub fn holds(&self, class: &RequestClass) -> Result<(), Unmet> {
        self.holds_at(class.endpoint, class.mode)?;
        self.holds_beyond_index(class)
    }

    /// The part that the index decides, once for all requests of an endpoint and mode.
    fn holds_at(&self, endpoint: EndpointId, mode: Mode) -> Result<(), Unmet> {
        unmet(self.mode.is_some_and(|wanted| wanted != mode), Unmet::Mode)?;
        unmet(self.endpoints.as_ref().is_some_and(|set| !set.contains(&endpoint)), Unmet::Endpoint)
    }

    /// The part that is left for each request.
    fn holds_beyond_index(&self, class: &RequestClass) -> Result<(), Unmet> {
        unmet(self.access.is_some_and(|access| access != class.access), Unmet::Access)?;
        unmet(self.connected.is_some_and(|connected| connected != class.is_connected()), Unmet::Connected)?;
        unmet(self.accounts.as_ref().is_some_and(|set| !set.contains(&class.account)), Unmet::Account)?;
        unmet(self.routes.as_ref().is_some_and(|set| !set.contains(&class.route)), Unmet::Route)?;
        unmet(self.facts & !class.facts != 0, Unmet::Form)
    }

    /// Whether endpoint and mode alone decide the condition.
    fn is_decided_by_index(&self) -> bool {
        self.access.is_none()
            && self.connected.is_none()
            && self.accounts.is_none()
            && self.routes.is_none()
            && self.facts == 0
    }
}

fn unmet(fails: bool, unmet: Unmet) -> Result<(), Unmet> {
    if fails { Err(unmet) } else { Ok(()) }
}

/// The part of a [`Condition`] that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// `mode`.
    Mode,
    /// `access`.
    Access,
    /// `endpoint`.
    Endpoint,
    /// `connected`.
    Connected,
    /// `account`.
    Account,
    /// `route`.
    Route,
    /// `form` or `form_any`.
    Form,
}

/// Why a limit does not apply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exempt {
    /// Its `when` does not hold.
    When(Unmet),
    /// Its `except` holds.
    Except,
    /// It is a fallback and another limit of its stage and mechanism covers the request.
    Covered,
    /// The endpoint has no such value to count by (a `path.NAME` that its template lacks).
    NoValue,
}

/// One configured limit.
#[derive(Clone, Debug)]
pub struct Limit {
    /// Its name, unique in the policy.
    pub name: Box<str>,
    /// Where it is checked.
    pub stage: Stage,
    /// Its mechanism with the base figures; accounts may have others, see [`Policy::limiter`].
    pub limiter: Limiter,
    /// Holds for the requests it applies to.
    pub when: Condition,
    /// Holds for those it does not apply to all the same.
    pub except: Option<Condition>,
    /// Applies only where no other limit of its stage and mechanism does.
    pub fallback: bool,
    /// What it counts by, at most [`MAX_PARTS`] items.
    pub per: Box<[Part]>,
    /// For whom it refuses; for the others it only counts what it would have refused (shadow).
    pub enforce: Enforce,
    /// Figures on trial beside its own, of the same mechanism: counted in cells of their own, never refused.
    pub candidate: Option<Limiter>,
    /// Whether it is counted by several gateways together, and then what it does while they cannot.
    pub shared: Option<WithoutStore>,
}

/// What a limit that several gateways count together does while their store cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutStore {
    /// Each gateway holds its requests to its share of the figures.
    Share,
    /// It admits everything.
    Open,
    /// It refuses everything.
    Closed,
}

impl Limit {
    /// Whether the limit applies, not counting `fallback`.
    ///
    /// # Errors
    /// Why it does not.
    pub fn applies(&self, policy: &Policy, class: &RequestClass) -> Result<(), Exempt> {
        self.when.holds(class).map_err(Exempt::When)?;
        if self.except.as_ref().is_some_and(|except| except.holds(class).is_ok()) {
            return Err(Exempt::Except);
        }
        if self.has_all_values(policy.endpoint(class.endpoint)) { Ok(()) } else { Err(Exempt::NoValue) }
    }

    /// Whether a transaction of this class earns what the limit allows: whatever the endpoint and the access.
    pub(super) fn is_earned_by(&self, class: &RequestClass) -> bool {
        let excepted =
            |except: &Condition| except.endpoints.is_none() && except.access.is_none() && except.holds(class).is_ok();
        let when = &self.when;
        let same_access = RequestClass { access: when.access.unwrap_or(class.access), ..*class };
        when.mode.is_none_or(|mode| mode == class.mode)
            && when.holds_beyond_index(&same_access).is_ok()
            && !self.except.as_ref().is_some_and(excepted)
    }

    /// Whether some request of this endpoint and mode can meet the limit.
    fn can_apply(&self, id: EndpointId, endpoint: &EndpointClass, mode: Mode) -> bool {
        let excepted = |except: &Condition| except.is_decided_by_index() && except.holds_at(id, mode).is_ok();
        self.when.holds_at(id, mode).is_ok()
            && !self.except.as_ref().is_some_and(excepted)
            && self.has_all_values(endpoint)
    }

    fn has_all_values(&self, endpoint: &EndpointClass) -> bool {
        self.per.iter().all(|part| !matches!(part, Part::Value(id) if endpoint.value_slot(*id).is_none()))
    }
}

/// What the policy knows of an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointClass {
    /// Its name, unique in the policy; names in metrics, logs and conditions are these.
    pub name: Box<str>,
    /// Tokens a request spends.
    pub cost: u32,
    /// The values that limits on this endpoint count by, at most [`MAX_VALUES`](super::class::MAX_VALUES): what
    /// [`RequestClass::values`] holds, in this order.
    pub extractors: Box<[ExtractorId]>,
}

impl EndpointClass {
    fn value_slot(&self, extractor: ExtractorId) -> Option<usize> {
        self.extractors.iter().position(|&id| id == extractor)
    }
}

/// A set of figures that replace the base ones: a tier's, or an account's own over its tier's.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The replaced limiters, of the same mechanism as the limit's own.
    pub limiters: HashMap<LimitId, Limiter>,
}

/// All limits, with an index from (endpoint, mode, stage) to those that can apply there.
#[derive(Clone, Debug)]
pub struct Policy {
    limits: Box<[CompiledLimit]>,
    endpoints: Box<[CompiledEndpoint]>,
    /// The replaced limiters of each profile, by limit.
    profiles: Box<[Replaced]>,
    index: Index,
    /// Limits that transactions earn.
    allocations: Box<[LimitId]>,
}

/// Limiters by the limit whose own they replace, sorted.
type Replaced = Box<[(LimitId, Limiter)]>;

#[derive(Clone, Debug)]
struct CompiledLimit {
    limit: Limit,
    salt: Id,
    /// Of the cells of its candidate.
    candidate_salt: Id,
    /// What the index leaves to be asked: see [`Policy::applies`].
    beyond_index: BeyondIndex,
}

/// Which of a limit's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that decide.
    InForce,
    /// Those on trial.
    Candidate,
}

#[derive(Clone, Debug)]
struct CompiledEndpoint {
    class: EndpointClass,
    id: Id,
}

impl Policy {
    /// Compiles. `profiles[0]` is the base and should be empty; [`ProfileId::BASE`] names it.
    ///
    /// State belongs to a limit by its name and mechanism, so a policy compiled anew with the same `seed` finds it again.
    #[must_use]
    pub fn new(seed: &Seed, limits: Vec<Limit>, endpoints: Vec<EndpointClass>, profiles: Vec<Profile>) -> Policy {
        let limits: Box<[CompiledLimit]> =
            limits.into_iter().map(|limit| CompiledLimit::new(seed, limit, endpoints.len())).collect();
        let endpoints: Box<[CompiledEndpoint]> = endpoints
            .into_iter()
            .map(|class| CompiledEndpoint { id: seed.id(IdKind::Endpoint, class.name.as_bytes()), class })
            .collect();
        let index = Index::new(&limits, &endpoints);
        let profiles = profiles.into_iter().map(by_limit).collect();
        let earned = |limit: &CompiledLimit| matches!(limit.limit.limiter, Limiter::Allocation(_));
        let allocations =
            (0..).map(LimitId).zip(&limits).filter(|(_, limit)| earned(limit)).map(|(id, _)| id).collect();
        Policy { limits, endpoints, profiles, index, allocations }
    }

    /// The same policy with further profiles, whose ids follow those there are.
    #[must_use]
    pub fn with_profiles(&self, more: Vec<Profile>) -> Policy {
        let mut policy = self.clone();
        policy.profiles = policy.profiles.into_iter().chain(more.into_iter().map(by_limit)).collect();
        policy
    }

    /// How many profiles there are, the base among them.
    #[must_use]
    pub fn profiles(&self) -> usize {
        self.profiles.len()
    }

    /// What a profile replaces.
    #[must_use]
    pub fn profile(&self, id: ProfileId) -> Profile {
        let replaced = self.profiles.get(id.0 as usize);
        Profile { limiters: replaced.into_iter().flatten().copied().collect() }
    }

    /// How many limits there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.limits.len()
    }

    /// Whether there is no limit at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// All limits with their ids, in the order of the configuration.
    pub fn limits(&self) -> impl Iterator<Item = (LimitId, &Limit)> {
        (0..).map(LimitId).zip(self.limits.iter().map(|compiled| &compiled.limit))
    }

    /// The limits that transactions earn.
    #[must_use]
    pub fn allocations(&self) -> &[LimitId] {
        &self.allocations
    }

    /// One limit. The id must be of this policy.
    #[must_use]
    pub fn limit(&self, id: LimitId) -> &Limit {
        &self.limits[id.index()].limit
    }

    /// What this policy knows of an endpoint. The id must be of this policy.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> &EndpointClass {
        &self.endpoints[id.0 as usize].class
    }

    /// The limiter with the figures of `profile`.
    #[must_use]
    #[inline]
    pub fn limiter(&self, id: LimitId, profile: ProfileId) -> Limiter {
        self.replaced(id, profile).unwrap_or(self.limit(id).limiter)
    }

    /// The figures on trial, if there are any. Who has figures of its own would keep them if the candidate took the place of
    /// the limit's own.
    #[must_use]
    pub fn candidate(&self, id: LimitId, profile: ProfileId) -> Option<Limiter> {
        let candidate = self.limit(id).candidate?;
        Some(self.replaced(id, profile).unwrap_or(candidate))
    }

    #[inline]
    pub(super) fn figures(&self, id: LimitId, which: Which, profile: ProfileId) -> Limiter {
        match which {
            Which::InForce => self.limiter(id, profile),
            Which::Candidate => self.candidate(id, profile).unwrap_or(self.limit(id).limiter),
        }
    }

    /// What a profile has in place of a limit's own; the base, nothing.
    #[inline(always)]
    fn replaced(&self, id: LimitId, profile: ProfileId) -> Option<Limiter> {
        if profile == ProfileId::BASE { None } else { self.of_profile(id, profile) }
    }

    #[inline(never)]
    fn of_profile(&self, id: LimitId, profile: ProfileId) -> Option<Limiter> {
        let replaced = self.profiles.get(profile.0 as usize)?;
        let place = replaced.binary_search_by_key(&id, |own| own.0).ok()?;
        replaced.get(place).map(|own| own.1)
    }

    /// Where in [`RequestClass::values`] the endpoint's requests hold what `extractor` takes.
    #[must_use]
    pub fn value_slot(&self, endpoint: EndpointId, extractor: ExtractorId) -> Option<usize> {
        self.endpoint(endpoint).value_slot(extractor)
    }

    /// The limits of a stage that can apply to requests of this endpoint and mode, fallbacks last.
    pub(super) fn listed(&self, stage: Stage, class: &RequestClass) -> &[LimitId] {
        self.index.listed(class.endpoint, class.mode, stage)
    }

    /// Whether a limit that the index lists for the request applies, not counting `fallback`: what is left of
    /// [`Limit::applies`]. Nothing is asked of those that apply to all.
    #[inline(always)]
    pub(super) fn applies(&self, id: LimitId, class: &RequestClass) -> Result<(), Exempt> {
        let compiled = &self.limits[id.index()];
        compiled.beyond_index.ask(&compiled.limit, class)
    }

    pub(super) fn salt(&self, id: LimitId, which: Which) -> Id {
        let compiled = &self.limits[id.index()];
        match which {
            Which::InForce => compiled.salt,
            Which::Candidate => compiled.candidate_salt,
        }
    }

    pub(super) fn endpoint_key(&self, id: EndpointId) -> Id {
        self.endpoints[id.0 as usize].id
    }

    /// Limits by the tag their partitions carry, see [`Engine::census`](super::Engine::census).
    pub(super) fn tags(&self) -> HashMap<u32, LimitId> {
        (0..).map(LimitId).zip(self.limits.iter()).map(|(id, compiled)| (tag(compiled.salt), id)).collect()
    }
}

/// The short name of a limit that its partitions carry. Two limits may share one by chance (about 1 in 4 billion a pair);
/// only gauges would be off then.
pub(super) fn tag(salt: Id) -> u32 {
    (salt.0[0] >> 32) as u32
}

impl CompiledLimit {
    fn new(seed: &Seed, limit: Limit, endpoints: usize) -> CompiledLimit {
        let name = format!("{}\0{}", limit.limiter.mechanism().as_str(), limit.name);
        let salt = seed.id(IdKind::Limit, name.as_bytes());
        let candidate_salt = seed.id(IdKind::Limit, format!("{name}\0candidate").as_bytes());
        let beyond_index = BeyondIndex::new(&limit, endpoints);
        CompiledLimit { limit, salt, candidate_salt, beyond_index }
    }
}

fn by_limit(profile: Profile) -> Replaced {
    let mut limiters: Vec<_> = profile.limiters.into_iter().collect();
    limiters.sort_unstable_by_key(|own| own.0);
    limiters.into()
}
