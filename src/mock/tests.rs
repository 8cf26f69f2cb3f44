//! The mock by its answers, over a real socket where that matters.

use super::answer::Mock;
use super::resource::{Act, Asked, Operations, id_prefix};
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
async fn what_is_created_gives_back_what_was_said() {
    let mock = Mock::new(MockOptions::default());
    let form = "name=Jenny+Rosen&email=jenny%40example.com&metadata[order]=6735&metadata%5Ba%5D=%zz&amount=2000&paid=true&\
                items[1][price]=b&items[0][price]=a&tags[]=x&tags[]=y&phone=007&card[number]=42&card[last4]=42&expand[]=a&livemode=true";
    let created = ask_with_key(&mock, "POST", "/v1/customers", form).await;
    let id = created["id"].as_str().unwrap();
    assert!(id.starts_with("cus_") && id.len() == 18, "{id}");
    assert!(created["created"].as_i64().unwrap() <= 1_767_225_600, "{created}");
    assert_eq!(
        created,
        json!({
            "id": id, "object": "customer", "created": created["created"], "name": "Jenny Rosen", "email": "jenny@example.com",
            "amount": 2000, "paid": true, "items": [{"price": "a"}, {"price": "b"}], "tags": ["x", "y"], "phone": "007",
            "card": {"last4": 42}, "livemode": false, "metadata": {"order": "6735", "a": "%zz"},
        })
    );
    let fetched = ask_with_key(&mock, "GET", &format!("/v1/customers/{id}"), "").await;
    for name in ["id", "object", "created"] {
        assert_eq!(fetched[name], created[name]);
    }
    let deleted = ask_with_key(&mock, "DELETE", &format!("/v1/customers/{id}"), "").await;
    assert_eq!(deleted, json!({"id": id, "object": "customer", "deleted": true}));
    let chosen = ask_with_key(&mock, "POST", "/v1/coupons", "id=summer").await;
    assert_eq!(chosen["id"], "summer");
    let json =
        ask_with_key(&mock, "POST", "/v2/core/accounts", r#"{"display_name":"A","identity":{"country":"de"}}"#).await;
    assert_eq!((&json["object"], &json["identity"]["country"]), (&json!("v2.core.account"), &json!("de")));
    assert!(json["created"].as_str().unwrap().starts_with("2025-"), "{json}");
}

#[tokio::test(start_paused = true)]
async fn brackets_are_followed_so_far_and_no_further() {
    let mock = Mock::new(MockOptions::default());
    let within = format!("a{}=1", "[b]".repeat(8));
    let beyond = format!("c{}=1", "[b]".repeat(9));
    let odd = "d[=1&e]=2&[f]=3&g[h]i=4&j=1&j[k]=2&=5&l";
    let form = format!("{within}&{beyond}&{odd}&{}", "[".repeat(30_000));
    let created = ask_with_key(&mock, "POST", "/v1/customers", &form).await;
    let mut value = &created["a"];
    for _ in 0..8 {
        value = &value["b"];
    }
    assert_eq!((value, &created["c"], &created["j"]["k"]), (&json!(1), &json!(null), &json!(2)));
}

#[tokio::test(start_paused = true)]
async fn what_is_done_to_an_object_shows_in_its_status() {
    let mock = Mock::new(MockOptions::default());
    for (target, status) in [
        ("/v1/payment_intents", "requires_payment_method"),
        ("/v1/payment_intents/pi_1/confirm", "succeeded"),
        ("/v1/payouts/po_1/cancel", "canceled"),
        ("/v1/invoices/in_1/finalize", "open"),
        ("/v1/charges", "succeeded"),
    ] {
        assert_eq!(ask_with_key(&mock, "POST", target, "").await["status"], status, "{target}");
    }
    let intent = ask_with_key(&mock, "GET", "/v1/payment_intents/pi_1", "").await;
    assert!(intent["client_secret"].as_str().unwrap().starts_with("pi_1_secret_"));
}

fn ids(list: &Value) -> Vec<String> {
    list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn lists_come_in_pages_and_are_the_same_each_time() {
    let mock = Mock::new(MockOptions::default());
    let all = ask_with_key(&mock, "GET", "/v1/charges?limit=99999999", "").await;
    assert_eq!((&all["object"], &all["has_more"], &all["url"]), (&json!("list"), &json!(false), &json!("/v1/charges")));
    let all = ids(&all);
    assert!(all.len() == 25 && all[0] != all[1] && all[0].starts_with("ch_"), "{all:?}");
    let first = ask_with_key(&mock, "GET", "/v1/charges", "").await;
    assert_eq!((ids(&first), &first["has_more"]), (all[..10].to_vec(), &json!(true)));
    for (query, expected, has_more) in [
        (format!("limit=2&starting_after={}", all[9]), &all[10..12], true),
        (format!("starting_after={}", all[22]), &all[23..], false),
        (format!("starting_after={}", all[24]), &all[25..], false),
        (format!("limit=3&ending_before={}", all[3]), &all[..3], false),
        (format!("limit=3&ending_before={}", all[9]), &all[6..9], true),
    ] {
        let page = ask_with_key(&mock, "GET", &format!("/v1/charges?{query}"), "").await;
        assert_eq!((ids(&page).as_slice(), &page["has_more"]), (expected, &json!(has_more)), "{query}");
    }
    let lost = ask(&mock, "GET", "/v1/charges?starting_after=ch_0", &[("authorization", TEST_KEY)], "").await;
    assert_eq!((lost.status().as_u16(), &lost.body()["error"]["param"]), (400, &json!("starting_after")));
}

#[tokio::test(start_paused = true)]
async fn searches_and_lists_of_the_second_generation_have_pages_of_their_own() {
    let mock = Mock::new(MockOptions::default());
    let found = ask_with_key(&mock, "GET", "/v1/charges/search?query=a&limit=20", "").await;
    assert_eq!((&found["object"], &found["has_more"]), (&json!("search_result"), &json!(true)));
    let next = format!("/v1/charges/search?query=a&limit=20&page={}", found["next_page"].as_str().unwrap());
    let last = ask_with_key(&mock, "GET", &next, "").await;
    assert_eq!((ids(&last).len(), &last["has_more"], &last["next_page"]), (5, &json!(false), &json!(null)));
    let events = ask_with_key(&mock, "GET", "/v2/core/events?limit=20", "").await;
    assert_eq!(events["data"][0]["object"], "v2.core.event");
    let more = ask_with_key(&mock, "GET", events["next_page_url"].as_str().unwrap(), "").await;
    assert_eq!((ids(&more).len(), &more["next_page_url"]), (5, &json!(null)));
    for page in ["page_", "page_x", "page_99999999999999999999", "page_400"] {
        ask_with_key(&mock, "GET", &format!("/v1/charges/search?page={page}"), "").await;
    }
}

#[tokio::test(start_paused = true)]
async fn ids_that_nothing_has_are_404() {
    let mock = Mock::new(MockOptions::default());
    for (method, target, message) in [
        ("GET", "/v1/customers/cus_missing", "No such customer: 'cus_missing'"),
        ("DELETE", "/v1/customers/ch_1", "No such customer: 'ch_1'"),
        ("POST", "/v1/payment_methods/pi_1/attach", "No such PaymentMethod: 'pi_1'"),
        ("GET", "/v2/core/accounts/cus_1", "No such core.account: 'cus_1'"),
    ] {
        let response = ask(&mock, method, target, &[("authorization", TEST_KEY)], "").await;
        assert_eq!(response.status(), 404, "{method} {target}");
        let error = json!({"code": "resource_missing", "doc_url": "https://stripe.com/docs/error-codes/resource-missing",
            "message": message, "param": "id", "type": "invalid_request_error"});
        assert_eq!(response.body()["error"], error);
    }
    for target in
        ["/v1/customers/anything", "/v1/payment_methods/card_1", "/v1/customers/cus_1/sources/ch_1", "/v1/coupons/x"]
    {
        ask_with_key(&mock, "GET", target, "").await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_operation_of_the_api_has_an_answer() {
    let mock = Mock::new(MockOptions::default());
    let operations = crate::config::stripe_operations();
    assert_eq!(operations.len(), 648);
    for operation in operations {
        // No digit and no capital in them: only the list of operations tells that these are ids.
        let path: Vec<&str> =
            operation.path().split('/').map(|part| if part.starts_with('{') { "thing" } else { part }).collect();
        let (method, path) = (operation.method().as_str(), path.join("/"));
        let answer = ask_with_key(&mock, method, &path, "").await;
        let is_page = answer["data"].is_array() && (path.starts_with("/v2/") || answer["url"] == path.as_str());
        let is_one = answer["object"].as_str().is_some_and(|object| !object.contains("thing"));
        assert!(is_page || is_one, "{operation}: {answer}");
        let names_one = operation.path().ends_with('}');
        assert!(!names_one || answer["id"] == "thing", "{operation}: {answer}");
        assert_eq!(
            answer["deleted"].is_boolean(),
            method == "DELETE" && path.starts_with("/v1/"),
            "{operation}: {answer}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn failures_come_at_the_rates_asked_for_and_again_for_the_same_seed() {
    let statuses = |seed| async move {
        let [error_rate, lock_timeout_rate] = ["10%", "0.2"].map(|rate| rate.parse().unwrap());
        let mock = Mock::new(MockOptions { error_rate, lock_timeout_rate, seed, ..MockOptions::default() });
        let mut statuses = Vec::new();
        for _ in 0..1_000 {
            let response = ask(&mock, "POST", "/v1/customers/cus_1", &[("authorization", TEST_KEY)], "").await;
            let retry = response.headers().get("stripe-should-retry").map(|value| value.to_str().unwrap().to_owned());
            let error = &response.body()["error"];
            match response.status().as_u16() {
                200 => assert_eq!((error, retry), (&json!(null), None)),
                429 => assert_eq!((&error["code"], retry.as_deref()), (&json!("lock_timeout"), Some("true"))),
                500 => assert_eq!((&error["type"], retry), (&json!("api_error"), None)),
                other => panic!("{other}"),
            }
            statuses.push(response.status().as_u16());
        }
        statuses
    };
    let first = statuses(1).await;
    let count = |status| first.iter().filter(|known| **known == status).count();
    assert!((70..130).contains(&count(500)) && (140..220).contains(&count(429)), "{} {}", count(500), count(429));
    assert_eq!(statuses(1).await, first);
    assert_ne!(statuses(2).await, first);
    let always = Mock::new(MockOptions { lock_timeout_rate: "1".parse().unwrap(), ..MockOptions::default() });
    ask_with_key(&always, "POST", "/v1/customers", "").await;
    let locked = ask(&always, "GET", "/v1/customers/cus_1", &[("authorization", TEST_KEY)], "").await;
    assert_eq!(locked.status(), 429);
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
        let mock = Mock::new(MockOptions { seed, ..MockOptions::default() });
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
    let operations = Operations::new();
    let one = |id, verb| Act::One { id, verb };
    for (request, object, act) in [
        ("GET /v1/customers", "customer", Act::List),
        ("HEAD /v1/customers", "customer", Act::List),
        ("GET /v1/customers/cus_1", "customer", one("cus_1", None)),
        ("GET /v1/coupons/summer", "coupon", one("summer", None)),
        ("DELETE /v1/coupons/summer", "coupon", Act::Delete { id: "summer" }),
        ("POST /v1/customers/cus_1/sources", "source", Act::Create),
        ("GET /v1/customers/cus_1/sources/card_1", "source", one("card_1", None)),
        ("GET /v1/customers/cus_1/cash_balance", "cash_balance", Act::Only { deleted: false }),
        ("DELETE /v1/customers/cus_1/discount", "discount", Act::Only { deleted: true }),
        ("POST /v1/payment_intents/pi_1/confirm", "payment_intent", one("pi_1", Some("confirm"))),
        ("POST /v1/invoices/in_1/add_lines", "invoice", one("in_1", Some("add_lines"))),
        ("GET /v1/invoices/in_1/lines", "line_item", Act::List),
        ("POST /v1/invoices/create_preview", "invoice", Act::Create),
        ("GET /v1/credit_notes/preview/lines", "line_item", Act::List),
        ("POST /v1/test_helpers/issuing/authorizations", "issuing.authorization", Act::Create),
        ("POST /v1/test_helpers/refunds/re_1/expire", "refund", one("re_1", Some("expire"))),
        ("POST /v1/test_helpers/test_clocks", "test_helpers.test_clock", Act::Create),
        ("POST /v1/billing/meter_events", "billing.meter_event", Act::Create),
        ("GET /v1/billing/meters/mtr_1", "billing.meter", one("mtr_1", None)),
        ("POST /v1/tax/settings", "tax.settings", Act::Only { deleted: false }),
        ("GET /v1/balance", "balance", Act::Only { deleted: false }),
        ("GET /v1/invoices/search", "invoice", Act::Search),
        ("GET /v2/core/events", "v2.core.event", Act::List),
        ("POST /v2/billing/meter_event_session", "v2.billing.meter_event_session", Act::Create),
        // None of Stripe's operations, told by their shape.
        ("POST /v1/refund_batches", "refund_batch", Act::Create),
        ("GET /v1/widgets/w1", "widget", one("w1", None)),
        ("POST /v1/widgets/w1/spin", "widget", one("w1", Some("spin"))),
        ("GET /v1/tax/registries", "tax.registry", Act::List),
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        let expected = Asked { is_v2: path.starts_with("/v2"), object: object.to_owned(), act };
        assert_eq!(operations.find(&method.parse().unwrap(), path), Some(expected), "{request}");
    }
    for request in ["GET /v1", "GET /customers", "PATCH /v1/charges", "PUT /v1/charges/ch_1", "GET /v1/", "GET /v1//a"]
    {
        let (method, path) = request.split_once(' ').unwrap();
        assert_eq!(operations.find(&method.parse().unwrap(), path), None, "{request}");
    }
    assert_eq!(["payout", "billing.meter_event", "coupon"].map(id_prefix), ["po", "me", "coupon"]);
}

#[test]
fn latencies_are_read_and_refused() {
    let (median, p99) = (Duration::from_millis(20), Duration::from_millis(200));
    let given = |latency| Ok(LatencySource::Given(latency));
    assert_eq!("lognormal:20ms,200ms".parse(), given(Latency::LogNormal { median, p99 }));
    assert_eq!("none".parse(), given(Latency::None));
    assert_eq!("recording.jsonl".parse(), Ok(LatencySource::Log("recording.jsonl".into())));
    for (text, expected) in [
        ("", LatencyError::Form(String::new())),
        ("lognormal:20ms", LatencyError::Form("lognormal:20ms".to_owned())),
        ("lognormal:20,200ms", LatencyError::Duration("20".to_owned())),
        ("lognormal:0ms,200ms", LatencyError::Figures),
        ("lognormal:20ms,10ms", LatencyError::Figures),
        ("lognormal:20ms,2h", LatencyError::Figures),
    ] {
        assert_eq!(text.parse::<LatencySource>(), Err(expected), "{text}");
    }
}

fn recorded(text: &[u8]) -> Result<Latency, LatencyError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.jsonl");
    std::fs::write(&path, text).unwrap();
    LatencySource::Log(path).load()
}

/// A line of the gateway's own log.
fn line(duration_ms: &str, status: u16, rest: &str) -> String {
    format!(
        "{{\"ts\":\"2026-11-22T14:39:32.749326442Z\",\"duration_ms\":{duration_ms},\"request_id\":\"req_1\",\"client\":\"127.0.0.1\",\
         \"account\":\"acct_a\",\"mode\":\"test\",\"method\":\"GET\",\"path\":\"/v1/customers\",\"status\":{status}{rest}}}\n"
    )
}

#[test]
fn latencies_are_drawn_from_what_forwarded_requests_took() {
    let refused = line("0.1", 429, ",\"limit\":\"a\",\"reason\":\"global-rate\"");
    let lines =
        [&line("20.5", 200, ""), &refused, "no line at all\n", &line("9000000", 504, ""), &line("0.2", 401, "")]
            .concat();
    let Ok(Latency::Recorded(samples)) = recorded(lines.as_bytes()) else { panic!("a recording") };
    assert_eq!(*samples, [Duration::from_micros(20_500), MAX_LATENCY]);
    let latency = Latency::Recorded(samples);
    assert_eq!(
        [0, 1, 2, u64::MAX].map(|random| latency.sample([random, 0]) == MAX_LATENCY),
        [false, true, false, true]
    );
    let packed = zstd::encode_all(lines.as_bytes(), 0).unwrap();
    assert_eq!(recorded(&packed), Ok(latency));
    for silent in [refused.as_bytes(), b"", b"\xff\xfe\n", b"{}\n"] {
        assert!(matches!(recorded(silent), Err(LatencyError::Silent(_))));
    }
    assert!(matches!(LatencySource::Log("/no/such/file".into()).load(), Err(LatencyError::Unreadable(..))));
}

#[test]
fn of_a_long_recording_a_sample_is_kept() {
    let mut lines = String::new();
    // The first half is fast, the second slow.
    for nth in 0..2 * MAX_SAMPLES {
        lines.push_str(&line(if nth < MAX_SAMPLES { "1" } else { "2" }, 200, ""));
    }
    let Ok(Latency::Recorded(samples)) = recorded(lines.as_bytes()) else { panic!("a recording") };
    let slow = samples.iter().filter(|sample| **sample == Duration::from_millis(2)).count();
    assert_eq!(samples.len(), MAX_SAMPLES);
    assert!((31_000..34_500).contains(&slow), "{slow} of {MAX_SAMPLES}");
}

#[test]
fn rates_are_shares() {
    assert_eq!(
        ["0.25", "25%", "25 %"].map(|text| text.parse()),
        ["0.25".parse::<Rate>(), "0.25".parse(), "0.25".parse()]
    );
    for text in ["", "%", "-1", "1.01", "101%", "NaN", "inf", "often"] {
        let error = text.parse::<Rate>().unwrap_err().to_string();
        assert!(error.ends_with(&format!("found `{text}`")), "{error}");
    }
    let [never, always] = ["0", "1"].map(|text| text.parse::<Rate>().unwrap());
    assert!(![0, 1, u64::MAX].iter().any(|random| never.hits(*random)));
    assert!([0, 1, u64::MAX].iter().all(|random| always.hits(*random)));
}

#[test]
fn latencies_have_the_percentiles_that_were_asked_for() {
    use siphasher::sip::SipHasher24;
    use std::hash::Hasher;
    let latency = "lognormal:20ms,200ms".parse::<LatencySource>().unwrap().load().unwrap();
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
    let mock =
        Mock::new(MockOptions { latency: Latency::LogNormal { median: same, p99: same }, ..MockOptions::default() });
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
