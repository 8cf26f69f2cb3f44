//! What a path of the API stands for, told from its shape alone: the mock knows no list of operations.

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resource<'a> {
    /// `/v1/customers`, or `/v1/customers/cus_1/sources`.
    Collection { object: String },
    /// `/v1/customers/cus_1`, or something done to it, as `/v1/payouts/po_1/cancel`.
    One { object: String, id: &'a str },
    /// `/v1/customers/search`.
    Search { object: String },
    /// `/v1/balance`.
    Singleton { object: String },
}

impl<'a> Resource<'a> {
    /// What `path` stands for, if it is one of the API's.
    pub(super) fn of(path: &'a str) -> Option<Resource<'a>> {
        let path = path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/v2/"))?;
        let segments: Vec<&str> = path.split('/').collect();
        if segments.iter().any(|segment| segment.is_empty()) {
            return None;
        }
        let (last, before) = segments.split_last()?;
        let names: Vec<&str> = before.iter().copied().filter(|segment| !is_id(segment)).collect();
        if is_id(last) {
            return Some(Resource::One { object: object(namespaced(before)), id: last });
        }
        if *last == "search" {
            return Some(Resource::Search { object: object(&names) });
        }
        if last.ends_with('s') {
            return Some(Resource::Collection { object: object(namespaced(&segments)) });
        }
        match before.iter().rposition(|segment| is_id(segment)) {
            Some(place) => Some(Resource::One {
                object: object(namespaced(before.get(..place).unwrap_or_default())),
                id: before.get(place)?,
            }),
            None => Some(Resource::Singleton { object: object(&segments) }),
        }
    }
}

/// The segments after the last id: `billing/meters` of both `billing/meters` and `customers/cus_1/billing/meters`.
fn namespaced<'s, 'a>(segments: &'s [&'a str]) -> &'s [&'a str] {
    let after = segments.iter().rposition(|segment| is_id(segment)).map_or(0, |place| place + 1);
    segments.get(after..).unwrap_or_default()
}

/// Names of the API are lower-case words; ids hold a digit or a capital.
fn is_id(segment: &str) -> bool {
    segment.bytes().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

/// The `object` of what a collection holds: `billing.meter_event` of `billing/meter_events`.
fn object(names: &[&str]) -> String {
    let joined = names.join(".");
    match joined.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => joined.strip_suffix('s').map(str::to_owned).unwrap_or(joined),
    }
}

/// Prefixes of ids that do not follow from the object's name.
const PREFIXES: [(&str, &str); 14] = [
    ("account", "acct"),
    ("charge", "ch"),
    ("customer", "cus"),
    ("dispute", "dp"),
    ("event", "evt"),
    ("file", "file"),
    ("invoice", "in"),
    ("payment_intent", "pi"),
    ("payment_method", "pm"),
    ("payout", "po"),
    ("product", "prod"),
    ("refund", "re"),
    ("subscription", "sub"),
    ("token", "tok"),
];

/// What ids of an object begin with: as Stripe's where it is well known, else the first letters of its words.
pub(super) fn id_prefix(object: &str) -> String {
    let known = PREFIXES.iter().find(|(name, _)| *name == object).map(|(_, prefix)| (*prefix).to_owned());
    known.unwrap_or_else(|| match object.rsplit('.').next().unwrap_or(object) {
        words if words.contains('_') => words.split('_').filter_map(|word| word.chars().next()).collect(),
        word => word.to_owned(),
    })
}
