//! Bodies that limits count by: the right partition or the shared one, never a crash, never a changed byte upstream.

use crate::support::running::{LIVE, Running, Setup, request};
use crate::support::upstream::{Upstream, ok};
use crate::support::wire::{Answer, Wire};
use sha2::{Digest, Sha256};

/// Two requests a customer, and as many of all bodies that are unclear.
const POLICY: &str = r#"
[[limits]]
name = "by-form"
stage = "resource"
rate = "2/h"
burst = 2
when = { endpoint = "charges.create" }
per = ["account", "form.data[customer]"]
[[limits]]
name = "by-json"
stage = "resource"
rate = "2/h"
burst = 2
when = { endpoint = "payouts.create" }
per = ["account", "json.data.customer"]
[[limits]]
name = "only-some"
stage = "resource"
rate = "1/h"
burst = 1
when = { endpoint = "files.update", form = { "now" = "yes" } }
per = ["account"]
[[endpoints]]
match = "POST /v1/files/{file}"
name = "files.update"
"#;

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";
const JSON: &str = "content-type: application/json\r\n";
const BOUND: usize = 64 * 1024;

/// Answers with the hash of the body, how it was framed, and its trailers.
fn start() -> (Upstream, Running) {
    let upstream = Upstream::answering(|got| {
        let framing = match (got.head.value("content-length"), got.head.value("transfer-encoding")) {
            (Some(length), None) => length.to_owned(),
            (None, Some(coding)) => coding.to_owned(),
            both => format!("{both:?}"),
        };
        ok(&format!("{} {framing} {:?}", hash(&got.body), got.trailers))
    });
    let gateway = Setup::new(upstream.address()).with(POLICY).start();
    (upstream, gateway)
}

fn hash(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn with_length(path: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let lines = format!("{lines}content-length: {}\r\n", body.len());
    [request("POST", path, LIVE, &lines).as_bytes(), body].concat()
}

fn in_chunks(path: &str, lines: &str, body: &[u8], size: usize, trailers: &str) -> Vec<u8> {
    let mut wire = request("POST", path, LIVE, &format!("{lines}transfer-encoding: chunked\r\n")).into_bytes();
    for chunk in body.chunks(size) {
        wire.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend(chunk);
        wire.extend(b"\r\n");
    }
    wire.extend(format!("0\r\n{trailers}\r\n").as_bytes());
    wire
}

#[track_caller]
fn assert_forwarded(answer: &Answer, body: &[u8], framing: &str) {
    assert_eq!((answer.status(), answer.text()), (200, format!("{} {framing}", hash(body)).as_str()));
}

#[track_caller]
fn assert_refused(answer: &Answer, limit: &str) {
    assert_eq!(answer.status(), 429, "{answer:?}");
    assert!(answer.message().contains(&format!("'{limit}'")), "{}", answer.message());
    assert_eq!(answer.head.value("stripe-rate-limited-reason"), Some("resource-specific"));
}

#[test]
fn every_framing_counts_alike_and_arrives_unchanged() {
    let (_upstream, gateway) = start();
    let mut client = gateway.connect();
    let body = b"amount=5&data[customer]=cus_1&x=%zz\r\n";
    let length = format!("{} []", body.len());
    assert_forwarded(&client.ask(with_length("/v1/charges", FORM, body)), body, &length);
    assert_forwarded(&client.ask(in_chunks("/v1/charges", FORM, body, 1, "")), body, "chunked []");
    assert_refused(&client.ask(in_chunks("/v1/charges", FORM, body, 7, "")), "by-form");
    let escaped = b"data%5Bcustomer%5D=%63us_1";
    assert_refused(&client.ask(with_length("/v1/charges", FORM, escaped)), "by-form");
    // The connection serves on, and another customer has room.
    let other = b"data[customer]=cus_2";
    assert_forwarded(&client.ask(with_length("/v1/charges", FORM, other)), other, "20 []");
    let lines = format!("{FORM}te: trailers\r\ntrailer: x-check\r\n");
    let answer = client.ask(in_chunks("/v1/charges", &lines, other, 6, "x-check: 7\r\n"));
    assert_forwarded(&answer, other, "chunked [(\"x-check\", \"7\")]");
    assert_refused(&client.ask(with_length("/v1/charges", FORM, other)), "by-form");
}

#[test]
fn one_byte_at_a_time() {
    let (_upstream, gateway) = start();
    let mut client = gateway.connect();
    let body = b"data[customer]=cus_1";
    for byte in with_length("/v1/charges", FORM, body) {
        client.send([byte]);
    }
    assert_forwarded(&client.answer(), body, "20 []");
    assert_forwarded(&client.ask(with_length("/v1/charges", FORM, body)), body, "20 []");
    assert_refused(&client.ask(with_length("/v1/charges", FORM, body)), "by-form");
}

/// All of these are one partition: two go on, whatever they say, and their bytes are the client's.
#[test]
fn what_is_unclear_shares_one_partition() {
    let long = [b"data[customer]=cus_0&pad=".to_vec(), vec![b'x'; BOUND]].concat();
    let gzip =
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x49\x2c\x49\x8c\x4e\x2e\x2d\x2e\xc9\xcf\x4d\x2d\x8a\xb5\x4d";
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (FORM, long),
        ("content-type: application/x-www-form-urlencoded\r\ncontent-encoding: gzip\r\n", gzip.to_vec()),
        (JSON, br#"{"data":{"customer":"cus_1"}}"#.to_vec()),
        ("content-type: multipart/form-data; boundary=x\r\n", b"--x--".to_vec()),
        ("content-type: application/x-www-form-urlencoded; charset=utf-16\r\n", b"data[customer]=cus_2".to_vec()),
        ("", b"data[customer]=cus_3".to_vec()),
        (FORM, b"data[customer]=cus_4&data[customer]=cus_5".to_vec()),
        (FORM, b"data[customer][]=cus_6".to_vec()),
        (FORM, b"data[customer]=\xff".to_vec()),
        (FORM, b"d%61ta[customer]=cus_7&Data[customer]=cus_8".to_vec()),
    ];
    for (nth, first) in cases.iter().enumerate() {
        let (_upstream, gateway) = start();
        let mut client = gateway.connect();
        let second = &cases[(nth + 1) % cases.len()];
        for (lines, body) in [first, second] {
            assert_forwarded(&client.ask(with_length("/v1/charges", lines, body)), body, &format!("{} []", body.len()));
        }
        for (lines, body) in &cases {
            // A refused body that is longer than what is drained closes its connection.
            assert_refused(&gateway.ask(with_length("/v1/charges", lines, body)), "by-form");
            assert_refused(&gateway.ask(in_chunks("/v1/charges", lines, body, 1000, "")), "by-form");
        }
        let clear = b"data[customer]=cus_9";
        assert_eq!(client.ask(with_length("/v1/charges", FORM, clear)).status(), 200);
    }
}

#[test]
fn the_bound_is_exact() {
    let (_upstream, gateway) = start();
    let of = |length: usize| {
        let head = b"data[customer]=cus_1&pad=".to_vec();
        let pad = vec![b'x'; length - head.len()];
        [head, pad].concat()
    };
    // Up to the bound it is this customer's; from then on it is everybody's.
    for (length, chunk) in
        [(BOUND - 1, None), (BOUND, Some(100)), (BOUND + 1, None), (BOUND + 1, Some(100)), (2 * BOUND, Some(9))]
    {
        let body = of(length);
        let (wire, framing) = match chunk {
            None => (with_length("/v1/charges", FORM, &body), format!("{length} []")),
            Some(size) => (in_chunks("/v1/charges", FORM, &body, size, ""), "chunked []".to_owned()),
        };
        let answer = gateway.ask(&wire);
        if length == 2 * BOUND {
            assert_refused(&answer, "by-form");
        } else {
            assert_forwarded(&answer, &body, &framing);
        }
    }
    assert_refused(&gateway.ask(with_length("/v1/charges", FORM, &of(BOUND))), "by-form");
}

#[test]
fn json_by_its_members_however_deep_the_rest() {
    let (_upstream, gateway) = start();
    let mut client = gateway.connect();
    let deep =
        |text: &str| format!(r#"{{"x":{}{},"data":{{"customer":"{text}"}}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let plain = br#"{"data":{"other":1,"customer":"cus_1"}}"#;
    assert_forwarded(
        &client.ask(with_length("/v1/payouts", JSON, deep("cus_1").as_bytes())),
        deep("cus_1").as_bytes(),
        "20034 []",
    );
    assert_forwarded(&client.ask(with_length("/v1/payouts", JSON, plain)), plain, "39 []");
    assert_refused(&client.ask(with_length("/v1/payouts", JSON, plain)), "by-json");
    let unclear = [
        (JSON, format!("{}{}", r#"{"data":"#.repeat(6_000), "}".repeat(6_000)).into_bytes()),
        (JSON, "[".repeat(10_000).into_bytes()),
        (FORM, b"data[customer]=cus_2".to_vec()),
        (JSON, br#"{"data":{"customer":"cus_2","customer":"cus_3"}}"#.to_vec()),
        (JSON, b"{\"data\":{\"customer\":\"\xff\"}}".to_vec()),
    ];
    let mut statuses = Vec::new();
    for (lines, body) in &unclear {
        statuses.push(client.ask(with_length("/v1/payouts", lines, body)).status());
    }
    assert_eq!(statuses, [200, 200, 429, 429, 429]);
}

#[test]
fn a_condition_holds_for_what_it_asks_and_for_what_is_unclear() {
    let (_upstream, gateway) = start();
    let mut client = gateway.connect();
    let mut ask = |body: &[u8]| client.ask(with_length("/v1/files/f", FORM, body)).status();
    for _ in 0..3 {
        assert_eq!((ask(b"now=no"), ask(b""), ask(b"then=yes")), (200, 200, 200));
    }
    assert_eq!((ask(b"now=yes"), ask(b"now=yes")), (200, 429));
    assert_eq!((ask(b"now=no&now=yes"), ask(b"now[]=yes"), ask(b"now=%zz"), ask(b"x;now=yes")), (429, 429, 429, 429));
    assert_eq!(ask(b"now=no"), 200);
    let in_the_query = with_length("/v1/files/f?now=yes", FORM, b"");
    assert_eq!(gateway.ask(in_the_query).status(), 429);
}

#[test]
fn a_body_that_does_not_come_holds_nothing() {
    let (upstream, _) = start();
    let policy = POLICY.replace("rate = \"2/h\"\nburst = 2", "concurrency = 1");
    let gateway = Setup::new(upstream.address()).server("body_timeout = \"100ms\"").with(&policy).start();
    let mut silent: Vec<Wire> = (0..3).map(|_| gateway.connect()).collect();
    for client in &mut silent {
        client.send(request("POST", "/v1/charges", LIVE, &format!("{FORM}content-length: 20\r\n")));
        client.send("data[cust");
    }
    let body = b"data[customer]=cus_1";
    assert_eq!(gateway.ask(with_length("/v1/charges", FORM, body)).status(), 200, "nobody holds the slot");
    for client in &mut silent {
        let answer = client.answer();
        assert_eq!((answer.status(), answer.closes()), (408, true));
        assert!(answer.message().contains("did not come in time"));
    }
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_body_that_breaks_off_is_no_request() {
    let (upstream, gateway) = start();
    let mut short = gateway.connect();
    short.send(request("POST", "/v1/charges", LIVE, &format!("{FORM}content-length: 99\r\n")) + "data[customer]=cus_1");
    short.finish_writing();
    assert!(short.head().is_none_or(|head| head.status() == 400));
    let mut bad = gateway.connect();
    let answer =
        bad.ask(request("POST", "/v1/charges", LIVE, &format!("{FORM}transfer-encoding: chunked\r\n")) + "zz\r\n");
    assert_eq!((answer.status(), answer.closes()), (400, true));
    assert!(upstream.requests().is_empty());
    // A body shorter than what follows it: the rest is the next request, which is nonsense.
    let body = b"data[customer]=cus_1";
    assert_eq!(gateway.ask(with_length("/v1/charges", FORM, body)).status(), 200);
}

#[test]
fn who_waits_for_a_100_is_asked_for_the_body_before_limits_decide() {
    let (_upstream, gateway) = start();
    let body = b"data[customer]=cus_1";
    for status in [200, 200, 429] {
        let mut client = gateway.connect();
        client.send(request(
            "POST",
            "/v1/charges",
            LIVE,
            &format!("{FORM}content-length: 20\r\nexpect: 100-continue\r\n"),
        ));
        assert_eq!(client.head().unwrap().status(), 100);
        assert_eq!(client.ask(body).status(), status);
    }
}
