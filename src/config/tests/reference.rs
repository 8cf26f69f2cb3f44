//! The files in `config/`: they are valid, complete, and tell the truth about defaults.

use super::*;
use std::collections::BTreeSet;

const REFERENCE: &str = include_str!("../../../config/tollgate.toml");
const MINIMAL: &str = include_str!("../../../config/minimal.toml");

#[test]
fn the_shipped_files_are_clean() {
    for text in [REFERENCE, MINIMAL, &uncommented(REFERENCE)] {
        let warnings = good(text).warnings;
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    let older = MINIMAL.replace("stripe", "stripe-read-write");
    assert!(good(&older).warnings.is_empty());
}

#[test]
fn the_reference_gives_the_defaults() {
    let (reference, minimal) = (good(REFERENCE), good(MINIMAL));
    assert_eq!(reference.server, minimal.server);
    assert_eq!(reference.admin, minimal.admin);
    assert_eq!(reference.addresses, minimal.addresses);
    assert_eq!(reference.auth, minimal.auth);
    assert_eq!(reference.connect, minimal.connect);
    assert_eq!(reference.responses, minimal.responses);
    assert_eq!(reference.log, minimal.log);
    assert_eq!(reference.state, minimal.state);
    assert_eq!(reference.store, minimal.store);
    assert_eq!(reference.upstreams, minimal.upstreams);
    assert_eq!(reference.routes, minimal.routes);
    let bare = good(BASE);
    assert_eq!((bare.server, bare.admin, bare.responses), (minimal.server, minimal.admin, minimal.responses));
}

#[test]
fn the_reference_has_every_key() {
    let table: toml::Table = uncommented(REFERENCE).parse().unwrap();
    let mut present = BTreeSet::new();
    keys_of_value(&toml::Value::Table(table), "", &mut present);
    let schema = json_schema();
    let mut wanted = BTreeSet::new();
    keys_of_schema(&schema, &schema, "", &mut wanted, 0);
    let missing: Vec<_> = wanted.difference(&present).collect();
    assert!(wanted.len() > 60, "{wanted:?}");
    // A condition has the same keys in both places, and one example shows some here, some there.
    let elsewhere = |key: &str| {
        let twin = |from: &str, to: &str| key.starts_with(from) && present.contains(&key.replace(from, to));
        twin("limits.when.", "limits.except.")
            || twin("limits.except.", "limits.when.")
            || twin("limits.candidate.", "tiers.*.limits.*.")
            || twin("accounts.*.limits.*.", "tiers.*.limits.*.")
            || twin("upstreams.*.credentials.", "routes.credentials.")
    };
    let missing: Vec<_> = missing.into_iter().filter(|key| !elsewhere(key)).collect();
    assert!(missing.is_empty(), "not in config/tollgate.toml: {missing:?}");
}

/// The text with its commented-out keys in force.
fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with([' ', ':']) => key.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Paths of keys, with `*` for names of the user's choosing and nothing for places in a list.
fn keys_of_value(value: &toml::Value, path: &str, keys: &mut BTreeSet<String>) {
    match value {
        toml::Value::Array(items) => items.iter().for_each(|item| keys_of_value(item, path, keys)),
        toml::Value::Table(table) => {
            for (key, value) in table {
                let key = if has_own_names(path) { "*" } else { key };
                let path = format!("{path}{}{key}", if path.is_empty() { "" } else { "." });
                keys.insert(path.clone());
                keys_of_value(value, &path, keys);
            }
        }
        _ => {}
    }
}

fn has_own_names(path: &str) -> bool {
    ["upstreams", "tiers", "accounts", "tiers.*.limits", "accounts.*.limits"].contains(&path)
        || path.ends_with(".form")
        || path.ends_with(".form_any")
        || path.ends_with("_headers.set")
        || path.ends_with("_headers.add")
}

fn keys_of_schema(
    schema: &serde_json::Value,
    root: &serde_json::Value,
    path: &str,
    keys: &mut BTreeSet<String>,
    depth: u8,
) {
    assert!(depth < 20, "the schema is no tree at {path}");
    let join = |key: &str| format!("{path}{}{key}", if path.is_empty() { "" } else { "." });
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).unwrap();
        keys_of_schema(target, root, path, keys, depth + 1);
    }
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        keys.insert(join(key));
        keys_of_schema(property, root, &join(key), keys, depth + 1);
    }
    if schema["additionalProperties"].is_object() {
        keys.insert(join("*"));
        keys_of_schema(&schema["additionalProperties"], root, &join("*"), keys, depth + 1);
    }
    keys_of_schema_in(schema, root, path, keys, depth);
}

fn keys_of_schema_in(
    schema: &serde_json::Value,
    root: &serde_json::Value,
    path: &str,
    keys: &mut BTreeSet<String>,
    depth: u8,
) {
    if schema["items"].is_object() {
        keys_of_schema(&schema["items"], root, path, keys, depth + 1);
    }
    for one in schema["anyOf"].as_array().into_iter().flatten() {
        keys_of_schema(one, root, path, keys, depth + 1);
    }
}
