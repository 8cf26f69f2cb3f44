//! What changes in a head on its way through, and what may come once only.

use super::credentials::Credential;
use super::exchange::Exchange;
use super::head::Head;
use super::{forwarded, rewrite, rules, trace};
use crate::config::{Forwarded, RouteOptions};
use crate::engine::Mode;
pub use crate::fields::{DECIDING, STRIPE_ACCOUNT};
use crate::fields::{HOP_BY_HOP, Names, is_not_forwarded, is_protected};
use crate::keys::Principal;
use crate::upstream::OwnFields;
use crate::upstream::http1::Lines;
use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The request's id, on both sides.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const TOLLGATE_ACCOUNT: HeaderName = HeaderName::from_static("tollgate-account");
const TOLLGATE_MODE: HeaderName = HeaderName::from_static("tollgate-mode");
const TOLLGATE_KEY_ID: HeaderName = HeaderName::from_static("tollgate-key-id");
const TOLLGATE_CLIENT_CERTIFICATE: HeaderName = HeaderName::from_static("tollgate-client-certificate-sha256");

/// Makes a client's head fit for the upstream: hop-by-hop fields go, the gateway's own are set.
pub fn forward_request(
    headers: &mut HeaderMap,
    version: Version,
    exchange: &Exchange,
    principal: &Principal,
    host: Option<&HeaderValue>,
) {
    let snapshot = &exchange.view.snapshot;
    let options = snapshot.options(exchange.route);
    let wants_trailers = headers.contains_key(header::TE) && asks_for_trailers(headers);
    let is_believed = speaks_for_another(exchange);
    remove_named_by_connection(headers);
    let forwarded = match snapshot.config.server.forwarded {
        Forwarded::Off => None,
        Forwarded::Append => forwarded::value(headers, exchange, is_believed),
    };
    remove_fields(headers, |name| {
        HOP_BY_HOP.contains(&name) || is_not_forwarded(name) || (!is_believed && name.starts_with("x-forwarded-"))
    });
    if let Some(forwarded) = forwarded {
        headers.insert(header::FORWARDED, forwarded);
    }
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    add_forwarding(headers, exchange, host);
    headers.append(header::VIA, snapshot.config.server.via.value(version).clone());
    trace::carry_on(headers, &exchange.home.ids);
    headers.insert(TOLLGATE_ACCOUNT, principal.account_header.clone());
    headers.insert(TOLLGATE_MODE, HeaderValue::from_static(principal.mode.as_str()));
    headers.insert(TOLLGATE_KEY_ID, principal.id_header.clone());
    if let Some(certificate) = exchange.peer.certificate() {
        headers.insert(TOLLGATE_CLIENT_CERTIFICATE, certificate.clone());
    }
    if let Some(options) = options {
        if let Some(prefix) = &options.stripped {
            headers.append(FORWARDED_PREFIX, prefix.clone());
        }
        rules::apply(headers, &options.request_headers, exchange, Some(principal));
    }
    // Last, so that no rule undoes it.
    snapshot.credential(exchange.route).apply(headers);
}

/// As [`forward_request`], with the gateway's own fields as lines apart wherever nothing that is configured may touch them.
pub(super) fn forward_lines(
    head: &mut Head,
    exchange: &Exchange,
    principal: &Principal,
    host: Option<&HeaderValue>,
) -> OwnFields {
    let snapshot = &exchange.view.snapshot;
    let rules = snapshot.options(exchange.route);
    let touches = |options: &RouteOptions| options.stripped.is_some() || !options.request_headers.is_empty();
    let is_plain = snapshot.config.server.forwarded == Forwarded::Off
        && !speaks_for_another(exchange)
        && !rules.is_some_and(touches)
        && matches!(snapshot.credential(exchange.route), Credential::Keep | Credential::Drop);
    let version = head.version;
    if !is_plain {
        forward_request(&mut head.parts_mut().headers, version, exchange, principal, host);
        return OwnFields::default();
    }
    let wants_trailers = head.has(&header::TE) && asks_for_trailers(&head.headers);
    let is_traced = head.has(&trace::TRACEPARENT) && trace::is_carried_on(&head.headers);
    let names_others = head.has(&header::CONNECTION);
    let headers = &mut head.parts_mut().headers;
    if names_others {
        remove_named_by_connection(headers);
    }
    remove_fields(headers, |name| {
        HOP_BY_HOP.contains(&name)
            || is_not_forwarded(name)
            || name.starts_with("x-forwarded-")
            || name == REQUEST_ID.as_str()
            || (!is_traced && (name == trace::TRACEPARENT.as_str() || name == trace::TRACESTATE.as_str()))
    });
    let own = own_lines(headers, version, exchange, principal, (wants_trailers, is_traced));
    if let Some(host) = host {
        headers.insert(header::HOST, host.clone());
    }
    snapshot.credential(exchange.route).apply(headers);
    own
}

/// What the gateway says of a request whose head is `headers`, the client's host still in it.
fn own_lines(
    headers: &HeaderMap,
    version: Version,
    exchange: &Exchange,
    principal: &Principal,
    (wants_trailers, is_traced): (bool, bool),
) -> OwnFields {
    let peer = &exchange.peer;
    let mut own = OwnFields::new();
    if wants_trailers {
        own.add_static(&header::TE, "trailers");
    }
    // The names as text, together with the line ends before them: what this costs is pieces.
    let proto = if peer.secure { "\r\nx-forwarded-proto: https\r\n" } else { "\r\nx-forwarded-proto: http\r\n" };
    own.text("x-forwarded-for: ").value(&peer.header).text(proto);
    if let Some(host) = rewrite::host_of(headers) {
        own.text("x-forwarded-host: ").value(host).text("\r\n");
    }
    let via = exchange.view.snapshot.config.server.via.value(version);
    own.text("request-id: ").value(&exchange.request_id).text("\r\nvia: ").value(via).text("\r\n");
    if !is_traced {
        own.add_ascii(&trace::TRACEPARENT, &exchange.home.ids.traceparent_bytes());
    }
    let mode = match principal.mode {
        Mode::Live => "\r\ntollgate-mode: live\r\ntollgate-key-id: ",
        Mode::Test => "\r\ntollgate-mode: test\r\ntollgate-key-id: ",
    };
    own.text("tollgate-account: ").value(&principal.account_header).text(mode).value(&principal.id_header).text("\r\n");
    if let Some(certificate) = peer.certificate() {
        own.add(&TOLLGATE_CLIENT_CERTIFICATE, certificate);
    }
    own
}

/// Makes an upstream's head fit for the client.
pub fn forward_response(headers: &mut HeaderMap, exchange: &Exchange) {
    let names = Names::of(headers);
    if names.may_have(&header::CONNECTION) {
        remove_named_by_connection(headers);
    }
    remove_fields(headers, |name| HOP_BY_HOP.contains(&name));
    if !(names.may_have(&REQUEST_ID) && headers.contains_key(REQUEST_ID)) {
        headers.insert(REQUEST_ID, exchange.request_id.clone());
    }
    if let Some(options) = exchange.view.snapshot.options(exchange.route) {
        rules::apply(headers, &options.response_headers, exchange, None);
    }
}

/// The same of one whose fields are lines, without those that [`forward_response`] removes, on a route that has no rules for them.
pub(super) fn complete(lines: &mut Lines, exchange: &Exchange) {
    if !lines.has_request_id {
        lines.fields.add(&REQUEST_ID, &exchange.request_id);
    }
}

fn add_forwarding(headers: &mut HeaderMap, exchange: &Exchange, host: Option<&HeaderValue>) {
    let peer = &exchange.peer;
    let trusted = speaks_for_another(exchange);
    if trusted {
        // Every line of it: the last one is what the trusted proxy itself wrote.
        let lines = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let chain = lines.fold(String::new(), |chain, line| chain + line + ", ");
        set(headers, FORWARDED_FOR, &format!("{chain}{}", peer.address));
    } else {
        headers.insert(FORWARDED_FOR, peer.header.clone());
    }
    if !(trusted && headers.contains_key(FORWARDED_PROTO)) {
        let proto = if peer.secure { "https" } else { "http" };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if !(trusted && headers.contains_key(FORWARDED_HOST)) {
        match headers.get(header::HOST).cloned() {
            Some(host) => drop(headers.insert(FORWARDED_HOST, host)),
            None => drop(headers.remove(FORWARDED_HOST)),
        }
    }
    if let Some(host) = host {
        headers.insert(header::HOST, host.clone());
    }
    headers.insert(REQUEST_ID, exchange.request_id.clone());
}

/// The peer speaks for others only if it is a trusted proxy, and then the client is somebody else. From anybody else no
/// `X-Forwarded-` field is believed, the unofficial ones (`-Port`, `-Prefix`, `-User`) no more than the others.
fn speaks_for_another(exchange: &Exchange) -> bool {
    exchange.client != exchange.peer.address
}

fn asks_for_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(header::TE).iter().any(|value| {
        value.to_str().is_ok_and(|te| te.split(',').any(|item| item.trim().eq_ignore_ascii_case("trailers")))
    })
}

/// Removes `Connection` and the fields it names.
fn remove_named_by_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    // Most say only whether to stay, which names no field that would not go anyway.
    let names_none = |name: &&str| name.eq_ignore_ascii_case("keep-alive") || name.eq_ignore_ascii_case("close");
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !names_none(name))
        .filter_map(|name| name.parse().ok())
        .filter(|name| !is_protected(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
}

/// Removes the fields whose names `goes` picks. One pass over the few there are costs less than a look-up for each name that
/// might be there; mostly none is.
fn remove_fields(headers: &mut HeaderMap, goes: impl Fn(&str) -> bool) {
    if headers.keys().any(|name| goes(name.as_str())) {
        let gone: Vec<HeaderName> = headers.keys().filter(|name| goes(name.as_str())).cloned().collect();
        for name in gone {
            headers.remove(name);
        }
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => drop(headers.insert(name, value)),
        Err(_) => drop(headers.remove(name)),
    }
}
