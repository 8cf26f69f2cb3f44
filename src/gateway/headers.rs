//! What changes in a head on its way through, and what may come once only.

use super::exchange::Exchange;
use crate::keys::Principal;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers that decide something: two of one are a disagreement waiting to happen between two readers, so they are refused.
pub const DECIDING: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::HOST,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    STRIPE_ACCOUNT,
    HeaderName::from_static("stripe-context"),
    HeaderName::from_static("idempotency-key"),
];

/// The connected account that a request acts for.
pub const STRIPE_ACCOUNT: HeaderName = HeaderName::from_static("stripe-account");
/// The request's id, on both sides.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const TOLLGATE_ACCOUNT: HeaderName = HeaderName::from_static("tollgate-account");
const TOLLGATE_MODE: HeaderName = HeaderName::from_static("tollgate-mode");
const TOLLGATE_KEY_ID: HeaderName = HeaderName::from_static("tollgate-key-id");

/// Hop-by-hop (RFC 9110 §7.6.1), in either direction.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// From a client only: meant for the gateway, or a second way to say what the gateway decides by.
const NOT_FORWARDED: [HeaderName; 9] = [
    header::PROXY_AUTHORIZATION,
    header::EXPECT,
    header::FORWARDED,
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

/// What the peer may never have removed by naming it in `Connection`: it decides who is served, or how the body is framed.
fn is_protected(name: &HeaderName) -> bool {
    DECIDING.contains(name) || name.as_str().starts_with("tollgate-")
}

/// Makes a client's head fit for the upstream: hop-by-hop fields go, the gateway's own are set.
pub fn forward_request(
    headers: &mut HeaderMap,
    exchange: &Exchange,
    principal: &Principal,
    host: Option<&HeaderValue>,
) {
    let wants_trailers = headers.get_all(header::TE).iter().any(|value| {
        value.to_str().is_ok_and(|te| te.split(',').any(|item| item.trim().eq_ignore_ascii_case("trailers")))
    });
    remove_hop_by_hop(headers);
    for name in &NOT_FORWARDED {
        headers.remove(name);
    }
    headers.remove(header::TE);
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    remove_own_names(headers);
    add_forwarding(headers, exchange, host);
    headers.insert(TOLLGATE_ACCOUNT, principal.account_header.clone());
    headers.insert(TOLLGATE_MODE, HeaderValue::from_static(principal.mode.as_str()));
    headers.insert(TOLLGATE_KEY_ID, principal.id_header.clone());
}

/// Makes an upstream's head fit for the client.
pub fn forward_response(headers: &mut HeaderMap, exchange: &Exchange) {
    remove_hop_by_hop(headers);
    if !headers.contains_key(REQUEST_ID) {
        headers.insert(REQUEST_ID, exchange.request_id.clone());
    }
}

fn add_forwarding(headers: &mut HeaderMap, exchange: &Exchange, host: Option<&HeaderValue>) {
    let peer = &exchange.peer;
    // The peer speaks for others only if it is a trusted proxy, and then the client is somebody else.
    let trusted = exchange.client != peer.address;
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
        headers.remove(FORWARDED_HOST);
        if let Some(host) = headers.get(header::HOST).cloned() {
            headers.insert(FORWARDED_HOST, host);
        }
    }
    if let Some(host) = host {
        headers.insert(header::HOST, host.clone());
    }
    append(headers, header::VIA, "1.1 tollgate");
    headers.insert(REQUEST_ID, exchange.request_id.clone());
    if !headers.contains_key(TRACEPARENT) {
        headers.insert(TRACEPARENT, exchange.home.ids.traceparent());
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| !is_protected(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Drops what only the gateway may say, in every spelling that a lenient reader folds together (`Tollgate_Account`).
fn remove_own_names(headers: &mut HeaderMap) {
    let is_own = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("tollgate-") || name.starts_with("tollgate_") || name.starts_with("x_forwarded")
    };
    if headers.keys().any(is_own) {
        let own: Vec<HeaderName> = headers.keys().filter(|name| is_own(name)).cloned().collect();
        for name in own {
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

fn append(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.append(name, HeaderValue::from_static(value));
}
