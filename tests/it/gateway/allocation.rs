//! Reads that transactions earn.

use crate::support::running::{LIVE, OTHER, Running, Setup, TEST, get, key, post, request};
use crate::support::upstream::{Upstream, ok};
use crate::support::wire::Wire;
use serde_json::Value;
use std::sync::Arc;
use tollgate::engine::class::MAX_VALUES;
use tollgate::engine::{
    Access, Engine, Hold, Id, Limit, LimitId, Mode, Nanos, Outcome, Payers, ProfileId, RequestClass, RouteId, Seed,
    Stage, Step,
};

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

/// Rows 19, 19' and 19'' of the catalogue: the figure, one more, what transactions add, and 30 days later.
#[test]
fn the_presets_report_from_the_figure_on_and_refuse_nothing() {
    const SEED: Seed = Seed([1, 2]);
    for (preset, name) in [("stripe", "read-allocation"), ("stripe-read-write", "read-allocation-platform")] {
        let text = format!(
            "presets = [\"{preset}\"]\n[auth]\nkeys_file = \"k\"\n[upstreams.a]\nservers = \"http://127.0.0.1:1\"\n"
        );
        let config = tollgate::config::parse(&text, std::path::Path::new("t.toml"), &SEED).unwrap();
        let found = |(_, limit): &(LimitId, &Limit)| *limit.name == *name;
        let (id, _) = config.policy.limits().find(found).unwrap();
        let connected = if name.ends_with("platform") { Id([7, 7]) } else { Id::NONE };
        let class = RequestClass {
            mode: Mode::Live,
            access: Access::Read,
            endpoint: config.other(Access::Read),
            route: RouteId(0),
            profile: ProfileId::BASE,
            cost: 1,
            account: Id([5, 5]),
            connected,
            key: Id::NONE,
            ip: Id::NONE,
            values: [Id::NONE; MAX_VALUES],
            facts: 0,
            payers: Payers::Account,
            lot: 0,
        };
        let engine = Arc::new(Engine::new(SEED, 1_000));
        let mut now = Nanos(0);
        let mut read = |engine: &Arc<Engine>, by_ns: u64| {
            now = Nanos(now.0 + by_ns);
            let (mut hold, mut steps) = (Hold::new(Arc::clone(engine)), Vec::<Step>::new());
            engine.stage(&config.policy, Stage::GlobalRate, &class, now, &mut hold, &mut steps).unwrap();
            hold.commit();
            let said = steps.iter().find_map(|step| match step {
                Step::Decided { limit, outcome, .. } if *limit == id => Some(*outcome),
                _ => None,
            });
            (matches!(said.unwrap(), Outcome::Admitted { .. }), now)
        };
        let mut admitted =
            |engine: &Arc<Engine>, wanted: u32| (0..wanted).filter(|_| read(engine, 20_000_000).0).count();
        assert_eq!(admitted(&engine, 10_001), 10_000, "{name}");
        let later = Nanos(10_001 * 20_000_000);
        for _ in 0..21 {
            assert!(engine.credit(&config.policy, &RequestClass { access: Access::Write, ..class }, later) >= 1);
        }
        assert_eq!(admitted(&engine, 501), 500, "{name}");
        let month = 31 * 86_400 * 1_000_000_000;
        assert!(read(&engine, month).0, "{name}");
    }
}
