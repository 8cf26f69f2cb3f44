//! A route's own changes to heads.

use super::exchange::Exchange;
use crate::config::{HeaderRules, HeaderValueRule, Piece};
use crate::fields::fold_together;
use crate::keys::Principal;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Applies rules. Of an answer nobody knows the principal any more, and no rule of one asks for it.
pub(super) fn apply(headers: &mut HeaderMap, rules: &HeaderRules, exchange: &Exchange, principal: Option<&Principal>) {
    if rules.is_empty() {
        return;
    }
    clear(headers, &rules.cleared);
    for (name, rule) in &rules.set {
        if let Some(value) = value(rule, exchange, principal) {
            headers.insert(name, value);
        }
    }
    for (name, rule) in &rules.add {
        if let Some(value) = value(rule, exchange, principal) {
            headers.append(name, value);
        }
    }
}

/// Removes fields in every spelling: to some upstreams `X_Env` is `X-Env`, and a client must not say what a rule says.
pub(super) fn clear(headers: &mut HeaderMap, names: &[HeaderName]) {
    let goes = |field: &HeaderName| names.iter().any(|name| fold_together(name.as_str(), field.as_str()));
    let gone: Vec<HeaderName> = headers.keys().filter(|field| goes(field)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

/// The value; `None` where it would be none that a header can carry.
fn value(rule: &HeaderValueRule, exchange: &Exchange, principal: Option<&Principal>) -> Option<HeaderValue> {
    let pieces = match rule {
        HeaderValueRule::Fixed(value) => return Some(value.clone()),
        HeaderValueRule::Filled(pieces) => pieces,
    };
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Account => text.push_str(principal?.account_header.to_str().ok()?),
            Piece::KeyId => text.push_str(principal?.id_header.to_str().ok()?),
            Piece::Mode => text.push_str(exchange.mode?.as_str()),
            Piece::RequestId => text.push_str(exchange.request_id.to_str().ok()?),
            Piece::ClientIp => text.push_str(&exchange.client.to_string()),
        }
    }
    HeaderValue::try_from(text).ok()
}
