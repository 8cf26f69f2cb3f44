//! What the gateway tells of itself: metrics and the access log, with no secret in either.

use crate::support::running::{Folder, LIVE, RESTRICTED, Running, Setup, TEST, UNKNOWN, get, post, request};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const LIMITS: &str = "[[limits]]\nname = \"one-file\"\nstage = \"resource\"\nrate = \"1/h\"\nburst = 2\n\
                      when = { endpoint = \"files.retrieve\" }\nper = [\"account\", \"path.file\"]\ncandidate = { rate = \"2/h\" }\n\
                      [[limits]]\nname = \"shadow\"\nstage = \"global\"\nrate = \"1/h\"\nburst = 1\nenforce = false\n";

/// One of everything, ending with a request that is easy to tell.
fn talk(gateway: &Running) {
    let mut client = gateway.connect();
    let connected =
        request("GET", "/v1//files/f_9?secret=query", LIVE, "stripe-account: acct_child\r\nrequest-id: req_mine\r\n");
    let statuses = [
        client.ask(connected).status(),
        client.ask(get("/v1/files/f_9", LIVE)).status(),
        client.ask(get("/v1/files/f_9", LIVE)).status(),
        client.ask(get("/v1/charges", UNKNOWN)).status(),
        client.ask(post("/v1/payouts", RESTRICTED)).status(),
        client.ask(get("/no/such/endpoint/x_123", TEST)).status(),
        client.ask(post("/v1/charges", TEST)).status(),
    ];
    assert_eq!(statuses, [200, 200, 429, 401, 403, 200, 200]);
    drop(client);
    wait_until("all is recorded", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn the_access_log_holds_what_happened_and_no_secret() {
    let folder = Folder::new();
    let path = folder.path("access.jsonl");
    let upstream = Upstream::fine();
    let log = format!("{LIMITS}[log]\naccess = \"{}\"\n", path.display());
    let gateway = Setup::new(upstream.address()).with(&log).start();
    talk(&gateway);
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    wait_until("every line is written", || read().lines().count() == 7);
    let text = read();
    for secret in [LIVE, TEST, UNKNOWN, RESTRICTED, "secret=query", "Bearer", "amount=1"] {
        assert!(!text.contains(secret) && !text.contains(&secret[..secret.len().min(24)]), "{secret}: {text}");
    }
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = &lines[0];
    let expected = [
        ("request_id", "req_mine"),
        ("account", "acct_a"),
        ("connected_account", "acct_child"),
        ("key_id", "key_live"),
        ("mode", "live"),
        ("access", "read"),
        ("endpoint", "files.retrieve"),
        ("method", "GET"),
        ("path", "/v1/files/f_9"),
    ];
    for (field, value) in expected {
        assert_eq!(first[field], value, "{field}: {first}");
    }
    assert_eq!((&first["status"], &first["partition"]["path.file"]), (&200.into(), &"f_9".into()));
    assert!(first["duration_ms"].as_f64().unwrap() > 0.0);
    let ts = first["ts"].as_str().unwrap();
    assert!(ts.parse::<jiff::Timestamp>().is_ok() && ts.len() == "2026-01-01T00:00:00.123456789Z".len(), "{ts}");
    let refused = &lines[2];
    assert_eq!((&refused["limit"], &refused["reason"]), (&"one-file".into(), &"resource-specific".into()));
    assert_eq!((&lines[3]["status"], lines[3].get("account")), (&401.into(), None));
    assert_eq!((&lines[4]["status"], &lines[4]["endpoint"]), (&403.into(), &"payouts.create".into()));
    assert_eq!((&lines[5]["endpoint"], &lines[5]["mode"]), (&"other.read".into(), &"test".into()));
    assert_eq!(lines[6]["access"], "write");
}

/// Every label that a series may have.
fn labels() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("tollgate_requests_total", ["access", "mode", "route", "status"].as_slice()),
        ("tollgate_decisions_total", &["limit", "verdict"]),
        ("tollgate_candidate_decisions_total", &["limit", "verdict"]),
        ("tollgate_rejections_total", &["limit", "mode", "reason"]),
        ("tollgate_auth_failures_total", &["cause"]),
        ("tollgate_request_duration_seconds", &["route"]),
        ("tollgate_upstream_duration_seconds", &["route"]),
        ("tollgate_overhead_seconds", &["route"]),
        ("tollgate_in_flight", &["stage"]),
        ("tollgate_partitions", &["limit"]),
        ("tollgate_config_reloads_total", &["result"]),
        ("tollgate_config_last_success_timestamp_seconds", &["result"]),
    ])
}

#[test]
fn metrics_have_the_names_and_labels_that_were_promised() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(LIMITS).start();
    talk(&gateway);
    let metrics = gateway.metrics();
    let kinds: BTreeMap<&str, &str> =
        metrics.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    for (name, expected) in labels() {
        let kind = kinds.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        let series = metrics.series.keys().filter(|series| {
            let bare = series.split('{').next().unwrap_or_default();
            bare == name || (*kind == "histogram" && bare.strip_suffix("_bucket") == Some(name))
        });
        for one in series {
            let inner = one.split_once('{').unwrap().1.trim_end_matches('}');
            let names: BTreeSet<&str> = inner.split(',').map(|label| label.split('=').next().unwrap()).collect();
            let names: Vec<&str> = names.into_iter().filter(|name| *name != "le").collect();
            assert_eq!(names, expected, "{one}");
        }
    }
    for raw in [LIVE, TEST, UNKNOWN, "sk_live", "acct_", "key_live", "f_9", "x_123", "/v1", "req_mine"] {
        assert!(!metrics.text.contains(raw), "{raw}: {}", metrics.text);
    }
}

#[test]
fn metrics_count_what_happened() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(LIMITS).start();
    talk(&gateway);
    let metrics = gateway.metrics();
    let requests = |labels: &[(&str, &str)]| metrics.sum("tollgate_requests_total", labels);
    assert_eq!(requests(&[]), 7.0);
    assert_eq!(requests(&[("status", "429"), ("mode", "live"), ("access", "read")]), 1.0);
    assert_eq!(requests(&[("status", "401"), ("mode", "unknown"), ("access", "unknown"), ("route", "none")]), 1.0);
    assert_eq!(requests(&[("status", "200"), ("mode", "test"), ("access", "write")]), 1.0);
    let decisions = |limit, verdict| metrics.sum("tollgate_decisions_total", &[("limit", limit), ("verdict", verdict)]);
    assert_eq!((decisions("one-file", "admit"), decisions("one-file", "reject")), (2.0, 1.0));
    // Live: 2 of the 3; test: 1 of the 2.
    assert_eq!((decisions("shadow", "shadow_reject"), decisions("shadow", "reject")), (3.0, 0.0));
    assert_eq!(metrics.sum("tollgate_rejections_total", &[]), 1.0);
    assert_eq!(metrics.sum("tollgate_request_duration_seconds_count", &[]), 6.0, "all that found a route");
    assert_eq!(metrics.sum("tollgate_upstream_duration_seconds_count", &[]), 4.0, "all that were forwarded");
    assert_eq!(metrics.sum("tollgate_overhead_seconds_count", &[]), 4.0);
    assert_eq!(metrics.sum("tollgate_partitions", &[("limit", "one-file")]), 1.0);
    assert_eq!(metrics.sum("tollgate_partitions", &[("limit", "shadow")]), 2.0);
}

#[test]
fn the_admin_listener_has_its_pages_and_no_others() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    assert_eq!((gateway.admin("/healthz").text(), gateway.admin("/readyz").text()), ("ok\n", "ready\n"));
    assert_eq!(gateway.admin("/charges").status(), 404);
    assert_eq!(gateway.admin("/metrics").head.value("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    // Nothing of it is on the public listener.
    assert_eq!(gateway.ask(get("/metrics", UNKNOWN)).status(), 401);
}
