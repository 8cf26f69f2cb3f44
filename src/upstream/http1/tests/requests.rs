//! Requests on the wire, and exchanges that end in other ways than both messages one after the other.

use super::script::{After, Script, Step, Steps, bare, drive, exchange, read, told};
use crate::upstream::http1::Sender;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body::Body;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Waker};
use std::time::Duration;

const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn post(lines: &[(&'static str, &str)], body: Steps) -> Request<Steps> {
    let request = Request::post("/v1/charges");
    lines.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(body).unwrap()
}

fn data(text: &'static str) -> Step {
    Step::Data(Bytes::from_static(text.as_bytes()))
}

/// What is written for a request, in how many writes.
fn written(request: Request<Steps>, room: usize) -> (String, usize) {
    let script = Script::new([FINE], After::Silence).room(room);
    let seen = script.seen();
    assert!(exchange(script.patience(1), request).is_ok());
    (seen.text(), seen.writes())
}

#[test]
fn a_request_is_written_at_once_with_framing_of_its_own() {
    let head = |lines: &str| format!("POST /v1/charges HTTP/1.1\r\n{lines}\r\n");
    let lying = [("content-length", "77"), ("transfer-encoding", "gzip"), ("x-a", "b")];
    let table = [
        (bare("GET"), "GET /v1/charges?limit=3 HTTP/1.1\r\n\r\n".to_owned()),
        (bare("DELETE"), "DELETE /v1/charges?limit=3 HTTP/1.1\r\n\r\n".to_owned()),
        (post(&[], Steps::none()), head("content-length: 0\r\n")),
        (post(&lying, Steps::text("amount=1")), head("x-a: b\r\ncontent-length: 8\r\n") + "amount=1"),
        (post(&lying, Steps::none()), head("x-a: b\r\ncontent-length: 0\r\n")),
        (
            post(&lying, Steps::new(None, [data("amount="), data(""), data("1")])),
            head("x-a: b\r\ntransfer-encoding: chunked\r\n") + "7\r\namount=\r\n1\r\n1\r\n0\r\n\r\n",
        ),
    ];
    for (request, expected) in table {
        assert_eq!(written(request, usize::MAX), (expected.clone(), 1), "{expected}");
    }
    let bare_query = Request::get("http://api.test?x=1").body(Steps::none()).unwrap();
    assert!(written(bare_query, usize::MAX).0.starts_with("GET /?x=1 HTTP/1.1\r\n"));
}

/// What has been written after each of the first two polls.
fn written_in_turn(request: Request<Steps>) -> [usize; 2] {
    crate::upstream::crowd();
    let script = Script::new([FINE], After::Silence).patience(10);
    let (seen, mut sender) = (script.seen(), script.sender());
    let mut sending = pin!(sender.try_send(request));
    [(); 2].map(|()| {
        let _ = sending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        seen.writes()
    })
}

#[test]
fn what_is_short_lets_others_go_first_and_what_is_long_keeps_nobodys_room() {
    assert_eq!(written_in_turn(bare("GET")), [0, 1]);
    assert_eq!(written_in_turn(post(&[], Steps::text("amount=1"))), [0, 1]);
    let long = Steps::new(Some(5_000), [Step::Data(Bytes::from(vec![b'x'; 5_000]))]);
    assert_eq!(written_in_turn(post(&[], long)), [1, 1]);
}

#[test]
fn long_bodies_arrive_whole_however_little_a_write_takes() {
    let text = "0123456789abcdef".repeat(1_000);
    let piece = || Step::Data(Bytes::from(text.clone()));
    for room in [usize::MAX, 7_000, 13] {
        let known = Steps::new(Some(2 * text.len() as u64), [piece(), Step::Wait, piece()]);
        let head = format!("POST /v1/charges HTTP/1.1\r\ncontent-length: {}\r\n\r\n", 2 * text.len());
        let request = post(&[], known);
        assert!(written_patiently(request, room, head.len() + 2 * text.len()) == format!("{head}{text}{text}"));
        let unknown = Steps::new(None, [piece(), data("x"), Step::Wait, piece()]);
        let head = "POST /v1/charges HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        let whole = format!("{head}3e80\r\n{text}\r\n1\r\nx\r\n3e80\r\n{text}\r\n0\r\n\r\n");
        assert!(written_patiently(post(&[], unknown), room, whole.len()) == whole, "{room}");
    }
}

/// What is written when the server answers only once it has it all.
fn written_patiently(request: Request<Steps>, room: usize, patience: usize) -> String {
    let script = Script::new([FINE], After::Silence).room(room).patience(patience);
    let seen = script.seen();
    assert!(exchange(script, request).unwrap().is_ready);
    seen.text()
}

#[test]
fn trailers_of_a_request_go_on_unless_they_decide_something() {
    let mut trailers = HeaderMap::new();
    for name in ["x-check", "content-length", "authorization", "stripe-account", "tollgate-account", "x-forwarded-for"]
    {
        trailers.append(name, HeaderValue::from_static("7"));
    }
    let body = Steps::new(None, [data("a"), Step::Trailers(trailers)]);
    let (text, _) = written(post(&[], body), usize::MAX);
    assert!(text.ends_with("\r\n1\r\na\r\n0\r\nx-check: 7\r\n\r\n"), "{text}");
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_fails_the_exchange() {
    for (length, expected) in [(3, "RequestLength"), (9, "RequestLength")] {
        let body = Steps::new(Some(length), [data("amount=1")]);
        let failure = exchange(Script::new([FINE], After::Silence).patience(9_999), post(&[], body)).unwrap_err();
        assert_eq!(told(&failure.error), expected);
        assert!(failure.unsent.is_none());
    }
    let body = Steps::new(Some(9), [data("amou"), Step::Fail]);
    let failure = exchange(Script::new([FINE], After::Silence).patience(9_999), post(&[], body)).unwrap_err();
    assert_eq!(told(&failure.error), "Request(ClientIdle)");
}

#[test]
fn a_request_comes_back_only_where_nothing_was_taken_of_its_body() {
    let broken = || Script::new([""; 0], After::End);
    let failure = exchange(broken(), bare("GET")).unwrap_err();
    assert!(failure.written && !failure.answered);
    assert_eq!(failure.unsent.unwrap().uri(), "/v1/charges?limit=3");
    let failure = exchange(broken().room(0), bare("GET")).unwrap_err();
    assert!(!failure.written && !failure.answered && failure.unsent.is_some());
    let failure = exchange(broken(), post(&[("x-a", "b")], Steps::text("amount=1"))).unwrap_err();
    assert!(failure.written && failure.unsent.is_none());
    let failure = exchange(Script::new(["H"], After::End), bare("GET")).unwrap_err();
    assert!(failure.written && failure.answered && failure.unsent.is_none());
}

#[test]
fn connections_serve_one_exchange_after_another_until_the_server_closes() {
    let script = Script::new([FINE; 3], After::End).patience(1);
    let seen = script.seen();
    let mut sender = script.sender();
    for nth in 1..=3 {
        let response = drive(sender.try_send(bare("GET"))).unwrap().unwrap();
        assert!(!sender.is_ready() && !sender.is_closed(), "it is busy");
        let mut body = response.into_body();
        let frame = drive(std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx))).unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "ok");
        assert!(body.is_end_stream(), "the end comes with the last piece");
        assert!(sender.is_ready(), "even while the body is still there");
        assert_eq!(seen.writes(), nth);
    }
    assert!(sender.is_closed() || sender.is_closed(), "the server has closed meanwhile");
    assert!(!sender.is_ready());
}

#[test]
fn an_answer_that_nobody_asked_for_is_found_before_the_next_request() {
    let mut sender = Script::new([FINE, FINE], After::Silence).sender();
    let response = drive(sender.try_send(bare("GET"))).unwrap().unwrap();
    assert!(!read(&sender, response).is_ready);
}

#[test]
fn exchanges_given_up_leave_no_connection() {
    let mut sender = Script::new([""; 0], After::Silence).sender();
    assert!(drive(sender.try_send(bare("GET"))).is_none(), "the server is silent");
    assert!(!sender.is_ready());
    let mut sender = Script::new(["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"], After::Silence).sender();
    drop(drive(sender.try_send(bare("GET"))).unwrap().unwrap());
    assert!(sender.is_closed() && !sender.is_ready());
}

#[test]
fn an_idle_connection_keeps_no_buffer() {
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n{}", "x".repeat(300_000));
    for answer in [FINE, long.as_str()] {
        let mut sender = Script::new([answer], After::Silence).sender();
        let response = drive(sender.try_send(bare("GET"))).unwrap().unwrap();
        assert!(read(&sender, response).is_ready);
        assert_eq!(sender.kept_bytes(), 0);
    }
}

#[test]
fn an_asked_switch_hands_out_the_connection_and_what_came_behind() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x01frame";
    let mut sender = Script::new([switch], After::Silence).sender();
    let request = Request::get("/chat").header("connection", "upgrade").header("upgrade", "websocket");
    let response = drive(sender.try_send(request.body(Steps::none()).unwrap())).unwrap().unwrap();
    assert_eq!(response.status(), 101);
    assert!(response.body().is_end_stream() && !sender.is_ready(), "it never goes back to a pool");
    let (_stream, behind) = sender.into_io().unwrap();
    assert_eq!(behind, &b"\x01frame"[..]);
}

/// Runs on a runtime whose clock goes on by itself when all wait, for uploads that go on in a task of their own.
fn with_tasks(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(60), test()).await.expect("it ends");
    });
}

async fn rest_of(body: crate::upstream::http1::Body) -> Result<Bytes, String> {
    let whole = http_body_util::BodyExt::collect(body).await;
    whole.map(http_body_util::Collected::to_bytes).map_err(|error| told(&error))
}

async fn turns() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn an_early_answer_does_not_end_the_upload() {
    with_tasks(async || {
        let script = Script::new([FINE], After::Silence);
        let seen = script.seen();
        let mut sender = script.sender();
        let steps =
            [data("am"), Step::Wait, Step::Wait, Step::Wait, Step::Wait, Step::Wait, Step::Wait, data("ount=1")];
        let response = sender.try_send(post(&[], Steps::new(Some(8), steps))).await.unwrap();
        assert!(!seen.text().ends_with("amount=1"), "the answer came first");
        assert_eq!(rest_of(response.into_body()).await.unwrap(), "ok");
        assert!(!sender.is_closed(), "it is busy with the rest of the request");
        turns().await;
        assert!(seen.text().ends_with("amount=1"));
        assert!(sender.is_ready() && !sender.is_closed());
    });
}

#[test]
fn a_server_that_takes_no_more_is_heard_all_the_same() {
    let long = || Steps::new(Some(5_000), [Step::Data(Bytes::from(vec![b'x'; 5_000]))]);
    for (many, body) in [(false, long()), (true, long()), (true, Steps::text("amount=1"))] {
        with_tasks(async move || {
            if many {
                crate::upstream::crowd();
            }
            let mut sender = Script::new([FINE], After::Silence).stuck_after(20).sender();
            let answered = tokio::time::timeout(Duration::from_secs(1), sender.try_send(post(&[], body))).await;
            assert!(answered.is_ok_and(|answered| answered.is_ok()), "{many}");
        });
    }
}

fn early(answer: &str, last: Step) -> (Sender, super::script::Seen, Request<Steps>) {
    let script = Script::new([answer], After::Silence);
    let seen = script.seen();
    let mut steps = vec![Step::Wait; 9];
    steps.extend([last, data("more")]);
    (script.sender(), seen, post(&[], Steps::new(None, steps)))
}

#[test]
fn an_upload_ends_with_its_connection() {
    with_tasks(async || {
        // The server wants no more of it.
        let (mut sender, seen, request) = early(&FINE.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"), Step::Wait);
        let response = sender.try_send(request).await.unwrap();
        assert_eq!(rest_of(response.into_body()).await.unwrap(), "ok");
        assert!(sender.is_closed());
        turns().await;
        assert!(!seen.text().contains("more"));
        // The client wants no more of the answer.
        let (mut sender, seen, request) = early("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", Step::Wait);
        drop(sender.try_send(request).await.unwrap());
        drop(sender);
        turns().await;
        assert!(!seen.text().contains("more"));
    });
}

#[test]
fn an_upload_that_breaks_off_ends_the_answer() {
    with_tasks(async || {
        let (mut sender, _, request) = early("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", Step::Fail);
        let response = sender.try_send(request).await.unwrap();
        assert_eq!(rest_of(response.into_body()).await.unwrap_err(), "Closed", "though the server is silent");
        assert!(sender.is_closed());
    });
}

#[test]
fn a_server_that_answers_and_takes_no_more_is_heard() {
    // It has taken the head and refuses the rest.
    let answer = "HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno";
    let script = Script::new([answer], After::End).patience(1).room_once(40);
    let text = "x".repeat(100_000);
    let body = Steps::new(Some(100_000), [Step::Data(Bytes::from(text))]);
    let whole = exchange(script, post(&[], body)).unwrap();
    assert_eq!((whole.status, whole.body.as_slice(), whole.is_ready), (413, &b"no"[..], false));
    let script = Script::new([""; 0], After::End).patience(1).room_once(40);
    let failure = exchange(script, post(&[], Steps::text("amount=1"))).unwrap_err();
    assert!(told(&failure.error).starts_with("Io("), "the first thing that went wrong: {failure:?}");
}
