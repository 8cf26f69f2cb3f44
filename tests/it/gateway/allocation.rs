//! Reads that transactions earn.

use crate::support::running::{LIVE, OTHER, Running, Setup, TEST, get, key, post, request};
use crate::support::upstream::{Upstream, ok};
use crate::support::wire::Wire;
use serde_json::Value;

/// The account `acct_child`, live: a connected account's own key.
const CHILD: &str = "sk_live_ffffffffffffffffffffffffffffffffffffffff";

const LIMITS: &str = r#"
[[endpoints]]
match = "POST /v1/orders"
name = "orders.create"
transaction = true
[[endpoints]]
match = "GET /v1/reports"
name = "reports.list"
[[limits]]
name = "reads"
stage = "global"
allocation = { per_transaction = 5, at_least = 2, window = "1h" }
when = { access = "read", connected = false }
except = { endpoint = "reports.list" }
[[limits]]
name = "reads-for-others"
stage = "global"
allocation = { per_transaction = 5, at_least = 2, window = "1h" }
when = { access = "read", connected = true }
"#;

fn setup(upstream: &Upstream, limits: &str) -> Setup {
    let mut setup = Setup::new(upstream.address()).with(limits);
    setup.keys += &key("key_child", CHILD, "acct_child", "live", "");
    setup
}

/// An upstream that refuses orders with a body.
fn shop() -> Upstream {
    Upstream::answering(|got| match got.head.target() {
        "/v1/orders?declined" => b"HTTP/1.1 402 Payment Required\r\ncontent-length: 0\r\n\r\n".to_vec(),
        _ => ok("ok"),
    })
}

/// How many of 20 reads are admitted.
fn reads(gateway: &Running, secret: &str, lines: &str) -> usize {
    let read = request("GET", "/v1/charges", secret, lines);
    (0..20).filter(|_| gateway.ask(&read).status() == 200).count()
}

fn standing(gateway: &Running, account: &str, limit: &str) -> Value {
    let answer =
        Wire::connect(gateway.admin).ask(format!("GET /v1/accounts/{account} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    let shown: Value = serde_json::from_slice(&answer.body).unwrap();
    shown["limits"].as_array().unwrap().iter().find(|one| one["name"] == limit).unwrap()["usage"][0].clone()
}

#[test]
fn transactions_earn_reads_and_only_successful_ones() {
    let upstream = shop();
    let gateway = setup(&upstream, LIMITS).start();
    assert_eq!(reads(&gateway, LIVE, ""), 2, "there are always so many");
    let refused = gateway.ask(get("/v1/charges", LIVE));
    assert_eq!((refused.status(), refused.head.value("stripe-rate-limited-reason")), (429, Some("global-rate")));
    assert_eq!(gateway.ask(post("/v1/orders?declined", LIVE)).status(), 402);
    assert_eq!(gateway.ask(post("/v1/charges", LIVE)).status(), 200, "writes are free, and not all are transactions");
    assert_eq!(reads(&gateway, LIVE, ""), 0);
    assert_eq!(gateway.ask(post("/v1/orders", LIVE)).status(), 200);
    assert_eq!(reads(&gateway, LIVE, ""), 3, "five in all");
    assert_eq!(gateway.ask(get("/v1/reports", LIVE)).status(), 200, "left out");
    for (secret, whose) in [(TEST, "the other mode"), (OTHER, "another account")] {
        assert_eq!(reads(&gateway, secret, ""), 2, "{whose} has earned nothing");
    }
    let shown = standing(&gateway, "acct_a", "reads");
    assert_eq!([&shown["transactions"], &shown["allowed"], &shown["used"], &shown["left"]], [1, 5, 5, 0], "{shown}");
    assert_eq!(gateway.metrics().sum("tollgate_transactions_total", &[("mode", "live")]), 1.0);
}

#[test]
fn a_platform_earns_for_itself_and_for_the_account_it_acts_for() {
    let upstream = shop();
    let gateway = setup(&upstream, LIMITS).start();
    let child = "stripe-account: acct_child\r\n";
    let order = request("POST", "/v1/orders", LIVE, &format!("{child}content-length: 0\r\n"));
    assert_eq!(gateway.ask(&order).status(), 200);
    assert_eq!(gateway.ask(&order).status(), 200);
    assert_eq!(reads(&gateway, LIVE, child), 10, "the platform's aggregate");
    assert_eq!(reads(&gateway, LIVE, "stripe-account: acct_second\r\n"), 0, "which all its connected accounts share");
    assert_eq!(reads(&gateway, CHILD, ""), 10, "the connected account's own");
    assert_eq!(reads(&gateway, LIVE, ""), 2, "the platform's own calls are apart");
    assert_eq!(standing(&gateway, "acct_a", "reads-for-others")["transactions"], 2);
}

#[test]
fn by_default_it_is_reported_only() {
    let upstream = shop();
    let shadow = LIMITS.replace("when = { access", "enforce = false\nwhen = { access");
    let gateway = setup(&upstream, &shadow).start();
    assert_eq!(reads(&gateway, LIVE, ""), 20);
    let reported = [("limit", "reads"), ("verdict", "shadow_reject")];
    assert_eq!(gateway.metrics().sum("tollgate_decisions_total", &reported), 18.0);
}
