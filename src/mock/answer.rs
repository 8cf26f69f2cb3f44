//! From a request to a Stripe-shaped answer.

use super::resource::{Resource, id_prefix};
use super::{MockOptions, form};
use crate::clock::timer_now;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use serde::{Serialize, Serializer};
use serde_json::Value;
use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::{Instant, sleep};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const STRIPE_ACCOUNT: HeaderName = HeaderName::from_static("stripe-account");
const STRIPE_VERSION: HeaderName = HeaderName::from_static("stripe-version");
/// The API version of answers to requests that name none.
const DEFAULT_VERSION: HeaderValue = HeaderValue::from_static("2025-09-30.clover");
/// When the mock starts, on its own calendar: 2026-01-01T00:00:00Z in Unix seconds.
const EPOCH: u64 = 1_767_225_600;
/// Objects in a list whose `limit` is not given, and at most.
const LIST_OBJECTS: (usize, usize) = (3, 100);

/// One mock: the same for all its connections.
pub(super) struct Mock {
    options: MockOptions,
    requests: AtomicU64,
    started: Instant,
}

/// What an answer needs of its request.
struct Asked<'a> {
    head: &'a Parts,
    form: &'a [u8],
    /// What this request's ids are drawn from.
    draw: u64,
    livemode: bool,
}

impl Mock {
    pub(super) fn new(options: MockOptions) -> Mock {
        Mock { options, requests: AtomicU64::new(0), started: timer_now() }
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
        let (status, body) = match (key(&head.headers), form) {
            (None, _) => (StatusCode::UNAUTHORIZED, error(NO_KEY)),
            (Some(_), None) => (StatusCode::BAD_REQUEST, error("The request body is incomplete.")),
            (Some(key), Some(form)) => {
                let draw = self.draw(number, &head.headers);
                self.found(&Asked { head: &head, form: &form, draw, livemode: key.contains("_live_") })
            }
        };
        respond(&head, status, &body, &format!("req_{}", letters(self.random(number, b"request"), 14)))
    }

    fn found(&self, asked: &Asked<'_>) -> (StatusCode, Object) {
        let path = asked.head.uri.path();
        let method = match &asked.head.method {
            method if *method == Method::HEAD => &Method::GET,
            method => method,
        };
        let body = match (method, Resource::of(path)) {
            (&Method::GET, Some(Resource::Collection { object })) => self.list("list", &object, asked),
            (&Method::GET, Some(Resource::Search { object })) => self.list("search_result", &object, asked),
            (&Method::GET | &Method::POST, Some(Resource::One { object, id })) => self.one(&object, id, asked),
            (&Method::GET | &Method::POST, Some(Resource::Singleton { object })) => {
                Object::new([("object", object.into()), ("livemode", asked.livemode.into())])
            }
            (&Method::POST, Some(Resource::Collection { object })) => {
                self.one(&object, &new_id(&object, asked.draw), asked)
            }
            (&Method::DELETE, Some(Resource::One { object, id })) => {
                Object::new([("id", id.into()), ("object", object.into()), ("deleted", true.into())])
            }
            _ => {
                let message = format!("Unrecognized request URL ({method}: {path}).");
                return (StatusCode::NOT_FOUND, error(&message));
            }
        };
        (StatusCode::OK, body)
    }

    fn one(&self, object: &str, id: &str, asked: &Asked<'_>) -> Object {
        let created = EPOCH + self.started.elapsed().as_secs();
        let mut one = Object::new([("id", id.into()), ("object", object.into()), ("created", created.into())]);
        let mut metadata = serde_json::Map::new();
        for (name, value) in form::fields(asked.form) {
            if let Some(key) = name.strip_prefix("metadata[").and_then(|rest| rest.strip_suffix(']')) {
                metadata.insert(key.to_owned(), value.into());
            } else if ECHOED.contains(&name.as_str()) {
                let number = value.parse::<i64>().map(Value::from);
                one.0.push((name, number.unwrap_or_else(|_| value.into())));
            }
        }
        one.0.push(("livemode".to_owned(), asked.livemode.into()));
        one.0.push(("metadata".to_owned(), metadata.into()));
        one
    }

    fn list(&self, kind: &str, object: &str, asked: &Asked<'_>) -> Object {
        let query = asked.head.uri.query().unwrap_or_default();
        let limit = form::fields(query.as_bytes())
            .find(|(name, _)| name == "limit")
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(LIST_OBJECTS.0);
        let data = (0..limit.min(LIST_OBJECTS.1) as u64).map(|place| {
            // Not from the request's draw: a list is the same whenever it is asked for.
            let id = new_id(object, self.random(place, object.as_bytes()));
            serde_json::to_value(self.one(object, &id, asked)).unwrap_or_default()
        });
        Object::new([
            ("object", kind.into()),
            ("data", data.collect::<Vec<_>>().into()),
            ("has_more", false.into()),
            ("url", asked.head.uri.path().into()),
        ])
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

/// Form fields that come back in the object.
const ECHOED: [&str; 10] = [
    "name",
    "email",
    "description",
    "amount",
    "currency",
    "customer",
    "phone",
    "status",
    "unit_amount",
    "payment_method",
];

const NO_KEY: &str = "You did not provide an API key. You need to provide your API key in the Authorization header, using \
    Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, \
    or we can help at https://support.stripe.com/.";

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

fn respond(head: &Parts, status: StatusCode, body: &Object, request_id: &str) -> Response<Full<Bytes>> {
    let mut text = serde_json::to_vec_pretty(body).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("request-id", id);
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Stripe\""));
        return response;
    }
    headers.insert(STRIPE_VERSION, head.headers.get(STRIPE_VERSION).cloned().unwrap_or(DEFAULT_VERSION));
    for name in [IDEMPOTENCY_KEY, STRIPE_ACCOUNT] {
        if let Some(value) = head.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    response
}

fn error(message: &str) -> Object {
    let error = Object::new([("message", message.into()), ("type", "invalid_request_error".into())]);
    Object::new([("error", serde_json::to_value(error).unwrap_or_default())])
}

fn new_id(object: &str, draw: u64) -> String {
    format!("{}_{}", id_prefix(object), letters(draw, 14))
}

/// `count` letters and digits, the first a digit, which tells an id from a word.
fn letters(mut draw: u64, count: usize) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    (0..count)
        .map(|place| {
            let choice = if place == 0 { 10 } else { 62 };
            let letter = LETTERS.get((draw % choice) as usize).copied().unwrap_or(b'0');
            // A new number for each letter: one does not hold enough for all.
            draw = draw.rotate_left(23).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (draw >> 29);
            char::from(letter)
        })
        .collect()
}

/// A JSON object whose keys keep their order.
struct Object(Vec<(String, Value)>);

impl Object {
    fn new<const N: usize>(entries: [(&str, Value); N]) -> Object {
        Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
