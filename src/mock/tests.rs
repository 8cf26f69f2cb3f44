//! The mock by its answers, over a real socket where that matters.

use super::answer::Mock;
use super::resource::{Resource, id_prefix};
use super::*;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TEST_KEY: &str = "Bearer sk_test_1";

async fn ask(mock: &Mock, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Response<Value> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = mock.answer(request.body(Full::<Bytes>::from(body.to_owned())).unwrap()).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Response::from_parts(head, serde_json::from_slice(&body).unwrap())
}

async fn ask_with_key(mock: &Mock, method: &str, target: &str, body: &str) -> Value {
    let response = ask(mock, method, target, &[("authorization", TEST_KEY)], body).await;
    assert_eq!(response.status(), 200, "{method} {target}");
    response.into_body()
}

#[tokio::test(start_paused = true)]
async fn what_is_created_is_echoed_and_has_an_id() {
    let mock = Mock::new(MockOptions::default());
    let form =
        "name=Jenny+Rosen&email=jenny%40example.com&metadata[order]=6735&metadata%5Ba%5D=%zz&ignored=1&amount=2000";
    let created = ask_with_key(&mock, "POST", "/v1/customers", form).await;
    let id = created["id"].as_str().unwrap();
    assert!(id.starts_with("cus_") && id.len() == 18, "{id}");
    assert_eq!(
        created,
        json!({
            "id": id, "object": "customer", "created": 1_767_225_600, "name": "Jenny Rosen", "email": "jenny@example.com",
            "amount": 2000, "livemode": false, "metadata": {"order": "6735", "a": "%zz"},
        })
    );
    let fetched = ask_with_key(&mock, "GET", &format!("/v1/customers/{id}"), "").await;
    assert_eq!((&fetched["id"], &fetched["object"]), (&json!(id), &json!("customer")));
    let deleted = ask_with_key(&mock, "DELETE", &format!("/v1/customers/{id}"), "").await;
    assert_eq!(deleted, json!({"id": id, "object": "customer", "deleted": true}));
}

#[tokio::test(start_paused = true)]
async fn lists_hold_objects_and_are_the_same_each_time() {
    let mock = Mock::new(MockOptions::default());
    let list = ask_with_key(&mock, "GET", "/v1/charges?limit=2", "").await;
    assert_eq!(
        (&list["object"], &list["has_more"], &list["url"]),
        (&json!("list"), &json!(false), &json!("/v1/charges"))
    );
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1] && ids[0].starts_with("ch_"), "{ids:?}");
    assert_eq!(ask_with_key(&mock, "GET", "/v1/charges?limit=2", "").await, list);
    let all = ask_with_key(&mock, "GET", "/v1/charges?limit=99999999", "").await;
    assert_eq!(all["data"].as_array().unwrap().len(), 100);
    let found = ask_with_key(&mock, "GET", "/v1/charges/search?query=a", "").await;
    assert_eq!(found["object"], "search_result");
}

#[tokio::test(start_paused = true)]
async fn without_a_key_the_answer_is_401() {
    let mock = Mock::new(MockOptions::default());
    for headers in
        [&[][..], &[("authorization", "Bearer ")], &[("authorization", "Basic Og==")], &[("authorization", "x y")]]
    {
        let response = ask(&mock, "GET", "/v1/charges", headers, "").await;
        assert_eq!(response.status(), 401, "{headers:?}");
        assert_eq!(response.headers()["www-authenticate"], "Basic realm=\"Stripe\"");
        assert_eq!(response.body()["error"]["type"], "invalid_request_error");
        assert!(response.body()["error"]["message"].as_str().unwrap().starts_with("You did not provide an API key."));
    }
}

#[tokio::test(start_paused = true)]
async fn headers_and_mode_follow_the_request() {
    let mock = Mock::new(MockOptions::default());
    // "sk_live_1:" in Base64.
    let headers = [
        ("authorization", "Basic c2tfbGl2ZV8xOg=="),
        ("idempotency-key", "k1"),
        ("stripe-account", "acct_1"),
        ("stripe-version", "2024-06-20"),
    ];
    let first = ask(&mock, "POST", "/v1/payouts", &headers, "").await;
    assert_eq!(first.body()["livemode"], true);
    for (name, value) in &headers[1..] {
        assert_eq!(first.headers()[*name], *value);
    }
    let request_id = first.headers()["request-id"].to_str().unwrap();
    assert!(request_id.starts_with("req_") && request_id.len() == 18, "{request_id}");
    let again = ask(&mock, "POST", "/v1/payouts", &headers, "").await;
    assert_eq!(again.body()["id"], first.body()["id"], "the same idempotency key");
    assert_ne!(again.headers()["request-id"], first.headers()["request-id"]);
    let other = ask(&mock, "POST", "/v1/payouts", &[headers[0], ("idempotency-key", "k2")], "").await;
    assert_ne!(other.body()["id"], first.body()["id"]);
}

#[tokio::test(start_paused = true)]
async fn equal_seeds_give_equal_ids() {
    let ids = |seed| async move {
        let mock = Mock::new(MockOptions { seed, latency: Latency::None });
        let first = ask_with_key(&mock, "POST", "/v1/refunds", "").await["id"].to_string();
        (first, ask_with_key(&mock, "POST", "/v1/refunds", "").await["id"].to_string())
    };
    let (first, second) = ids(7).await;
    assert_ne!(first, second);
    assert_eq!(ids(7).await, (first.clone(), second));
    assert_ne!(ids(8).await.0, first);
}

#[tokio::test(start_paused = true)]
async fn unknown_paths_and_methods_are_404() {
    let mock = Mock::new(MockOptions::default());
    for (method, target) in
        [("GET", "/"), ("GET", "/v3/charges"), ("PATCH", "/v1/charges"), ("GET", "/v1//charges"), ("GET", "/v1/")]
    {
        let response = ask(&mock, method, target, &[("authorization", TEST_KEY)], "").await;
        assert_eq!(response.status(), 404, "{method} {target}");
        let message = response.body()["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("Unrecognized request URL"), "{message}");
    }
}

#[test]
fn paths_tell_what_they_stand_for() {
    let one = |object: &str, id: &'static str| Some(Resource::One { object: object.to_owned(), id });
    let collection = |object: &str| Some(Resource::Collection { object: object.to_owned() });
    for (path, expected) in [
        ("/v1/customers", collection("customer")),
        ("/v1/customers/cus_1", one("customer", "cus_1")),
        ("/v1/customers/cus_1/sources", collection("source")),
        ("/v1/customers/cus_1/sources/card_1", one("source", "card_1")),
        ("/v1/payment_intents/pi_1/confirm", one("payment_intent", "pi_1")),
        ("/v1/billing/meter_events", collection("billing.meter_event")),
        ("/v1/billing/meters/mtr_1", one("billing.meter", "mtr_1")),
        ("/v1/tax/registries", collection("tax.registry")),
        ("/v2/core/events", collection("core.event")),
        ("/v1/balance", Some(Resource::Singleton { object: "balance".to_owned() })),
        ("/v1/invoices/search", Some(Resource::Search { object: "invoice".to_owned() })),
        ("/v1", None),
        ("/customers", None),
    ] {
        assert_eq!(Resource::of(path), expected, "{path}");
    }
    assert_eq!(["payout", "billing.meter_event", "coupon"].map(id_prefix), ["po", "me", "coupon"]);
}

#[test]
fn latencies_are_read_and_refused() {
    let (median, p99) = (Duration::from_millis(20), Duration::from_millis(200));
    assert_eq!("lognormal:20ms,200ms".parse(), Ok(Latency::LogNormal { median, p99 }));
    assert_eq!("none".parse(), Ok(Latency::None));
    for (text, expected) in [
        ("", LatencyError::Form(String::new())),
        ("recording.jsonl", LatencyError::Form("recording.jsonl".to_owned())),
        ("lognormal:20ms", LatencyError::Form("lognormal:20ms".to_owned())),
        ("lognormal:20,200ms", LatencyError::Duration("20".to_owned())),
        ("lognormal:0ms,200ms", LatencyError::Figures),
        ("lognormal:20ms,10ms", LatencyError::Figures),
        ("lognormal:20ms,2h", LatencyError::Figures),
    ] {
        assert_eq!(text.parse::<Latency>(), Err(expected), "{text}");
    }
}

#[test]
fn latencies_have_the_percentiles_that_were_asked_for() {
    use siphasher::sip::SipHasher24;
    use std::hash::Hasher;
    let latency: Latency = "lognormal:20ms,200ms".parse().unwrap();
    let random = |number: u64| {
        let mut hasher = SipHasher24::new_with_keys(1, 2);
        hasher.write_u64(number);
        hasher.finish()
    };
    let mut drawn: Vec<Duration> = (0..20_000).map(|n| latency.sample([random(2 * n), random(2 * n + 1)])).collect();
    drawn.sort_unstable();
    let (median, p99) = (drawn[10_000].as_secs_f64(), drawn[19_800].as_secs_f64());
    assert!((0.019..0.021).contains(&median), "median {median} s");
    assert!((0.185..0.215).contains(&p99), "99th percentile {p99} s");
    for extreme in [[0, 0], [u64::MAX, u64::MAX], [0, u64::MAX / 2]] {
        assert!(latency.sample(extreme) <= MAX_LATENCY);
    }
    assert_eq!(Latency::None.sample([1, 2]), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_answer_takes_its_latency() {
    let same = Duration::from_millis(30);
    let mock = Mock::new(MockOptions { latency: Latency::LogNormal { median: same, p99: same }, seed: 0 });
    let before = crate::clock::timer_now();
    ask_with_key(&mock, "GET", "/v1/charges", "").await;
    // Timers tick in milliseconds.
    assert!((same..=same + Duration::from_millis(1)).contains(&before.elapsed()), "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_socket_is_served_until_the_shutdown_and_idle_connections_end_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(serve(listener, MockOptions::default(), async { drop(stopped.await) }));
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = "GET /v1/customers/cus_1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk_test_1\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}\n") {
        assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0, "closed early");
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    stop.send(()).unwrap();
    assert_eq!(client.read_buf(&mut answer).await.unwrap(), 0, "the idle connection is closed");
    served.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
