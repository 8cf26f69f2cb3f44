//! Every case of the engine, written as a trace and replayed.

use super::{Trace, config, moment, replay, verdicts};
use crate::support::cases::{Case, Entry, Expected, cases};
use serde_json::json;
use std::collections::BTreeMap;
use tollgate::engine::Nanos;

/// A replay has one configuration from end to end, so a case that is about reloads is none of its own.
const ELSEWHERE: [&str; 1] = ["reload"];

#[test]
fn a_replay_answers_every_case_as_the_engine_does() {
    let mut replayed = 0;
    for (file, case) in cases() {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let reloads = case.timeline.iter().any(|entry| entry.reload.is_some());
        assert_eq!(reloads, ELSEWHERE.contains(&&*name), "{name}: leave out what reloads, and nothing else");
        if !reloads {
            agrees(&name, &case);
            replayed += 1;
        }
    }
    assert!(replayed >= 14, "the cases are there");
}

fn agrees(name: &str, case: &Case) {
    let (trace, expected) = written(case);
    let config = config(&case.policy);
    let got = verdicts(&trace, &config);
    assert_eq!(got.len(), expected.len(), "{name}");
    for (number, (got, (place, expected))) in got.iter().zip(&expected).enumerate() {
        assert_eq!(got, expected, "{name}, {place}, request {number}");
    }
    let mut shadows: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in &case.timeline {
        for limit in &entry.shadow {
            *shadows.entry(limit).or_default() += u64::from(entry.times.unwrap_or(1));
        }
    }
    let report = replay(&trace, &config).report;
    for limit in &report.limits {
        assert_eq!(limit.would_refuse, shadows.get(&*limit.name).copied().unwrap_or(0), "{name}: {}", limit.name);
    }
    let refused = expected.iter().filter(|(_, limit)| limit.is_some()).count() as u64;
    assert_eq!((report.refused, report.admitted), (refused, expected.len() as u64 - refused), "{name}");
}

/// What a request should get: where it stands in the case, and the limit that should refuse it.
type Wanted = (String, Option<String>);

/// The case as a trace. Where requests are held, each entry is a nanosecond later than the one before, so that what happens at
/// one moment has an order.
fn written(case: &Case) -> (Trace, Vec<Wanted>) {
    let holds = case.timeline.iter().any(|entry| entry.hold.is_some());
    let at = |number: usize| Nanos(case.timeline[number].at().0 + if holds { number as u64 } else { 0 });
    let (mut text, mut expected) = (String::new(), Vec::new());
    for (number, entry) in case.timeline.iter().enumerate().filter(|(_, entry)| entry.request.is_some()) {
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
            text.push_str(&line(entry, at(number), took, cancelled).to_string());
            text.push('\n');
            expected.push((format!("entry {}", number + 1), limit.clone()));
        }
    }
    (Trace::new(text), expected)
}

fn line(entry: &Entry, at: Nanos, took_ns: u64, cancelled: bool) -> serde_json::Value {
    let (method, path) = entry.request.as_deref().unwrap().split_once(' ').unwrap();
    let partition: BTreeMap<String, &String> =
        entry.headers.iter().map(|(name, value)| (format!("header.{name}"), value)).collect();
    let mut line = json!({
        "ts": moment(at), "duration_ms": took_ns as f64 / 1e6, "client": entry.ip.as_deref().unwrap_or("192.0.2.1"),
        "account": entry.account(), "key_id": entry.key.as_deref().unwrap_or("key_1"), "mode": entry.mode(),
        "endpoint": "any", "method": method, "path": path, "status": 200, "partition": partition,
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
