//! One canonical path: what is limited is what is forwarded, under every disguise.

use crate::support::running::{LIVE, Setup, get, request};
use crate::support::upstream::Upstream;

/// Spellings of `/v1/payouts` that some server somewhere takes for it.
const DISGUISES: [&str; 15] = [
    "/v1/payouts",
    "//v1/payouts",
    "/v1//payouts",
    "/v1/./payouts",
    "/v1/x/../payouts",
    "/v1/%70ayouts",
    "/v1/%70%61%79%6f%75%74%73",
    "/v1/%2e/payouts",
    "/v1/x/%2E%2e/payouts",
    "/v1/payouts/",
    "/v1/payouts;x=1",
    "/v1;y/payouts",
    "/V1/PAYOUTS",
    "/v1/payouts?",
    "http://api.test/v1/payouts",
];

#[test]
fn every_disguise_of_an_endpoint_spends_its_limit() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address())
        .with("[[limits]]\nname = \"payouts\"\nstage = \"endpoint\"\nrate = \"1/h\"\nburst = 15\n")
        .with("when = { endpoint = \"payouts.create\" }\nper = [\"account\"]\n")
        .with("[[limits]]\nname = \"rest\"\nstage = \"endpoint\"\nrate = \"1/h\"\nburst = 100\nfallback = true\n")
        .start();
    let mut client = gateway.connect();
    let ask = |path: &str| request("POST", path, LIVE, "content-length: 0\r\n");
    for disguise in DISGUISES {
        assert_eq!(client.ask(ask(disguise)).status(), 200, "{disguise}");
    }
    for disguise in DISGUISES {
        let refused = client.ask(ask(disguise));
        assert_eq!(refused.status(), 429, "{disguise}");
        assert!(refused.message().contains("'payouts'"), "{disguise}");
    }
    assert_eq!(gateway.metrics().sum("tollgate_decisions_total", &[("limit", "rest")]), 0.0);
    assert_eq!(client.ask(get("/v1/payouts", LIVE)).status(), 200, "another method, another endpoint");
}

#[test]
fn the_upstream_gets_the_canonical_path_and_the_query_as_it_came() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    let forwarded = [
        ("/v1/x/../charges?a=%2F..%2F&b=//&c=%zz;d", "/v1/charges?a=%2F..%2F&b=//&c=%zz;d"),
        ("//v1/%63harges", "/v1/charges"),
        ("/v1/files/a%20b%3f", "/v1/files/a%20b%3F"),
        ("/../../etc", "/etc"),
        ("/v1/charges?", "/v1/charges?"),
        ("/?x", "/?x"),
        ("http://api.test?x=1", "/?x=1"),
        ("http://api.test/v1//charges?y", "/v1/charges?y"),
        ("/v1/%E2%82%AC", "/v1/%E2%82%AC"),
    ];
    for (sent, got) in forwarded {
        assert_eq!(client.ask(get(sent, LIVE)).status(), 200, "{sent}");
        assert_eq!(upstream.last().target(), got, "{sent}");
        assert_eq!(upstream.last().values("host"), ["api.test"], "{sent}");
    }
}

#[test]
fn unknown_paths_share_a_bucket_instead_of_having_one_each() {
    let upstream = Upstream::fine();
    let limit = "[[limits]]\nname = \"default\"\nstage = \"endpoint\"\nrate = \"1/h\"\nburst = 3\nfallback = true\n";
    let gateway = Setup::new(upstream.address()).with(limit).start();
    let mut client = gateway.connect();
    let statuses: Vec<u16> = (0..6).map(|n| client.ask(get(&format!("/made/up/{n}"), LIVE)).status()).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429, 429]);
    let partitions = gateway.metrics().sum("tollgate_partitions", &[("limit", "default")]);
    assert_eq!(partitions, 1.0);
}
