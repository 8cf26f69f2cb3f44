//! `when` and `except`: names turned into sets of ids.

use super::super::error::Finding;
use super::super::raw::{RawAccess, RawCondition, RawMode};
use super::super::source::{Place, SourceId};
use super::super::values::{Located, OneOrMany};
use super::{Context, EndpointTable};
use crate::engine::{Access, Condition, EndpointId, Id, IdKind, Mode, RouteId};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// What conditions name things with.
pub(super) struct Names<'a> {
    pub(super) endpoints: &'a EndpointTable,
    pub(super) routes: HashMap<&'a str, RouteId>,
    /// What each glob matches: thousands of limits may share one.
    globs: HashMap<String, Arc<[EndpointId]>>,
}

/// A condition, and what is known of how it was written.
#[derive(Default)]
pub(super) struct Compiled {
    pub(super) condition: Condition,
    /// The endpoints that were named, not matched by a glob.
    pub(super) named: Vec<(EndpointId, Range<usize>)>,
    /// A name in it is unknown.
    pub(super) damaged: bool,
}

impl<'a> Names<'a> {
    pub(super) fn new(endpoints: &'a EndpointTable, routes: HashMap<&'a str, RouteId>) -> Names<'a> {
        Names { endpoints, routes, globs: HashMap::new() }
    }

    pub(super) fn condition(&mut self, context: &mut Context<'_>, source: SourceId, raw: &RawCondition) -> Compiled {
        let mut compiled = Compiled::default();
        compiled.condition.mode = raw.mode.as_ref().map(|mode| match mode.value {
            RawMode::Live => Mode::Live,
            RawMode::Test => Mode::Test,
        });
        compiled.condition.access = raw.access.as_ref().map(|access| match access.value {
            RawAccess::Read => Access::Read,
            RawAccess::Write => Access::Write,
        });
        compiled.condition.connected = raw.connected.as_ref().map(|connected| connected.value);
        let lists = [("endpoint", &raw.endpoint), ("account", &raw.account), ("route", &raw.route)];
        for (key, list) in lists.into_iter().filter_map(|(key, list)| Some((key, list.as_ref()?))) {
            if list.value.0.is_empty() {
                compiled.damaged = true;
                let place = Place { source, span: list.span.clone() };
                let finding = Finding::error(place, format!("an empty list of `{key}`: no request fulfills it"));
                context.tell(finding.hint(format!("leave `{key}` out if any will do")));
            }
        }
        if let Some(list) = &raw.endpoint {
            self.endpoints(context, source, list, &mut compiled);
        }
        compiled.condition.accounts = raw.account.as_ref().map(|list| {
            list.value
                .0
                .iter()
                .map(|account| context.seed.id(IdKind::Account, account.value.as_bytes()))
                .collect::<HashSet<Id>>()
        });
        if let Some(list) = &raw.route {
            self.routes(context, source, list, &mut compiled);
        }
        compiled
    }

    fn endpoints(
        &mut self,
        context: &mut Context<'_>,
        source: SourceId,
        list: &Located<OneOrMany<String>>,
        compiled: &mut Compiled,
    ) {
        let mut set = HashSet::new();
        for written in &list.value.0 {
            let place = Place { source, span: written.span.clone() };
            if written.value.contains('*') {
                let matched = self.glob(&written.value);
                if matched.is_empty() {
                    compiled.damaged = true;
                    self.nothing_matches(context, place, &written.value);
                }
                set.extend(matched.iter().copied());
            } else if let Some(id) = self.endpoint(&written.value) {
                set.insert(id);
                compiled.named.push((id, written.span.clone()));
            } else {
                compiled.damaged = true;
                self.no_endpoint(context, place, &written.value);
            }
        }
        compiled.condition.endpoints = Some(set);
    }

    fn endpoint(&self, name: &str) -> Option<EndpointId> {
        self.endpoints.by_name.get(name).or_else(|| self.endpoints.by_match.get(name)).copied()
    }

    fn no_endpoint(&self, context: &mut Context<'_>, place: Place, name: &str) {
        if self.endpoints.damaged {
            return;
        }
        let hint = if name.contains(" /") {
            "list it under [[endpoints]] first"
        } else {
            "endpoints have the names under [[endpoints]], a preset's, or their match (\"POST /v1/payouts\")"
        };
        context.unknown("endpoint", place, name, self.endpoints.names(), hint);
    }

    fn nothing_matches(&self, context: &mut Context<'_>, place: Place, glob: &str) {
        if self.endpoints.damaged {
            return;
        }
        let finding = Finding::error(place, format!("no endpoint matches `{glob}`"));
        let hint =
            "`*` stands for any characters, and the whole name or match must fit: \"payouts.*\", \"GET /v1/*/search\"";
        context.tell(finding.hint(hint));
    }

    fn glob(&mut self, glob: &str) -> Arc<[EndpointId]> {
        if let Some(known) = self.globs.get(glob) {
            return Arc::clone(known);
        }
        let fits = |id: &EndpointId| {
            self.endpoints.get(*id).is_some_and(|endpoint| {
                let by_match = || endpoint.template.as_ref().is_some_and(|template| fits(glob, &template.to_string()));
                fits(glob, &endpoint.name) || by_match()
            })
        };
        let matched: Arc<[EndpointId]> = self.endpoints.ids().filter(fits).collect();
        self.globs.insert(glob.to_owned(), Arc::clone(&matched));
        matched
    }

    fn routes(
        &self,
        context: &mut Context<'_>,
        source: SourceId,
        list: &Located<OneOrMany<String>>,
        compiled: &mut Compiled,
    ) {
        let mut set = HashSet::new();
        for written in &list.value.0 {
            if let Some(&id) = self.routes.get(&*written.value) {
                set.insert(id);
                continue;
            }
            compiled.damaged = true;
            if !context.damage.touches("routes") {
                let place = Place { source, span: written.span.clone() };
                let mut known: Vec<&str> = self.routes.keys().copied().collect();
                known.sort_unstable();
                context.unknown("route", place, &written.value, known.into_iter(), "give the route a `name`");
            }
        }
        compiled.condition.routes = Some(set);
    }
}

/// Whether `text` fits a glob whose `*` stands for any run of characters.
fn fits(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    // Each part at its earliest place leaves the most for those after it.
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_any_run() {
        for (glob, text) in [
            ("*", ""),
            ("payouts.*", "payouts.create"),
            ("GET /v1/*/search", "GET /v1/a/b/search"),
            ("*search", "x.search"),
            ("a*b*c", "aXbYbc"),
            ("a**", "a"),
            ("a", "a"),
        ] {
            assert!(fits(glob, text), "{glob} {text}");
        }
        for (glob, text) in [("payouts.*", "payout.create"), ("a*a", "a"), ("a*b*c", "acb"), ("a", "ab"), ("*b", "abc")]
        {
            assert!(!fits(glob, text), "{glob} {text}");
        }
    }
}
