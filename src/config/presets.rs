//! The built-in endpoints and limits: TOML of the user's own shape, embedded.

use super::document;
use super::error::{Finding, Report, nearest};
use super::raw::{Item, RawEndpoint, RawLimit};
use super::source::{Place, SourceId, Sources};
use super::values::OneOrMany;
use crate::endpoints::Template;

/// Each preset's name and text.
pub(super) const PRESETS: [(&str, &str); 2] = [
    ("stripe", include_str!("../../config/stripe.toml")),
    ("stripe-read-write", include_str!("../../config/stripe-read-write.toml")),
];

/// The operations of Stripe's API, the endpoints of both presets.
const OPERATIONS: &str = include_str!("../../config/stripe-operations.txt");

/// What the chosen presets bring, in layers from the bottom.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub(super) operations: Vec<Template>,
    pub(super) endpoints: Vec<Item<RawEndpoint>>,
    pub(super) limits: Vec<Item<RawLimit>>,
    /// A preset was asked for that is none: its endpoints and limits are missing.
    pub(super) damaged: bool,
}

/// Reads the chosen presets; unknown ones are reported.
pub(super) fn read(chosen: Option<&OneOrMany<String>>, sources: &mut Sources, report: &mut Report) -> Layers {
    let mut layers = Layers::default();
    let mut seen: Vec<&str> = Vec::new();
    for name in chosen.into_iter().flat_map(|chosen| &chosen.0) {
        let place = Place { source: SourceId::FILE, span: name.span.clone() };
        if seen.contains(&name.value.as_str()) {
            report.add(Finding::error(place, format!("the preset `{}` twice", name.value)));
            continue;
        }
        if let Some(first) = seen.first() {
            let finding = Finding::error(place, format!("`{}` and `{first}` describe the same API", name.value));
            report.add(finding.hint("choose one of the two"));
            continue;
        }
        let Some((known, text)) = PRESETS.iter().find(|(known, _)| *known == name.value) else {
            report.add(unknown(place, &name.value));
            layers.damaged = true;
            continue;
        };
        seen.push(known);
        let source = sources.add(&format!("preset {known}"), text);
        let raw = document::read(text, source, report);
        layers.operations = operations(OPERATIONS);
        layers.endpoints.extend(raw.endpoints.unwrap_or_default());
        layers.limits.extend(raw.limits.unwrap_or_default());
    }
    layers
}

fn unknown(place: Place, name: &str) -> Finding {
    let names = PRESETS.map(|(name, _)| name);
    let finding = Finding::error(place, format!("there is no preset `{name}`")).expected(names.join(", "));
    match nearest(name, names.into_iter()) {
        Some(hint) => finding.hint(hint),
        None => finding,
    }
}

/// The operations of Stripe's API.
#[must_use]
pub fn stripe_operations() -> Vec<Template> {
    operations(OPERATIONS)
}

/// Lines of methods and a path template; what follows a `#` is a remark.
fn operations(text: &str) -> Vec<Template> {
    let line = |line: &str| -> Vec<Template> {
        let line = line.split('#').next().unwrap_or_default();
        let Some((methods, path)) = line.trim().rsplit_once(char::is_whitespace) else { return Vec::new() };
        // A test holds every line to be a template.
        methods.split_whitespace().filter_map(|method| format!("{method} {path}").parse().ok()).collect()
    };
    text.lines().flat_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_operations_is_read() {
        let words =
            |line: &str| line.split('#').next().unwrap_or_default().split_whitespace().count().saturating_sub(1);
        let wanted: usize = OPERATIONS.lines().map(words).sum();
        let read = operations(OPERATIONS);
        assert_eq!(read.len(), wanted);
        assert_eq!(read.len(), 648);
        assert!(read.iter().any(|template| template.to_string() == "POST /v1/payouts"));
    }

    #[test]
    fn presets_hold_endpoints_and_limits_only() {
        for (name, text) in PRESETS {
            let table: toml::Table = text.parse().unwrap();
            assert_eq!(table.keys().collect::<Vec<_>>(), ["endpoints", "limits"], "{name}");
        }
    }
}
