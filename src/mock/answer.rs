//! From a request to a Stripe-shaped answer.

use super::object::{Family, Object, Query, letters, refusal};
use super::resource::{Act, Asked, Operations};
use super::{MockOptions, form};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use serde_json::Value;
use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::sleep;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const STRIPE_ACCOUNT: HeaderName = HeaderName::from_static("stripe-account");
const STRIPE_SHOULD_RETRY: HeaderName = HeaderName::from_static("stripe-should-retry");
const STRIPE_VERSION: HeaderName = HeaderName::from_static("stripe-version");
/// The API version of answers to requests that name none.
const DEFAULT_VERSION: HeaderValue = HeaderValue::from_static("2026-10-28.clover");

/// One mock: the same for all its connections.
pub(super) struct Mock {
    options: MockOptions,
    operations: Operations,
    requests: AtomicU64,
}

/// What is answered: a status, a body, and whether the client is told to try again.
struct Answer {
    status: StatusCode,
    body: Object,
    should_retry: bool,
}

impl Answer {
    fn ok(body: Object) -> Answer {
        Answer { status: StatusCode::OK, body, should_retry: false }
    }

    fn refuse(status: StatusCode, body: Object) -> Answer {
        Answer { status, body, should_retry: false }
    }

    fn bad(status: StatusCode, message: &str) -> Answer {
        Answer::refuse(status, refusal("invalid_request_error", None, message, None))
    }
}

impl Mock {
    pub(super) fn new(options: MockOptions) -> Mock {
        Mock { options, operations: Operations::new(), requests: AtomicU64::new(0) }
    }

    /// Answers one request, after the latency drawn for it.
    pub(super) async fn answer<B: Body + Unpin>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let latency = self.options.latency.sample([self.random(number, b"latency"), self.random(number, b"angle")]);
        let (head, body) = request.into_parts();
        let form = form::collect(body).await;
        if !latency.is_zero() {
            sleep(latency).await;
        }
        let answer = match (key(&head.headers), form) {
            (None, _) => Answer::bad(StatusCode::UNAUTHORIZED, NO_KEY),
            (Some(_), None) => Answer::bad(StatusCode::BAD_REQUEST, "The request body is incomplete."),
            (Some(key), Some(form)) => self.found(number, &head, &form, key.contains("_live_")),
        };
        respond(&head, &answer, &format!("req_{}", letters(self.random(number, b"request"), 14)))
    }

    fn found(&self, number: u64, head: &Parts, form: &[u8], livemode: bool) -> Answer {
        let path = head.uri.path();
        let Some(Asked { is_v2, object, act }) = self.operations.find(&head.method, path) else {
            let message = format!("Unrecognized request URL ({}: {path}).", head.method);
            return Answer::bad(StatusCode::NOT_FOUND, &message);
        };
        if let Some(trouble) = self.trouble(number, act) {
            return trouble;
        }
        let family = Family { object: &object, is_v2, livemode, seed: self.options.seed };
        let missing = |id| family.missing(id, "id").map(|error| Answer::refuse(StatusCode::NOT_FOUND, error));
        let page = |is_search| {
            let query = Query(form::fields(head.uri.query().unwrap_or_default().as_bytes()).collect());
            match family.page(path, &query, is_search) {
                Ok(page) => Answer::ok(page),
                Err(error) => Answer::refuse(StatusCode::BAD_REQUEST, error),
            }
        };
        match act {
            Act::List => page(false),
            Act::Search => page(true),
            Act::Create => {
                let said = form::object(form);
                let chosen = said.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
                let id = chosen.map_or_else(|| family.id(self.draw(number, &head.headers)), str::to_owned);
                Answer::ok(family.one(&id, said, None))
            }
            Act::One { id, verb } => {
                missing(id).unwrap_or_else(|| Answer::ok(family.one(id, form::object(form), verb)))
            }
            Act::Delete { id } => missing(id).unwrap_or_else(|| Answer::ok(family.deleted(Some(id)))),
            Act::Only { deleted: true } => Answer::ok(family.deleted(None)),
            Act::Only { deleted: false } => Answer::ok(family.only(form::object(form))),
        }
    }

    /// The failure drawn for a request, at the rates that were asked for.
    fn trouble(&self, number: u64, act: Act<'_>) -> Option<Answer> {
        if self.options.error_rate.hits(self.random(number, b"error")) {
            let error = refusal("api_error", None, ERROR, None);
            return Some(Answer::refuse(StatusCode::INTERNAL_SERVER_ERROR, error));
        }
        let names_one = matches!(act, Act::One { .. } | Act::Delete { .. });
        (names_one && self.options.lock_timeout_rate.hits(self.random(number, b"lock"))).then(|| {
            let body = refusal("invalid_request_error", Some("lock_timeout"), LOCK_TIMEOUT, None);
            Answer { should_retry: true, ..Answer::refuse(StatusCode::TOO_MANY_REQUESTS, body) }
        })
    }

    /// What a new object's id is drawn from: the request's number, or its idempotency key and who sent it.
    fn draw(&self, number: u64, headers: &HeaderMap) -> u64 {
        let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return self.random(number, b"object") };
        let mut hasher = SipHasher24::new_with_keys(self.options.seed, 1);
        for value in [Some(key), headers.get(AUTHORIZATION), headers.get(STRIPE_ACCOUNT)].into_iter().flatten() {
            hasher.write_usize(value.len());
            hasher.write(value.as_bytes());
        }
        hasher.finish()
    }

    fn random(&self, number: u64, purpose: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.options.seed, 0);
        hasher.write_u64(number);
        hasher.write(purpose);
        hasher.finish()
    }
}

const NO_KEY: &str = "You did not provide an API key. You need to provide your API key in the Authorization header, using \
    Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, \
    or we can help at https://support.stripe.com/.";

const ERROR: &str = "An unknown error occurred";

const LOCK_TIMEOUT: &str = "This object cannot be accessed right now because another API request or Stripe process is \
    currently accessing it. If you see this error intermittently, retry the request. If you see this error frequently and are \
    making multiple concurrent requests to a single object, make your requests serially or at a lower rate.";

/// The API key of a request, from Bearer or Basic.
fn key(headers: &HeaderMap) -> Option<String> {
    use base64::Engine;
    let (scheme, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let key = if scheme.eq_ignore_ascii_case("bearer") {
        credentials.trim().to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = base64::engine::general_purpose::STANDARD.decode(credentials.trim()).ok()?;
        String::from_utf8(decoded).ok()?.split(':').next()?.to_owned()
    } else {
        return None;
    };
    Some(key).filter(|key| !key.is_empty())
}

fn respond(head: &Parts, answer: &Answer, request_id: &str) -> Response<Full<Bytes>> {
    let mut text = serde_json::to_vec_pretty(&answer.body).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("request-id", id);
    }
    if answer.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Stripe\""));
        return response;
    }
    if answer.should_retry {
        headers.insert(STRIPE_SHOULD_RETRY, HeaderValue::from_static("true"));
    }
    headers.insert(STRIPE_VERSION, head.headers.get(STRIPE_VERSION).cloned().unwrap_or(DEFAULT_VERSION));
    for name in [IDEMPOTENCY_KEY, STRIPE_ACCOUNT] {
        if let Some(value) = head.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    response
}
