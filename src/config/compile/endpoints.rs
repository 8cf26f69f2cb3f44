//! Endpoints in layers: the preset's operations, the preset's own entries, the user's. A later layer replaces an earlier
//! one's entry of the same shape (method and template, whatever its parameters are called) or of the same name.

use super::super::error::Finding;
use super::super::model::Endpoint;
use super::super::raw::{Item, RawAccess, RawEndpoint, RawLock};
use super::super::source::Place;
use super::Context;
use crate::endpoints::{Endpoints, Template};
use crate::engine::{Access, EndpointId};
use http::Method;
use std::collections::HashMap;

/// The most tokens a request may cost.
const MAX_COST: u32 = 1_000_000;

/// All endpoints, found by name, by match and by request.
pub(in crate::config) struct EndpointTable {
    pub(in crate::config) endpoints: Vec<Endpoint>,
    pub(super) index: Endpoints,
    pub(super) other: [EndpointId; 2],
    pub(super) by_name: HashMap<Box<str>, EndpointId>,
    /// By the match as it is printed.
    pub(super) by_match: HashMap<String, EndpointId>,
    /// Those whose requests take turns, and how that is written.
    pub(super) locks: Vec<(EndpointId, Item<RawLock>)>,
    /// Those that cost more than one token.
    pub(super) costly: Vec<EndpointId>,
    /// An endpoint was refused: names may be missing through no fault of those who use them.
    pub(super) damaged: bool,
}

impl EndpointTable {
    pub(in crate::config) fn get(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(id.0 as usize)
    }

    pub(in crate::config) fn ids(&self) -> impl Iterator<Item = EndpointId> + use<> {
        (0..u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX)).map(EndpointId)
    }

    /// Names in the order of the list, the user's last.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.endpoints.iter().map(|endpoint| &*endpoint.name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Operations,
    Preset,
    User,
}

/// An endpoint on its way.
struct Entry {
    endpoint: Endpoint,
    lock: Option<Item<RawLock>>,
    layer: Layer,
}

#[derive(Default)]
struct Builder {
    entries: Vec<Entry>,
    index: Endpoints,
    by_name: HashMap<Box<str>, usize>,
    damaged: bool,
}

pub(super) fn compile(
    context: &mut Context<'_>,
    operations: Vec<Template>,
    presets: Vec<Item<RawEndpoint>>,
    own: Vec<Item<RawEndpoint>>,
) -> EndpointTable {
    let mut builder = Builder::default();
    for template in operations {
        let name: Box<str> = template.to_string().into();
        let access = access_of(template.method());
        let endpoint = Endpoint { name, access, template: Some(template), cost: 1, transaction: false, lock: None };
        let entry = Entry { endpoint, lock: None, layer: Layer::Operations };
        builder.add(context, entry, false, &Place::start_of_file());
    }
    for (layer, items) in [(Layer::Preset, presets), (Layer::User, own)] {
        for item in items {
            builder.item(context, &item, layer);
        }
    }
    builder.finish(context)
}

impl Builder {
    fn item(&mut self, context: &mut Context<'_>, item: &Item<RawEndpoint>, layer: Layer) {
        let cost = context.number(item, item.raw.cost.as_ref(), 1, 0..=MAX_COST);
        let Some(matches) = &item.raw.matches else {
            self.damaged = true;
            if !item.damaged {
                let finding = Finding::error(item.place(), "the endpoint lacks `match`");
                context.tell(finding.expected(r#"match = "POST /v1/payouts/{payout}""#));
            }
            return;
        };
        let template: Template = match matches.value.parse() {
            Ok(template) => template,
            Err(error) => {
                self.damaged = true;
                let finding = Finding::error(item.at(&matches.span), format!("not an endpoint: {error}"));
                return context.tell(finding.found(format!("{:?}", matches.value)));
            }
        };
        let access = item.raw.access.as_ref().map_or_else(
            || access_of(template.method()),
            |given| match given.value {
                RawAccess::Read => Access::Read,
                RawAccess::Write => Access::Write,
            },
        );
        let transaction = super::value(&item.raw.transaction, false);
        if let Some(given) = item.raw.transaction.as_ref().filter(|_| transaction && access == Access::Read) {
            let finding = Finding::error(item.at(&given.span), "a transaction is a write, and this endpoint reads");
            context.tell(finding.hint("leave it out, or say access = \"write\""));
        }
        let name = item.raw.name.as_ref();
        let place = item.at(&name.unwrap_or(matches).span);
        if let Some(name) = name.filter(|name| !is_name(&name.value)) {
            let finding = Finding::error(item.at(&name.span), "not a name for an endpoint");
            context.tell(finding.expected("1 to 200 printable ASCII characters without `*`, quotes and backslashes"));
        }
        let written = name.map_or_else(|| template.to_string(), |name| name.value.clone());
        let cost = u32::try_from(cost).unwrap_or(MAX_COST);
        let template = Some(template);
        let endpoint = Endpoint { name: written.into(), template, access, cost, transaction, lock: None };
        let lock = item.raw.lock.as_ref().map(|lock| Item {
            source: item.source,
            span: lock.span.clone(),
            damaged: item.damaged,
            raw: lock.value.clone(),
        });
        self.add(context, Entry { endpoint, lock, layer }, name.is_some(), &place);
    }

    /// Adds an endpoint or replaces an earlier layer's. Without a name of its own it keeps the one it replaces: preset limits
    /// go on to know it.
    fn add(&mut self, context: &mut Context<'_>, mut entry: Entry, named: bool, place: &Place) {
        let (endpoint, layer) = (&mut entry.endpoint, entry.layer);
        let Some(template) = &endpoint.template else { return };
        let new = EndpointId(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        let slot = match self.index.insert(template, new) {
            Ok(()) => self.entries.len(),
            Err(same) => same.0 as usize,
        };
        if let Some(same) = self.entries.get(slot) {
            if same.layer == layer {
                let message = format!("the endpoint `{}` has the same method and path", same.endpoint.name);
                return context
                    .tell(Finding::error(place.clone(), message).hint("requests could not tell the two apart"));
            }
            if !named {
                endpoint.name = same.endpoint.name.clone();
            }
            self.by_name.remove(&same.endpoint.name);
        }
        self.claim_name(context, endpoint, layer, place);
        self.by_name.insert(endpoint.name.clone(), slot);
        match self.entries.get_mut(slot) {
            Some(same) => *same = entry,
            None => self.entries.push(entry),
        }
    }

    /// Takes a name from an earlier layer's entry, which falls back to its match; a name of the same layer is taken.
    fn claim_name(&mut self, context: &mut Context<'_>, endpoint: &Endpoint, layer: Layer, place: &Place) {
        if OTHER.contains(&&*endpoint.name) {
            let finding = Finding::error(place.clone(), format!("the name `{}` is taken", endpoint.name));
            return context.tell(finding.hint("it stands for all paths that no endpoint matches"));
        }
        let Some(owner) = self.by_name.get(&endpoint.name).and_then(|&slot| self.entries.get_mut(slot)) else { return };
        if owner.layer == layer {
            return context.tell(Finding::error(place.clone(), format!("a second endpoint `{}`", endpoint.name)));
        }
        let own = owner.endpoint.template.as_ref().map(ToString::to_string).unwrap_or_default();
        owner.endpoint.name = own.as_str().into();
        if let Some(slot) = self.by_name.remove(&endpoint.name) {
            self.by_name.insert(own.into(), slot);
        }
    }

    fn finish(mut self, context: &mut Context<'_>) -> EndpointTable {
        let id = |slot: usize| EndpointId(u32::try_from(slot).unwrap_or(u32::MAX));
        let lock = |(slot, entry): (usize, &mut Entry)| Some((id(slot), entry.lock.take()?));
        let locks = self.entries.iter_mut().enumerate().filter_map(lock).collect();
        let mut endpoints: Vec<Endpoint> = self.entries.into_iter().map(|entry| entry.endpoint).collect();
        let other = Access::ALL.map(|access| {
            let name = OTHER[access as usize];
            let slot = endpoints.len();
            self.by_name.insert(name.into(), slot);
            let name = name.into();
            endpoints.push(Endpoint { name, template: None, access, cost: 1, transaction: false, lock: None });
            id(slot)
        });
        let template = |endpoint: &Endpoint| endpoint.template.as_ref().map(ToString::to_string);
        let of_cost = |(slot, endpoint): (usize, &Endpoint)| (endpoint.cost > 1).then(|| id(slot));
        let by_match =
            endpoints.iter().enumerate().filter_map(|(slot, known)| Some((template(known)?, id(slot)))).collect();
        EndpointTable {
            by_match,
            locks,
            costly: endpoints.iter().enumerate().filter_map(of_cost).collect(),
            by_name: self.by_name.into_iter().map(|(name, slot)| (name, id(slot))).collect(),
            damaged: self.damaged || context.damage.touches("endpoints"),
            endpoints,
            index: self.index,
            other,
        }
    }
}

/// The names of the endpoints of unknown paths, by access.
const OTHER: [&str; 2] = ["other.read", "other.write"];

fn access_of(method: &Method) -> Access {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Access::Read,
        _ => Access::Write,
    }
}

/// A name stands in labels, logs and conditions, where a `*` makes a glob.
fn is_name(name: &str) -> bool {
    (1..=200).contains(&name.len())
        && name.trim() == name
        && name.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'*' | b'"' | b'\\'))
}
