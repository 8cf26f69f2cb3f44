//! Dashboards, alert rules and documentation against the metrics that are declared.

use super::expression::names;
use super::{files_below, read};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tollgate::metrics::Metrics;

/// What Prometheus itself adds to every series.
const ADDED: [&str; 3] = ["job", "instance", "le"];

/// The labels of every metric, by each name that its series have.
fn declared() -> BTreeMap<String, Vec<String>> {
    let metrics = Metrics::new().unwrap();
    let mut declared = BTreeMap::from([("up".to_owned(), Vec::new())]);
    for metric in metrics.declared() {
        let is_histogram = metric.name.ends_with("_seconds")
            && !metric.name.contains("timestamp")
            && metric.name.starts_with("tollgate_");
        let suffixes: &[&str] = if is_histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        for suffix in suffixes {
            declared.insert(format!("{}{suffix}", metric.name), metric.labels.clone());
        }
    }
    declared
}

/// Every literal of the sources: what a label's value can be, and more.
fn literals() -> BTreeSet<String> {
    let files = files_below("src").into_iter().filter(|name| name.ends_with(".rs"));
    files.flat_map(|name| read(&name).split('"').map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// What is wrong with an expression.
fn mistakes(expression: &str, declared: &BTreeMap<String, Vec<String>>, literals: &BTreeSet<String>) -> Vec<String> {
    let names = names(expression);
    let mut known: BTreeSet<&str> = ADDED.into();
    let mut found = Vec::new();
    if names.selected.is_empty() {
        found.push("names no metric".to_owned());
    }
    for (metric, labels) in &names.selected {
        let Some(own) = declared.get(metric) else {
            found.push(format!("there is no metric {metric}"));
            continue;
        };
        known.extend(own.iter().map(String::as_str));
        for (label, value) in labels {
            if !own.contains(label) && !ADDED.contains(&label.as_str()) {
                found.push(format!("{metric} has no label {label}"));
            }
            if let Some(value) = value
                && label != "job"
                && !literals.contains(value)
            {
                found.push(format!("no {label} of {metric} is {value:?}"));
            }
        }
    }
    found.extend(
        names.grouped.iter().filter(|label| !known.contains(label.as_str())).map(|label| format!("no label {label}")),
    );
    found
}

fn assert_sound(place: &str, expressions: &[String]) {
    let (declared, literals) = (declared(), literals());
    let found: Vec<String> = expressions
        .iter()
        .flat_map(|expression| {
            mistakes(expression, &declared, &literals)
                .into_iter()
                .map(move |mistake| format!("{mistake}: {expression}"))
        })
        .collect();
    assert!(found.is_empty(), "{place}:\n{}", found.join("\n"));
}

/// The values of every key of this name, however deep.
fn values_of(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| values_of(item, key, found)),
        Value::Object(object) => {
            found.extend(object.get(key).and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| values_of(value, key, found));
        }
        _ => {}
    }
}

#[test]
fn dashboards_show_what_there_is() {
    let dashboards: Vec<String> = files_below("examples").into_iter().filter(|name| name.ends_with(".json")).collect();
    assert_eq!(dashboards, ["examples/grafana/tollgate.json"]);
    for name in dashboards {
        let dashboard: Value = serde_json::from_str(&read(&name)).unwrap();
        let mut expressions = Vec::new();
        values_of(&dashboard, "expr", &mut expressions);
        assert!(expressions.len() > 40, "{} expressions", expressions.len());
        assert_sound(&name, &expressions);
        let mut ids: Vec<i64> =
            dashboard["panels"].as_array().unwrap().iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{name}: two panels have one id");
    }
}

/// The expressions of the rules: what follows `expr:`, on its line or indented below it.
fn rules(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut depth = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some(expression) = line.trim_start().strip_prefix("expr:") {
            found.push(expression.trim().trim_start_matches('|').to_owned());
            depth = Some(indent);
        } else if depth.is_some_and(|depth| indent > depth) {
            let last = found.last_mut().unwrap();
            last.push('\n');
            last.push_str(line);
        } else {
            depth = None;
        }
    }
    found
}

#[test]
fn alerts_ask_for_what_there_is() {
    let text = read("examples/prometheus/alerts.yml");
    let expressions = rules(&text);
    assert_eq!(expressions.len(), text.matches("- alert:").count());
    assert!(expressions.len() >= 15);
    assert_sound("examples/prometheus/alerts.yml", &expressions);
    let tests = read("examples/prometheus/alerts.test.yml");
    let series: Vec<String> =
        tests.lines().filter_map(|line| line.trim().strip_prefix("- series: ")).map(str::to_owned).collect();
    assert!(series.len() > 30);
    let (declared, literals) = (declared(), literals());
    for one in series {
        // Names of the operator's choosing are free; the metric and its labels are not.
        let wrong: Vec<String> =
            mistakes(&one, &declared, &literals).into_iter().filter(|mistake| !mistake.starts_with("no ")).collect();
        assert!(wrong.is_empty(), "{one}: {wrong:?}");
    }
}

#[test]
fn every_alert_has_a_test() {
    let (rules, tests) = (read("examples/prometheus/alerts.yml"), read("examples/prometheus/alerts.test.yml"));
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        let name = format!("alertname: {alert}\n");
        let mut checks = tests.split(&name).skip(1);
        assert!(
            checks.any(|check| check.split("alertname:").next().unwrap().contains("exp_labels")),
            "{alert} is never seen to fire"
        );
    }
}

#[test]
fn every_metric_is_described_and_no_other() {
    let page = read("docs/reference.md");
    let metrics = Metrics::new().unwrap();
    let names: BTreeSet<&str> = metrics.declared().iter().map(|metric| metric.name.as_str()).collect();
    assert!(names.len() > 40);
    let missing: Vec<&&str> = names.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/reference.md says nothing of {missing:?}");
    for metric in metrics.declared() {
        let line = page.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{}`", metric.name)));
        let line = line.unwrap_or_else(|| panic!("{} has no line in the table of docs/reference.md", metric.name));
        for label in &metric.labels {
            assert!(line.contains(&format!("`{label}`")), "docs/reference.md: {} has a label {label}", metric.name);
        }
    }
    for page in ["README.md", "docs/reference.md", "docs/operations.md"] {
        let text = read(page);
        let code = text
            .split('`')
            .skip(1)
            .step_by(2)
            .flat_map(|code| code.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_'));
        let declared = declared();
        for word in code.filter(|word| word.starts_with("tollgate_") && !word.ends_with('_')) {
            assert!(names.contains(word) || declared.contains_key(word), "{page}: there is no metric {word}");
        }
    }
}

#[test]
fn the_checks_find_what_they_look_for() {
    let (declared, literals) = (declared(), literals());
    let wrong = |expression: &str| mistakes(expression, &declared, &literals);
    assert_eq!(wrong("sum by (limit) (rate(tollgate_rejections_total[5m]))"), [""; 0]);
    assert_eq!(wrong("tollgate_nothing_total > 1"), ["there is no metric tollgate_nothing_total"]);
    assert_eq!(wrong("tollgate_connections{limit=\"a\"}"), ["tollgate_connections has no label limit"]);
    assert_eq!(wrong("tollgate_decisions_total{verdict=\"refuse_it\"}").len(), 1);
    assert_eq!(wrong("sum by (account) (tollgate_connections)"), ["no label account"]);
    assert_eq!(wrong("1 + 1"), ["names no metric"]);
    assert_eq!(rules("  expr: a\n  for: 1m\n  expr: |\n    b\n      c\n  x: y\n"), ["a", "\n    b\n      c"]);
}
