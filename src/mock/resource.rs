//! What a request is about, told from its path: by the operations of Stripe's API where it is one of them, else by its shape.

use crate::config::stripe_operations;
use crate::endpoints::{Endpoints, Template};
use crate::engine::EndpointId;
use crate::path;
use http::Method;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    /// Whether the second generation of the API is meant, whose lists and times look otherwise.
    pub(super) is_v2: bool,
    /// The `object` it is about.
    pub(super) object: String,
    /// What is to be done with it.
    pub(super) act: Act<'a>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act<'a> {
    /// `GET /v1/customers`.
    List,
    /// `GET /v1/customers/search`.
    Search,
    /// `POST /v1/customers`, or `POST /v1/invoices/create_preview`.
    Create,
    /// `GET /v1/customers/cus_1`, `POST` to change it, or something done to it, as `POST /v1/payouts/po_1/cancel`.
    One {
        /// Its id.
        id: &'a str,
        /// What is done to it, where the path says.
        verb: Option<&'a str>,
    },
    /// `DELETE /v1/customers/cus_1`.
    Delete {
        /// Its id.
        id: &'a str,
    },
    /// `GET /v1/balance`, or `DELETE /v1/customers/cus_1/discount`: there is one of it.
    Only {
        /// Whether it is deleted.
        deleted: bool,
    },
}

/// The operations of the API.
#[derive(Debug)]
pub(super) struct Operations {
    index: Endpoints,
    templates: Vec<Template>,
}

/// A segment of a path: its text, and whether it is an id.
type Segment<'a> = (&'a str, bool);

impl Operations {
    pub(super) fn new() -> Operations {
        let templates = stripe_operations();
        let mut index = Endpoints::default();
        for (place, template) in (0_u32..).zip(&templates) {
            // The list has none twice; a test looks every one of them up.
            let _ = index.insert(template, EndpointId(place));
        }
        Operations { index, templates }
    }

    /// What a request is about; `None` where the API has no such URL.
    pub(super) fn find<'a>(&self, method: &Method, path: &'a str) -> Option<Asked<'a>> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let known = self.template(method, path);
        let segments = segments(path, known)?;
        let (is_v2, segments) = match segments.split_first()? {
            (("v1", _), rest) => (false, rest),
            (("v2", _), rest) => (true, rest),
            _ => return None,
        };
        let (object, act) = about(method, &without_helpers(segments))?;
        let object = if is_v2 { format!("v2.{object}") } else { object };
        Some(Asked { is_v2, object, act })
    }

    fn template(&self, method: &Method, path: &str) -> Option<&str> {
        let canonical = path::canonical(path.as_bytes()).ok()?;
        let found = self.index.find(method, &canonical)?.endpoint();
        self.templates.get(found.0 as usize).map(Template::path)
    }
}

/// The segments of a path. Which are ids is known from its template, or else told by a digit or a capital: names of the API are
/// words in lower case.
fn segments<'a>(path: &'a str, template: Option<&str>) -> Option<Vec<Segment<'a>>> {
    let split: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    if split.iter().any(|segment| segment.is_empty()) {
        return None;
    }
    let known = template.map(|template| template.trim_start_matches('/').split('/').collect::<Vec<_>>());
    let known = known.filter(|known| known.len() == split.len());
    let looks_like_id = |segment: &str| segment.bytes().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    let is_id = |place: usize, segment: &str| match known.as_ref().and_then(|known| known.get(place)) {
        Some(name) => name.starts_with('{'),
        None => place > 0 && looks_like_id(segment),
    };
    Some(split.iter().enumerate().map(|(place, segment)| (*segment, is_id(place, segment))).collect())
}

/// Helpers for tests act on the objects themselves; only clocks are their own.
fn without_helpers<'a>(segments: &[Segment<'a>]) -> Vec<Segment<'a>> {
    let has_clock = segments.iter().any(|(name, _)| *name == "test_clocks");
    segments.iter().filter(|(name, _)| *name != "test_helpers" || has_clock).copied().collect()
}

fn about<'a>(method: &Method, segments: &[Segment<'a>]) -> Option<(String, Act<'a>)> {
    let (&(last, is_id), before) = segments.split_last()?;
    if is_id {
        let act = match *method {
            Method::GET | Method::POST => Act::One { id: last, verb: None },
            Method::DELETE => Act::Delete { id: last },
            _ => return None,
        };
        return Some((object(names(before)), act));
    }
    let own = || object(names(segments));
    let parent = segments.iter().rposition(|(_, is_id)| *is_id);
    let is_plural = last.ends_with('s') && !ONLY.contains(&last) && !VERBS.iter().any(|verb| last.starts_with(verb));
    Some(match (method, parent) {
        (&Method::DELETE, Some(_)) => (own(), Act::Only { deleted: true }),
        (&Method::GET | &Method::POST, _) if ONLY.contains(&last) => (own(), Act::Only { deleted: false }),
        (&Method::GET, None) if last == "search" => (object(names(before)), Act::Search),
        (&Method::GET, _) if is_plural => (own(), Act::List),
        (&Method::POST, _) if is_plural => (own(), Act::Create),
        (&Method::GET | &Method::POST, Some(place)) => {
            let id = segments.get(place)?.0;
            (object(names(segments.get(..place)?)), Act::One { id, verb: Some(last) })
        }
        (&Method::GET | &Method::POST, None) if before.last().is_some_and(|(name, _)| name.ends_with('s')) => {
            (object(names(before)), Act::Create)
        }
        (&Method::GET, None) => (own(), Act::Only { deleted: false }),
        (&Method::POST, None) => (own(), Act::Create),
        _ => return None,
    })
}

/// Names that end like several and are one, or stand behind an id and are no verb.
const ONLY: [&str; 6] = ["account", "balance", "balance_settings", "cash_balance", "discount", "settings"];

/// Verbs whose object ends like several.
const VERBS: [&str; 7] = ["add_", "collect_", "confirm_", "remove_", "send_", "update_", "verify_"];

/// The names after the last id: `billing.meters` of both `billing/meters` and `customers/cus_1/billing/meters`.
fn names(segments: &[Segment<'_>]) -> String {
    let after = segments.iter().rposition(|(_, is_id)| *is_id).map_or(0, |place| place + 1);
    let names: Vec<&str> = segments.iter().skip(after).map(|(name, _)| *name).collect();
    names.join(".")
}

/// The `object` of what a collection holds: `billing.meter_event` of `billing.meter_events`.
fn object(names: String) -> String {
    let is_known =
        |known: &str| names.strip_suffix(known).is_some_and(|before| before.is_empty() || before.ends_with('.'));
    if let Some((_, object)) = OBJECTS.iter().find(|(known, _)| is_known(known)) {
        return (*object).to_owned();
    }
    if ONLY.iter().any(|only| names.ends_with(only)) {
        return names;
    }
    let endings = [("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("s", "")];
    let stem = endings.iter().find_map(|(many, one)| Some(format!("{}{one}", names.strip_suffix(many)?)));
    stem.unwrap_or(names)
}

/// Objects that are not called as their paths are.
const OBJECTS: [(&str, &str); 5] = [
    ("apple_pay.domains", "apple_pay_domain"),
    ("external_accounts", "bank_account"),
    ("line_items", "item"),
    ("lines", "line_item"),
    ("reversals", "transfer_reversal"),
];

/// Prefixes of ids that do not follow from the object's name.
const PREFIXES: [(&str, &str); 20] = [
    ("account", "acct"),
    ("balance_transaction", "txn"),
    ("charge", "ch"),
    ("checkout.session", "cs"),
    ("customer", "cus"),
    ("dispute", "dp"),
    ("event", "evt"),
    ("file", "file"),
    ("invoice", "in"),
    ("payment_intent", "pi"),
    ("payment_method", "pm"),
    ("payout", "po"),
    ("price", "price"),
    ("product", "prod"),
    ("refund", "re"),
    ("setup_intent", "seti"),
    ("subscription", "sub"),
    ("token", "tok"),
    ("transfer", "tr"),
    ("webhook_endpoint", "we"),
];

fn known_prefix(object: &str) -> Option<&'static str> {
    PREFIXES.iter().find(|(name, _)| *name == object).map(|(_, prefix)| *prefix)
}

/// What ids of an object begin with: as Stripe's where it is well known, else the first letters of its words.
pub(super) fn id_prefix(object: &str) -> String {
    known_prefix(object).map(str::to_owned).unwrap_or_else(|| match object.rsplit('.').next().unwrap_or(object) {
        words if words.contains('_') => words.split('_').filter_map(|word| word.chars().next()).collect(),
        word => word.to_owned(),
    })
}

/// Whether nothing has this id: it is another well-known object's, or it ends in `missing`. The mock keeps no objects, so
/// everything else is there.
pub(super) fn is_missing(object: &str, id: &str) -> bool {
    let of_another = |own: &str| {
        id.split_once('_')
            .is_some_and(|(prefix, _)| prefix != own && PREFIXES.iter().any(|(_, known)| *known == prefix))
    };
    id.ends_with("missing") || known_prefix(object).is_some_and(of_another)
}
