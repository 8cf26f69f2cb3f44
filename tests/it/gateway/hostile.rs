//! Rows of the catalogue of hostile inputs that no other file holds: what clients send to wear a gateway out.

use crate::support::running::{LIVE, Setup, get, request};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::wait_until;

const ONE_AN_HOUR: &str = "[[limits]]\nname = \"list\"\nstage = \"endpoint\"\nrate = \"1/h\"\nburst = BURST\n\
                           when = { endpoint = \"charges.list\" }\n";

fn limited(burst: u32) -> String {
    ONE_AN_HOUR.replace("BURST", &burst.to_string())
}

/// Row 15.
#[test]
fn a_body_of_a_great_many_chunks_arrives_whole() {
    const CHUNKS: usize = 200_000;
    let upstream = Upstream::answering(|got| {
        let whole = got.body.iter().enumerate().all(|(nth, byte)| *byte == b'a' + (nth % 26) as u8);
        ok(&format!("{} {whole}", got.body.len()))
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    let mut writer = client.writer();
    let sending = std::thread::spawn(move || {
        writer.send(request("POST", "/v1/charges", LIVE, "transfer-encoding: chunked\r\n"));
        let chunks: String = (0..CHUNKS).map(|nth| format!("1\r\n{}\r\n", (b'a' + (nth % 26) as u8) as char)).collect();
        writer.send(chunks + "0\r\n\r\n");
    });
    assert_eq!(client.answer().text(), format!("{CHUNKS} true"));
    sending.join().unwrap();
    assert_eq!(client.ask(get("/v1/charges", LIVE)).text(), "0 true", "the connection is clean");
}

/// Row 48.
#[test]
fn pipelined_requests_are_limited_one_by_one() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).with(&limited(5)).start();
    let mut client = gateway.connect();
    client.send(get("/v1/charges", LIVE).repeat(20));
    let statuses: Vec<u16> = (0..20).map(|_| client.answer().status()).collect();
    assert_eq!(statuses, [[200; 5].as_slice(), &[429; 15]].concat());
    assert_eq!(upstream.requests().len(), 5);
}

/// Row 48.
#[test]
fn whoever_pipelines_and_leaves_holds_no_slot() {
    let upstream = Upstream::scripted(|wire, _| while !wire.is_over() {});
    let slots = "[[limits]]\nname = \"slots\"\nstage = \"global\"\nconcurrency = 3\n";
    let gateway = Setup::new(upstream.address()).with(slots).start();
    for _ in 0..10 {
        let mut client = gateway.connect();
        client.send(get("/v1/charges", LIVE).repeat(20));
        wait_until("one is in flight", || gateway.metrics().in_flight() > 0.0);
        drop(client);
        wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
    }
}

/// Row 52.
#[test]
fn a_body_that_a_limit_refuses_is_never_asked_for() {
    let upstream = Upstream::fine();
    let writes = limited(1).replace("charges.list", "charges.create");
    let gateway = Setup::new(upstream.address()).with(&writes).start();
    let mut client = gateway.connect();
    let lines = "content-length: 4\r\nexpect: 100-continue\r\n";
    client.send(request("POST", "/v1/charges", LIVE, lines));
    assert_eq!(client.head().unwrap().status(), 100);
    assert_eq!(client.ask("body").status(), 200);
    client.send(request("POST", "/v1/charges", LIVE, lines));
    assert_eq!(client.head().unwrap().status(), 429, "and no 100 before it");
    assert_eq!(upstream.requests().len(), 1);
}

/// Row 54.
#[test]
fn a_read_with_a_body_is_one_request() {
    let upstream = Upstream::answering(|got| ok(&String::from_utf8_lossy(&got.body)));
    let gateway = Setup::new(upstream.address()).with(&limited(2)).start();
    let mut client = gateway.connect();
    let hidden = "GET /v1/payouts HTTP/1.1\r\nhost: api.test\r\n\r\n";
    let ask = format!("content-length: {}\r\n", hidden.len());
    for _ in 0..2 {
        let answer = client.ask(request("GET", "/v1/charges", LIVE, &ask) + hidden);
        assert_eq!(answer.text(), hidden, "it goes on as the body it is");
    }
    assert_eq!(client.ask(request("GET", "/v1/charges", LIVE, &ask) + hidden).status(), 429);
    assert_eq!(client.ask(get("/v1/files/f", LIVE)).status(), 200, "nothing of the refused body is left");
    assert_eq!(upstream.requests().len(), 3);
}

/// Row 99.
#[test]
fn an_account_is_named_once_and_alone() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).start();
    for value in
        ["acct_child,acct_b", "acct_child, acct_b", "acct_child;acct_b", "acct\u{1}child", "acct_child\tx", "\u{e4}"]
    {
        let answer = gateway.ask(request("GET", "/v1/charges", LIVE, &format!("stripe-account: {value}\r\n")));
        assert!(matches!(answer.status(), 400 | 403), "{value:?}: {answer:?}");
    }
    assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
}
