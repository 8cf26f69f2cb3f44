//! The JSON API of the admin listener: who may ask, what is there, and one shape for everything that is wrong.
//!
//! It asks for no key, so it must not be reachable by a web page in somebody's browser: a request that a page sent names
//! another host (rebound names) or has an `Origin`. Both are refused.

use super::{accounts, explain, overrides, upstreams};
use crate::gateway::Shared;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Bytes of a request's body.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Begins the paths of the API.
pub(super) const PREFIX: &str = "/v1/";

/// An answer of the API.
pub(super) struct Reply {
    status: StatusCode,
    value: Value,
    /// The methods of a path, for a request with another one.
    allow: Option<&'static str>,
}

impl Reply {
    pub(super) fn ok(value: impl Serialize) -> Reply {
        Reply::new(StatusCode::OK, value)
    }

    pub(super) fn new(status: StatusCode, value: impl Serialize) -> Reply {
        match serde_json::to_value(value) {
            Ok(value) => Reply { status, value, allow: None },
            Err(error) => Reply::refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    pub(super) fn refuse(status: StatusCode, message: &str) -> Reply {
        Reply { status, value: json!({ "error": { "message": message } }), allow: None }
    }

    /// A request with mistakes in it: all of them.
    pub(super) fn mistakes(mistakes: &[Value]) -> Reply {
        let message = format!("{} mistakes in the request", mistakes.len());
        let error = json!({ "error": { "message": message, "mistakes": mistakes } });
        Reply { status: StatusCode::UNPROCESSABLE_ENTITY, value: error, allow: None }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(format!("{:#}\n", self.value)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(methods) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(methods));
        }
        response
    }
}

/// Answers one request.
pub(super) async fn answer(request: Request<Incoming>, shared: Arc<Shared>, peer: SocketAddr) -> Reply {
    let (parts, body) = request.into_parts();
    let configured = shared.current().config.admin.listen;
    if let Err(refusal) = from_no_page(&parts.headers, &parts.uri, configured) {
        return refusal;
    }
    let path = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let (collection, id) = path.split_once('/').map_or((path, None), |(collection, id)| (collection, Some(id)));
    let method = if parts.method == Method::HEAD { Method::GET } else { parts.method };
    match (collection, id.filter(|id| !id.is_empty() && !id.contains('/')), method.as_str()) {
        ("overrides", None, "GET") => overrides::list(&shared),
        ("overrides", None, "PUT") => match read(body).await {
            Ok(body) => elsewhere(move || overrides::put(&shared, peer, &body)).await,
            Err(refusal) => refusal,
        },
        ("overrides", Some(id), "DELETE") => {
            let id = id.to_owned();
            elsewhere(move || overrides::delete(&shared, peer, &id)).await
        }
        ("accounts", Some(id), "GET") => accounts::show(&shared, id),
        ("upstreams", None, "GET") => upstreams::list(&shared),
        ("explain", None, "GET") => {
            elsewhere(move || explain::answer(&shared, parts.uri.query().unwrap_or_default())).await
        }
        ("overrides", None, _) => not_allowed("GET, HEAD, PUT"),
        ("overrides", Some(_), _) => not_allowed("DELETE"),
        ("accounts", Some(_), _) | ("upstreams" | "explain", None, _) => not_allowed("GET, HEAD"),
        _ => Reply::refuse(StatusCode::NOT_FOUND, THERE_ARE),
    }
}

const THERE_ARE: &str = "there are GET and PUT /v1/overrides, DELETE /v1/overrides/ID, GET /v1/accounts/ID, \
     GET /v1/upstreams and GET /v1/explain?method=...&path=...&account=...";

fn not_allowed(methods: &'static str) -> Reply {
    Reply { allow: Some(methods), ..Reply::refuse(StatusCode::METHOD_NOT_ALLOWED, THERE_ARE) }
}

/// Where waiting for the disk, or thinking long, holds up nobody.
async fn elsewhere(work: impl FnOnce() -> Reply + Send + 'static) -> Reply {
    let failed = |_| Reply::refuse(StatusCode::INTERNAL_SERVER_ERROR, "the request failed");
    tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
}

async fn read(body: Incoming) -> Result<Bytes, Reply> {
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Reply::refuse(StatusCode::PAYLOAD_TOO_LARGE, "a body is at most 64 KiB"))
        }
        Err(_) => Err(Reply::refuse(StatusCode::BAD_REQUEST, "the body could not be read")),
    }
}

fn from_no_page(headers: &HeaderMap, uri: &Uri, configured: Option<SocketAddr>) -> Result<(), Reply> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Reply::refuse(StatusCode::FORBIDDEN, "requests of web pages are refused: there is an Origin"));
    }
    let mut named = headers.get_all(header::HOST).iter();
    let host = match (uri.authority(), named.next(), named.next()) {
        (Some(authority), _, None) => authority.as_str(),
        (None, Some(one), None) => one.to_str().unwrap_or_default(),
        _ => "",
    };
    if is_own(host, configured.map(|address| address.ip())) {
        return Ok(());
    }
    let message = "the Host must be a loopback name or the address of `[admin] listen`";
    Err(Reply::refuse(StatusCode::MISDIRECTED_REQUEST, message))
}

/// Whether a `Host` names this listener by an address, or by the one name that no server of names can rebind.
fn is_own(host: &str, configured: Option<IpAddr>) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || Some(address) == configured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_cannot_be_rebound_are_its_own() {
        let configured = Some("10.1.2.3".parse().unwrap());
        for host in ["localhost", "LOCALHOST:9090", "127.0.0.1:9090", "127.9.9.9", "[::1]:9090", "[::1]", "10.1.2.3:1"]
        {
            assert!(is_own(host, configured), "{host}");
        }
        for host in ["", ":9090", "evil.test", "localhost.evil.test", "10.1.2.4", "127.0.0.1.evil.test:9090", "[::2]:1"]
        {
            assert!(!is_own(host, configured), "{host}");
        }
        assert!(!is_own("10.1.2.3", None));
    }
}
