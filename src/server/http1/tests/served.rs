//! Good and bad requests through a whole connection, as a gateway serves it.

use super::*;
use crate::server::wire::tests::properties::good_request;
use crate::server::wire::{Scanner, refuse};
use crate::wire_fault::fault_of;
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Semaphore;

/// What the service saw on one connection.
struct Seen {
    calls: Cell<usize>,
    finished: Cell<usize>,
    body_faults: RefCell<Vec<Option<WireFault>>>,
    /// One permit lets one request be answered.
    gate: Semaphore,
}

impl Seen {
    fn with_permits(permits: usize) -> Rc<Seen> {
        Rc::new(Seen {
            calls: Cell::new(0),
            finished: Cell::new(0),
            body_faults: RefCell::default(),
            gate: Semaphore::new(permits),
        })
    }

    async fn answer(self: Rc<Seen>, request: Request<ClientBody>) -> Response<Full<Bytes>> {
        self.calls.set(self.calls.get() + 1);
        let path = request.uri().path().to_owned();
        let collected = request.into_body().collect().await;
        self.gate.acquire().await.unwrap().forget();
        self.finished.set(self.finished.get() + 1);
        match collected {
            Ok(body) => Response::new(Full::from(format!("{path} {}", body.to_bytes().len()))),
            Err(error) => {
                self.body_faults.borrow_mut().push(fault_of(&error));
                Response::builder().status(400).body(Full::from("bad body")).unwrap()
            }
        }
    }
}

/// Serves one connection as the gateway does. The verdict that was refused at the end, if any.
async fn serve(io: DuplexStream, seen: Rc<Seen>) -> Option<WireFault> {
    let service = service_fn(move |request| {
        let seen = Rc::clone(&seen);
        async move { Ok::<_, Infallible>(seen.answer(request).await) }
    });
    let mut connection = connection(io);
    let Ended::Refused(fault) = connection.serve(service).await else { return None };
    refuse(&mut connection.into_inner(), fault, &[], b"{\"error\":{}}").await.ok()?;
    Some(fault)
}

fn statuses(answers: &str) -> Vec<&str> {
    answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect()
}

/// Sends all of `bytes`, then reads to the end. `room` is what the connection holds each way.
async fn exchange(bytes: &[u8], room: usize, seen: &Rc<Seen>) -> (String, Option<WireFault>) {
    let (client, server) = duplex(room);
    let (mut reader, mut writer) = tokio::io::split(client);
    let mut answers = Vec::new();
    let talk = async {
        let (sent, read) = tokio::join!(writer.write_all(bytes), reader.read_to_end(&mut answers));
        let _ = (sent, read.unwrap());
    };
    let (_, fault) = tokio::join!(talk, serve(server, Rc::clone(seen)));
    (String::from_utf8(answers).unwrap(), fault)
}

const GOOD: &str = "POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
const BAD: &str = "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_bad_head_is_answered_in_json_and_the_service_never_sees_it() {
    let seen = Seen::with_permits(9);
    let (answer, fault) = exchange(BAD.as_bytes(), 4096, &seen).await;
    assert_eq!((statuses(&answer), fault), (vec!["400"], Some(WireFault::TargetFragment)));
    assert!(answer.ends_with("\r\n\r\n{\"error\":{}}"), "{answer}");
    assert_eq!(seen.calls.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn requests_before_a_bad_one_are_answered_first() {
    let bytes = format!("{GOOD}{GOOD}GET / HTTP/1.1\r\nHost: a\r\n\r\n{BAD}{GOOD}");
    // The smallest room makes the connection wait for the client at every write.
    for room in [1, 16, 64, 4096] {
        let seen = Seen::with_permits(9);
        let (answers, fault) = exchange(bytes.as_bytes(), room, &seen).await;
        assert_eq!(statuses(&answers), ["200", "200", "200", "400"], "room for {room}: {answers}");
        assert_eq!((seen.calls.get(), fault), (3, Some(WireFault::TargetFragment)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_outlives_the_bad_one_behind_it() {
    let (mut client, server) = duplex(4096);
    let seen = Seen::with_permits(0);
    let test = async {
        client.write_all(format!("{GOOD}{BAD}").as_bytes()).await.unwrap();
        // Everything that can happen without the permit has happened when the paused clock moves.
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!((seen.calls.get(), seen.finished.get()), (1, 0));
        seen.gate.add_permits(1);
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.unwrap();
        answers
    };
    let (answers, fault) = tokio::join!(test, serve(server, Rc::clone(&seen)));
    assert_eq!((statuses(&answers), fault), (vec!["200", "400"], Some(WireFault::TargetFragment)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_behind_pipelined_requests_is_noticed_at_once() {
    for behind in [BAD.to_owned(), GOOD.to_owned(), GOOD.repeat(200), "GET / HT".to_owned()] {
        let (mut client, server) = duplex(1 << 16);
        let seen = Seen::with_permits(0);
        let test = async {
            client.write_all(GOOD.as_bytes()).await.unwrap();
            client.write_all(behind.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(seen.calls.get(), 1);
            drop(client);
        };
        // Nothing ever lets the request finish, so only the client's end can end this.
        let ((), fault) = tokio::join!(test, serve(server, Rc::clone(&seen)));
        assert_eq!((fault, seen.calls.get(), seen.finished.get()), (None, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pipelined_requests_is_held_to_the_bound_and_answered_in_turn() {
    let seen = Seen::with_permits(3000);
    // 165 KB: far more than is read ahead, so the reader stops and goes on many times.
    let (answers, fault) = exchange(format!("{}{BAD}", GOOD.repeat(3000)).as_bytes(), 1 << 16, &seen).await;
    let statuses = statuses(&answers);
    assert_eq!((statuses.len(), statuses.iter().filter(|status| **status == "200").count()), (3001, 3000));
    assert_eq!(fault, Some(WireFault::TargetFragment));
}

#[tokio::test(start_paused = true)]
async fn a_bad_chunk_fails_the_body_and_closes() {
    let seen = Seen::with_permits(9);
    let bytes =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0x5\r\nhello\r\n0\r\n\r\n";
    let (answers, fault) = exchange(format!("{GOOD}{bytes}{GOOD}").as_bytes(), 4096, &seen).await;
    assert_eq!((statuses(&answers), fault), (vec!["200", "400"], None));
    assert_eq!((seen.calls.get(), &*seen.body_faults.borrow()), (2, &vec![Some(WireFault::ChunkSize)]));
}

#[tokio::test(start_paused = true)]
async fn a_bad_trailer_fails_the_body() {
    let seen = Seen::with_permits(9);
    let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: Bearer a\r\n\r\n";
    let (answers, _) = exchange(bytes, 4096, &seen).await;
    assert_eq!(statuses(&answers), ["400"]);
    assert_eq!(*seen.body_faults.borrow(), [Some(WireFault::TrailerName)]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_refused_behind_an_answer_that_closes() {
    let seen = Seen::with_permits(9);
    let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{BAD}");
    let (answers, fault) = exchange(bytes.as_bytes(), 4096, &seen).await;
    assert_eq!((statuses(&answers), fault), (vec!["200"], None));
}

#[tokio::test(start_paused = true)]
async fn answers_without_their_body_are_in_turn_too() {
    let seen = Seen::with_permits(9);
    let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (answers, fault) = exchange(format!("{head}{head}{GOOD}{head}{BAD}").as_bytes(), 4096, &seen).await;
    assert_eq!(statuses(&answers), ["200", "200", "200", "200", "400"]);
    assert_eq!(fault, Some(WireFault::TargetFragment));
}

/// How many requests of `bytes` come to the service.
async fn calls(bytes: &[u8]) -> usize {
    let seen = Seen::with_permits(99);
    let (mut client, server) = duplex(1 << 16);
    client.write_all(bytes).await.unwrap();
    // The client stays, and the paused clock ends the wait as soon as nothing can happen any more.
    let _ = tokio::time::timeout(Duration::from_secs(9), serve(server, Rc::clone(&seen))).await;
    seen.calls.get()
}

#[tokio::test(start_paused = true)]
async fn the_oddest_heads_that_pass_become_requests() {
    let marks: String = ('!'..='~').filter(|mark| !"#?<>`".contains(*mark)).collect();
    let query: String = ('!'..='~').filter(|mark| !"#<>\"".contains(*mark)).collect();
    let headers: String = (0..99).map(|number| format!("X-{number}: y\r\n")).collect();
    for (line, host, headers) in [
        (format!("GET /{marks}?{query}\u{e4}"), "a", ""),
        (format!("GET /{}", "a".repeat(8 * 1024 - 1)), "a", ""),
        ("OPTIONS *".to_owned(), "a", ""),
        ("GET http://a".to_owned(), "a", ""),
        ("GET HTTPS://a?x=1".to_owned(), "a", ""),
        ("GET http://A.b-c_d~e.:65535/v1".to_owned(), "a.b-c_d~e.:65535", ""),
        ("GET http://[::1]:443/".to_owned(), "[::1]:443", ""),
        ("GET http://[::ffff:127.0.0.1]/".to_owned(), "[::ffff:127.0.0.1]", ""),
        ("!#$%&'*+-.^_`|~ /".to_owned(), "a", ""),
        ("PRI /".to_owned(), "a", ""),
        ("GET /".to_owned(), "a", &headers),
        ("GET /".to_owned(), "a", &format!("A: {}\r\n", "b".repeat(32 * 1024 - 38))),
        ("POST /".to_owned(), "a", "Content-Length: 9223372036854775807\r\n"),
        ("GET /".to_owned(), "a", "Upgrade: websocket\r\nConnection: Upgrade\r\n"),
    ] {
        let bytes = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
        assert_eq!(calls(bytes.as_bytes()).await, 1, "{line}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Changes a few bytes of a good request. When the guard lets it pass, it must come to the service.
    #[test]
    fn whatever_passes_becomes_a_request(
        request in good_request(),
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = request;
        for (place, byte) in changes {
            let place = usize::from(place) * bytes.len() / (usize::from(u16::MAX) + 1);
            bytes[place] = byte;
        }
        let passed = Scanner::new(WireLimits::default()).step(&bytes, &mut |_| {});
        if !matches!(passed, Ok(Some(_))) {
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        prop_assert!(runtime.block_on(calls(&bytes)) > 0, "{:?}", String::from_utf8_lossy(&bytes));
    }
}

/// Polls once.
async fn is_ready<F: Future>(mut future: Pin<&mut F>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}

/// Whether the client has an answer after each poll of its connection, from the one on that can answer.
async fn answered_in_turn(permits: usize) -> [bool; 2] {
    crate::upstream::crowd();
    let (mut client, server) = duplex(1024);
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let seen = Seen::with_permits(permits);
    let mut serving = pin!(serve(server, Rc::clone(&seen)));
    if permits == 0 {
        assert!(!is_ready(serving.as_mut()).await && seen.calls.get() == 1);
        seen.gate.add_permits(1);
    }
    let mut answered = [false; 2];
    for has_come in &mut answered {
        assert!(!is_ready(serving.as_mut()).await && seen.finished.get() == 1);
        *has_come = is_ready(pin!(client.read(&mut [0; 1024]))).await;
    }
    answered
}

#[tokio::test]
async fn an_answer_that_was_waited_for_lets_others_go_first() {
    assert_eq!(answered_in_turn(1).await, [true, false], "a refusal goes at once");
    assert_eq!(answered_in_turn(0).await, [false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_becomes_whole_is_given_up() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let (mut client, server) = duplex(1024);
            let seen = Seen::with_permits(1);
            let serving = tokio::task::spawn_local(serve(server, Rc::clone(&seen)));
            client.write_all(b"GET /slow HTTP/1.1\r\nHost: a").await.unwrap();
            // The paused clock moves on by itself: only the head's timer is left to wait for.
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            assert_eq!(serving.await.unwrap(), Some(WireFault::HeadTimedOut));
            assert_eq!(seen.calls.get(), 0);
        })
        .await;
}
