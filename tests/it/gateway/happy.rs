//! What a good request becomes on its way there and back.

use crate::support::running::{LIVE, Setup, get, post, request};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::wait_until;

#[test]
fn a_request_goes_through_and_its_answer_comes_back() {
    let upstream = Upstream::answering(|got| {
        let body = String::from_utf8_lossy(&got.body).into_owned();
        ok(&format!("{} {} {body}", got.head.method(), got.head.target()))
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    assert_eq!(client.ask(get("/v1/charges?limit=3&a=%2F", LIVE)).text(), "GET /v1/charges?limit=3&a=%2F ");
    assert_eq!(client.ask(post("/v1/charges", LIVE)).text(), "POST /v1/charges amount=1");
    assert_eq!(client.ask(get("/nowhere", LIVE)).text(), "GET /nowhere ");
    assert_eq!(upstream.connections(), 1, "one connection serves them all");
    wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
    assert_eq!(gateway.metrics().sum("tollgate_requests_total", &[("status", "200")]), 3.0);
}

#[test]
fn answers_without_a_body_have_none_and_keep_the_connection() {
    let upstream = Upstream::answering(|got| match got.head.target() {
        "/v1/none" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/v1/same" => b"HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 5\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_vec(),
    });
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect();
    for _ in 0..2 {
        let head = client.ask(request("HEAD", "/v1/charges", LIVE, ""));
        assert_eq!((head.status(), head.head.value("content-length")), (200, Some("5")));
        assert_eq!(client.ask(get("/v1/none", LIVE)).status(), 204);
        let same = client.ask(get("/v1/same", LIVE));
        assert_eq!((same.status(), same.head.value("etag")), (304, Some("\"a\"")));
    }
    assert_eq!(upstream.connections(), 1);
}
