//! `per`: what a limit counts by, and which values its endpoints' requests must yield for it.

use super::super::error::Finding;
use super::super::model::Extractor;
use super::super::raw::{Item, RawLimit, RawStage};
use super::super::source::Place;
use super::super::values::Located;
use super::conditions::Compiled;
use super::{Context, EndpointTable};
use crate::body::{FormKey, JsonPath, Source};
use crate::engine::class::MAX_VALUES;
use crate::engine::policy::{ExtractorId, MAX_PARTS};
use crate::engine::{EndpointId, Part};
use std::collections::HashMap;

/// Words that stand for themselves.
const WORDS: [(&str, Part); 5] = [
    ("account", Part::Account),
    ("connected_account", Part::ConnectedAccount),
    ("key", Part::Key),
    ("ip", Part::Ip),
    ("endpoint", Part::Endpoint),
];

/// Headers that hold secrets, with what to count by instead.
const SECRET: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// The values that limits count by.
pub(super) struct Values {
    pub(super) extractors: Vec<Extractor>,
    /// By endpoint: the values its limits count by.
    pub(super) by_endpoint: Vec<Vec<ExtractorId>>,
    known: HashMap<Extractor, ExtractorId>,
}

impl Values {
    pub(super) fn new(endpoints: &EndpointTable) -> Values {
        let by_endpoint = vec![Vec::new(); endpoints.endpoints.len()];
        Values { extractors: Vec::new(), by_endpoint, known: HashMap::new() }
    }

    /// A limit's parts. What its endpoints must yield for it is noted.
    pub(super) fn parts(
        &mut self,
        context: &mut Context<'_>,
        item: &Item<RawLimit>,
        when: &Compiled,
        endpoints: &EndpointTable,
    ) -> Vec<Part> {
        let Some(per) = &item.raw.per else { return default(context, item) };
        if per.value.len() > MAX_PARTS {
            let finding = Finding::error(item.at(&per.span), format!("more than {MAX_PARTS} items to count by"));
            context.tell(finding.found(per.value.len().to_string()));
        }
        let mut parts: Vec<Part> = Vec::new();
        for written in per.value.iter().take(MAX_PARTS) {
            let Some(part) = self.part(context, item, written) else { continue };
            if parts.contains(&part) {
                context.tell(Finding::error(item.at(&written.span), format!("`{}` twice", written.value)));
                continue;
            }
            if let Part::Value(id) = part {
                self.note(context, item, written, id, when, endpoints);
            }
            parts.push(part);
        }
        parts
    }

    /// Has an endpoint's requests yield a value for something else than a limit. Answers where among their values it is.
    pub(super) fn yielded<T>(
        &mut self,
        context: &mut Context<'_>,
        item: &Item<T>,
        written: &Located<String>,
        endpoint: EndpointId,
        endpoints: &EndpointTable,
    ) -> Option<usize> {
        let place = item.at(&written.span);
        let id = match self.part(context, item, written)? {
            Part::Value(id) => id,
            _ => {
                let finding = Finding::error(place, format!("`{}` is no value of a request", written.value));
                context.tell(finding.expected("path.NAME or header.NAME"));
                return None;
            }
        };
        let known = endpoints.get(endpoint)?;
        if let Some(("path", name)) = written.value.split_once('.')
            && !has_parameter(endpoints, endpoint, name)
        {
            let finding = Finding::error(place, format!("the endpoint `{}` has no {{{name}}} in its path", known.name));
            context.tell(finding.hint("the names of path values are those in the endpoint's `match`"));
            return None;
        }
        let list = self.by_endpoint.get_mut(endpoint.0 as usize)?;
        if let Some(slot) = list.iter().position(|&known| known == id) {
            return Some(slot);
        }
        if list.len() == MAX_VALUES {
            let message = format!("limits and lock of the endpoint `{}` use more than {MAX_VALUES} values", known.name);
            context.tell(Finding::error(place, message));
            return None;
        }
        list.push(id);
        Some(list.len() - 1)
    }

    fn part<T>(&mut self, context: &mut Context<'_>, item: &Item<T>, written: &Located<String>) -> Option<Part> {
        let text = written.value.as_str();
        if let Some((_, part)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Some(*part);
        }
        let extractor = if text.contains('|') {
            let some: Option<Vec<Extractor>> =
                text.split('|').map(|one| extractor(context, item, written, one.trim())).collect();
            let some = some?;
            if some.iter().any(|one| matches!(one, Extractor::Header(_))) {
                let finding =
                    Finding::error(item.at(&written.span), "a header is no alternative: every endpoint has it");
                context.tell(finding.hint("use path.NAME|form.NAME"));
                return None;
            }
            Extractor::FirstOf(some.into())
        } else {
            extractor(context, item, written, text)?
        };
        Some(Part::Value(self.id(extractor)))
    }

    /// What goes into the slots of an endpoint's requests from its query and body.
    pub(super) fn sources<'v>(
        &'v self,
        endpoints: &'v EndpointTable,
        id: EndpointId,
        slots: &'v [ExtractorId],
    ) -> impl Iterator<Item = (usize, Source)> + 'v {
        let extractor = move |extractor: &ExtractorId| {
            let known = self.extractors.get(extractor.0 as usize)?;
            known.at(|name| has_parameter(endpoints, id, name))
        };
        slots.iter().enumerate().filter_map(move |(slot, known)| match extractor(known)? {
            Extractor::Query(key) => Some((slot, Source::Query(key.clone()))),
            Extractor::Form(key) => Some((slot, Source::Form(key.clone()))),
            Extractor::Json(path) => Some((slot, Source::Json(path.clone()))),
            Extractor::Path(_) | Extractor::Header(_) | Extractor::FirstOf(_) => None,
        })
    }

    fn id(&mut self, extractor: Extractor) -> ExtractorId {
        let next = ExtractorId(u32::try_from(self.extractors.len()).unwrap_or(u32::MAX));
        *self.known.entry(extractor).or_insert_with_key(|extractor| {
            self.extractors.push(extractor.clone());
            next
        })
    }

    /// Notes for each endpoint of the limit that has the value that it must be taken.
    fn note(
        &mut self,
        context: &mut Context<'_>,
        item: &Item<RawLimit>,
        written: &Located<String>,
        id: ExtractorId,
        when: &Compiled,
        endpoints: &EndpointTable,
    ) {
        let place = item.at(&written.span);
        let Some(extractor) = self.extractors.get(id.0 as usize).cloned() else { return };
        let name = lacking(&extractor);
        let has = |id: &EndpointId| extractor.at(|name| has_parameter(endpoints, *id, name)).is_some();
        if let Some((lacking, _)) = when.named.iter().find(|(id, _)| !has(id)) {
            let lacking = endpoints.get(*lacking).map_or("?", |endpoint| &endpoint.name);
            let finding = Finding::error(place, format!("the endpoint `{lacking}` has no {{{name}}} in its path"));
            return context.tell(finding.hint("the names of path values are those in the endpoints' `match`"));
        }
        let having: Vec<EndpointId> = match &when.condition.endpoints {
            Some(set) => set.iter().copied().filter(has).collect(),
            None => endpoints.ids().filter(has).collect(),
        };
        if having.is_empty() && !when.damaged && !endpoints.damaged {
            let finding = Finding::error(place, format!("none of this limit's endpoints has {{{name}}} in its path"));
            return context.tell(finding.hint("the names of path values are those in the endpoints' `match`"));
        }
        let mut crowded = None;
        for endpoint in having {
            let Some(list) = self.by_endpoint.get_mut(endpoint.0 as usize) else { continue };
            if list.contains(&id) {
            } else if list.len() < MAX_VALUES {
                list.push(id);
            } else {
                crowded = crowded.or(endpoints.get(endpoint));
            }
        }
        if let Some(endpoint) = crowded {
            let message =
                format!("the limits of the endpoint `{}` count by more than {MAX_VALUES} values", endpoint.name);
            context.tell(Finding::error(place, message).hint("let this limit apply to fewer endpoints"));
        }
    }
}

/// The path parameter that an endpoint without this value lacks.
fn lacking(extractor: &Extractor) -> String {
    match extractor {
        Extractor::Path(name) => name.to_string(),
        Extractor::FirstOf(some) => some.iter().map(lacking).collect::<Vec<_>>().join("} or {"),
        _ => String::new(),
    }
}

/// One way to take a value.
fn extractor<T>(context: &mut Context<'_>, item: &Item<T>, written: &Located<String>, text: &str) -> Option<Extractor> {
    let place = item.at(&written.span);
    let unfit = |context: &mut Context<'_>, why: String| {
        context.tell(Finding::error(item.at(&written.span), format!("`{text}`: {why}")));
        None
    };
    match text.split_once('.') {
        Some(("path", name)) if !name.is_empty() => Some(Extractor::Path(name.into())),
        Some(("header", name)) => header(context, place, text, name),
        Some((kind @ ("form" | "query"), name)) => match name.parse::<FormKey>() {
            Ok(key) if key.has_star() => unfit(context, "a `*` is for conditions, not to count by".to_owned()),
            Ok(key) if kind == "form" => Some(Extractor::Form(key)),
            Ok(key) => Some(Extractor::Query(key)),
            Err(error) => unfit(context, error.to_string()),
        },
        Some(("json", name)) => match name.parse::<JsonPath>() {
            Ok(path) => Some(Extractor::Json(path)),
            Err(expected) => unfit(context, format!("it takes {expected}")),
        },
        _ => {
            let finding = Finding::error(place, format!("`{text}` is nothing to count by")).expected(
                "account, connected_account, key, ip, endpoint, path.NAME, header.NAME, query.NAME, form.NAME or json.NAME",
            );
            let hint = context.report.nearest(text, WORDS.iter().map(|(word, _)| *word));
            context.tell(match hint {
                Some(hint) => finding.hint(hint),
                None => finding,
            });
            None
        }
    }
}

fn header(context: &mut Context<'_>, place: Place, text: &str, name: &str) -> Option<Extractor> {
    match http::HeaderName::try_from(name) {
        Ok(name) if SECRET.contains(&name.as_str()) => {
            let finding = Finding::error(place, format!("`{text}` holds a secret"));
            context.tell(finding.hint("count by `key` or `account`"));
            None
        }
        Ok(name) => Some(Extractor::Header(name)),
        Err(_) => {
            context.tell(Finding::error(place, format!("`{name}` is not a header's name")));
            None
        }
    }
}

fn has_parameter(endpoints: &EndpointTable, id: EndpointId, name: &str) -> bool {
    let template = endpoints.get(id).and_then(|endpoint| endpoint.template.as_ref());
    template.is_some_and(|template| template.names().iter().any(|known| **known == *name))
}

fn default(context: &mut Context<'_>, item: &Item<RawLimit>) -> Vec<Part> {
    match item.raw.stage.as_ref().map(|stage| stage.value) {
        Some(RawStage::Global) | None => vec![Part::Account],
        Some(RawStage::Endpoint) => vec![Part::Account, Part::Endpoint],
        Some(RawStage::Resource) => {
            if !item.damaged {
                let finding = Finding::error(item.place(), "a limit of the stage \"resource\" lacks `per`");
                context.tell(finding.expected(r#"per = ["account", "path.NAME"]"#));
            }
            Vec::new()
        }
    }
}
