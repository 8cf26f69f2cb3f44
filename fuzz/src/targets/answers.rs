//! The whole stack without sockets: whatever a request says, its answer is the upstream's, or one of the gateway's own as every
//! one of them must look; and nothing is held when it is over.

use super::lines;
use crate::support::stub::{Stack, peer, read};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use std::path::Path;
use std::sync::OnceLock;
use tollgate::config::{self, Config};
use tollgate::engine::Seed;
use tollgate::keys::{Secret, from_authorization};

/// Something of everything that can refuse.
const CONFIG: &str = r#"
[server]
trusted_proxies = ["10.0.0.0/8"]
lock_queue_max = 0
[auth]
keys_file = "keys.toml"
realm = "a realm; of=sorts"
[upstreams.api]
servers = ["http://127.0.0.1:9"]
[[routes]]
path_prefix = "/v1"
upstream = "api"
[[endpoints]]
match = "GET /v1/charges/{charge}"
name = "charges.retrieve"
[[endpoints]]
match = "POST /v1/charges"
name = "charges.create"
[[endpoints]]
match = "POST /v1/invoices/{invoice}/pay"
name = "invoices.pay"
lock = { per = ["path.invoice"] }
[[limits]]
name = "all:of.it"
stage = "global"
rate = "2/s"
burst = 2
[[limits]]
name = "slots"
stage = "endpoint"
concurrency = 1
when = { endpoint = "charges.*" }
[[limits]]
name = "customer"
stage = "resource"
quota = "1/h"
per = ["form.customer", "header.x-tenant"]
when = { endpoint = "charges.create", form = { amount = "1" } }
[[limits]]
name = "charge"
stage = "resource"
quota = "1/h"
per = ["path.charge"]
when = { endpoint = "charges.retrieve" }
"#;
/// Every secret in the corpus.
const SECRETS: [(&str, &str); 3] = [
    ("sk_live_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "connected_accounts = \"*\""),
    ("rk_test_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "kind = \"restricted\"\nallow = [\"charges.*\"]"),
    ("sk_live_cccccccccccccccccccccccccccccccccccccccc", "revoked = true"),
];

/// A request: method and target on a line, headers on one each, an empty line, the body.
pub(super) fn run(data: &[u8]) {
    let Some(request) = parse(data) else { return };
    let stack = Stack::new(configured().clone(), keys());
    let (inside, outside) = (peer("10.0.0.1"), peer("192.0.2.1"));
    for peer in [&outside, &inside, &outside] {
        // The answer is kept, so that slots and locks are held while the next comes.
        let first = stack.send(peer, request.clone()).now_or_never();
        let second = stack.send(peer, request.clone()).now_or_never();
        for response in [first, second].into_iter().flatten() {
            assert_answer(&request, response);
        }
        peer.let_go();
    }
    let shared = &stack.home.shared;
    assert_eq!(shared.metrics.exchanges.get(), 0, "a request has ended and is still counted");
    let census = shared.engine.census(&shared.current().config.policy);
    assert!(census.values().all(|count| count.in_flight == 0), "{census:?}");
}

fn parse(data: &[u8]) -> Option<Request<Bytes>> {
    let [line, mut rest] = lines::<2>(data);
    let space = line.iter().position(|&byte| byte == b' ')?;
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = Method::from_bytes(&line[..space]).ok()?;
    *request.uri_mut() = Uri::try_from(&line[space + 1..]).ok()?;
    loop {
        let [field, after] = lines::<2>(rest);
        rest = after;
        if field.is_empty() {
            break;
        }
        let colon = field.iter().position(|&byte| byte == b':')?;
        let name = HeaderName::from_bytes(&field[..colon]).ok()?;
        // The stub takes it for an order.
        if name == "x-stub" {
            return None;
        }
        request.headers_mut().append(name, HeaderValue::from_bytes(field[colon + 1..].trim_ascii()).ok()?);
    }
    *request.body_mut() = Bytes::copy_from_slice(rest);
    Some(request)
}

fn assert_answer(request: &Request<Bytes>, response: crate::support::stub::StubResponse) {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = read(response);
    assert!(headers.values().all(|value| value.to_str().is_ok()), "{headers:?}");
    if status == StatusCode::OK {
        assert_eq!(body, "piecepiece");
        return;
    }
    let once = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert!(values.next().is_none(), "{name} twice");
        value.to_owned()
    };
    assert!((1..=128).contains(&once("request-id").len()), "{headers:?}");
    if status == StatusCode::NO_CONTENT {
        assert!(body.is_empty() && request.method() == Method::OPTIONS && request.uri().path() == "*");
        return;
    }
    assert!(status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED, "{status}");
    assert_eq!((&*once("content-type"), &*once("cache-control")), ("application/json", "no-store"));
    assert_error(&body);
    assert_eq!(headers.contains_key(header::WWW_AUTHENTICATE), status == StatusCode::UNAUTHORIZED);
    let is_limit = headers.contains_key("stripe-rate-limited-reason");
    assert!(!is_limit || status == StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(is_limit, headers.contains_key("ratelimit"));
    assert_eq!(is_limit, headers.contains_key("ratelimit-policy"));
    assert!(
        !headers.contains_key(header::RETRY_AFTER) || once("retry-after").parse::<u64>().is_ok_and(|wait| wait > 0)
    );
    assert_secret_hidden(request, &body);
}

fn assert_error(body: &[u8]) {
    let whole: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    let outer = whole.as_object().expect("an object");
    assert_eq!(outer.keys().collect::<Vec<_>>(), ["error"]);
    let error = outer["error"].as_object().expect("an object");
    assert!(error.keys().all(|key| matches!(&**key, "code" | "doc_url" | "message" | "type")), "{error:?}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
    assert_eq!(error["type"], "invalid_request_error");
}

/// A key that is nowhere in the request but in its own header is not in the answer.
fn assert_secret_hidden(request: &Request<Bytes>, body: &[u8]) {
    let value = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let Ok(secret) = from_authorization(value) else { return };
    let text = secret.expose();
    let elsewhere = request.uri().to_string().contains(text)
        || request.headers().iter().any(|(name, value)| {
            name != header::AUTHORIZATION && value.to_str().is_ok_and(|value| value.contains(text))
        });
    // Short ones are words that occur by themselves.
    if text.len() >= 24 && !elsewhere {
        assert!(!String::from_utf8_lossy(body).contains(text), "a secret stands in an answer");
    }
}

fn configured() -> &'static Config {
    static CONFIGURED: OnceLock<Config> = OnceLock::new();
    let parse = || config::parse(CONFIG, Path::new("fuzz.toml"), &Seed([17, 42]));
    CONFIGURED.get_or_init(|| parse().unwrap_or_else(|mistakes| panic!("{mistakes}")))
}

fn keys() -> &'static str {
    static KEYS: OnceLock<String> = OnceLock::new();
    KEYS.get_or_init(|| {
        let entry = |(number, (secret, more)): (usize, &(&str, &str))| {
            let hash = Secret::new(secret).expect("a key").digest();
            let mode = if secret.contains("live") { "live" } else { "test" };
            format!(
                "[[keys]]\nid = \"key_{number}\"\nhash = \"{hash}\"\naccount = \"acct_a\"\nmode = \"{mode}\"\n{more}\n"
            )
        };
        SECRETS.iter().enumerate().map(entry).collect()
    })
}
