//! What a route does to heads: header rules, prefixes, `Host`, credentials.

use super::super::error::Finding;
use super::super::model::{HeaderRules, HeaderValueRule, HostRule, Piece, RouteOptions};
use super::super::raw::{Item, RawHeaderRules, RawRoute};
use super::super::source::Place;
use super::super::values::Located;
use super::Context;
use super::credentials;
use crate::fields::{Change, Untouchable, fold_together, untouchable};
use crate::path;
use http::{HeaderName, HeaderValue};
use std::collections::BTreeMap;

/// Fields that the rules of one route and direction may name.
const MAX_RULES: usize = 64;
/// Bytes of a value, its variables not filled in.
const MAX_VALUE_BYTES: usize = 4_096;
/// Bytes of a prefix that is added.
const MAX_PREFIX_BYTES: usize = 256;

/// Variables of values; the last three are known of answers too.
const VARIABLES: [(&str, Piece); 5] = [
    ("account", Piece::Account),
    ("key_id", Piece::KeyId),
    ("mode", Piece::Mode),
    ("request_id", Piece::RequestId),
    ("client_ip", Piece::ClientIp),
];

type Written = BTreeMap<Located<String>, Located<String>>;

/// The options of a route whose compiled prefix is `path_prefix`, but for credentials that only its upstream names.
pub(super) fn options(context: &mut Context<'_>, item: &Item<RawRoute>, path_prefix: &str) -> RouteOptions {
    let raw = &item.raw;
    let strip_prefix: Box<str> =
        raw.strip_prefix.as_ref().map_or(Box::default(), |given| strip_prefix(context, item, given, path_prefix));
    let add_prefix = raw.add_prefix.as_ref().map_or(Box::default(), |given| add_prefix(context, item, given));
    RouteOptions {
        request_headers: rules(context, item, raw.request_headers.as_ref(), Direction::Request),
        response_headers: rules(context, item, raw.response_headers.as_ref(), Direction::Response),
        stripped: HeaderValue::try_from(&*strip_prefix).ok().filter(|_| !strip_prefix.is_empty()),
        strip_prefix,
        add_prefix,
        host: raw.host.as_ref().map_or(HostRule::default(), |given| host(context, item, given)),
        credentials: credentials::compile(context, item, raw.credentials.as_ref()).unwrap_or_default(),
    }
}

/// A prefix that every path of the route has, so that what is left is the same for all.
fn strip_prefix(context: &mut Context<'_>, item: &Item<RawRoute>, given: &Located<String>, route: &str) -> Box<str> {
    let prefix = given.value.trim_end_matches('/');
    let rest = route.get(prefix.len()..).unwrap_or("x");
    let begins = route.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if prefix.is_empty() || !begins || !(rest.is_empty() || rest.starts_with('/')) {
        let finding = Finding::error(item.at(&given.span), "not a prefix of all paths of this route")
            .expected("the route's `path_prefix`, or whole segments of its beginning")
            .found(format!("{:?}", given.value));
        context.tell(finding);
    }
    prefix.into()
}

fn add_prefix(context: &mut Context<'_>, item: &Item<RawRoute>, given: &Located<String>) -> Box<str> {
    let prefix = given.value.trim_end_matches('/');
    let canonical = path::canonical(prefix.as_bytes()).is_ok_and(|path| path.as_str() == prefix);
    if !canonical || prefix.contains(['?', '{', '}']) || prefix.len() > MAX_PREFIX_BYTES {
        let finding = Finding::error(item.at(&given.span), "not the beginning of a canonical path")
            .expected("segments after a slash, such as \"/v2\"; at most 256 bytes, no query, no dots for folders")
            .found(format!("{:?}", given.value));
        context.tell(finding);
    }
    prefix.into()
}

fn host(context: &mut Context<'_>, item: &Item<RawRoute>, given: &Located<String>) -> HostRule {
    match given.value.as_str() {
        "keep" => return HostRule::Keep,
        "server" => return HostRule::Server,
        _ => {}
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let authority = given.value.parse::<http::uri::Authority>().ok();
    let fit = authority.filter(|authority| authority.as_str().bytes().all(plain) && !authority.host().is_empty());
    match fit.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        Some(host) => HostRule::Fixed(host),
        None => {
            let finding = Finding::error(item.at(&given.span), "not a host")
                .expected(r#""keep", "server", or a host such as "upstream.internal" or "10.0.0.1:8080""#);
            context.tell(finding.found(format!("{:?}", given.value)));
            HostRule::default()
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Response,
}

impl Direction {
    fn change(self, removes: bool) -> Change {
        match (self, removes) {
            (Direction::Response, _) => Change::OfResponse,
            (Direction::Request, true) => Change::RemoveFromRequest,
            (Direction::Request, false) => Change::GiveRequest,
        }
    }
}

fn rules(
    context: &mut Context<'_>,
    item: &Item<RawRoute>,
    raw: Option<&Located<RawHeaderRules>>,
    direction: Direction,
) -> HeaderRules {
    let Some(Located { value: raw, span }) = raw else { return HeaderRules::default() };
    let count = |written: &Option<Written>| written.as_ref().map_or(0, BTreeMap::len);
    if count(&raw.set) + count(&raw.add) + raw.remove.as_ref().map_or(0, Vec::len) > MAX_RULES {
        context.tell(Finding::error(item.at(span), format!("more than {MAX_RULES} header rules")));
        return HeaderRules::default();
    }
    let mut cleared = Vec::new();
    for written in raw.remove.iter().flatten() {
        let name = field_name(context, item, written, direction.change(true));
        cleared.extend(once(context, item, written, name, &cleared));
    }
    let set = fields(context, item, raw.set.as_ref(), direction);
    for (name, _) in &set {
        if !cleared.contains(name) {
            cleared.push(name.clone());
        }
    }
    let add = fields(context, item, raw.add.as_ref(), direction);
    HeaderRules { cleared: cleared.into(), set: set.into(), add: add.into() }
}

fn fields(
    context: &mut Context<'_>,
    item: &Item<RawRoute>,
    written: Option<&Written>,
    direction: Direction,
) -> Vec<(HeaderName, HeaderValueRule)> {
    let mut names: Vec<HeaderName> = Vec::new();
    let mut fields = Vec::new();
    let mut in_order: Vec<_> = written.into_iter().flatten().collect();
    in_order.sort_by_key(|(name, _)| name.span.start);
    for (written, value) in in_order {
        let name = field_name(context, item, written, direction.change(false));
        let name = once(context, item, written, name, &names);
        let value = field_value(context, item, value, direction);
        if let (Some(name), Some(value)) = (name, value) {
            names.push(name.clone());
            fields.push((name, value));
        }
    }
    fields
}

/// The name, if the list has no other spelling of it.
fn once(
    context: &mut Context<'_>,
    item: &Item<RawRoute>,
    written: &Located<String>,
    name: Option<HeaderName>,
    known: &[HeaderName],
) -> Option<HeaderName> {
    let name = name?;
    if known.iter().any(|known| fold_together(known.as_str(), name.as_str())) {
        context.tell(Finding::error(item.at(&written.span), format!("the header `{}` twice", written.value)));
        return None;
    }
    Some(name)
}

/// The name of a field that may be changed so.
pub(super) fn field_name<T>(
    context: &mut Context<'_>,
    item: &Item<T>,
    written: &Located<String>,
    change: Change,
) -> Option<HeaderName> {
    let place = item.at(&written.span);
    let Ok(name) = HeaderName::try_from(&written.value) else {
        context.tell(Finding::error(place, "not a header's name").expected("letters, digits and dashes"));
        return None;
    };
    let Some(reason) = untouchable(&name, change) else { return Some(name) };
    let finding = Finding::error(place, format!("the header `{}` cannot be changed here", written.value));
    context.tell(finding.hint(match reason {
        Untouchable::Framing => "it frames the message, or ends with the connection: the gateway writes it itself",
        Untouchable::Credential => "`credentials` says what the upstream gets",
        Untouchable::Host => "`host` says what the upstream gets",
        Untouchable::Deciding => "limits decide by it, so the upstream must see what they saw",
        Untouchable::Overriding => "it would make another request of the one that was limited",
        Untouchable::SaidHere => "the gateway writes it itself",
    }));
    None
}

fn field_value(
    context: &mut Context<'_>,
    item: &Item<RawRoute>,
    written: &Located<String>,
    direction: Direction,
) -> Option<HeaderValueRule> {
    let place = item.at(&written.span);
    let text = &*written.value;
    let fit =
        text.len() <= MAX_VALUE_BYTES && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim() == text;
    if !fit {
        let finding = Finding::error(place, "not a header's value");
        context.tell(finding.expected("printable ASCII without blanks at its ends, at most 4096 bytes"));
        return None;
    }
    let pieces = pieces(context, &place, text, direction)?;
    match &*pieces {
        [] | [Piece::Text(_)] => HeaderValue::from_str(text).ok().map(HeaderValueRule::Fixed),
        _ => Some(HeaderValueRule::Filled(pieces.into())),
    }
}

/// Takes a value apart at its variables. Other braces, as JSON has them, are text.
fn pieces(context: &mut Context<'_>, place: &Place, text: &str, direction: Direction) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let (mut plain, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('{') {
        plain.push_str(before);
        let word = after.split_once('}').map(|(word, _)| word).filter(|word| is_word(word));
        let Some(word) = word else {
            plain.push('{');
            rest = after;
            continue;
        };
        let known = if direction == Direction::Request { &VARIABLES[..] } else { &VARIABLES[2..] };
        let Some((_, piece)) = known.iter().find(|(name, _)| *name == word) else {
            let names = known.iter().map(|(name, _)| *name);
            let finding = Finding::error(place.clone(), format!("there is no variable `{{{word}}}`"))
                .expected(names.clone().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", "));
            let hint = context.report.nearest(word, names);
            context.tell(match hint {
                Some(hint) => finding.hint(hint),
                None => finding,
            });
            return None;
        };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
        }
        pieces.push(piece.clone());
        rest = after.get(word.len() + 1..).unwrap_or_default();
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain.into()));
    }
    Some(pieces)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
