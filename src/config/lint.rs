//! What works, but is surely not meant: limits that can never apply, and limits that never get to refuse.

use super::compile::{Checked, Context, EndpointTable, Limits};
use super::error::Finding;
use crate::engine::{Condition, EndpointId, Enforce, Limit, Limiter, Profile};
use std::collections::{HashMap, HashSet};

/// Looks at all limits. Linear in their number: limits are compared with the strictest of their kind only.
pub(super) fn limits(context: &mut Context<'_>, limits: &Limits, endpoints: &EndpointTable, profiles: &[Profile]) {
    for checked in limits.checked.iter().filter(|checked| !checked.damaged) {
        if let Some(why) = never_applies(&checked.limit, endpoints) {
            let finding =
                Finding::warning(checked.place.clone(), format!("the limit `{}` never applies", checked.limit.name));
            context.report.add(finding.hint(why));
        }
    }
    shadowed(context, limits, profiles);
}

/// Why no request can meet the limit.
fn never_applies(limit: &Limit, endpoints: &EndpointTable) -> Option<&'static str> {
    if limit.except.as_ref().is_some_and(|except| implies(&limit.when, except)) {
        return Some("`except` holds whenever `when` does");
    }
    let (set, wanted) = (limit.when.endpoints.as_ref()?, limit.when.access?);
    let access = |id: &EndpointId| endpoints.get(*id).map(|endpoint| endpoint.access);
    let none = set.iter().all(|id| access(id) != Some(wanted));
    none.then_some("none of its endpoints has the `access` that it asks for")
}

/// Whether every request that fulfills `when` fulfills `except`.
fn implies(when: &Condition, except: &Condition) -> bool {
    fn same<T: PartialEq>(when: Option<T>, except: Option<T>) -> bool {
        except.is_none() || when == except
    }
    fn within<T: Eq + std::hash::Hash>(when: &Option<HashSet<T>>, except: &Option<HashSet<T>>) -> bool {
        except.as_ref().is_none_or(|except| when.as_ref().is_some_and(|when| when.is_subset(except)))
    }
    // What a form must have in `when` and in `except` is judged apart: see `compile::facts`.
    except.facts == 0
        && same(when.mode, except.mode)
        && same(when.access, except.access)
        && same(when.connected, except.connected)
        && within(&when.endpoints, &except.endpoints)
        && within(&when.accounts, &except.accounts)
        && within(&when.routes, &except.routes)
}

/// Warns of limits that another one of the same stage, requests and partitions makes idle: it refuses first, always.
fn shadowed(context: &mut Context<'_>, limits: &Limits, profiles: &[Profile]) {
    let overridden: HashSet<usize> =
        profiles.iter().flat_map(|profile| profile.limiters.keys()).map(|id| id.index()).collect();
    let mut kinds: HashMap<String, Vec<&Checked>> = HashMap::new();
    for (nth, checked) in limits.checked.iter().enumerate() {
        if checked.limit.enforce == Enforce::Always && !checked.damaged && !overridden.contains(&nth) {
            kinds.entry(kind(&checked.limit)).or_default().push(checked);
        }
    }
    let mut idle: Vec<(&Checked, &Checked)> = Vec::new();
    for kind in kinds.into_values().filter(|kind| kind.len() > 1) {
        // Only the slowest one is compared with: one pass, and two limits that trade rate for burst both stay.
        let slowest = kind
            .iter()
            .copied()
            .min_by(|a, b| figures(a).partial_cmp(&figures(b)).unwrap_or(std::cmp::Ordering::Equal));
        let Some(strictest) = slowest else { continue };
        let stricter = kind.iter().copied().filter(|checked| {
            let (this, that) = (figures(checked), figures(strictest));
            !std::ptr::eq(*checked, strictest) && that.0 <= this.0 && that.1 <= this.1
        });
        idle.extend(stricter.map(|checked| (checked, strictest)));
    }
    idle.sort_by_key(|(checked, _)| checked.place.order());
    for (checked, strictest) in idle {
        let message =
            format!("the limit `{}` never refuses: `{}` is as strict", checked.limit.name, strictest.limit.name);
        let finding = Finding::warning(checked.place.clone(), message);
        context.report.add(finding.hint("both count the same requests in the same way; leave the wider one out"));
    }
}

/// Rate and burst, or slots: a limit with both no greater is as strict.
fn figures(checked: &Checked) -> (f64, u64) {
    match &checked.limit.limiter {
        Limiter::Gcra(bucket) => (bucket.count() as f64 / bucket.period().as_secs_f64(), bucket.burst()),
        Limiter::SlidingWindow(window) => {
            (f64::from(window.limit()) / window.window().as_secs_f64(), window.limit().into())
        }
        Limiter::Concurrency(slots) => (f64::from(slots.slots), 0),
        Limiter::Allocation(earned) => {
            (f64::from(earned.per_transaction) / earned.window.as_secs_f64(), earned.at_least.into())
        }
    }
}

/// What two limits share that meet the same requests in the same partitions.
fn kind(limit: &Limit) -> String {
    fn sorted<T: Ord + Copy>(set: &Option<HashSet<T>>) -> Option<Vec<T>> {
        set.as_ref().map(|set| {
            let mut items: Vec<T> = set.iter().copied().collect();
            items.sort_unstable();
            items
        })
    }
    let condition = |condition: &Condition| {
        let sets = (sorted(&condition.endpoints), sorted(&condition.accounts), sorted(&condition.routes));
        format!("{:?} {:?} {:?} {:x} {sets:?}", condition.mode, condition.access, condition.connected, condition.facts)
    };
    let except = limit.except.as_ref().map(condition);
    let mechanism = limit.limiter.mechanism();
    format!("{:?} {mechanism:?} {} {:?} {} {except:?}", limit.stage, limit.fallback, limit.per, condition(&limit.when))
}
