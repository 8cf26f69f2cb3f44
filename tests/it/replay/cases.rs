//! Every case of the engine, written as a trace and replayed.

use super::{Trace, config, moment, replay, verdicts};
use crate::support::cases::{Case, Entry, Expected, cases, classified};
use serde_json::json;
use std::collections::BTreeMap;
use tollgate::body::Body;
use tollgate::classification;
use tollgate::config::Config;
use tollgate::engine::Nanos;
use tollgate::replay::SEED;

#[test]
fn a_replay_answers_every_case_as_the_engine_does() {
    let mut replayed = 0;
    for (file, case) in cases() {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        agrees(&name, &case);
        replayed += 1;
    }
    assert!(replayed >= 22, "the cases are there");
}

fn agrees(name: &str, case: &Case) {
    let policies = case.timeline.iter().filter_map(|entry| entry.reload.as_deref());
    let configs: Vec<Config> = std::iter::once(&*case.policy).chain(policies).map(config).collect();
    let (traces, expected) = written(case, &configs);
    let parts: Vec<(&Trace, &Config)> = traces.iter().zip(&configs).collect();
    let got = verdicts(&parts);
    assert_eq!(got.len(), expected.len(), "{name}");
    for (number, (got, (place, expected))) in got.iter().zip(&expected).enumerate() {
        assert_eq!(got, expected, "{name}, {place}, request {number}");
    }
    // A report is of one configuration from end to end.
    let ([trace], [config]) = (&*traces, &*configs) else { return };
    let report = replay(trace, config).report;
    for limit in &report.limits {
        let named = |names: fn(&Entry) -> &[String]| -> u64 {
            let entries = case.timeline.iter().filter(|entry| names(entry).iter().any(|name| **name == *limit.name));
            entries.map(|entry| u64::from(entry.times.unwrap_or(1))).sum()
        };
        let tried = limit.candidate.as_ref().map_or(0, |candidate| candidate.would_refuse);
        let expected = (named(|entry| &entry.shadow), named(|entry| &entry.candidate));
        assert_eq!((limit.would_refuse, tried), expected, "{name}: {}", limit.name);
    }
    let refused = expected.iter().filter(|(_, limit)| limit.is_some()).count() as u64;
    assert_eq!((report.refused, report.admitted), (refused, expected.len() as u64 - refused), "{name}");
}

/// What a request should get: where it stands in the case, and the limit that should refuse it.
type Wanted = (String, Option<String>);

/// The case as traces, one for each configuration that is in force. Where requests are held, each entry is a nanosecond later than the one before, so that what happens at
/// one moment has an order.
fn written(case: &Case, configs: &[Config]) -> (Vec<Trace>, Vec<Wanted>) {
    let holds = case.timeline.iter().any(|entry| entry.hold.is_some());
    let at = |number: usize| Nanos(case.timeline[number].at().0 + if holds { number as u64 } else { 0 });
    let (mut texts, mut expected) = (vec![String::new()], Vec::new());
    for (number, entry) in case.timeline.iter().enumerate() {
        if entry.reload.is_some() {
            texts.push(String::new());
        }
        if entry.request.is_none() {
            continue;
        }
        let (config, text) = (&configs[texts.len() - 1], texts.last_mut().unwrap());
        let named = |other: &Entry| other.end == entry.hold || other.cancel == entry.hold;
        let end = case.timeline.iter().position(|other| entry.hold.is_some() && named(other));
        let cancelled = end.is_some_and(|end| case.timeline[end].cancel.is_some());
        let took = match (&entry.hold, end) {
            (None, _) => 0,
            (Some(_), Some(end)) => at(end).since(at(number)),
            (Some(_), None) => 6 * 24 * 3_600 * 1_000_000_000,
        };
        let limit = match entry.expect.as_ref().unwrap() {
            Expected::Word(_) => None,
            Expected::Reject(refused) => Some(refused.limit.clone()),
        };
        for _ in 0..entry.times.unwrap_or(1) {
            text.push_str(&line(entry, config, at(number), took, cancelled).to_string());
            text.push('\n');
            expected.push((format!("entry {}", number + 1), limit.clone()));
        }
    }
    (texts.into_iter().map(Trace::new).collect(), expected)
}

fn line(entry: &Entry, config: &Config, at: Nanos, took_ns: u64, cancelled: bool) -> serde_json::Value {
    let (method, target) = entry.request.as_deref().unwrap().split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut partition: BTreeMap<String, String> =
        entry.headers.iter().map(|(name, value)| (format!("header.{name}"), value.clone())).collect();
    let mut facts: Vec<String> = Vec::new();
    let endpoint = classified(entry, config, &SEED).endpoint;
    if let Some(inspection) = config.inspection(endpoint) {
        let body = if entry.form.is_empty() { Body::Empty } else { Body::Form(entry.form.as_bytes()) };
        let findings = inspection.read(body, query);
        let named = classification::named_findings(config, endpoint, &findings, usize::MAX);
        partition.extend(named.map(|(name, value)| (name.into_string(), value.into_string())));
        facts.extend(classification::named_facts(inspection, &findings).map(String::from));
    }
    let mut line = json!({
        "ts": moment(at), "duration_ms": took_ns as f64 / 1e6, "client": entry.ip.as_deref().unwrap_or("192.0.2.1"),
        "account": entry.account(), "key_id": entry.key.as_deref().unwrap_or("key_1"), "mode": entry.mode(),
        "endpoint": "any", "method": method, "path": path, "status": 200, "partition": partition, "facts": facts,
    });
    if let Some(connected) = &entry.connected {
        line["connected_account"] = json!(connected);
    }
    if cancelled {
        line["status"] = json!(499);
        line["forwarded"] = json!(false);
    }
    line
}
