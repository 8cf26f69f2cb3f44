//! FLOOR 3: what a request would meet, and why: its classification, then every limit in the order in which it is asked.
//!
//! Nothing is decided here. Classification, which limits apply and what they would say come from
//! [`crate::classification`] and the engine, the very code that live traffic meets; this module asks and puts
//! the answers into words. It only looks: an engine in use has given nothing afterwards.

mod question;
mod reasons;
mod state;
mod turn;
pub mod words;

pub use question::{BadQuestion, MAX_GIVEN, Question, Written};
pub use state::{State, figures, milliseconds};
pub use turn::Turn;

use crate::body::{Body, Findings};
use crate::classification::{self, Asked, Classifier, Unfit, address_id, connected_account};
use crate::config::{Config, Extractor};
use crate::endpoints::Found;
use crate::engine::policy::ExtractorId;
use crate::engine::{
    Enforce, Engine, Exempt, Id, Limit, LimitId, Limiter, Nanos, Payers, ProfileId, RequestClass, Stage,
};
use crate::path;
use reasons::{Reasons, enforcement};
use serde::Serialize;
use serde_json::Value;
use state::Standing;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use words::Subject;

/// Requests that are tried at one moment to see which limit is the first to refuse.
const MOST_AT_ONCE: u64 = 10_000;

/// Everything there is to say of a request.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// What it is.
    pub request: Described,
    /// Why it would be refused before any limit, if so; then there are no limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The limits, in the order in which they are asked; within a stage, those that do not apply last.
    pub limits: Vec<Explained>,
    /// Limits that do not apply and are left out here.
    pub omitted: usize,
    /// The object that it takes turns at, once no limit has refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turn>,
    /// The limit that refuses this very request now.
    pub refuses_now: Option<Box<str>>,
    /// What refuses first, if such requests keep coming.
    pub first: First,
    /// What was not said and is taken for granted.
    pub assumed: Vec<String>,
}

/// What a request is.
#[derive(Clone, Debug, Serialize)]
pub struct Described {
    /// Its method.
    pub method: String,
    /// Its canonical path.
    pub path: String,
    /// The route that takes it.
    pub route: Option<Box<str>>,
    /// Its endpoint.
    pub endpoint: Option<Box<str>>,
    /// "read" or "write".
    pub access: Option<&'static str>,
    /// "live" or "test".
    pub mode: &'static str,
    /// The key's account.
    pub account: Box<str>,
    /// Its tier.
    pub tier: Option<Box<str>>,
    /// The key's id.
    pub key_id: Box<str>,
    /// The account acted for.
    pub connected_account: Option<Box<str>>,
    /// The client's address.
    pub client: std::net::IpAddr,
    /// Tokens that it takes from each rate.
    pub cost: Option<u32>,
    /// What limits count by, of what it says: by name.
    pub values: BTreeMap<Box<str>, Box<str>>,
    /// What conditions ask of its form and find there.
    pub facts: Vec<Box<str>>,
}

/// One limit.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// Its name.
    pub name: Box<str>,
    /// The reason that it gives.
    pub reason: &'static str,
    /// Its mechanism.
    pub mechanism: &'static str,
    /// Whether it is asked.
    pub applies: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
    /// What the request is counted by, by name; `null` where it has none of it, as all that have none share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<BTreeMap<String, Option<String>>>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whom: Option<String>,
    /// The figures for this account.
    pub figures: Value,
    /// The same in words.
    pub words: String,
    /// Whose figures those are: "limit", "tier NAME" or "account NAME".
    pub from: String,
    /// For whom it refuses, where that is not everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<String>,
    /// Whether it refuses requests like this one.
    pub enforced: bool,
    /// Where it stands, where it applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Its candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
}

/// Figures on trial.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// As written.
    pub figures: Value,
    /// In words.
    pub words: String,
    /// Where it stands, where its limit applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// What refuses first, of limits that nothing has been taken from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct First {
    /// Of many such requests at one moment, all in flight.
    pub at_once: Option<AtOnce>,
    /// Of such requests in a steady stream.
    pub steady: Option<Steady>,
}

/// The first refusal among many requests at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct AtOnce {
    /// By which limit.
    pub limit: Box<str>,
    /// Requests that are admitted before.
    pub admitted: u64,
}

/// The limit that a steady stream meets first.
#[derive(Clone, Debug, Serialize)]
pub struct Steady {
    /// Which.
    pub limit: Box<str>,
    /// Above so many such requests a second.
    pub per_second: f64,
    /// Its figures in words.
    pub words: String,
}

/// Answers a question about `config` and where `engine` stands at `now`. At most `most` limits that do not apply are listed.
#[must_use]
pub fn explain(question: &Question, config: &Config, engine: &Engine, now: Nanos, most: usize) -> Explanation {
    let connected = connected_account(question.headers.get(&crate::fields::STRIPE_ACCOUNT));
    let asked = Asked {
        method: &question.method,
        host: &question.host,
        path: &question.path,
        headers: &question.headers,
        connected,
        client: address_id(&engine.seed(), question.client),
    };
    let classifier = Classifier { config, seed: engine.seed(), principal: &question.principal };
    let outcome = classifier.classify(&asked);
    let mut request = described(question, config, &outcome, connected.ok().flatten());
    let class = match outcome.class {
        Ok(class) => class,
        Err(unfit) => return refused(request, question, refusal(unfit, question, config)),
    };
    let (class, findings) = inspected(class, question, config, engine);
    request.values = classifier.named_values(&asked, class.endpoint).into_iter().collect();
    request.values.extend(classification::named_findings(config, class.endpoint, &findings, words::VALUE_BYTES));
    request.values.values_mut().for_each(|value| *value = words::shown(value.as_ref().into()).into());
    if let Some(inspection) = config.inspection(class.endpoint) {
        request.facts = classification::named_facts(inspection, &findings).collect();
    }
    let turn = Turn::of(config, class.endpoint, &request.values);
    let canonical = path::canonical(question.path.as_bytes()).ok();
    let found = canonical.as_ref().and_then(|path| config.index.find(&question.method, path));
    let telling =
        Telling { question, config, engine, now, class, findings, found, connected: connected.ok().flatten() };
    let (limits, omitted) = telling.limits(most);
    let refuses = |limit: &&Explained| limit.enforced && limit.state.as_ref().is_some_and(|state| !state.admits);
    let refuses_now = limits.iter().find(refuses).map(|limit| limit.name.clone());
    let first = telling.first();
    Explanation { request, refused: None, limits, omitted, turn, refuses_now, first, assumed: question.assumed.clone() }
}

fn described(
    question: &Question,
    config: &Config,
    outcome: &classification::Outcome,
    connected: Option<&str>,
) -> Described {
    let principal = &question.principal;
    let route = outcome.route.and_then(|id| config.routes.get(id.0 as usize));
    Described {
        method: question.method.to_string(),
        path: question.path.clone(),
        route: route.map(|route| route.name.clone()),
        endpoint: outcome.endpoint.map(|id| config.policy.endpoint(id).name.clone()),
        access: outcome.endpoint.map(|id| classification::access_of(config, id).as_str()),
        mode: principal.mode.as_str(),
        account: principal.account.clone(),
        tier: config.tiers.get(&principal.account).cloned(),
        key_id: principal.id.clone(),
        connected_account: connected.map(Into::into),
        client: question.client,
        cost: outcome.class.as_ref().ok().map(|class| class.cost),
        values: BTreeMap::new(),
        facts: Vec::new(),
    }
}

fn refused(request: Described, question: &Question, why: String) -> Explanation {
    Explanation {
        request,
        refused: Some(why),
        limits: Vec::new(),
        omitted: 0,
        turn: None,
        refuses_now: None,
        first: First::default(),
        assumed: question.assumed.clone(),
    }
}

fn refusal(unfit: Unfit, question: &Question, config: &Config) -> String {
    match unfit {
        Unfit::NoRoute => format!("404: no route takes the host `{}` and this path", question.host),
        Unfit::Path => "400: the path is not canonical".to_owned(),
        Unfit::Endpoint(endpoint) => {
            let name = &config.policy.endpoint(endpoint).name;
            format!("403: the key {} may not use {name}", question.principal.id)
        }
        Unfit::BadAccount(why) => format!("400: {why}"),
        Unfit::Account => format!("403: the key {} may not act for that account", question.principal.id),
    }
}

/// The class with what query and form say.
fn inspected<'q>(
    mut class: RequestClass,
    question: &'q Question,
    config: &Config,
    engine: &Engine,
) -> (RequestClass, Findings<'q>) {
    let Some(inspection) = config.inspection(class.endpoint) else { return (class, Findings::default()) };
    let body = match (question.form.as_str(), question.json.as_str()) {
        ("", "") => Body::Empty,
        ("", json) => Body::Json(json.as_bytes()),
        (form, _) => Body::Form(form.as_bytes()),
    };
    let findings = inspection.read(body, &question.query);
    classification::take(&mut class, &findings, &engine.seed());
    (class, findings)
}

/// One request that has a class.
struct Telling<'a> {
    question: &'a Question,
    config: &'a Config,
    engine: &'a Engine,
    now: Nanos,
    class: RequestClass,
    findings: Findings<'a>,
    found: Option<Found<'a>>,
    connected: Option<&'a str>,
}

impl Telling<'_> {
    fn limits(&self, most: usize) -> (Vec<Explained>, usize) {
        let policy = &self.config.policy;
        let mut met: Vec<(LimitId, Result<(), Exempt>)> = Vec::new();
        for stage in Stage::ALL {
            let before = met.len();
            met.extend(policy.meeting(stage, &self.class));
            let listed: Vec<LimitId> = met.iter().skip(before).map(|(id, _)| *id).collect();
            let others = policy.limits().filter(|(id, limit)| limit.stage == stage && !listed.contains(id));
            met.extend(others.filter_map(|(id, limit)| Some((id, Err(limit.applies(policy, &self.class).err()?)))));
        }
        let applying: Vec<&Limit> =
            met.iter().filter(|(_, applies)| applies.is_ok()).map(|(id, _)| policy.limit(*id)).collect();
        let account = &self.question.principal.account;
        let reasons = Reasons { config: self.config, class: &self.class, account, applying: &applying };
        let (mut limits, mut omitted, mut exempt) = (Vec::new(), 0, 0);
        for (id, applies) in met {
            exempt += usize::from(applies.is_err());
            if applies.is_err() && exempt > most {
                omitted += 1;
                continue;
            }
            limits.push(self.limit(id, applies, &reasons));
        }
        (limits, omitted)
    }

    fn limit(&self, id: LimitId, applies: Result<(), Exempt>, reasons: &Reasons<'_>) -> Explained {
        let policy = &self.config.policy;
        let limit = policy.limit(id);
        let (payer, profile) = self.payer(limit);
        let limiter = policy.limiter(id, profile);
        let standing = Standing { engine: self.engine, policy, class: &self.class, now: self.now };
        let state = applies.is_ok().then(|| standing.of(id));
        let candidate = policy.candidate(id, profile).map(|candidate| Candidate {
            figures: figures(&candidate),
            words: words::figure(&candidate),
            state: applies.is_ok().then(|| standing.of_candidate(id)).flatten(),
        });
        let (partition, whom) = match applies {
            Ok(()) => (Some(self.partition(limit, payer)), Some(self.whom(limit, payer))),
            Err(_) => (None, None),
        };
        Explained {
            name: limit.name.clone(),
            reason: limit.stage.reason(),
            mechanism: limit.limiter.mechanism().as_str(),
            applies: applies.is_ok(),
            why_not: applies.err().map(|exempt| reasons.of(limit, exempt)),
            partition,
            whom,
            figures: figures(&limiter),
            words: words::figure(&limiter),
            from: self.from(id, &limiter, payer),
            enforcement: enforcement(limit, &self.class),
            enforced: limit.enforce.is_for(&self.class),
            state,
            candidate,
        }
    }

    /// The account that a limit counts, and whose figures hold. Where both pay, the account acted for is told.
    fn payer(&self, limit: &Limit) -> (&str, ProfileId) {
        let own = (&*self.question.principal.account, self.class.profile);
        match (self.class.payers, self.connected) {
            (Payers::Connected(profile), Some(connected)) => (connected, profile),
            (Payers::Both(profile), Some(connected)) if limit.per.contains(&crate::engine::Part::Account) => {
                (connected, profile)
            }
            _ => own,
        }
    }

    fn subject<'s>(&'s self, account: &'s str) -> Subject<'s> {
        let principal = &self.question.principal;
        Subject {
            config: self.config,
            account,
            connected: self.connected,
            key_id: &principal.id,
            client: self.question.client,
            endpoint: self.class.endpoint,
        }
    }

    fn value(&self, id: ExtractorId) -> Option<Cow<'_, str>> {
        let endpoint = self.class.endpoint;
        match self.config.extractor_at(endpoint, id)? {
            Extractor::Path(name) => self.found.as_ref()?.param(self.config.parameter(endpoint, name)?),
            Extractor::Header(name) => {
                let value = self.question.headers.get(name)?;
                let Id([high, _]) = self.engine.seed().id(crate::engine::IdKind::Value, value.as_bytes());
                Some(format!("{high:016x}").into())
            }
            _ => {
                let slot = self.config.policy.value_slot(endpoint, id)?;
                self.findings.values.get(slot)?.as_deref().map(Cow::Borrowed)
            }
        }
    }

    fn partition(&self, limit: &Limit, payer: &str) -> BTreeMap<String, Option<String>> {
        let (subject, value) = (self.subject(payer), |id| self.value(id));
        let parts = limit.per.iter().map(|part| {
            let (name, value) = subject.part(*part, &value);
            (name.into_owned(), value.map(Cow::into_owned))
        });
        parts.collect()
    }

    fn whom(&self, limit: &Limit, payer: &str) -> String {
        let mut whom = String::new();
        // Writing to a string does not fail.
        let _ = self.subject(payer).write_partition(&mut whom, limit, &|id| self.value(id));
        whom.trim_start().to_owned()
    }

    fn from(&self, id: LimitId, limiter: &Limiter, account: &str) -> String {
        if *limiter == self.config.policy.limit(id).limiter {
            return "limit".to_owned();
        }
        let tier = self.config.tiers.get(account);
        let of_tier = tier.and_then(|tier| self.config.tier_profiles.get(tier));
        match (tier, of_tier.map(|profile| self.config.policy.limiter(id, *profile))) {
            (Some(tier), Some(own)) if own == *limiter => format!("tier {tier}"),
            _ => format!("account {account}"),
        }
    }

    fn first(&self) -> First {
        First { at_once: self.at_once(), steady: self.steady() }
    }

    /// Lets such requests meet limits that nothing has been taken from, all at one moment.
    fn at_once(&self) -> Option<AtOnce> {
        let policy = &self.config.policy;
        let engine = Arc::new(Engine::new(self.engine.seed(), usize::MAX));
        let mut holds = Vec::new();
        for admitted in 0..MOST_AT_ONCE {
            match engine.walk(policy, &self.class, Nanos::ZERO, &mut ()) {
                Ok(hold) => holds.push(hold),
                Err(rejection) => {
                    let limit = policy.limit(rejection.limit).name.clone();
                    return Some(AtOnce { limit, admitted });
                }
            }
        }
        None
    }

    fn steady(&self) -> Option<Steady> {
        let policy = &self.config.policy;
        let met = Stage::ALL.into_iter().flat_map(|stage| policy.meeting(stage, &self.class));
        let applying = met.filter(|(_, applies)| applies.is_ok()).map(|(id, _)| (id, policy.limit(id)));
        let enforced =
            applying.filter(|(_, limit)| limit.enforce != Enforce::Never && limit.enforce.is_for(&self.class));
        let rates = enforced.filter_map(|(id, limit)| {
            let limiter = policy.limiter(id, self.payer(limit).1);
            let per_second = per_second(&limiter)? / f64::from(self.class.cost);
            let steady = Steady { limit: limit.name.clone(), per_second, words: words::figure(&limiter) };
            per_second.is_finite().then_some(steady)
        });
        rates.min_by(|one, other| one.per_second.total_cmp(&other.per_second))
    }
}

/// Tokens a second in the long run; `None` for a limit that time does not matter to.
fn per_second(limiter: &Limiter) -> Option<f64> {
    match limiter {
        Limiter::Gcra(figures) => Some(figures.count() as f64 / figures.period().as_secs_f64()),
        Limiter::SlidingWindow(figures) => Some(f64::from(figures.limit()) / figures.window().as_secs_f64()),
        Limiter::Allocation(figures) => Some(f64::from(figures.at_least) / figures.window.as_secs_f64()),
        Limiter::Concurrency(_) => None,
    }
}
