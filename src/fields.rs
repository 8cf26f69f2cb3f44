//! FLOOR 1: the header fields that mean something to a gateway, by what they do. One list each, for all who refuse, remove or
//! set such fields.

use http::header::{self, HeaderMap, HeaderName};

/// Fields that decide something: two of one are a disagreement waiting to happen between two readers, so they are refused.
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

/// Which names there may be among some fields, by their lengths, first and last letters. A request has few fields, and most of the names
/// that it is asked for are not there: that is known here without their being looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names(u64);

impl Names {
    /// Those of a map.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Names {
        let mut names = Names::default();
        headers.keys().for_each(|name| names.note(name));
        names
    }

    /// There is one of this name.
    pub fn note(&mut self, name: &HeaderName) {
        self.0 |= Names::bit(name);
    }

    /// Whether there may be one of this name. Where not, there is none.
    #[must_use]
    pub fn may_have(self, name: &HeaderName) -> bool {
        self.0 & Names::bit(name) != 0
    }

    fn bit(name: &HeaderName) -> u64 {
        let name = name.as_str().as_bytes();
        let letter = |letter: Option<&u8>| letter.map_or(0, |&letter| usize::from(letter));
        // A spread that sets the names that requests are asked for apart from those that most have.
        1 << ((letter(name.first()) * 3 + letter(name.last()) * 15 + name.len()) % 64)
    }
}

/// Hop-by-hop (RFC 9110 §7.6.1), in either direction. `Connection` itself, which names more of them, goes first.
pub const HOP_BY_HOP: [&str; 6] =
    ["keep-alive", "proxy-connection", "proxy-authenticate", "transfer-encoding", "upgrade", "http2-settings"];

/// From a client only: meant for the gateway.
const FOR_THE_GATEWAY: [&str; 5] = ["te", "proxy-authorization", "expect", "forwarded", "x-real-ip"];

/// A second way to say what the gateway decides by.
const OVERRIDING: [&str; 5] =
    ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"];

/// What the gateway says of a request, beside the families `x-forwarded-` and `tollgate-`.
const SAID_HERE: [&str; 5] = ["via", "forwarded", "request-id", "traceparent", "tracestate"];

/// Said of one message only.
const ONCE: [&str; 4] = ["request-id", "x-request-id", "traceparent", "idempotency-key"];

/// Keeps fields whose values never come again out of the tables of a connection over HTTP/2 (RFC 7541 §6.2.3). There they would
/// push out what does come again, and each new one would be compared with all that came before it.
pub fn keep_out_of_tables(headers: &mut HeaderMap) {
    for (name, value) in headers {
        if ONCE.contains(&name.as_str()) {
            value.set_sensitive(true);
        }
    }
}

/// Whether a client's field never goes on as it is.
#[must_use]
pub fn is_not_forwarded(name: &str) -> bool {
    FOR_THE_GATEWAY.contains(&name) || OVERRIDING.contains(&name) || is_own(name)
}

/// What only the gateway may say, or what only it may read, in every spelling that a lenient reader folds together
/// (`Tollgate_Account`, `X_Real_IP`).
#[must_use]
pub fn is_own(name: &str) -> bool {
    // A fold without an early end, so that the compiler makes vector code of it.
    let has_underscore = name.bytes().fold(false, |has, byte| has | (byte == b'_'));
    name.starts_with("tollgate-") || has_underscore && is_shadow(&name.replace('_', "-"))
}

fn is_shadow(dashed: &str) -> bool {
    dashed.starts_with("tollgate-")
        || dashed.starts_with("x-forwarded-")
        || HOP_BY_HOP.contains(&dashed)
        || FOR_THE_GATEWAY.contains(&dashed)
        || OVERRIDING.contains(&dashed)
        || SAID_HERE.contains(&dashed)
        || DECIDING.iter().any(|known| known.as_str() == dashed)
}

/// Whether two names are one to a reader that takes an underscore for a dash.
#[must_use]
pub fn fold_together(one: &str, other: &str) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(|(one, other)| dashed(one) == dashed(other))
}

/// What the peer may never have removed by naming it in `Connection`: it decides who is served or how the body is framed, or
/// says by whom the request has come.
#[must_use]
pub fn is_protected(name: &HeaderName) -> bool {
    let text = name.as_str();
    DECIDING.contains(name)
        || SAID_HERE.contains(&text)
        || text.starts_with("tollgate-")
        || text.starts_with("x-forwarded-")
}

/// Why nobody may change a field by a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untouchable {
    /// It frames the message, or ends with the connection.
    Framing,
    /// The key: `credentials` says what becomes of it.
    Credential,
    /// `host` says what becomes of it.
    Host,
    /// Limits decide by it, so the upstream must see what they saw.
    Deciding,
    /// It makes another request of the one that was limited.
    Overriding,
    /// The gateway says it.
    SaidHere,
}

/// Which way a message goes, and what a rule does to a field of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Removes a field of a request.
    RemoveFromRequest,
    /// Gives a request a field.
    GiveRequest,
    /// Removes a field of an answer, or gives it one.
    OfResponse,
}

/// Why a rule may not do this to the field of this name, if there is a reason. Spellings with underscores are as bad.
#[must_use]
pub fn untouchable(name: &HeaderName, change: Change) -> Option<Untouchable> {
    let name = name.as_str().replace('_', "-");
    let name = name.as_str();
    let framing =
        ["connection", "content-length", "content-encoding", "trailer", "te", "expect", "proxy-authorization"];
    if HOP_BY_HOP.contains(&name) || framing.contains(&name) {
        return Some(Untouchable::Framing);
    }
    if change == Change::OfResponse {
        return (name == "request-id").then_some(Untouchable::SaidHere);
    }
    if name == "via" {
        return Some(Untouchable::SaidHere);
    }
    if DECIDING.iter().any(|known| known.as_str() == name) {
        return Some(match name {
            "authorization" => Untouchable::Credential,
            "host" => Untouchable::Host,
            _ => Untouchable::Deciding,
        });
    }
    let said_here = SAID_HERE.contains(&name) || name.starts_with("x-forwarded-") || name.starts_with("tollgate-");
    match change {
        Change::GiveRequest if said_here => Some(Untouchable::SaidHere),
        Change::GiveRequest if OVERRIDING.contains(&name) => Some(Untouchable::Overriding),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_once_is_kept_out_of_tables() {
        let names = ["request-id", "date", "x-request-id", "traceparent", "tracestate", "idempotency-key", "x-id"];
        let value = header::HeaderValue::from_static("1");
        let mut headers: HeaderMap = names.iter().map(|name| (name.parse().unwrap(), value.clone())).collect();
        keep_out_of_tables(&mut headers);
        let kept_out = names.map(|name| headers.get(name).is_some_and(header::HeaderValue::is_sensitive));
        assert_eq!(kept_out, [true, false, true, true, false, true, false]);
    }

    #[test]
    fn every_field_that_decides_or_frames_is_untouchable_in_every_spelling() {
        let deciding = DECIDING;
        let deciding = deciding.iter().map(HeaderName::as_str);
        for name in deciding.chain(HOP_BY_HOP).chain(["connection", "te", "expect", "via"]) {
            for spelling in [name.to_owned(), name.replace('-', "_")] {
                let name: HeaderName = spelling.parse().unwrap();
                for change in [Change::RemoveFromRequest, Change::GiveRequest] {
                    assert!(untouchable(&name, change).is_some(), "{name} {change:?}");
                }
                assert!(name.as_str().contains('-') || !spelling.contains('_') || is_own(&spelling), "{spelling}");
            }
        }
        for name in OVERRIDING.iter().chain(&SAID_HERE).chain(&["x-forwarded-for", "x_forwarded_user", "tollgate-mode"])
        {
            assert!(untouchable(&name.parse().unwrap(), Change::GiveRequest).is_some(), "{name}");
        }
        for name in ["x-env", "cookie", "x-real-ip", "x-api-key", "server"] {
            for change in [Change::RemoveFromRequest, Change::GiveRequest, Change::OfResponse] {
                assert_eq!(untouchable(&name.parse().unwrap(), change), None, "{name} {change:?}");
            }
        }
    }

    #[test]
    fn underscores_fold() {
        assert!(fold_together("x-a-b", "x_a-b") && !fold_together("x-a", "x-ab") && !fold_together("x-a", "x.a"));
        for name in
            ["tollgate_mode", "x_forwarded_for", "x_real-ip", "stripe_account", "transfer_encoding", "tollgate-x"]
        {
            assert!(is_own(name), "{name}");
        }
        for name in ["x_custom", "x-forwarded-for", "stripe-account", "user-agent"] {
            assert!(!is_own(name), "{name}");
        }
    }
}
