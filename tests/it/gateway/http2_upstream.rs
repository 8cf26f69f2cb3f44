//! Upstreams that speak HTTP/2: shared connections, retries of what was never begun, gRPC end to end.

use crate::support::h2::{Client, H2Upstream, answer, read, request as ask, runtime, within};
use crate::support::running::{LIVE, Setup, get, post, request};
use crate::support::wait::wait_until;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn in_front_of(upstream: &H2Upstream) -> Setup {
    Setup::new(upstream.address).upstream("protocol = \"http2\"")
}

/// Answers with what came: the head's most telling parts, and the length of the body.
async fn describe(mut request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut length = 0;
    while let Some(Ok(data)) = request.body_mut().data().await {
        length += data.len();
        let _ = request.body_mut().flow_control().release_capacity(data.len());
    }
    let account = request.headers().get("tollgate-account").map_or("", |value| value.to_str().unwrap());
    let host = request.headers().contains_key("host");
    let said = format!("{} {} {account} {length} {host}", request.method(), request.uri());
    if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
        let _ = stream.send_data(said.into(), true);
    }
}

#[test]
fn http1_clients_reach_an_http2_upstream() {
    let upstream = H2Upstream::scripted(describe);
    let gateway = in_front_of(&upstream).start();
    let mut client = gateway.connect();
    let answer = client.ask(get("/v1/charges?a=b", LIVE));
    assert_eq!(answer.text(), "GET http://api.test/v1/charges?a=b acct_a 0 false");
    assert_eq!(client.ask(post("/v1/charges", LIVE)).text(), "POST http://api.test/v1/charges acct_a 8 false");
    let chunked = request("POST", "/v1/charges", LIVE, "transfer-encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(client.ask(chunked).text(), "POST http://api.test/v1/charges acct_a 3 false");
    let large = request("POST", "/v1/charges", LIVE, "content-length: 3000000\r\n");
    assert_eq!(
        client.ask(large + &"x".repeat(3_000_000)).text(),
        "POST http://api.test/v1/charges acct_a 3000000 false"
    );
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn requests_share_connections_up_to_what_the_upstream_takes() {
    let (release, gate) = tokio::sync::watch::channel(false);
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(10);
    let upstream = H2Upstream::with(builder, move |_, respond| {
        let mut gate = gate.clone();
        async move {
            let _ = gate.wait_for(|open| *open).await;
            answer(respond, "ok");
        }
    });
    let gateway = in_front_of(&upstream).start();
    runtime().block_on(async {
        let mut client = Client::connect(gateway.address).await;
        // The first one brings the upstream's settings.
        let (first, _) = client.begin(ask(Method::GET, "/v1/charges", LIVE), true).await;
        wait_until("it is there", || upstream.requests() == 1);
        let mut open = vec![first];
        for nth in 1..25 {
            open.push(client.begin(ask(Method::GET, "/v1/charges", LIVE), true).await.0);
            wait_until("it is there", || upstream.requests() > nth);
        }
        assert_eq!(upstream.connections(), 3);
        release.send(true).unwrap();
        for response in open {
            assert_eq!(read(within(response).await.unwrap()).await.unwrap().text(), "ok");
        }
        // They stay for the next ones.
        assert_eq!(client.ask(ask(Method::GET, "/v1/charges", LIVE), "").await.text(), "ok");
    });
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn a_rush_makes_one_connection() {
    let upstream = H2Upstream::fine();
    let gateway = in_front_of(&upstream).start();
    runtime().block_on(async {
        let mut client = Client::connect(gateway.address).await;
        let mut open = Vec::new();
        for _ in 0..50 {
            open.push(client.begin(ask(Method::GET, "/v1/charges", LIVE), true).await.0);
        }
        for response in open {
            assert_eq!(read(within(response).await.unwrap()).await.unwrap().text(), "ok");
        }
    });
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_refused_stream_is_sent_again_and_a_begun_one_is_not() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let upstream = H2Upstream::scripted(move |request, mut respond| {
        let nth = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            match request.uri().path() {
                "/v1/refused" if nth < 2 => respond.send_reset(Reason::REFUSED_STREAM),
                "/v1/always" => respond.send_reset(Reason::REFUSED_STREAM),
                "/v1/begun" => respond.send_reset(Reason::INTERNAL_ERROR),
                _ => answer(respond, "ok"),
            }
        }
    });
    let gateway = in_front_of(&upstream).start();
    let mut client = gateway.connect();
    assert_eq!(client.ask(get("/v1/refused", LIVE)).text(), "ok");
    assert_eq!(count.swap(0, Ordering::SeqCst), 3);
    for ask in [get("/v1/always", LIVE), post("/v1/always", LIVE)] {
        let refused = client.ask(ask);
        assert!(refused.status() == 502 && refused.text().contains("It had no effect."), "{refused:?}");
        assert_eq!(refused.head.value("stripe-should-retry"), None);
        assert_eq!(count.swap(0, Ordering::SeqCst), 4, "not for ever: once, and as often as `retries.attempts` says");
    }
    let begun = client.ask(post("/v1/begun", LIVE));
    assert!(begun.status() == 502 && begun.text().contains("is unknown"), "{begun:?}");
    assert_eq!(begun.head.value("stripe-should-retry"), Some("false"));
    assert_eq!(count.load(Ordering::SeqCst), 1, "it may have taken effect");
}

#[test]
fn a_body_that_has_gone_already_goes_again_to_a_server_that_did_nothing_with_it() {
    // Each request is turned away once, when all of its body has come, and then told.
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let upstream = H2Upstream::scripted(move |mut request, mut respond| {
        let nth = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if nth.is_multiple_of(2) {
                let reads_all = request.uri().path() != "/v1/early";
                while reads_all && let Some(Ok(data)) = request.body_mut().data().await {
                    let _ = request.body_mut().flow_control().release_capacity(data.len());
                }
                respond.send_reset(Reason::REFUSED_STREAM);
                return;
            }
            describe(request, respond).await;
        }
    });
    let gateway = in_front_of(&upstream).start();
    let mut client = gateway.connect();
    let sized = |path: &str, length: usize| {
        request("POST", path, LIVE, &format!("content-length: {length}\r\n")) + &"x".repeat(length)
    };
    for length in [1, 300, 10_000, 16 * 1024] {
        for path in ["/v1/late", "/v1/early"] {
            let expected = format!("POST http://api.test{path} acct_a {length} false");
            assert_eq!(client.ask(sized(path, length)).text(), expected);
        }
    }
    let chunked = |chunks: &str| request("POST", "/v1/late", LIVE, "transfer-encoding: chunked\r\n") + chunks;
    let pieces = client.ask(chunked("3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"));
    assert_eq!(pieces.text(), "POST http://api.test/v1/late acct_a 7 false");
    // What is not kept is not sent again, and the client is told that it may send it.
    let before = seen.load(Ordering::SeqCst);
    for lost in [sized("/v1/late", 16 * 1024 + 1), chunked("3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n")] {
        let lost = client.ask(lost);
        assert!(lost.status() == 502 && lost.text().contains("It had no effect."), "{lost:?}");
        assert_eq!(lost.head.value("stripe-should-retry"), None);
        seen.fetch_add(1, Ordering::SeqCst);
    }
    assert_eq!(seen.load(Ordering::SeqCst) - before, 4, "each went once");
}

/// Takes all of a body and says nothing.
async fn listen(mut request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    while let Some(Ok(data)) = request.body_mut().data().await {
        let _ = request.body_mut().flow_control().release_capacity(data.len());
    }
    std::future::pending::<()>().await;
    drop(respond);
}

#[test]
fn silence_behind_a_body_is_timed_out_whether_it_was_kept_or_not() {
    let upstream = H2Upstream::scripted(listen);
    let times = "response_timeout = \"150ms\"\nrequest_timeout = \"15s\"";
    let gateway = in_front_of(&upstream).upstream(times).start();
    let mut client = gateway.connect();
    let begun = tollgate::clock::timer_now();
    for length in [8, 20_000] {
        let head = request("POST", "/v1/charges", LIVE, &format!("content-length: {length}\r\n"));
        assert_eq!(client.ask(head + &"x".repeat(length)).status(), 504);
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_body_that_has_gone_needs_no_room() {
    let upstream = H2Upstream::scripted(listen);
    let gateway = in_front_of(&upstream).server("max_buffer_memory = \"1MiB\"").start();
    runtime().block_on(async {
        let mut client = Client::connect(gateway.address).await;
        let mut open = Vec::new();
        for nth in 0..20 {
            let (response, mut stream) = client.begin(call("/pay.Payments/Chat", LIVE), false).await;
            stream.send_data("hello".into(), true).unwrap();
            open.push(response);
            wait_until("it is forwarded", || upstream.requests() > nth);
        }
    });
}

#[test]
fn what_an_earlier_try_may_have_done_stays_unknown() {
    let upstream = H2Upstream::scripted(move |mut request, mut respond| async move {
        while let Some(Ok(data)) = request.body_mut().data().await {
            let _ = request.body_mut().flow_control().release_capacity(data.len());
        }
        let is_first = !std::mem::replace(&mut *TRIED.lock().unwrap(), true);
        respond.send_reset(if is_first { Reason::INTERNAL_ERROR } else { Reason::REFUSED_STREAM });
    });
    static TRIED: Mutex<bool> = Mutex::new(false);
    let honored = "retries.writes_with_idempotency_key = true\nretries.attempts = 2\nejection.failures = 0";
    let gateway = in_front_of(&upstream).upstream(honored).start();
    let head = request("POST", "/v1/charges", LIVE, "idempotency-key: k1\r\ncontent-length: 8\r\n");
    let answer = gateway.ask(head + "amount=1");
    assert!(upstream.requests() > 1 && answer.text().contains("is unknown"), "{answer:?}");
    assert_eq!((answer.status(), answer.head.value("stripe-should-retry")), (502, Some("false")));
}

#[test]
fn connections_that_leave_are_replaced() {
    // Each connection says GOAWAY behind its first request, and answers it.
    let runtime = runtime();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                let mut is_first = true;
                while let Some(Ok((_, respond))) = connection.accept().await {
                    answer(respond, "ok");
                    if std::mem::take(&mut is_first) {
                        connection.graceful_shutdown();
                    }
                }
            });
        }
    });
    let gateway = Setup::new(address).upstream("protocol = \"http2\"").start();
    let mut client = gateway.connect();
    for _ in 0..50 {
        assert_eq!(client.ask(get("/v1/charges", LIVE)).text(), "ok");
    }
}

#[test]
fn a_silent_upstream_is_timed_out_and_its_stream_reset() {
    let (tell, told) = std::sync::mpsc::channel();
    let upstream = H2Upstream::scripted(move |_request, mut respond| {
        let tell = tell.clone();
        async move {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            let _ = tell.send(reason.ok());
        }
    });
    let gateway = in_front_of(&upstream).upstream("response_timeout = \"150ms\"").start();
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 504);
    assert_eq!(told.recv_timeout(crate::support::wait::PATIENCE).unwrap(), Some(Reason::CANCEL));
    // A client that leaves takes its stream along.
    let gateway = in_front_of(&upstream).start();
    let mut client = gateway.connect();
    client.send(get("/v1/charges", LIVE));
    wait_until("it is forwarded", || upstream.requests() == 2);
    drop(client);
    assert_eq!(told.recv_timeout(crate::support::wait::PATIENCE).unwrap(), Some(Reason::CANCEL));
    wait_until("nothing is left", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn an_answer_that_breaks_off_never_ends_cleanly() {
    let upstream = H2Upstream::scripted(|_, mut respond| async move {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data("part".into(), false).unwrap();
        stream.reserve_capacity(0);
        tokio::task::yield_now().await;
        stream.send_reset(Reason::INTERNAL_ERROR);
    });
    let gateway = in_front_of(&upstream).start();
    let mut client = gateway.connect();
    client.send(get("/v1/charges", LIVE));
    if let Some(head) = client.head().filter(|head| head.status() == 200) {
        assert!(client.response_body(&head).is_err());
    }
    runtime().block_on(async {
        let mut client = Client::connect(gateway.address).await;
        let answer = client.try_ask(ask(Method::GET, "/v1/charges", LIVE), "").await;
        assert!(answer.as_ref().map_or(true, |answer| answer.status == StatusCode::BAD_GATEWAY), "{answer:?}");
    });
}

/// A call's head.
fn call(path: &str, secret: &str) -> Request<()> {
    let mut head = ask(Method::POST, path, secret);
    head.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
    head.headers_mut().insert("te", "trailers".parse().unwrap());
    head
}

/// Echoes each message as it comes, then ends with trailers.
async fn echo(mut request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    assert_eq!(request.headers()["te"], "trailers");
    assert_eq!(request.headers()["content-type"], "application/grpc+proto");
    let head = Response::builder().header("content-type", "application/grpc+proto");
    if request.uri().path() == "/pay.Payments/Fail" {
        let head = head.header("grpc-status", "5").header("grpc-message", "no such payment");
        respond.send_response(head.body(()).unwrap(), true).unwrap();
        return;
    }
    let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
    let mut count = 0;
    while let Some(Ok(data)) = request.body_mut().data().await {
        request.body_mut().flow_control().release_capacity(data.len()).unwrap();
        count += data.len();
        stream.send_data(data, false).unwrap();
    }
    let more = request.body_mut().trailers().await.unwrap().unwrap_or_default();
    let mut trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    trailers.insert("x-bytes", count.into());
    trailers.extend(more);
    stream.send_trailers(trailers).unwrap();
}

#[test]
fn grpc_streams_both_ways_with_its_trailers() {
    let upstream = H2Upstream::scripted(echo);
    let gateway = in_front_of(&upstream).start();
    runtime().block_on(async {
        let mut client = Client::connect(gateway.address).await;
        let (response, mut stream) = client.begin(call("/pay.Payments/Chat", LIVE), false).await;
        let mut response = within(response).await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/grpc+proto");
        for message in [&b"one"[..], b"two", b"three"] {
            stream.send_data(Bytes::from_static(message), false).unwrap();
            assert_eq!(within(response.body_mut().data()).await.unwrap().unwrap(), message);
            response.body_mut().flow_control().release_capacity(message.len()).unwrap();
        }
        stream.send_trailers(HeaderMap::from_iter([("x-sent".parse().unwrap(), "yes".parse().unwrap())])).unwrap();
        assert!(within(response.body_mut().data()).await.is_none());
        let trailers = within(response.body_mut().trailers()).await.unwrap().unwrap();
        assert_eq!((&trailers["grpc-status"], &trailers["x-bytes"]), (&"0".parse().unwrap(), &"11".parse().unwrap()));
        assert_eq!(trailers["x-sent"], "yes");

        let failed = client.ask(call("/pay.Payments/Fail", LIVE), "message").await;
        assert_eq!((failed.header("grpc-status"), failed.body.len()), (Some("5"), 0), "trailers only");
        assert!(failed.trailers.is_empty());
    });
    wait_until("nothing is left", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn a_refused_call_ends_with_a_status_that_grpc_knows() {
    let upstream = H2Upstream::scripted(echo);
    let limit = "[[limits]]\nname = \"calls\"\nstage = \"global\"\nrate = \"1/10s\"\nburst = 1\n";
    let gateway = in_front_of(&upstream).with(limit).start();
    runtime().block_on(async {
        let mut client = Client::connect(gateway.address).await;
        assert_eq!(client.ask(call("/pay.Payments/Echo", LIVE), "hello").await.trailers["grpc-status"], "0");
        let refused = client.ask(call("/pay.Payments/Echo", LIVE), "hello").await;
        assert_eq!(refused.status, StatusCode::OK);
        assert_eq!(refused.header("grpc-status"), Some("8"), "RESOURCE_EXHAUSTED");
        assert_eq!(refused.header("content-type"), Some("application/grpc"));
        assert_eq!(refused.header("stripe-rate-limited-reason"), Some("global-rate"));
        assert_eq!(refused.header("grpc-retry-pushback-ms"), Some("10000"));
        assert!(refused.header("grpc-message").unwrap().contains("'calls'"));
        assert_eq!(refused.body.len(), 0);
        let unknown =
            client.ask(call("/pay.Payments/Echo", "sk_live_unknown0000000000000000000000000000000"), "x").await;
        assert_eq!(unknown.header("grpc-status"), Some("16"));
        // Anybody else gets the status itself.
        assert_eq!(client.ask(ask(Method::GET, "/v1/charges", LIVE), "").await.status, StatusCode::TOO_MANY_REQUESTS);
    });
    assert_eq!(gateway.metrics().sum("tollgate_requests_total", &[("status", "429")]), 2.0, "counted as what they are");
}
