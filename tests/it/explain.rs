//! What is said of requests: by the command, by the admin listener, and in the refusals themselves.

use crate::support::running::{Folder, LIVE, OTHER, Running, Setup, TEST, get, request};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use crate::support::wire::{Answer, Wire};
use serde_json::{Value, json};
use std::process::Command;
use tollgate::process::Source;

const LIMITS: &str = r#"
[[limits]]
name = "all"
stage = "global"
rate = "1/h"
burst = 20
when = { mode = "live" }
[[limits]]
name = "one-file"
stage = "resource"
rate = "1/h"
burst = 2
when = { endpoint = "files.retrieve" }
per = ["account", "path.file", "ip"]
doc_url = "https://example.com/docs/files"
[[limits]]
name = "in-flight"
stage = "endpoint"
concurrency = 4
candidate = { concurrency = 2 }
[[limits]]
name = "a-day"
stage = "endpoint"
quota = "9/d"
per = ["account", "header.x-team", "connected_account", "key"]
enforce = false
[tiers.gold.limits]
in-flight = { concurrency = 9 }
[accounts.acct_b]
tier = "gold"
limits.all = { rate = "3/h", burst = 50 }
"#;

fn ask(gateway: &Running, query: &str) -> Answer {
    let head = format!("GET /v1/explain?{query} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    Wire::connect(gateway.admin).ask(head)
}

fn explained(gateway: &Running, query: &str) -> Value {
    let answer = ask(gateway, query);
    assert_eq!(answer.status(), 200, "{answer:?}");
    serde_json::from_slice(&answer.body).unwrap()
}

#[track_caller]
fn limit<'v>(explained: &'v Value, name: &str) -> &'v Value {
    explained["limits"].as_array().unwrap().iter().find(|limit| limit["name"] == name).unwrap()
}

#[test]
fn the_live_state_is_told_and_nothing_is_taken() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(LIMITS).start();
    let query = "method=GET&path=/v1/files/f_1&key_id=key_live&ip=127.0.0.1";
    let fresh = explained(&gateway, query);
    assert_eq!(fresh["request"]["endpoint"], "files.retrieve");
    assert_eq!((&fresh["request"]["account"], &fresh["refuses_now"]), (&json!("acct_a"), &Value::Null));
    assert_eq!(fresh["first"]["at_once"], json!({ "limit": "one-file", "admitted": 2 }));
    assert_eq!(gateway.ask(get("/v1/files/f_1", LIVE)).status(), 200);
    wait_until("the slot is back", || gateway.metrics().in_flight() == 0.0);
    for _ in 0..50 {
        let told = explained(&gateway, query);
        assert_eq!(limit(&told, "all")["state"]["left"], 19, "{told}");
        assert_eq!(limit(&told, "one-file")["state"], json!({ "admits": true, "left": 1, "next_free_ms": 0 }));
        let slots = limit(&told, "in-flight");
        assert_eq!((&slots["state"]["in_flight"], &slots["state"]["left"]), (&json!(0), &json!(4)));
        assert_eq!(slots["candidate"]["state"]["left"], 2, "{slots}");
        assert_eq!(limit(&told, "a-day")["state"]["counted"], 1);
        assert_eq!(limit(&told, "a-day")["enforced"], false);
    }
    assert_eq!(gateway.ask(get("/v1/files/f_1", LIVE)).status(), 200);
    let told = explained(&gateway, query);
    assert_eq!(told["refuses_now"], "one-file");
    let wait = limit(&told, "one-file")["state"]["next_free_ms"].as_u64().unwrap();
    assert!((3_500_000..=3_600_000).contains(&wait), "{wait}");
    assert_eq!(
        limit(&told, "one-file")["partition"],
        json!({ "account": "acct_a", "path.file": "f_1", "ip": "127.0.0.1" })
    );
    assert_eq!(gateway.ask(get("/v1/files/f_1", LIVE)).status(), 429);
    assert_eq!(explained(&gateway, &query.replace("f_1", "f_2"))["refuses_now"], Value::Null);
}

#[test]
fn figures_and_whose_they_are_and_why_the_others_do_not_apply() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(LIMITS).start();
    let told = explained(&gateway, "path=/v1/charges&account=acct_b&mode=test");
    assert_eq!(limit(&told, "all")["why_not"], "when.mode is live, this request is test");
    assert_eq!(
        limit(&told, "one-file")["why_not"],
        "when.endpoint is files.retrieve, this request is charges.list",
        "{told}"
    );
    assert_eq!(limit(&told, "in-flight")["from"], "tier gold");
    assert_eq!(limit(&told, "in-flight")["figures"], json!({ "concurrency": 9 }));
    let told = explained(&gateway, "path=/v1/charges&account=acct_b");
    assert_eq!(limit(&told, "all")["from"], "account acct_b");
    assert_eq!(told["assumed"], json!(["a key that may do everything", "mode live"]));
    let of_header = explained(&gateway, "path=/v1/charges&account=acct_b&header=X-Team:%20secret+team");
    assert!(!of_header.to_string().contains("secret"), "a header may be a credential: {of_header}");
}

#[test]
fn bad_questions_are_told_and_bounded() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(LIMITS).start();
    let many = "&header=a:b".repeat(101);
    for (query, piece) in [
        ("", "`path` is missing"),
        ("path=/a&pth=/b", "there are method, path"),
        ("path=/a&mode=prod", "live or test"),
        ("path=/a&mode=live&mode=live", "given twice"),
        ("path=/a%252fb", "encoded slash"),
        ("path=a", "begin with a slash"),
        ("path=/a&method=G%20T", "no method"),
        ("path=/a&header=x", "Name: value"),
        ("path=/a&form=x", "key=value"),
        ("path=/a&ip=x", "no address"),
        ("path=/a&json_body=%7B", "the body is not JSON"),
        ("path=/a&json_body=", "the body is not JSON"),
        ("path=/a&json_body=1&json_body=1", "given twice"),
        ("path=/a&json_body=1&form=a=b", "a form or JSON, not both"),
        ("path=/a&account=a%20b", "can be no account's"),
        ("path=/a&key_id=key_live&account=acct_b", "belongs to the account acct_a"),
        (&format!("path=/a{many}"), "more than 100 headers"),
    ] {
        let answer = ask(&gateway, query);
        assert_eq!(answer.status(), 400, "{query}");
        assert!(answer.text().contains(piece), "{query}: {}", answer.text());
    }
    let unused = explained(&gateway, "path=/v1/charges&connected_account=a%2fb");
    assert!(unused["refused"].as_str().unwrap().starts_with("400"), "{unused}");
    let foreign = explained(&gateway, "path=/v1/charges&key_id=key_other&connected_account=acct_zzz");
    assert!(foreign["refused"].as_str().unwrap().starts_with("403"), "{foreign}");
}

#[test]
fn a_refusal_says_for_whom_and_links_to_its_own_page() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(LIMITS).start();
    let mut client = gateway.connect();
    let mut last = |path: &str, key: &str, times: usize| {
        let mut answers = (0..=times).map(|_| client.ask(get(path, key)));
        let refused = answers.nth(times).unwrap();
        assert_eq!(refused.status(), 429);
        refused
    };
    let refused = last("/v1/files/f_%22%C3%A91", LIVE, 2);
    assert_eq!(
        refused.message(),
        "Request rate limit exceeded: the limit 'one-file' admits 1 request per hour with bursts of 2 for account acct_a and \
         file f_\"é1 and address 127.0.0.1. You can learn more about rate limits here \
         https://stripe.com/docs/rate-limits."
    );
    assert_eq!(refused.error()["doc_url"], "https://example.com/docs/files");
    let secret = format!("sk_live_{}", "9".repeat(40));
    let refused = last(&format!("/v1/files/{secret}"), OTHER, 2);
    assert!(!refused.text().contains("99999999"), "{}", refused.text());
    let refused = last(&format!("/v1/files/{}", "x".repeat(300)), TEST, 2);
    assert!(refused.text().contains(&"x".repeat(64)) && !refused.text().contains(&"x".repeat(65)));
    let refused = last("/v1/charges", LIVE, 18);
    assert!(
        refused.message().contains("the limit 'all' admits 1 request per hour with bursts of 20 for account acct_a.")
    );
    assert_eq!(refused.error()["doc_url"], "https://stripe.com/docs/error-codes/rate-limit");
}

#[test]
fn a_connected_account_that_pays_is_the_one_that_is_told() {
    let upstream = Upstream::fine();
    let limits = "[connect]\ncharge = \"connected\"\n[[limits]]\nname = \"all\"\nstage = \"global\"\nrate = \"1/h\"\n\
                  [accounts.acct_child]\nlimits.all = { rate = \"2/h\" }\n";
    let gateway = Setup::new(upstream.address()).with(limits).start();
    let ask = || gateway.ask(request("GET", "/v1/charges", LIVE, "stripe-account: acct_child\r\n"));
    let refused = [ask(), ask(), ask()].into_iter().find(|answer| answer.status() == 429).unwrap();
    assert!(refused.message().contains("admits 2 requests per hour"), "{}", refused.message());
    assert!(refused.message().contains("for account acct_child."), "{}", refused.message());
}

#[test]
fn the_series_of_removed_limits_and_candidates_go() {
    let upstream = Upstream::fine();
    let folder = Folder::new();
    let setup = Setup::new(upstream.address());
    let put = |limits: &str| folder.put("tollgate.toml", &setup.clone().with(limits).toml());
    folder.put("keys.toml", &setup.keys);
    put(LIMITS);
    let gateway = Running::start(Source::File(folder.path("tollgate.toml")));
    assert_eq!(gateway.ask(get("/v1/files/f_1", LIVE)).status(), 200);
    let scrape = || gateway.admin("/metrics").text().to_owned();
    let labels = [("limit", "in-flight"), ("verdict", "admit")];
    assert_eq!(gateway.metrics().sum("tollgate_candidate_decisions_total", &labels), 1.0);
    assert_eq!(gateway.metrics().sum("tollgate_decisions_total", &labels), 1.0);
    assert!(scrape().contains("\"one-file\""));
    put("[[limits]]\nname = \"in-flight\"\nstage = \"endpoint\"\nconcurrency = 4\n");
    gateway.handle().reload().unwrap();
    let text = scrape();
    assert!(
        !text.contains("\"one-file\"") && !text.contains("\"all\",verdict") && !text.contains("limit=\"all\""),
        "{text}"
    );
    assert!(!text.contains("tollgate_candidate_decisions_total{"), "{text}");
    assert_eq!(gateway.metrics().sum("tollgate_decisions_total", &labels), 1.0, "what stays goes on counting");
}

fn command(folder: &Folder, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("explain").arg("--config").arg(folder.path("tollgate.toml")).args(arguments);
    let output = command.env_remove("CLICOLOR_FORCE").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_tells_it_in_words_and_as_json() {
    let folder = Folder::new();
    let setup = Setup::new("127.0.0.1:9".parse().unwrap()).with(LIMITS);
    folder.put("tollgate.toml", &setup.toml());
    let request = ["--account", "acct_b", "--mode", "live", "GET", "/v1/files/f_1"];
    let (code, told, _) = command(&folder, &request);
    assert_eq!(code, Some(0));
    let pieces = [
        "endpoint   files.retrieve (read, live)",
        "account    acct_b (tier gold)",
        "✓ all                      3 requests per hour with bursts of 50 (from account acct_b), for account acct_b",
        "✓ one-file                 1 request per hour with bursts of 2, for account acct_b and file f_1 and address 192.0.2.1",
        "shadow: counted, not enforced",
        "candidate: 9 requests at a time",
        "keys.toml: cannot be read: ",
        "At once: 2 such requests pass, the next is refused by one-file.",
        "Steadily: above 0.0003 a second, one-file",
    ];
    for piece in pieces {
        assert!(told.contains(piece), "{piece}\n{told}");
    }
    assert!(!told.contains('\u{1b}'), "no color where nobody sees it");
    let places: Vec<_> = ["global-rate", "endpoint-rate", "endpoint-concurrency", "resource-specific"]
        .map(|stage| told.find(&format!("\n{stage}\n")).unwrap_or_else(|| panic!("{stage}\n{told}")))
        .into();
    assert!(places.is_sorted(), "in the order of stages");
    let (code, json, _) = command(&folder, &[&["--json"], &request[..]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["first"]["at_once"]["limit"]), (Some(0), &json!("one-file")));
    folder.put("keys.toml", &setup.keys);
    let (_, told, _) = command(&folder, &["--key-id", "key_live", "GET", "/v1/charges"]);
    assert!(told.contains("account    acct_a") && !told.contains("assumed"), "{told}");
    for bad in [&["GET", "/v1/%2f"][..], &["GET", "x"], &["--mode", "x", "GET", "/"], &["--ip", "x", "GET", "/"]] {
        let (code, out, error) = command(&folder, bad);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{bad:?}");
        assert!(!error.is_empty());
    }
    folder.put("tollgate.toml", "[serve]\n");
    assert_eq!(command(&folder, &["GET", "/"]).0, Some(2));
}

#[test]
fn bodies_of_json_and_object_locks_are_told() {
    let folder = Folder::new();
    let more = "[[endpoints]]\nmatch = 'POST /v1/orders/{order}/pay'\nname = 'orders.pay'\n\
        lock = { per = ['path.order'], wait = '3s' }\n\
        [[endpoints]]\nmatch = 'POST /v2/events'\nname = 'events.create'\n\
        [[limits]]\nname = 'one-customer'\nstage = 'resource'\nrate = '5/s'\nwhen = { endpoint = 'events.create' }\n\
        per = ['account', 'json.payload.customer']\n";
    folder.put("tollgate.toml", &Setup::new("127.0.0.1:9".parse().unwrap()).with(more).toml());
    let (code, told, _) = command(&folder, &["POST", "/v1/orders/or_1/pay"]);
    assert_eq!(code, Some(0));
    let wanted = "object lock\n  one request at a time with path.order or_1; waits up to 3s for its turn\n";
    assert!(told.contains(wanted), "{told}");
    let (_, json, _) = command(&folder, &["--json", "POST", "/v1/orders/or_1/pay"]);
    let turn = &serde_json::from_str::<Value>(&json).unwrap()["turn"];
    assert_eq!((&turn["object"], &turn["wait_ms"]), (&json!({"path.order": "or_1"}), &json!(3_000)));
    let body = "{\"payload\": {\"customer\": \"cus 7+\"}}";
    let (_, told, _) = command(&folder, &["--json-body", body, "POST", "/v2/events"]);
    assert!(told.contains("cus 7+") && !told.contains("object lock"), "{told}");
    // The admin listener reads the same body.
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(more).start();
    let query = "method=POST&path=/v2/events&json_body=%7B%22payload%22:%20%7B%22customer%22:%22cus+7%2b%22%7D%7D";
    let told = explained(&gateway, query);
    let wanted = json!({ "account": "acct_supposed", "json.payload.customer": "cus 7+" });
    assert_eq!(limit(&told, "one-customer")["partition"], wanted, "{told}");
    for bad in
        [&["--json-body", "{", "POST", "/v2/events"][..], &["--json-body", "{}", "--form", "a=b", "POST", "/v2/events"]]
    {
        let (code, out, error) = command(&folder, bad);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{bad:?}: {error}");
    }
}
