//! `lock`: by which of its values an endpoint's requests take turns.
//!
//! Compiled after the limits, which say first what values an endpoint's requests yield: a lock uses the same ones.

use super::super::error::Finding;
use super::super::model::ObjectLock;
use super::super::raw::{Item, RawLock};
use super::partitions::Values;
use super::{Context, EndpointTable};
use crate::engine::class::MAX_VALUES;
use crate::engine::{EndpointId, Seed};
use std::collections::HashMap;
use std::time::Duration;

const DEFAULT_WAIT: Duration = Duration::from_secs(5);
/// A client gives up long before.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
const LONGEST_NAME_BYTES: usize = 200;

pub(super) fn compile(context: &mut Context<'_>, endpoints: &mut EndpointTable, values: &mut Values) {
    let mut arities: HashMap<String, usize> = HashMap::new();
    for (id, item) in std::mem::take(&mut endpoints.locks) {
        let Some((name, lock)) = lock(context, &item, id, endpoints, values) else { continue };
        let arity = *arities.entry(name.clone()).or_insert(lock.values.len());
        if arity != lock.values.len() {
            let message = format!("another lock `{name}` names its objects by {arity} values, this one does not");
            context.tell(Finding::error(item.place(), message).hint("the two would never exclude each other"));
        }
        if let Some(endpoint) = endpoints.endpoints.get_mut(id.0 as usize) {
            endpoint.lock = Some(lock);
        }
    }
}

/// One endpoint's lock and its name.
fn lock(
    context: &mut Context<'_>,
    item: &Item<RawLock>,
    endpoint: EndpointId,
    endpoints: &EndpointTable,
    values: &mut Values,
) -> Option<(String, ObjectLock)> {
    let wait = context.duration(item, item.raw.wait.as_ref(), DEFAULT_WAIT, Duration::ZERO..=LONGEST_WAIT);
    let Some(per) = &item.raw.per else {
        if !item.damaged {
            let finding = Finding::error(item.place(), "the lock lacks `per`");
            context.tell(finding.expected(r#"lock = { per = ["path.intent"] }"#));
        }
        return None;
    };
    if !(1..=MAX_VALUES).contains(&per.value.len()) {
        let finding = Finding::error(item.at(&per.span), format!("a lock counts by 1 to {MAX_VALUES} values"));
        context.tell(finding.found(per.value.len().to_string()));
        return None;
    }
    let mut slots: Vec<usize> = Vec::new();
    for written in &per.value {
        let slot = values.yielded(context, item, written, endpoint, endpoints)?;
        if slots.contains(&slot) {
            context.tell(Finding::error(item.at(&written.span), format!("`{}` twice", written.value)));
            return None;
        }
        slots.push(slot);
    }
    let joined = || per.value.iter().map(|written| written.value.as_str()).collect::<Vec<_>>().join(",");
    let name = item.raw.name.as_ref().map_or_else(joined, |name| name.value.clone());
    if let Some(given) = item.raw.name.as_ref().filter(|given| !(1..=LONGEST_NAME_BYTES).contains(&given.value.len())) {
        let finding = Finding::error(item.at(&given.span), "not a name for a lock");
        context.tell(finding.expected(format!("1 to {LONGEST_NAME_BYTES} bytes")));
    }
    let lock = ObjectLock { id: id_of(context.seed, &name), values: slots.into(), wait };
    Some((name, lock))
}

/// Not among [`crate::engine::IdKind`]: it meets other ids in no key.
fn id_of(seed: &Seed, name: &str) -> crate::engine::Id {
    seed.hash(format!("lock {name}").as_bytes())
}
