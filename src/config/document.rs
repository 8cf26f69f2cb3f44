//! From TOML to the raw structs, past every mistake: not only the first is reported.
//!
//! The parser recovers from bad syntax by itself. serde does not recover: it stops at the first unknown key or unfit value. So
//! each table is read by itself; when it fails, the key or value at fault is noted, taken out of the table, and the rest read
//! again, until nothing is wrong with what is left. Each round takes something out, so it ends.

use super::error::{Finding, Report, nearest, nearest_name};
use super::raw::{Damage, Item, Named, RawConfig};
use super::source::{Place, SourceId};
use super::values::{Located, SEPARATOR};
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// The top level's keys.
const SECTIONS: [&str; 17] = [
    "presets",
    "server",
    "admin",
    "addresses",
    "auth",
    "connect",
    "responses",
    "log",
    "state",
    "store",
    "replay",
    "upstreams",
    "routes",
    "endpoints",
    "limits",
    "tiers",
    "accounts",
];

/// Reads one text. Mistakes go into `report`; what has none is in the result.
pub(super) fn read(text: &str, source: SourceId, report: &mut Report) -> RawConfig {
    let (root, syntax) = DeTable::parse_recoverable(text);
    let damage = Damage { all: !syntax.is_empty(), sections: Vec::new() };
    let mut config = RawConfig { damage, ..RawConfig::default() };
    let mut uncertain = Vec::new();
    for error in syntax {
        let span = error.span().unwrap_or_default();
        uncertain.extend(lost_table(text, span.start));
        report.add_syntax(explain_syntax(Place { source, span }, error.message()));
    }
    let mut reader = Reader { source, report, uncertain };
    let root = root.into_inner();
    let present: Vec<&'static str> = SECTIONS.into_iter().filter(|section| root.contains_key(*section)).collect();
    for (key, value) in root {
        if let Some(section) = reader.section_meant(&key, &present) {
            reader.section(&mut config, section, value);
        }
    }
    config
}

struct Reader<'r> {
    source: SourceId,
    report: &'r mut Report,
    /// Where keys may belong to a table whose header could not be read.
    uncertain: Vec<Range<usize>>,
}

/// What stands under a header that has a mistake at `fault`: up to the next header.
fn lost_table(text: &str, fault: usize) -> Option<Range<usize>> {
    let start = text.get(..fault)?.rfind('\n').map_or(0, |newline| newline + 1);
    let header = text.get(start..)?;
    let end = header.find("\n[").map_or(text.len(), |next| start + next);
    header.trim_start().starts_with('[').then_some(start..end)
}

impl Reader<'_> {
    /// The section that a key begins. One that is misspelled is told of, and read all the same if it can only be meant so.
    fn section_meant(&mut self, key: &Spanned<Cow<'_, str>>, present: &[&'static str]) -> Option<&'static str> {
        let word = key.get_ref().as_ref();
        if let Some(section) = SECTIONS.into_iter().find(|section| *section == word) {
            return Some(section);
        }
        if self.is_uncertain(key.span().start) {
            return None;
        }
        let finding =
            Finding::error(self.place(key.span()), format!("unknown key `{word}`")).expected(SECTIONS.join(", "));
        let nearest = nearest_name(word, SECTIONS.into_iter());
        self.report.add(match nearest {
            Some(name) => finding.hint(format!("did you mean `{name}`?")),
            None => finding,
        });
        nearest.filter(|section| !present.contains(section))
    }

    fn section(&mut self, config: &mut RawConfig, section: &'static str, value: Spanned<DeValue<'_>>) {
        let read = match section {
            "presets" => {
                let item: Item<Option<_>> = self.item(value);
                config.presets = item.raw;
                !item.damaged
            }
            "server" => self.table(&mut config.server, value),
            "admin" => self.table(&mut config.admin, value),
            "addresses" => self.table(&mut config.addresses, value),
            "auth" => self.table(&mut config.auth, value),
            "connect" => self.table(&mut config.connect, value),
            "responses" => self.table(&mut config.responses, value),
            "log" => self.table(&mut config.log, value),
            "state" => self.table(&mut config.state, value),
            "store" => self.table(&mut config.store, value),
            "replay" => self.table(&mut config.replay, value),
            "upstreams" => self.named(&mut config.upstreams, value, section),
            "tiers" => self.named(&mut config.tiers, value, section),
            "accounts" => self.named(&mut config.accounts, value, section),
            "routes" => self.list(&mut config.routes, value, section),
            "endpoints" => self.list(&mut config.endpoints, value, section),
            "limits" => self.list(&mut config.limits, value, section),
            _ => true,
        };
        if !read {
            config.damage.sections.push(section);
        }
    }

    /// `[section]`. Its mistakes are its own: they are in the item.
    fn table<T: DeserializeOwned + Default>(
        &mut self,
        into: &mut Option<Item<T>>,
        value: Spanned<DeValue<'_>>,
    ) -> bool {
        *into = Some(self.item(value));
        true
    }

    /// `[[section]]`. Returns whether it is one.
    fn list<T: DeserializeOwned + Default>(
        &mut self,
        into: &mut Option<Vec<Item<T>>>,
        value: Spanned<DeValue<'_>>,
        section: &str,
    ) -> bool {
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(items) => {
                *into = Some(items.into_iter().map(|item| self.item(item)).collect());
                true
            }
            other => {
                let finding = Finding::error(self.place(span), format!("`{section}` is a list of tables"))
                    .expected(format!("[[{section}]]"))
                    .found(describe(&other))
                    .hint("two pairs of brackets begin an entry of a list");
                self.report.add(finding);
                false
            }
        }
    }

    /// `[section.NAME]`. Returns whether it is one.
    fn named<T: DeserializeOwned + Default>(
        &mut self,
        into: &mut Option<Named<T>>,
        value: Spanned<DeValue<'_>>,
        section: &str,
    ) -> bool {
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => {
                let read = |(key, value): (Spanned<Cow<'_, str>>, _)| {
                    let name = Located { span: key.span(), value: key.into_inner().into_owned() };
                    (name, self.item(value))
                };
                let mut entries: Vec<_> = table.into_iter().map(read).collect();
                entries.sort_by_key(|(name, _)| name.span.start);
                *into = Some(Named(entries));
                true
            }
            other => {
                let finding = Finding::error(self.place(span), format!("`{section}` is a table of named tables"))
                    .expected(format!("[{section}.NAME]"))
                    .found(describe(&other));
                self.report.add(finding);
                false
            }
        }
    }

    /// One table, less what is wrong with it.
    fn item<T: DeserializeOwned + Default>(&mut self, mut value: Spanned<DeValue<'_>>) -> Item<T> {
        let (source, span) = (self.source, value.span());
        let mut damaged = false;
        loop {
            let error = match T::deserialize(toml::de::ValueDeserializer::from(value.clone())) {
                Ok(raw) => return Item { source, span, damaged, raw },
                Err(error) => error,
            };
            damaged = true;
            let fault = error.span().unwrap_or_else(|| span.clone());
            if !(self.is_uncertain(fault.start) && error.message().starts_with("unknown field")) {
                self.report.add(explain_unfit(self.place(fault.clone()), error.message()));
            }
            // A full report needs no further mistakes, and searching them costs a reading each.
            if self.report.is_full() || !take_out(value.get_mut(), &fault) {
                return Item { source, span, damaged, raw: T::default() };
            }
        }
    }

    fn is_uncertain(&self, offset: usize) -> bool {
        self.uncertain.iter().any(|range| range.contains(&offset))
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place { source: self.source, span }
    }
}

/// Takes the innermost key or value at `span` out of `value`; the innermost around it when none is exactly there.
fn take_out(value: &mut DeValue<'_>, span: &Range<usize>) -> bool {
    take_out_if(value, &|place| place == *span)
        || take_out_if(value, &|place| place.start <= span.start && span.end <= place.end)
}

fn take_out_if(value: &mut DeValue<'_>, is_it: &impl Fn(Range<usize>) -> bool) -> bool {
    match value {
        DeValue::Table(table) => take_from_table(table, is_it),
        DeValue::Array(array) => take_from_array(array, is_it),
        _ => false,
    }
}

fn take_from_table(table: &mut DeTable<'_>, is_it: &impl Fn(Range<usize>) -> bool) -> bool {
    if table.iter_mut().any(|(_, value)| take_out_if(value.get_mut(), is_it)) {
        return true;
    }
    let fault = table.iter().find(|(key, value)| is_it(key.span()) || is_it(value.span())).map(|(key, _)| key.clone());
    fault.is_some_and(|key| table.remove(&key).is_some())
}

fn take_from_array(array: &mut DeArray<'_>, is_it: &impl Fn(Range<usize>) -> bool) -> bool {
    if array.iter_mut().any(|value| take_out_if(value.get_mut(), is_it)) {
        return true;
    }
    let Some(fault) = array.iter().position(|value| is_it(value.span())) else { return false };
    let rest = std::mem::replace(array, DeArray::new()).into_iter().enumerate().filter(|&(nth, _)| nth != fault);
    *array = rest.map(|(_, value)| value).collect();
    true
}

fn describe(value: &DeValue<'_>) -> String {
    format!("a value of type {}", value.type_str())
}

/// The parser's words: `what is wrong, expected this`.
fn explain_syntax(place: Place, message: &str) -> Finding {
    match message.split_once(", expected ") {
        Some((what, expected)) => Finding::error(place, what).expected(expected),
        None => Finding::error(place, message),
    }
}

/// serde's words, and those of `values`.
fn explain_unfit(place: Place, message: &str) -> Finding {
    let mut parts = message.split(SEPARATOR);
    if let (Some(what), Some(expected), Some(found)) = (parts.next(), parts.next(), parts.next()) {
        return Finding::error(place, what).expected(expected).found(found);
    }
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    if let Some(found) = what.strip_prefix("invalid type: ") {
        return Finding::error(place, "a value of the wrong type").expected(in_words(expected)).found(found);
    }
    if let Some(found) = what.strip_prefix("invalid value: ") {
        return Finding::error(place, "a value out of range").expected(in_words(expected)).found(found);
    }
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().to_owned();
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    for (prefix, kind) in [("unknown field", "key"), ("unknown variant", "word")] {
        if what.starts_with(prefix) {
            let word = quoted(what);
            let finding = Finding::error(place, format!("unknown {kind} `{word}`")).expected(known.join(", "));
            return match nearest(&word, known.into_iter()) {
                Some(hint) => finding.hint(hint),
                // In TOML all that follows a [table] is in it, which is easily forgotten.
                None if kind == "key" && SECTIONS.contains(&&*word) => {
                    finding.hint(format!("`{word}` belongs to the top of the file, before the first [table]"))
                }
                None => finding,
            };
        }
    }
    Finding::error(place, message)
}

/// What serde expects, for people.
fn in_words(expected: &str) -> String {
    match expected {
        "u32" => "a whole number from 0 to 4,294,967,295".to_owned(),
        "u64" => "a whole number from 0 up".to_owned(),
        "a boolean" => "true or false".to_owned(),
        _ if expected.starts_with("struct ") => "a table".to_owned(),
        "a sequence" => "a list".to_owned(),
        _ => expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Sources;

    fn mistakes(text: &str) -> (RawConfig, Vec<String>) {
        let mut report = Report::default();
        let config = read(text, SourceId::FILE, &mut report);
        let errors = report.finish(&Sources::new("f", text));
        let line = |mistake: &super::super::Mistake| format!("{}:{} {}", mistake.line, mistake.column, mistake.message);
        (config, errors.mistakes.iter().map(line).collect())
    }

    #[test]
    fn a_section_that_stands_in_another_is_told_its_place() {
        let mut report = Report::default();
        let text = "[auth]\nkeys_file = 'k'\npresets = ['stripe']\n";
        read(text, SourceId::FILE, &mut report);
        let found = report.finish(&Sources::new("f", text)).mistakes;
        let hint = found[0].hint.as_deref().unwrap_or_default();
        assert!(found.len() == 1 && hint.starts_with("`presets` belongs to the top of the file"), "{found:?}");
    }

    #[test]
    fn what_is_right_survives_what_is_wrong_beside_it() {
        let (config, found) = mistakes(
            "[server]\nlisten = 7\nthreads = 3\nthread = 4\n[[limits]]\nname = 'a'\nrate = '5/x'\nper = ['account', 5]\n",
        );
        assert_eq!(
            found,
            [
                "2:10 a value of the wrong type",
                "4:1 unknown key `thread`",
                "7:8 `x` is not a time to count a rate by",
                "8:19 a value of the wrong type",
            ]
        );
        assert_eq!(config.server.unwrap().raw.threads.unwrap().value, 3);
        let limit = &config.limits.as_ref().unwrap()[0];
        assert!(limit.damaged && limit.raw.rate.is_none());
        assert_eq!(limit.raw.per.as_ref().unwrap().value.len(), 1);
    }

    #[test]
    fn every_section_of_the_schema_is_read() {
        let schema = schemars::schema_for!(RawConfig);
        let mut known: Vec<&str> =
            schema.get("properties").unwrap().as_object().unwrap().keys().map(String::as_str).collect();
        let mut read = SECTIONS.to_vec();
        known.sort_unstable();
        read.sort_unstable();
        assert_eq!(known, read);
        for section in SECTIONS {
            let (_, found) = mistakes(&format!("{section} = 5"));
            assert_eq!(found.len(), 1, "{section}: {found:?}");
            assert!(!found[0].contains("unknown"), "{section}: {found:?}");
        }
    }

    #[test]
    fn a_wrong_shape_is_one_mistake() {
        assert_eq!(mistakes("[limits]\nname = 'a'").1, ["1:1 `limits` is a list of tables"]);
        assert_eq!(mistakes("[[upstreams]]\nservers = []").1, ["1:1 `upstreams` is a table of named tables"]);
        assert_eq!(mistakes("limits = [5]").1, ["1:11 a value of the wrong type"]);
    }
}
