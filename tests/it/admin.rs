//! The JSON API of the admin listener: overrides and what is in force for an account.

use crate::support::running::{Folder, LIVE, OTHER, Running, Setup, TEST, get, post};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use crate::support::wire::{Answer, Wire};
use serde_json::{Value, json};
use std::time::Duration;
use tollgate::admin::Bounds;
use tollgate::process::Source;
use tollgate::server::Phase;

const LIMITS: &str = r#"
[[limits]]
name = "all"
stage = "global"
quota = "3/h"
per = ["account"]
[[limits]]
name = "payouts"
stage = "endpoint"
rate = "5/s"
when = { endpoint = "payouts.create", mode = "live" }
per = ["account"]
[[limits]]
name = "in-flight"
stage = "endpoint"
concurrency = 4
per = ["account"]
[tiers.gold.limits]
payouts = { rate = "50/s" }
[accounts.acct_a]
tier = "gold"
"#;

fn call(gateway: &Running, method: &str, path: &str, body: &str, lines: &str) -> Answer {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {length}\r\n{lines}\r\n");
    Wire::connect(gateway.admin).ask(head + body)
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

#[track_caller]
fn put(gateway: &Running, body: &Value) -> (u16, Value) {
    let answer = call(gateway, "PUT", "/v1/overrides", &body.to_string(), "");
    (answer.status(), json_of(&answer))
}

fn account(gateway: &Running, id: &str) -> Value {
    json_of(&call(gateway, "GET", &format!("/v1/accounts/{id}"), "", ""))
}

fn limit(account: &Value, name: &str) -> Value {
    account["limits"].as_array().unwrap().iter().find(|limit| limit["name"] == name).unwrap().clone()
}

fn admitted(gateway: &Running, secret: &str) -> usize {
    (0..20).filter(|_| gateway.ask(get("/v1/charges", secret)).status() == 200).count()
}

fn more(quota: &str) -> Value {
    json!({ "account": "acct_a", "limit": "all", "quota": quota, "ttl": "1h", "reason": "a launch" })
}

#[test]
fn an_override_raises_a_limit_for_one_account_and_spent_stays_spent() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(LIMITS).start();
    assert_eq!(admitted(&gateway, LIVE), 3);
    let (status, made) = put(&gateway, &more("10/h"));
    assert_eq!((status, &made["in_force"], &made["persisted"]), (201, &json!(true), &json!(false)), "{made}");
    assert_eq!(admitted(&gateway, LIVE), 7, "three were spent before");
    assert_eq!(admitted(&gateway, OTHER), 3);
    let (status, again) = put(&gateway, &more("12/h"));
    assert_eq!(status, 200, "in place of the one there is: {again}");
    assert_eq!(admitted(&gateway, LIVE), 2);
    let listed = json_of(&call(&gateway, "GET", "/v1/overrides", "", ""));
    assert_eq!(listed["overrides"].as_array().unwrap().len(), 1);
    assert_eq!(listed["overrides"][0]["quota"], "12/h");
    let path = format!("/v1/overrides/{}", again["id"].as_str().unwrap());
    assert_eq!(call(&gateway, "DELETE", &path, "", "").status(), 200);
    assert_eq!(call(&gateway, "DELETE", &path, "", "").status(), 404);
    assert_eq!(limit(&account(&gateway, "acct_a"), "all")["figures"], json!({ "quota": "3/h" }));
    assert_eq!(admitted(&gateway, LIVE), 0);
}

#[test]
fn an_override_ends_by_itself_and_outlives_a_reload() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(LIMITS).start();
    put(&gateway, &more("10/h"));
    let mut brief = more("7/s");
    brief["limit"] = json!("in-flight");
    brief["quota"] = Value::Null;
    brief.as_object_mut().unwrap().remove("quota");
    brief["concurrency"] = json!(9);
    brief["ttl"] = json!("1ms");
    assert_eq!(put(&gateway, &brief).0, 201);
    gateway.handle().reload().unwrap();
    assert_eq!(limit(&account(&gateway, "acct_a"), "all")["figures"]["quota"], "10/h");
    wait_until("the brief one has ended", || {
        json_of(&call(&gateway, "GET", "/v1/overrides", "", ""))["overrides"].as_array().unwrap().len() == 1
    });
    assert_eq!(limit(&account(&gateway, "acct_a"), "in-flight")["figures"]["concurrency"], 4);
}

#[test]
fn overrides_outlive_a_restart_where_there_is_a_directory() {
    let upstream = Upstream::fine();
    let folder = Folder::new();
    let setup = Setup::new(upstream.address()).with(LIMITS).with("[state]\ndir = \"state\"\n");
    folder.put("tollgate.toml", &setup.toml());
    folder.put("keys.toml", &setup.keys);
    let start = || Running::start(Source::File(folder.path("tollgate.toml")));
    let gateway = start();
    assert_eq!(admitted(&gateway, LIVE), 3);
    assert_eq!(put(&gateway, &more("5/h")).1["persisted"], true);
    assert_eq!(admitted(&gateway, LIVE), 2);
    drop(gateway);
    let gateway = start();
    assert_eq!(limit(&account(&gateway, "acct_a"), "all")["figures"]["quota"], "5/h");
    assert_eq!(admitted(&gateway, LIVE), 0, "and so do the counts");
    drop(gateway);
    // Without its limit an override waits.
    let other = Setup::new(upstream.address()).with("[state]\ndir = \"state\"\n");
    folder.put("tollgate.toml", &other.toml());
    let gateway = start();
    let listed = json_of(&call(&gateway, "GET", "/v1/overrides", "", ""));
    assert_eq!(listed["overrides"][0]["in_force"], false, "{listed}");
}

#[test]
fn an_account_shows_its_figures_and_where_it_stands() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(LIMITS).start();
    assert_eq!(gateway.ask(post("/v1/charges", LIVE)).status(), 200);
    assert_eq!(admitted(&gateway, TEST), 3);
    let shown = account(&gateway, "acct_a");
    assert_eq!((&shown["known"], &shown["tier"]), (&json!(true), &json!("gold")));
    let all = limit(&shown, "all");
    assert_eq!((&all["usage"][0]["left"], &all["usage"][1]["left"]), (&json!(2), &json!(0)), "live, then test");
    assert_eq!(all["usage"][0]["next_free_ms"], 0);
    assert!(all["usage"][1]["next_free_ms"].as_u64().unwrap() > 3_500_000, "{all}");
    let payouts = limit(&shown, "payouts");
    assert_eq!(payouts["figures"], json!({ "rate": "50/s", "burst": 50 }));
    assert_eq!(payouts["base"], json!({ "rate": "5/s", "burst": 5 }));
    assert_eq!(payouts["usage"].as_array().unwrap().len(), 1, "live only");
    wait_until("no slot is held", || limit(&account(&gateway, "acct_a"), "in-flight")["usage"][0]["in_flight"] == 0);
    let stranger = account(&gateway, "acct_nobody");
    assert_eq!((&stranger["known"], &stranger["tier"]), (&json!(false), &Value::Null));
    assert_eq!(call(&gateway, "GET", "/v1/accounts/a%2fb", "", "").status(), 400);
}

#[test]
fn every_mistake_in_an_override_is_told() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(LIMITS).start();
    let mistakes = |body: Value| {
        let (status, told) = put(&gateway, &body);
        assert_eq!(status, 422, "{told}");
        told["error"]["mistakes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["message"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(mistakes(json!({})).len(), 4, "account, limit, reason, end");
    let told = mistakes(json!({
        "account": 5, "limit": "payouts", "rat": "1/s", "rate": "1", "reason": "", "ttl": "soon",
    }));
    assert_eq!(told.len(), 5, "{told:?}");
    for (with, piece) in [
        (json!({ "limit": "al" }), "there is no limit `al`"),
        (json!({ "rate": "5/s" }), "both `rate` and `quota`"),
        (json!({ "quota": "1/ms" }), "a window of this length"),
        (json!({ "limit": "payouts" }), "is a rate, not a quota"),
        (json!({ "ttl": "0s" }), "in the past"),
        (json!({ "ttl": "9999d" }), "too late"),
        (json!({ "expires_at": "2031-01-01T00:00:00Z" }), "both `expires_at` and `ttl`"),
    ] {
        let mut body = more("5/h");
        body.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        let told = mistakes(body);
        assert!(told.iter().any(|one| one.contains(piece)), "{piece}: {told:?}");
    }
    for bad in ["", "[]", "{", "\"x\"", "{\"account\":\"\u{0}\"}"] {
        assert_eq!(call(&gateway, "PUT", "/v1/overrides", bad, "").status(), 400, "{bad}");
    }
    assert_eq!(call(&gateway, "PUT", "/v1/overrides", &"x".repeat(65 << 10), "").status(), 413);
    assert_eq!(admitted(&gateway, LIVE), 3, "nothing has changed");
}

#[test]
fn no_web_page_reaches_the_api() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(LIMITS).start();
    let body = more("10/h").to_string();
    assert_eq!(call(&gateway, "PUT", "/v1/overrides", &body, "origin: http://evil.test\r\n").status(), 403);
    assert_eq!(call(&gateway, "PUT", "/v1/overrides", &body, "host: 127.0.0.1\r\n").status(), 421, "two hosts");
    for host in ["evil.test", "127.0.0.1.evil.test", ""] {
        let ask = format!("GET /v1/overrides HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(Wire::connect(gateway.admin).ask(ask).status(), 421, "{host}");
    }
    for (method, path, status) in [
        ("GET", "/v1/overrides?x=1", 200),
        ("POST", "/v1/overrides", 405),
        ("DELETE", "/v1/overrides", 405),
        ("PUT", "/v1/accounts/acct_a", 405),
        ("GET", "/v1/overrides/x", 405),
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/metrics", 405),
    ] {
        assert_eq!(call(&gateway, method, path, "", "").status(), status, "{method} {path}");
    }
    assert_eq!(admitted(&gateway, LIVE), 3);
}

#[test]
fn an_override_raises_an_allocation_too() {
    let reads = "[[limits]]\nname = \"reads\"\nstage = \"global\"\n\
                 allocation = { per_transaction = 5, at_least = 2, window = \"1h\" }\nwhen = { access = \"read\" }\n";
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(reads).start();
    assert_eq!(admitted(&gateway, LIVE), 2);
    let raise = |allocation: Value| {
        let body =
            json!({ "account": "acct_a", "limit": "reads", "allocation": allocation, "reason": "a move", "ttl": "1h" });
        put(&gateway, &body)
    };
    let (status, told) = raise(json!({ "per_transaction": 5, "at_least": 7, "window": "1h" }));
    assert_eq!((status, &told["allocation"]["at_least"]), (201, &json!(7)), "{told}");
    assert_eq!(admitted(&gateway, LIVE), 5, "what was spent stays spent");
    for bad in [json!(5), json!({ "per_transaction": 1 }), json!({ "per_transaction": 1, "window": "soon" })] {
        let (status, told) = raise(bad);
        assert_eq!(status, 422, "{told}");
    }
}

/// Row 166 of the catalogue of hostile inputs.
#[test]
fn a_scrape_that_nobody_reads_loses_its_place() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let shared = std::sync::Arc::clone(gateway.gateway().shared());
    let (end, phase) = tokio::sync::watch::channel(Phase::Serving);
    let serving = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bounds = Bounds { connections: 1, lifetime: Duration::from_millis(300) };
            tollgate::admin::serve(tokio::net::TcpListener::from_std(listener).unwrap(), shared, phase, bounds).await;
        });
    });
    let mut stuck = Wire::connect(address);
    stuck.set_write_patience(Duration::from_millis(100));
    // More pages than any socket holds; it fails when the listener stops reading, or closes.
    let _ = stuck.try_send("GET /metrics HTTP/1.1\r\nhost: admin\r\n\r\n".repeat(20_000));
    let mut next = Wire::connect(address);
    assert_eq!(next.ask("GET /healthz HTTP/1.1\r\nhost: admin\r\n\r\n").status(), 200);
    drop((stuck, next));
    end.send(Phase::Stopping).unwrap();
    serving.join().unwrap();
}

/// `docs/admin-openapi.json` says what there is: every operation answers as it says, and every other method is refused.
#[test]
fn the_description_of_the_api_is_true() {
    let text = include_str!("../../docs/admin-openapi.json");
    let described: Value = serde_json::from_str(text).unwrap();
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(LIMITS).start();
    let resolve = |value: &Value| match value["$ref"].as_str() {
        Some(reference) => described.pointer(reference.trim_start_matches('#')).unwrap().clone(),
        None => value.clone(),
    };
    for (path, operations) in described["paths"].as_object().unwrap() {
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE"] {
            let operation = &operations[method.to_lowercase()];
            let body = if method == "PUT" { more("9/h").to_string() } else { String::new() };
            // Each time another one, and there is one whatever was asked before.
            let made = put(&gateway, &more("9/h")).1["id"].as_str().unwrap().to_owned();
            let id = if path.contains("overrides") { &made } else { "acct_a" };
            let query = required_query(operation);
            let answer = call(&gateway, method, &(path.replace("{id}", id) + &query), &body, "");
            if operation.is_null() {
                assert_eq!(answer.status(), 405, "{method} {path}");
                let allowed = answer.head.value("allow").unwrap();
                assert!(!allowed.contains(method) && !allowed.is_empty(), "{method} {path}: {allowed}");
                continue;
            }
            let responses = operation["responses"].as_object().unwrap();
            let response = resolve(responses.get(&answer.status().to_string()).unwrap_or_else(|| panic!("{answer:?}")));
            let schema = resolve(&response["content"]["application/json"]["schema"]);
            let told = json_of(&answer);
            assert!(answer.status() < 300, "{method} {path}: {answer:?}");
            assert_shape(&schema, &told, &resolve);
        }
    }
    // Every key that is read is described.
    let keys = described["components"]["schemas"]["NewOverride"]["properties"].as_object().unwrap();
    let (_, refused) = put(&gateway, &json!({ "bogus": 1 }));
    let expected = refused["error"]["mistakes"][0]["expected"].as_str().unwrap();
    let mut read: Vec<&str> = expected.split(", ").collect();
    read.sort_unstable();
    assert_eq!(read, keys.keys().map(String::as_str).collect::<Vec<_>>());
    let refused = json_of(&call(&gateway, "GET", "/v1/explain", "", ""));
    let message = refused["error"]["message"].as_str().unwrap();
    let (_, names) = message.split_once("there are ").unwrap();
    let mut read: Vec<&str> = names.split(", ").filter_map(|name| name.split('=').next()).collect();
    let parameters = described["paths"]["/v1/explain"]["get"]["parameters"].as_array().unwrap();
    let mut named: Vec<&str> = parameters.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
    read.sort_unstable();
    named.sort_unstable();
    assert_eq!(read, named);
}

/// The query that an operation cannot do without, of its examples.
fn required_query(operation: &Value) -> String {
    let required = operation["parameters"].as_array().into_iter().flatten();
    let required = required.filter(|parameter| parameter["in"] == "query" && parameter["required"] == true);
    let said = required.map(|one| format!("{}={}", one["name"].as_str().unwrap(), one["example"].as_str().unwrap()));
    let said: Vec<_> = said.collect();
    if said.is_empty() { String::new() } else { format!("?{}", said.join("&")) }
}

/// Whether a value has what a schema requires, and of what is described has nothing else; as deep as it is described.
#[track_caller]
fn assert_shape(schema: &Value, value: &Value, resolve: &impl Fn(&Value) -> Value) {
    let schema = resolve(schema);
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(name.as_str().unwrap()).is_some(), "{name} is missing: {value}");
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        value.get(name).into_iter().for_each(|inner| assert_shape(property, inner, resolve));
    }
    value.as_array().into_iter().flatten().for_each(|item| assert_shape(&schema["items"], item, resolve));
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = kinds.contains(&kind) || (kind == "integer" && kinds.contains(&"number"));
    assert!(kinds.is_empty() || fits, "{value} is no {kinds:?}");
}
