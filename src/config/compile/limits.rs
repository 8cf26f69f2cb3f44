//! Limits: figures, stage, conditions, partitions.

use super::super::error::Finding;
use super::super::raw::{Item, RawAllocation, RawCondition, RawFigures, RawLimit, RawStage};
use super::super::router::Route;
use super::super::source::Place;
use super::super::values::{Located, Rate};
use super::conditions::{Compiled, Names};
use super::facts::{Facts, Side};
use super::partitions::Values;
use super::store::{self, Sharing};
use super::{Context, EndpointTable, routes, trials};
use crate::engine::{
    Allocation, Concurrency, EndpointId, Gcra, Limit, LimitId, Limiter, Mechanism, Part, SlidingWindow, Stage,
};
use std::collections::HashMap;
use std::time::Duration;

/// Limits in the order they are met, presets' first.
pub(in crate::config) struct Limits {
    pub(in crate::config) checked: Vec<Checked>,
    /// Every name, also of limits that could not be compiled.
    pub(super) by_name: HashMap<String, Option<LimitId>>,
}

/// A limit with what only the compiler knows.
pub(in crate::config) struct Checked {
    pub(in crate::config) limit: Limit,
    /// What its 429s link to, in place of what all others do.
    pub(in crate::config) doc_url: Option<Box<str>>,
    /// Its name.
    pub(in crate::config) place: Place,
    /// A mistake in it has been reported.
    pub(in crate::config) damaged: bool,
}

/// A limit's figures and where they stand.
pub(in crate::config) struct Written<'a> {
    pub(in crate::config) figures: &'a RawFigures,
    pub(in crate::config) place: Place,
    pub(in crate::config) damaged: bool,
}

pub(super) fn compile(
    context: &mut Context<'_>,
    presets: Vec<Item<RawLimit>>,
    own: Vec<Item<RawLimit>>,
    endpoints: &EndpointTable,
    routes: &[Route],
    sharing: Sharing,
) -> (Limits, Values, Facts) {
    let mut names = Names::new(endpoints, routes::by_name(routes));
    let (mut values, mut facts) = (Values::new(endpoints), Facts::new(endpoints.endpoints.len()));
    let mut limits = Limits { checked: Vec::new(), by_name: HashMap::new() };
    for item in merge(context, presets, own) {
        let compiled = limit(context, &item, &mut names, &mut values, &mut facts, sharing);
        let id = compiled.as_ref().map(|_| LimitId(u32::try_from(limits.checked.len()).unwrap_or(u32::MAX)));
        if let Some(name) = &item.raw.name {
            limits.by_name.insert(name.value.clone(), id);
        }
        limits.checked.extend(compiled);
    }
    (limits, values, facts)
}

/// The presets' limits with the user's in their place where the name is the same, then the user's others.
fn merge(context: &mut Context<'_>, presets: Vec<Item<RawLimit>>, own: Vec<Item<RawLimit>>) -> Vec<Item<RawLimit>> {
    let mut merged = Vec::with_capacity(presets.len() + own.len());
    // By name: the place, and whether it is the user's.
    let mut places: HashMap<String, (usize, bool)> = HashMap::new();
    let layered = presets.into_iter().map(|item| (item, false)).chain(own.into_iter().map(|item| (item, true)));
    for (item, is_own) in layered {
        let known = item.raw.name.as_ref().and_then(|name| Some((name, *places.get(&name.value)?)));
        match known {
            Some((name, (_, true))) => {
                let finding = Finding::error(item.at(&name.span), format!("a second limit `{}`", name.value));
                context.tell(finding.hint("each limit has a name of its own; state, metrics and overrides go by it"));
            }
            Some((name, (place, false))) => {
                places.insert(name.value.clone(), (place, is_own));
                if let Some(slot) = merged.get_mut(place) {
                    *slot = item;
                }
            }
            None => {
                if let Some(name) = &item.raw.name {
                    places.insert(name.value.clone(), (merged.len(), is_own));
                }
                merged.push(item);
            }
        }
    }
    merged
}

fn limit(
    context: &mut Context<'_>,
    item: &Item<RawLimit>,
    names: &mut Names<'_>,
    values: &mut Values,
    facts: &mut Facts,
    sharing: Sharing,
) -> Option<Checked> {
    let raw = &item.raw;
    let errors_before = context.report.errors();
    let name = name(context, item);
    if raw.stage.is_none() && !item.damaged {
        let finding = Finding::error(item.place(), format!("the limit `{name}` lacks `stage`"));
        context.tell(finding.expected(r#"stage = "global", "endpoint" or "resource""#));
    }
    let figures = RawFigures {
        rate: raw.rate.clone(),
        burst: raw.burst.clone(),
        concurrency: raw.concurrency.clone(),
        quota: raw.quota.clone(),
        allocation: raw.allocation.clone(),
    };
    let written = Written { figures: &figures, place: item.place(), damaged: item.damaged };
    let limiter = limiter(context, &written, &format!("the limit `{name}`"));
    let mut condition =
        |raw: &Option<Located<_>>| raw.as_ref().map(|raw| names.condition(context, item.source, &raw.value));
    let mut when = condition(&raw.when).unwrap_or_default();
    let mut except = condition(&raw.except);
    form_conditions(context, item, &mut when, &mut except, facts, names.endpoints);
    let per = values.parts(context, item, &when, names.endpoints);
    let limiter = limiter?;
    check_earned(context, item, &limiter, &per);
    check_cost(context, &written, &limiter, when.condition.endpoints.as_ref(), names.endpoints);
    let candidate = trials::candidate(context, item, &limiter, when.condition.endpoints.as_ref(), names.endpoints);
    let doc_url = trials::doc_url(context, item);
    let enforce = trials::enforce(context, item, &name);
    let shared = store::limit(context, item, &limiter, sharing);
    let damaged = item.damaged || when.damaged || except.as_ref().is_some_and(|except| except.damaged);
    let limit = Limit {
        name: name.into(),
        stage: stage(raw.stage.as_ref()?.value, limiter.mechanism()),
        limiter,
        when: when.condition,
        except: except.map(|except: Compiled| except.condition),
        fallback: super::value(&raw.fallback, false),
        per: per.into(),
        enforce,
        candidate,
        shared,
    };
    let place = raw.name.as_ref().map_or_else(|| item.place(), |name| item.at(&name.span));
    Some(Checked { limit, doc_url, place, damaged: damaged || context.report.errors() > errors_before })
}

/// Gives both conditions their masks. Both are asked of the endpoints in `when`.
fn form_conditions(
    context: &mut Context<'_>,
    item: &Item<RawLimit>,
    when: &mut Compiled,
    except: &mut Option<Compiled>,
    facts: &mut Facts,
    endpoints: &EndpointTable,
) {
    let asks = |raw: &&Located<RawCondition>| raw.value.form.is_some() || raw.value.form_any.is_some();
    let [in_when, in_except] = [&item.raw.when, &item.raw.except].map(|raw| raw.as_ref().filter(asks));
    if in_when.is_none() && in_except.is_none() {
        return;
    }
    let asked: Vec<EndpointId> = match &when.condition.endpoints {
        Some(set) => set.iter().copied().collect(),
        None => endpoints.ids().collect(),
    };
    if let Some(raw) = in_when {
        when.condition.facts = facts.mask(context, item, raw, Side::When, &asked);
    }
    if let (Some(raw), Some(except)) = (in_except, except) {
        except.condition.facts = facts.mask(context, item, raw, Side::Except, &asked);
    }
}

fn name(context: &mut Context<'_>, item: &Item<RawLimit>) -> String {
    let Some(name) = &item.raw.name else {
        if !item.damaged {
            let finding = Finding::error(item.place(), "the limit lacks `name`");
            context.tell(finding.expected(r#"name = "payouts-rate""#));
        }
        return "?".to_owned();
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    if !(1..=64).contains(&name.value.len()) || !name.value.bytes().all(plain) {
        let finding = Finding::error(item.at(&name.span), "not a name for a limit");
        let finding = finding.expected("1 to 64 letters, digits, `-`, `_`, `.` and `:`");
        context.tell(finding.hint("it stands in headers and metrics"));
    }
    name.value.clone()
}

fn stage(stage: RawStage, mechanism: Mechanism) -> Stage {
    match (stage, mechanism) {
        (RawStage::Global, Mechanism::Rate | Mechanism::Quota | Mechanism::Allocation) => Stage::GlobalRate,
        (RawStage::Global, Mechanism::Concurrency) => Stage::GlobalConcurrency,
        (RawStage::Endpoint, Mechanism::Rate | Mechanism::Quota | Mechanism::Allocation) => Stage::EndpointRate,
        (RawStage::Endpoint, Mechanism::Concurrency) => Stage::EndpointConcurrency,
        (RawStage::Resource, _) => Stage::Resource,
    }
}

/// The mechanism and its figures. `whose` begins the sentence when there are none.
pub(in crate::config) fn limiter(context: &mut Context<'_>, written: &Written<'_>, whose: &str) -> Option<Limiter> {
    let RawFigures { rate, burst, concurrency, quota, allocation } = written.figures;
    let at = |span: &std::ops::Range<usize>| Place { span: span.clone(), ..written.place };
    let spans = [
        ("rate", rate.as_ref().map(|rate| &rate.span)),
        ("quota", quota.as_ref().map(|quota| &quota.span)),
        ("concurrency", concurrency.as_ref().map(|concurrency| &concurrency.span)),
        ("allocation", allocation.as_ref().map(|allocation| &allocation.span)),
    ];
    let given: Vec<_> = spans.into_iter().filter_map(|(key, span)| Some((key, span?))).collect();
    if let [(one, _), (other, span), ..] = given[..] {
        let finding = Finding::error(at(span), format!("{whose} has both `{one}` and `{other}`"));
        context.tell(finding.hint("make it two limits, each with a name of its own"));
        return None;
    }
    if let (None, Some(burst), [(key, _)]) = (rate, burst, &given[..]) {
        let finding = Finding::error(at(&burst.span), format!("`burst` belongs to a `rate`, not to a `{key}`"));
        context.tell(finding.hint("leave it out"));
    }
    if let Some(rate) = rate {
        return gcra(context, rate.value, &at(&rate.span), burst.as_ref().map(|b| (b.value, at(&b.span))));
    }
    if let Some(quota) = quota {
        return sliding_window(context, quota.value, at(&quota.span));
    }
    if let Some(allocation) = allocation {
        return earned(context, written, allocation);
    }
    if let Some(concurrency) = concurrency {
        return Some(Limiter::Concurrency(Concurrency { slots: concurrency.value }));
    }
    if !written.damaged {
        let finding = Finding::error(written.place.clone(), format!("{whose} lacks its figure"));
        context.tell(
            finding.expected(r#"one of: rate = "15/s", quota = "1000/h", concurrency = 30, allocation = { ... }"#),
        );
    }
    None
}

/// Windows that are told apart well by a clock and a slice of a 63rd.
const WINDOWS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(366 * 86_400);

fn sliding_window(context: &mut Context<'_>, quota: Rate, place: Place) -> Option<Limiter> {
    if !WINDOWS.contains(&quota.period) {
        let finding = Finding::error(place, "a window of this length is not kept").expected("1 second to 366 days");
        context.tell(finding.hint("for shorter ones use `rate`"));
        return None;
    }
    let Ok(limit) = u32::try_from(quota.count) else {
        context.tell(Finding::error(place, "the quota is too large").expected("at most 4294967295"));
        return None;
    };
    Some(Limiter::SlidingWindow(SlidingWindow::new(limit, quota.period)))
}

fn earned(context: &mut Context<'_>, written: &Written<'_>, allocation: &Located<RawAllocation>) -> Option<Limiter> {
    let at = |span: &std::ops::Range<usize>| Place { span: span.clone(), ..written.place };
    let raw = &allocation.value;
    let present = [("per_transaction", raw.per_transaction.is_some()), ("window", raw.window.is_some())];
    for (key, _) in present.into_iter().filter(|(_, present)| !present && !written.damaged) {
        let finding = Finding::error(at(&allocation.span), format!("`allocation` lacks `{key}`"));
        context.tell(finding.expected(r#"allocation = { per_transaction = 500, at_least = 10000, window = "30d" }"#));
    }
    let (per_transaction, window) = (raw.per_transaction.as_ref()?.value, raw.window.as_ref()?);
    if !WINDOWS.contains(&window.value.0) {
        let finding = Finding::error(at(&window.span), "a window of this length is not kept");
        context.tell(finding.expected("1 second to 366 days"));
        return None;
    }
    let at_least = super::value(&raw.at_least, 0);
    Some(Limiter::Allocation(Allocation { per_transaction, at_least, window: window.value.0 }))
}

/// Reports parts that a transaction lacks, as it is made on other endpoints than the requests it earns.
fn check_earned(context: &mut Context<'_>, item: &Item<RawLimit>, limiter: &Limiter, per: &[Part]) {
    let Some(Located { span, .. }) = item.raw.allocation.as_ref().filter(|_| matches!(limiter, Limiter::Allocation(_)))
    else {
        return;
    };
    let has = |part: &Part| matches!(part, Part::Account | Part::ConnectedAccount | Part::Key | Part::Ip);
    if !per.iter().all(has) {
        let span = item.raw.per.as_ref().map_or(span, |per| &per.span);
        let finding = Finding::error(item.at(span), "an allocation counted by what transactions do not have");
        context.tell(finding.expected("account, connected_account, key, ip"));
    }
}

fn gcra(context: &mut Context<'_>, rate: Rate, place: &Place, burst: Option<(u64, Place)>) -> Option<Limiter> {
    if let Some((0, place)) = &burst {
        let finding = Finding::error(place.clone(), "a burst of 0 admits nothing, ever");
        context.tell(finding.expected("1 or more").hint(r#"to refuse everything, say so: rate = "0/s""#));
        return None;
    }
    let (tokens, place) = burst.unwrap_or_else(|| (rate.one_second(), place.clone()));
    let interval_ns = rate.period.as_nanos().div_ceil(u128::from(rate.count.max(1)));
    if rate.count > 0 && interval_ns.saturating_mul(u128::from(tokens)) > u128::from(u64::MAX) {
        let finding = Finding::error(place, "the bucket would take more than 584 years to fill");
        context.tell(finding.hint("a smaller burst or a faster rate"));
        return None;
    }
    Some(Limiter::Gcra(Gcra::new(rate.count, rate.period, tokens)))
}

/// Reports a burst that the request of one of the endpoints could never take from.
pub(super) fn check_cost(
    context: &mut Context<'_>,
    written: &Written<'_>,
    limiter: &Limiter,
    only: Option<&std::collections::HashSet<EndpointId>>,
    endpoints: &EndpointTable,
) {
    let (most, what) = match limiter {
        Limiter::Gcra(bucket) if bucket.count() > 0 => (bucket.burst(), "burst"),
        Limiter::SlidingWindow(window) if window.limit() > 0 => (window.limit().into(), "quota"),
        Limiter::Allocation(earned) if earned.at_least > 0 => (earned.at_least.into(), "allocation"),
        // What admits nothing is meant to.
        Limiter::Gcra(_) | Limiter::SlidingWindow(_) | Limiter::Concurrency(_) | Limiter::Allocation(_) => return,
    };
    let too_dear = |id: &&EndpointId| {
        let cost = endpoints.get(**id).map_or(0, |endpoint| endpoint.cost);
        only.is_none_or(|set| set.contains(id)) && u64::from(cost) > most
    };
    let Some(endpoint) = endpoints.costly.iter().find(too_dear).and_then(|&id| endpoints.get(id)) else { return };
    let RawFigures { rate, burst, quota, .. } = written.figures;
    let span = burst.as_ref().map(|burst| &burst.span);
    let span = span.or(rate.as_ref().or(quota.as_ref()).map(|figure| &figure.span));
    let place = Place { span: span.unwrap_or(&written.place.span).clone(), ..written.place };
    let message = format!("requests to `{}` would never be admitted: they cost more than the {what}", endpoint.name);
    let finding = Finding::error(place, message).expected(format!("a {what} of {} or more", endpoint.cost));
    context.tell(finding.found(format!("a {what} of {most}")));
}
