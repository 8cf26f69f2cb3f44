//! The end of a gateway with HTTP/2 clients: a real client loses no request, and a second word ends it at once.

use crate::support::h2::{Client, read, request as ask, runtime, within};
use crate::support::running::{LIVE, Setup};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::{PATIENCE, wait_until};
use http::{Method, StatusCode};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

/// Many requests at once while the gateway drains. Each is answered whole, or was certainly never begun: the client knows, and may
/// send it again elsewhere.
#[test]
fn a_drain_under_load_loses_no_request() {
    let upstream = Upstream::answering(|_| ok(&"x".repeat(4_000)));
    let gateway = Setup::new(upstream.address()).start();
    let runtime = runtime();
    let mut clients: Vec<Client> = runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = Client::connect(gateway.address).await;
            assert_eq!(client.ask(ask(Method::GET, "/v1/charges", LIVE), "").await.status, StatusCode::OK);
            clients.push(client);
        }
        clients
    });
    let handle = gateway.handle();
    let asking: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            let sender = client.sender.clone();
            runtime.spawn(async move {
                let mut answered = 0;
                loop {
                    // Ten at a time, until the connection takes no more.
                    let mut open = Vec::new();
                    for _ in 0..10 {
                        let Ok(mut ready) = within(sender.clone().ready()).await else { break };
                        let Ok((response, _)) = ready.send_request(ask(Method::GET, "/v1/charges", LIVE), true) else {
                            break;
                        };
                        open.push(response);
                    }
                    if open.is_empty() {
                        return answered;
                    }
                    for response in open {
                        match within(response).await {
                            Ok(response) => {
                                assert_eq!(response.status(), StatusCode::OK);
                                let answer = read(response).await.expect("what is begun is whole");
                                assert_eq!(answer.body.len(), 4_000);
                                answered += 1;
                            }
                            Err(error) => assert!(
                                error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR),
                                "not told that it was never begun: {error:?}"
                            ),
                        }
                    }
                }
            })
        })
        .collect();
    wait_until("they are under way", || upstream.requests().len() > 200);
    handle.drain();
    let answered: usize = runtime.block_on(async {
        let mut sum = 4;
        for asking in asking {
            sum += within(asking).await.unwrap();
        }
        sum
    });
    for client in clients {
        runtime.block_on(client.ended()).unwrap();
    }
    gateway.join();
    assert_eq!(answered, upstream.requests().len(), "whatever was forwarded was answered");
}

#[test]
fn a_second_word_ends_it_at_once() {
    let (go, told) = channel::<()>();
    let told = Arc::new(Mutex::new(told));
    let upstream = Upstream::scripted(move |wire, head| {
        if head.target() == "/v1/begun" {
            let _ = wire.try_send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart");
        }
        let _ = told.lock().unwrap().recv();
    });
    let gateway = Setup::new(upstream.address()).start();
    let runtime = runtime();
    let (client, begun, waiting) = runtime.block_on(async {
        let mut client = Client::connect(gateway.address).await;
        let (begun, _) = client.begin(ask(Method::GET, "/v1/begun", LIVE), true).await;
        let mut begun = within(begun).await.unwrap();
        assert_eq!(within(begun.body_mut().data()).await.unwrap().unwrap(), "part");
        let (waiting, _) = client.begin(ask(Method::POST, "/v1/charges", LIVE), true).await;
        (client, begun, waiting)
    });
    wait_until("both are forwarded", || upstream.requests().len() == 2);
    let handle = gateway.handle();
    handle.drain();
    let (tell, ended) = channel::<()>();
    std::thread::spawn(move || {
        gateway.join();
        drop(tell);
    });
    handle.stop();
    runtime.block_on(async {
        let answer = read(within(waiting).await.unwrap()).await.unwrap();
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.text().contains("Whether the request took effect is unknown"), "{answer:?}");
        assert_eq!(answer.header("stripe-should-retry"), Some("false"));
        // What had begun breaks off, and does not look whole.
        let (_, mut rest) = begun.into_parts();
        assert!(within(rest.data()).await.is_none_or(|data| data.is_err()));
        within(client.ended()).await.unwrap();
    });
    assert_eq!(ended.recv_timeout(PATIENCE), Err(std::sync::mpsc::RecvTimeoutError::Disconnected), "it has ended");
    drop(go);
}
