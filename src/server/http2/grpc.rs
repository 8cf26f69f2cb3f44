//! The gateway's own answers as gRPC has them: a status in trailers, since a gRPC client does not look into an HTTP error.

use crate::gateway::GatewayBody;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Deserialize;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const RETRY_PUSHBACK_MS: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("stripe-should-retry");

/// Whether a request with this head is a gRPC call: `application/grpc`, perhaps with a format behind it.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    match kind.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

#[derive(Deserialize)]
struct Envelope {
    error: Words,
}

#[derive(Deserialize)]
struct Words {
    message: String,
}

/// A refusal as a call's end: HTTP 200 with the status, the message and the headers that say why. Anything else stays as it is.
pub(super) fn translate(response: Response<GatewayBody>) -> Response<GatewayBody> {
    let status = response.status();
    let Some(json) = response.body().own_bytes() else { return response };
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let message = serde_json::from_slice::<Envelope>(json).map(|said| said.error.message).unwrap_or_default();
    let (mut parts, _) = response.into_parts();
    let headers = &mut parts.headers;
    let code = code(status, headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(code));
    if let Ok(message) = HeaderValue::try_from(escaped(&message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(seconds) = seconds {
        headers.insert(RETRY_PUSHBACK_MS, HeaderValue::from(seconds.saturating_mul(1000)));
    }
    parts.status = StatusCode::OK;
    Response::from_parts(parts, GatewayBody::own(""))
}

/// The code that says of trying again what the status does. `UNAVAILABLE` invites to: so never for a write whose outcome is
/// unknown.
fn code(status: StatusCode, headers: &HeaderMap) -> u16 {
    const UNKNOWN: u16 = 2;
    const INVALID_ARGUMENT: u16 = 3;
    const PERMISSION_DENIED: u16 = 7;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const UNIMPLEMENTED: u16 = 12;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    const UNAUTHENTICATED: u16 = 16;
    if headers.get(SHOULD_RETRY).is_some_and(|value| value == "false") && status.is_server_error() {
        return UNKNOWN;
    }
    match status.as_u16() {
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 | 405 | 501 => UNIMPLEMENTED,
        413 | 429 | 431 => RESOURCE_EXHAUSTED,
        500 => INTERNAL,
        502..=504 => UNAVAILABLE,
        _ => INVALID_ARGUMENT,
    }
}

/// Percent-encoded as `grpc-message` wants it.
fn escaped(message: &str) -> String {
    let mut escaped = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => escaped.push_str(&format!("%{byte:02X}")),
            _ => escaped.push(char::from(byte)),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, headers: &[(&'static str, &'static str)]) -> Response<GatewayBody> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(GatewayBody::own(&br#"{"error":{"message":"100 % \u00fc","type":"x"}}"#[..])).unwrap()
    }

    fn code_of(status: u16, headers: &[(&'static str, &'static str)]) -> String {
        let answer = translate(refusal(status, headers));
        assert_eq!(answer.status(), 200);
        assert!(matches!(answer.body(), GatewayBody::Own(_)) && answer.body().own_bytes().is_none());
        answer.headers()["grpc-status"].to_str().unwrap().to_owned()
    }

    #[test]
    fn refusals_have_the_code_that_says_what_they_say() {
        for (status, code) in [(400, "3"), (401, "16"), (403, "7"), (404, "12"), (429, "8"), (500, "13"), (502, "14")] {
            assert_eq!(code_of(status, &[]), code);
        }
        assert_eq!(code_of(502, &[("stripe-should-retry", "false")]), "2", "nobody is invited to pay twice");
        let limited = translate(refusal(429, &[("retry-after", "3"), ("stripe-should-retry", "false")]));
        assert_eq!(limited.headers()["grpc-status"], "8");
        assert_eq!(limited.headers()["grpc-retry-pushback-ms"], "3000");
        assert_eq!(limited.headers()["grpc-message"], "100 %25 %C3%BC");
    }

    #[test]
    fn what_is_no_call_is_left_alone() {
        let of = |kind: &'static str| HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
        assert!(
            ["application/grpc", "application/grpc+proto", "application/grpc;x"].iter().all(|kind| is_call(&of(kind)))
        );
        assert!(["application/grpc-web", "application/json"].iter().all(|kind| !is_call(&of(kind))));
        assert!(!is_call(&HeaderMap::new()));
        assert_eq!(translate(refusal(200, &[])).status(), 200);
        assert!(!translate(refusal(200, &[])).headers().contains_key("grpc-status"));
    }
}
