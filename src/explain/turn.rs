//! Whose turn a request waits for, where its endpoint has an object lock.

use crate::config::Config;
use crate::engine::EndpointId;
use serde::Serialize;
use std::collections::BTreeMap;

/// The object that a request takes turns at, among those of its account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// What names it; `null` where the request leaves it out, as all that do share a turn.
    pub object: BTreeMap<String, Option<Box<str>>>,
    /// Milliseconds that a request may wait for its turn.
    pub wait_ms: u64,
    /// The same in words.
    pub words: String,
}

impl Turn {
    /// The turn of a request for this endpoint that says `values`, by name.
    pub(super) fn of(config: &Config, endpoint: EndpointId, values: &BTreeMap<Box<str>, Box<str>>) -> Option<Turn> {
        let lock = config.endpoints.get(endpoint.0 as usize)?.lock.as_ref()?;
        let known = &config.policy.endpoint(endpoint).extractors;
        let names = lock.values.iter().filter_map(|&slot| config.extractors.get(known.get(slot)?.0 as usize));
        let object: BTreeMap<String, Option<Box<str>>> =
            names.map(ToString::to_string).map(|name| (name.clone(), values.get(&*name).cloned())).collect();
        let named: Vec<String> = object
            .iter()
            .map(|(name, value)| value.as_ref().map_or(format!("no {name}"), |value| format!("{name} {value}")))
            .collect();
        let wait = humantime::format_duration(lock.wait);
        let words = format!("one request at a time with {}; waits up to {wait} for its turn", named.join(", "));
        Some(Turn { object, wait_ms: u64::try_from(lock.wait.as_millis()).unwrap_or(u64::MAX), words })
    }
}
