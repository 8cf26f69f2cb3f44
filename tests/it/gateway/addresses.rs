//! Limits by address, before a key is looked at: what counts, what is refused, what it costs others.

use crate::support::cases::configuration;
use crate::support::running::{LIVE, REVOKED, Running, Setup, UNKNOWN, get, keys, request};
use crate::support::seed;
use crate::support::stub::{Stack, peer, read};
use crate::support::upstream::Upstream;
use http::Request;
use std::time::Duration;

/// A stack without sockets, and what addresses get there.
struct Door(Stack);

impl Door {
    fn new(addresses: &str) -> Door {
        Door(Stack::new(configuration(&format!("[addresses]\n{addresses}"), &seed()), &keys()))
    }

    /// The status for a key, none where it is empty, and `Retry-After`.
    fn knock(&self, address: &str, secret: &str) -> (u16, Option<u64>) {
        let mut request = Request::builder().uri("/v1/charges").header("host", "a");
        if !secret.is_empty() {
            request = request.header("authorization", format!("Bearer {secret}"));
        }
        let peer = peer(address);
        let response = self.0.ask(&peer, request.body(()).unwrap());
        peer.let_go();
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
        let status = response.status().as_u16();
        read(response);
        (status, retry_after)
    }

    fn statuses(&self, address: &str, secret: &str, times: usize) -> Vec<u16> {
        (0..times).map(|_| self.knock(address, secret).0).collect()
    }

    fn wait(&self, seconds: u64) {
        self.0.clock.advance(Duration::from_secs(seconds));
    }
}

#[test]
fn whoever_guesses_is_not_heard_until_there_is_room_again() {
    let door = Door::new("failed_authentications = \"6/m\"");
    assert_eq!(door.statuses("192.0.2.1", UNKNOWN, 6), [401; 6]);
    assert_eq!(door.knock("192.0.2.1", UNKNOWN), (429, Some(10)));
    assert_eq!(
        door.knock("192.0.2.1", LIVE),
        (429, Some(10)),
        "not even a good key: a list of stolen ones is tried this way"
    );
    assert_eq!(door.knock("192.0.2.1", ""), (429, Some(10)));
    assert_eq!(door.knock("192.0.2.2", LIVE).0, 200, "nobody else is touched");
    door.wait(9);
    assert_eq!(door.knock("192.0.2.1", LIVE), (429, Some(1)), "refused tries cost nothing");
    door.wait(1);
    assert_eq!(door.knock("192.0.2.1", LIVE).0, 200);
    assert_eq!(door.statuses("192.0.2.1", LIVE, 50), [200; 50], "good keys take nothing");
    assert_eq!(door.statuses("192.0.2.1", UNKNOWN, 2), [401, 429], "and give nothing back");
}

#[test]
fn every_key_that_is_not_good_counts_and_no_key_does_not() {
    let door = Door::new("failed_authentications = \"3/m\"");
    assert_eq!(door.statuses("192.0.2.1", "", 20), [401; 20], "a request without a key guesses nothing");
    assert_eq!(door.knock("192.0.2.1", REVOKED).0, 401);
    assert_eq!(door.knock("192.0.2.1", "b\u{e4}d").0, 401);
    assert_eq!(door.statuses("192.0.2.1", UNKNOWN, 2), [401, 429]);
}

#[test]
fn an_ipv6_client_counts_by_its_network() {
    let door = Door::new("failed_authentications = \"2/m\"\nrequests = \"1/m\"\nrequests_burst = 9");
    assert_eq!(door.knock("2001:db8:0:1::1", UNKNOWN).0, 401);
    assert_eq!(door.knock("2001:db8:0:1:ffff::2", UNKNOWN).0, 401);
    assert_eq!(door.knock("2001:db8:0:1::3", LIVE).0, 429);
    assert_eq!(door.knock("2001:db8:0:2::1", LIVE).0, 200);
    // IPv4 in IPv6 clothing is IPv4.
    assert_eq!(door.statuses("::ffff:192.0.2.1", UNKNOWN, 2), [401; 2]);
    assert_eq!(door.knock("192.0.2.1", LIVE).0, 429);
    assert_eq!(door.knock("::ffff:192.0.2.2", LIVE).0, 200);
}

#[test]
fn requests_are_counted_whatever_becomes_of_them() {
    let door = Door::new(
        "requests = \"1/s\"\nrequests_burst = 4\nfailed_authentications = \"off\"\nexempt = [\"198.51.100.0/24\"]",
    );
    let seen: Vec<u16> = [LIVE, UNKNOWN, "", LIVE, LIVE].map(|secret| door.knock("192.0.2.1", secret).0).into();
    assert_eq!(seen, [200, 401, 401, 200, 429]);
    assert_eq!(door.knock("192.0.2.1", UNKNOWN), (429, Some(1)));
    assert_eq!(door.statuses("198.51.100.7", LIVE, 20), [200; 20], "exempt");
    door.wait(2);
    assert_eq!(door.statuses("192.0.2.1", LIVE, 3), [200, 200, 429]);
}

#[test]
fn failures_of_all_addresses_have_a_bound_that_good_keys_do_not_meet() {
    let door = Door::new("failed_authentications_total = \"5/s\"");
    let statuses: Vec<u16> = (0..20).map(|nth| door.knock(&format!("192.0.2.{nth}"), UNKNOWN).0).collect();
    assert_eq!(statuses, [[401; 5].as_slice(), &[429; 15]].concat());
    assert_eq!(door.knock("192.0.2.99", LIVE).0, 200);
    assert_eq!(door.knock("192.0.2.7", LIVE).0, 200, "nor who has failed within its own bound");
}

#[test]
fn any_number_of_addresses_takes_a_bounded_room_and_none_from_accounts() {
    let door =
        Door::new("max_addresses = 1000\nfailed_authentications = \"1/h\"\nfailed_authentications_total = \"off\"");
    let address = |nth: u32| std::net::Ipv4Addr::from(0x0b00_0000 + nth).to_string();
    for nth in 0..20_000 {
        door.knock(&address(nth), UNKNOWN);
    }
    let shared = &door.0.home.shared;
    assert_eq!((shared.addresses.partitions(), shared.engine.partitions()), (1_001, 0));
    assert_eq!(door.knock(&address(5), LIVE).0, 429, "who is known to guess is refused");
    assert_eq!(door.knock(&address(50_000), LIVE).0, 200, "who has done nothing is not");
    assert_eq!(door.knock(&address(50_000), UNKNOWN).0, 429, "there is no room for one more guess");
}

#[test]
fn by_default_a_public_address_has_sixty_failures_a_minute_and_a_private_one_no_bound() {
    let door = Door::new("");
    assert_eq!(door.statuses("192.0.2.1", UNKNOWN, 62), [[401; 60].as_slice(), &[429; 2]].concat());
    assert_eq!(door.knock("192.0.2.1", LIVE), (429, Some(1)));
    // A load balancer that nobody has named stands for everybody.
    assert_eq!(door.statuses("10.0.0.1", UNKNOWN, 200), [401; 200]);
    assert_eq!(door.statuses("::1", UNKNOWN, 200), [401; 200]);
}

#[test]
fn a_reload_keeps_what_was_counted() {
    let door = Door::new("failed_authentications = \"4/m\"");
    assert_eq!(door.statuses("192.0.2.1", UNKNOWN, 4), [401; 4]);
    let reload = |rate: &str| {
        let text = format!("[addresses]\nfailed_authentications = \"{rate}\"");
        door.0.reload(configuration(&text, &seed()), &keys());
    };
    reload("4/h");
    assert_eq!(door.knock("192.0.2.1", LIVE), (429, Some(900)));
    reload("6/m");
    assert_eq!(door.statuses("192.0.2.1", UNKNOWN, 3), [401, 401, 429]);
    reload("off");
    assert_eq!(door.knock("192.0.2.1", LIVE).0, 200);
}

/// A gateway behind a proxy on this machine that names its clients.
fn behind_a_proxy(upstream: &Upstream, addresses: &str) -> Running {
    Setup::new(upstream.address())
        .server("trusted_proxies = [\"127.0.0.1\"]")
        .with(&format!("[addresses]\n{addresses}\n"))
        .start()
}

#[test]
fn an_address_that_is_refused_is_told_so_in_stripes_shape_and_keeps_its_connection() {
    let upstream = Upstream::fine();
    let gateway = behind_a_proxy(&upstream, "requests = \"1/h\"\nrequests_burst = 2\nfailed_authentications = \"1/h\"");
    let mut client = gateway.connect();
    let from = |address: &str, secret: &str| {
        request("POST", "/v1/charges", secret, &format!("x-forwarded-for: {address}\r\ncontent-length: 3\r\n")) + "a=b"
    };
    assert_eq!(client.ask(from("192.0.2.1", LIVE)).status(), 200);
    assert_eq!(client.ask(from("192.0.2.1", LIVE)).status(), 200);
    let refused = client.ask(from("192.0.2.1", LIVE));
    assert_eq!((refused.status(), refused.closes()), (429, false), "{refused:?}");
    assert_eq!(refused.head.values("retry-after"), ["3600"]);
    assert_eq!(refused.head.values("content-type"), ["application/json"]);
    assert_eq!(refused.head.values("request-id").len(), 1);
    for absent in ["stripe-rate-limited-reason", "ratelimit", "ratelimit-policy", "www-authenticate"] {
        assert!(!refused.head.has(absent), "{absent}: {refused:?}");
    }
    let error = refused.error();
    assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "doc_url", "message", "type"]);
    assert_eq!((&error["code"], &error["type"]), (&"rate_limit".into(), &"invalid_request_error".into()));
    assert!(refused.message().contains("1 request per hour with bursts of 2"), "{}", refused.message());

    assert_eq!(client.ask(from("192.0.2.2", UNKNOWN)).status(), 401);
    let guessed = client.ask(from("192.0.2.2", LIVE));
    assert_eq!(guessed.status(), 429);
    assert!(guessed.message().contains("invalid API key"), "{}", guessed.message());
    assert_eq!(upstream.requests().len(), 2);
    let metrics = gateway.metrics();
    let count = |cause| metrics.sum("tollgate_address_rejections_total", &[("cause", cause)]);
    assert_eq!(
        (count("requests"), count("failed_authentications"), count("failed_authentications_total")),
        (1.0, 1.0, 0.0)
    );
    assert_eq!(metrics.sum("tollgate_requests_total", &[("status", "429"), ("route", "none")]), 2.0);
    assert_eq!(metrics.sum("tollgate_addresses", &[]), 4.0, "two of requests, one of failures, one of all");
    assert!(!metrics.text.contains("192.0.2"), "no label holds an address");
}

#[test]
fn a_limit_by_address_and_the_door_agree_on_who_is_one() {
    let upstream = Upstream::fine();
    let gateway = behind_a_proxy(
        &upstream,
        "requests = \"off\"\n[[limits]]\nname = \"ip\"\nstage = \"resource\"\nrate = \"1/h\"\nburst = 1\nper = [\"ip\"]",
    );
    let mut client = gateway.connect();
    let mut ask = |address: &str| {
        client.ask(request("GET", "/v1/charges", LIVE, &format!("x-forwarded-for: {address}\r\n"))).status()
    };
    assert_eq!([ask("2001:db8::1"), ask("2001:db8::2"), ask("2001:db8:0:1::1")], [200, 429, 200]);
    assert_eq!([ask("192.0.2.1"), ask("::ffff:192.0.2.1"), ask("192.0.2.2")], [200, 429, 200]);
}

/// Rows 93 and 94 of the catalogue of hostile inputs.
#[test]
fn a_key_in_another_place_or_another_spelling_lets_nobody_in() {
    let upstream = Upstream::fine();
    let folder = crate::support::running::Folder::new();
    let path = folder.path("access.jsonl");
    let gateway = Setup::new(upstream.address()).with(&format!("[log]\naccess = \"{}\"\n", path.display())).start();
    let mut client = gateway.connect();
    let form = format!("api_key={LIVE}");
    let bare = |method: &str, target: &str, lines: &str| {
        format!("{method} {target} HTTP/1.1\r\nhost: api.test\r\n{lines}\r\n")
    };
    let length = format!("content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n", form.len());
    let mut asked = 0;
    for (status, sent) in [
        (401, bare("GET", &format!("/v1/charges?api_key={LIVE}"), "")),
        (401, bare("GET", &format!("/v1/charges?key={LIVE}"), "")),
        (401, bare("POST", "/v1/charges", &length) + &form),
        (401, bare("GET", "/v1/charges", &format!("api_key: {LIVE}\r\n"))),
        (
            401,
            bare(
                "GET",
                "/v1/charges",
                &format!("authorization: Bearer {}\r\n", LIVE.replace("_live_", "_l\u{131}ve_")),
            ),
        ),
        (401, bare("GET", "/v1/charges", &format!("authorization: Bearer {}\r\n", LIVE.replace('s', "\u{455}")))),
        (401, bare("GET", "/v1/charges", &format!("authorization: Bearer  {LIVE}\r\n"))),
        (401, bare("GET", "/v1/charges", &format!("authorization: Bearer\t{LIVE}\r\n"))),
        (401, bare("GET", "/v1/charges", &format!("authorization: {LIVE}\r\n"))),
    ] {
        let answer = client.ask(&sent);
        assert_eq!(answer.status(), status, "{sent}: {answer:?}");
        assert!(!answer.text().contains(&LIVE[..20]), "{answer:?}");
        asked += 1;
    }
    // With a key of one's own besides, which of the two would the upstream serve?
    let both = gateway.ask(get(&format!("/v1/charges?api_key={UNKNOWN}"), LIVE));
    assert_eq!(both.status(), 400, "{both:?}");
    assert!(both.message().contains("must not be in the URL") && !both.text().contains(UNKNOWN), "{both:?}");
    assert_eq!(client.ask(get("/v1/charges?session=cs_test_a1", LIVE)).status(), 200);
    assert_eq!(upstream.requests().len(), 1);
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    crate::support::wait::wait_until("every line is written", || read().lines().count() == asked + 2);
    assert!(!read().contains("sk_") && !read().contains("api_key"), "{}", read());
}
