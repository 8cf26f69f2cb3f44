//! What goes out on a connection, and how bodies come through it.

use super::*;
use crate::server::wire::tests::properties::good_request;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, StreamBody};
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::Cell;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// What a test's service answers with: frames as they are, an error among them breaks off.
type Frames = Vec<Result<Frame<Bytes>, &'static str>>;
type Streamed = Response<StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, &'static str>>>>>;

fn frames(frames: Frames) -> Streamed {
    Response::new(StreamBody::new(stream::iter(frames)))
}

fn data(text: &str) -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes())))
}

/// Sends `bytes` and the end, and reads all answers; `answer` makes each.
async fn ask(bytes: &[u8], answer: impl Fn(Request<ClientBody>) -> Streamed) -> (String, Ended) {
    let (mut client, server) = duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    let mut connection = connection(server);
    let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(request))));
    // Until nothing can happen any more: the paused clock moves then.
    let ended = tokio::time::timeout(Duration::from_secs(5), connection.serve(service)).await;
    drop(connection);
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.unwrap();
    (answers, ended.unwrap_or(Ended::Whole))
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// The head's lines without its date, in order, and what follows.
fn parts(answer: &str) -> (Vec<&str>, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let (dates, lines): (Vec<&str>, Vec<&str>) = head.lines().partition(|line| line.starts_with("date: "));
    assert_eq!(dates, ["date: Thu, 01 Jan 1970 00:00:00 GMT"]);
    (lines, body)
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_length_goes_in_chunks() {
    let long = "x".repeat(5_000);
    let answer = || frames(vec![data("ab"), data(""), data(&long), data("c")]);
    let (got, _) = ask(GET, |_| answer()).await;
    let chunks = format!("2\r\nab\r\n1388\r\n{long}\r\n1\r\nc\r\n0\r\n\r\n");
    assert_eq!(parts(&got), (vec!["HTTP/1.1 200 OK", "transfer-encoding: chunked"], &*chunks));
    // HTTP/1.0 knows no chunks: the connection's end is the body's.
    let (got, ended) = ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", |_| answer()).await;
    assert_eq!(parts(&got), (vec!["HTTP/1.0 200 OK", "connection: close"], &*format!("ab{long}c")));
    assert_eq!(ended, Ended::Whole);
}

#[tokio::test(start_paused = true)]
async fn a_last_piece_that_is_long_is_followed_by_the_end() {
    let long = Bytes::from(vec![b'x'; 5_000]);
    for has_length in [true, false] {
        let long = long.clone();
        let service = service_fn(move |_: Request<ClientBody>| {
            std::future::ready(Ok::<_, Infallible>(Response::new(Whole(Some(long.clone()), has_length))))
        });
        let (mut client, server) = duplex(1 << 20);
        client.write_all(&GET.repeat(2)).await.unwrap();
        let mut connection = connection(server);
        let _ = tokio::time::timeout(Duration::from_secs(5), connection.serve(service)).await;
        drop(connection);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        let got = String::from_utf8(got).unwrap();
        let end = if has_length { "x".repeat(5_000) } else { format!("1388\r\n{}\r\n0\r\n\r\n", "x".repeat(5_000)) };
        assert_eq!((got.matches(&end).count(), got.ends_with(&end)), (2, true), "{has_length}");
    }
}

impl<S> Answer for StreamBody<S> where StreamBody<S>: Body<Data = Bytes> {}

/// A body that knows its end with its only piece, as an upstream's does, and its length or not.
struct Whole(Option<Bytes>, bool);

impl Answer for Whole {}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let length = self.0.as_ref().map_or(0, Bytes::len) as u64;
        if self.1 { http_body::SizeHint::with_exact(length) } else { http_body::SizeHint::default() }
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_go_to_who_asks_and_never_decide_anything() {
    let answer = || {
        let trailers = HeaderMap::from_iter([
            (http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0")),
            (header::AUTHORIZATION, HeaderValue::from_static("x")),
        ]);
        frames(vec![data("ab"), Ok(Frame::trailers(trailers))])
    };
    let (got, _) = ask(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n", |_| answer()).await;
    assert_eq!(parts(&got).1, "2\r\nab\r\n0\r\ngrpc-status: 0\r\n\r\n");
    let (got, _) = ask(GET, |_| answer()).await;
    assert_eq!(parts(&got).1, "2\r\nab\r\n0\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn some_answers_have_no_body_whatever_they_say() {
    let with_length = |status: StatusCode| {
        let mut answer = frames(Vec::new());
        *answer.status_mut() = status;
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
        answer
    };
    let (got, _) = ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", |_| with_length(StatusCode::OK)).await;
    assert_eq!(parts(&got), (vec!["HTTP/1.1 200 OK", "content-length: 7"], ""));
    let (got, _) = ask(GET, |_| with_length(StatusCode::NOT_MODIFIED)).await;
    assert_eq!(parts(&got), (vec!["HTTP/1.1 304 Not Modified", "content-length: 7"], ""));
    let (got, _) = ask(GET, |_| with_length(StatusCode::NO_CONTENT)).await;
    assert_eq!(parts(&got), (vec!["HTTP/1.1 204 No Content"], ""));
    let (got, _) = ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", |_| frames(vec![data("ab")])).await;
    assert_eq!(parts(&got), (vec!["HTTP/1.1 200 OK"], ""));
}

#[tokio::test(start_paused = true)]
async fn a_length_is_kept_or_the_connection_broken() {
    let promised = |pieces: Frames| {
        let mut answer = frames(pieces);
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("4"));
        answer
    };
    let (got, ended) = ask(&GET.repeat(2), |_| promised(vec![data("ab"), data("cd")])).await;
    assert_eq!((got.matches("\r\n\r\nabcd").count(), ended), (2, Ended::Whole));
    for pieces in [vec![data("ab")], vec![data("ab"), data("cde")], vec![data("ab"), Err("upstream")]] {
        let (got, ended) = ask(&GET.repeat(2), |_| promised(pieces.clone_frames())).await;
        assert_eq!((parts(&got).1, ended), ("ab", Ended::Broken));
    }
    let (got, ended) = ask(GET, |_| frames(vec![data("ab"), Err("upstream")])).await;
    assert_eq!((parts(&got).1, ended), ("2\r\nab\r\n", Ended::Broken), "never ended cleanly");
}

trait CloneFrames {
    fn clone_frames(&self) -> Frames;
}

impl CloneFrames for Frames {
    fn clone_frames(&self) -> Frames {
        let clone = |frame: &Result<Frame<Bytes>, &'static str>| match frame {
            Ok(frame) => Ok(Frame::data(frame.data_ref().unwrap().clone())),
            Err(error) => Err(*error),
        };
        self.iter().map(clone).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn who_stays_and_who_leaves() {
    for (line, fields, stays, said) in [
        ("1.1", "", true, None),
        ("1.1", "Connection: close\r\n", false, Some("connection: close")),
        ("1.1", "Connection: x, CLOSE\r\n", false, Some("connection: close")),
        ("1.0", "", false, Some("connection: close")),
        ("1.0", "Connection: Keep-Alive\r\n", true, Some("connection: keep-alive")),
    ] {
        let request = format!("GET / HTTP/{line}\r\nHost: a\r\n{fields}\r\n").repeat(2);
        let calls = Cell::new(0);
        let (got, _) = ask(request.as_bytes(), |_| {
            calls.set(calls.get() + 1);
            let mut answer = frames(Vec::new());
            answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            answer
        })
        .await;
        assert_eq!(calls.get(), if stays { 2 } else { 1 }, "{line} {fields}");
        let words: Vec<&str> = got.lines().filter(|line| line.starts_with("connection: ")).collect();
        assert_eq!(words, vec![said; calls.get()].into_iter().flatten().collect::<Vec<_>>(), "{line} {fields}");
    }
}

/// Answers with all that was asked, the body and the trailers included.
async fn echo(request: Request<ClientBody>) -> Result<Response<http_body_util::Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let collected = body.collect().await;
    let text = match collected {
        Ok(body) => {
            let trailers = body.trailers().cloned();
            format!("{:?} {:?} {trailers:?} {:?}", parts.method, parts.uri, body.to_bytes())
        }
        Err(error) => format!("{:?} {:?}", parts.method, crate::wire_fault::fault_of(&error)),
    };
    Ok(Response::new(http_body_util::Full::from(format!("{text} {:?}", parts.headers))))
}

/// All answers to `pieces`, each sent when nothing more happens on the one before, and how the connection ended.
async fn echoes(pieces: &[&[u8]]) -> (Vec<u8>, Ended) {
    let (mut client, server) = duplex(1 << 20);
    let mut connection = connection(server);
    let sending = async {
        for piece in pieces {
            // A connection that has refused something is gone before the last piece.
            let _ = client.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _ = client.shutdown().await;
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
        answers
    };
    let serving = async {
        let ended = connection.serve(service_fn(echo)).await;
        drop(connection.into_inner());
        ended
    };
    tokio::join!(sending, serving)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_cut_of_the_input_gives_the_same_answers(
        requests in vec(good_request(), 1..5),
        changes in vec((any::<u16>(), any::<u8>()), 0..2),
        cuts in vec(any::<u16>(), 0..12),
    ) {
        let mut bytes = requests.concat();
        for (place, byte) in changes {
            let place = usize::from(place) * bytes.len() / (usize::from(u16::MAX) + 1);
            bytes[place] = byte;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let whole = echoes(&[&bytes]).await;
            let mut places: Vec<usize> =
                cuts.iter().map(|&cut| usize::from(cut) * bytes.len() / usize::from(u16::MAX)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            assert_eq!(echoes(&pieces).await, whole);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn every_byte_apart_gives_the_same_answers() {
    let requests: &[u8] = b"\r\nPOST /a?b=c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n\
        1\r\nd\r\n0\r\nX-T: e\r\n\r\nGET http://a/b HTTP/1.1\r\nHost: a\r\nX:  y \r\n\r\n\
        POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345DELETE /x HTTP/1.0\r\n\r\n";
    let whole = echoes(&[requests]).await;
    let text = String::from_utf8(whole.0.clone()).unwrap();
    assert_eq!(text.matches("HTTP/1.").count(), 4, "{text}");
    assert!(text.contains("POST /a?b=c Some({\"x-t\": \"e\"}) b\"abcd\""), "{text}");
    assert!(text.contains("GET http://a/b None b\"\" {\"host\": \"a\", \"x\": \"y\"}"), "{text}");
    let bytes: Vec<&[u8]> = requests.chunks(1).collect();
    assert_eq!(echoes(&bytes).await, whole);
}

/// Serves `io` with a service that reads bodies only where the path says so.
async fn serve_reading(io: DuplexStream) -> Ended {
    let service = service_fn(|request: Request<ClientBody>| async move {
        if request.uri().path() == "/read" {
            return echo(request).await;
        }
        drop(request);
        Ok(Response::new(http_body_util::Full::from("unread")))
    });
    let mut connection = connection(io);
    connection.serve(service).await
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_is_told_to_go_on_once_and_only_when_the_body_is_wanted() {
    let head =
        |path: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    let (mut client, server) = duplex(1 << 16);
    let talking = async {
        client.write_all(head("/read").as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        client.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"ok").await.unwrap();
        client.write_all(head("/not").as_bytes()).await.unwrap();
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.unwrap();
        answers
    };
    let (answers, ended) = tokio::join!(talking, serve_reading(server));
    assert_eq!((answers.matches("HTTP/1.1 200").count(), answers.matches("100 Continue").count()), (2, 0));
    assert!(answers.contains("connection: close") && answers.ends_with("unread"), "{answers}");
    assert_eq!(ended, Ended::Whole);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_is_read_away_up_to_a_bound() {
    for (length, answered) in [(0, 3), (1, 3), (60 * 1024, 3), (70 * 1024, 1)] {
        let body = "x".repeat(length);
        let requests = format!("POST /not HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}").repeat(3);
        let (mut client, server) = duplex(1 << 20);
        client.write_all(requests.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(serve_reading(server).await, Ended::Whole);
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.unwrap();
        assert_eq!(answers.matches("unread").count(), answered, "{length}");
        assert_eq!(answers.matches("connection: close").count(), usize::from(answered == 1), "{length}");
    }
    // In chunks nobody knows before: what is read away is bounded all the same, in bytes and in time.
    let chunks = "1000\r\n".to_owned() + &"x".repeat(0x1000) + "\r\n";
    for (chunks, answered) in [(chunks.repeat(10) + "0\r\n\r\n", 2), (chunks.repeat(40) + "0\r\n\r\n", 1), (chunks, 1)]
    {
        let requests = format!("POST /not HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}").repeat(2);
        let (mut client, server) = duplex(1 << 20);
        client.write_all(requests.as_bytes()).await.unwrap();
        let before = crate::clock::timer_now();
        tokio::time::timeout(Duration::from_secs(60), serve_reading(server)).await.ok();
        assert!(before.elapsed() <= Duration::from_secs(60));
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
        assert_eq!(String::from_utf8(answers).unwrap().matches("unread").count(), answered);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_comes_in_no_faster_than_it_is_read() {
    let (mut client, server) = duplex(1024);
    let taken = Rc::new(Cell::new(0));
    let taken_by_service = Rc::clone(&taken);
    let service = service_fn(move |request: Request<ClientBody>| {
        let taken = Rc::clone(&taken_by_service);
        async move {
            let mut body = request.into_body();
            for _ in 0..3 {
                let frame = body.frame().await.unwrap().unwrap();
                taken.set(taken.get() + frame.into_data().unwrap().len());
            }
            std::future::pending::<()>().await;
            echo(Request::new(body)).await
        }
    });
    let mut connection = connection(server);
    let sending = async {
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").await.unwrap();
        let mut sent = 0;
        let more = async {
            loop {
                sent += client.write(&[0; 1000]).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(1), more).await.unwrap_err();
        drop(client);
        sent
    };
    let serving = tokio::time::timeout(Duration::from_secs(5), connection.serve(service));
    let (sent, served) = tokio::join!(sending, serving);
    assert!(taken.get() > 0);
    assert!(sent <= taken.get() + 3 * 1024, "{sent} sent, {} taken", taken.get());
    assert!(served.is_err(), "the end is behind a piece that waits for its reader");
}

#[tokio::test(start_paused = true)]
async fn a_body_of_64_kib_is_one_piece_and_its_room_is_free_again() {
    let length = 64 * 1024;
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
    let (mut client, server) = duplex(1 << 20);
    client.write_all(request.repeat(3).as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let pieces = Rc::new(std::cell::RefCell::new(Vec::new()));
    let seen = Rc::clone(&pieces);
    let service = service_fn(move |request: Request<ClientBody>| {
        let seen = Rc::clone(&seen);
        async move {
            // The head stays for as long as its answer is waited for.
            let (_parts, mut body) = request.into_parts();
            while let Some(frame) = body.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                seen.borrow_mut().push((piece.len(), piece.as_ptr().addr()));
            }
            Ok::<_, Infallible>(frames(vec![data("fine")]))
        }
    });
    assert_eq!(connection(server).serve(service).await, Ended::Whole);
    let pieces = pieces.take();
    // What comes with a later request's head was read behind the body before, and is short.
    let (length_of_first, place) = pieces[0];
    assert_eq!(length_of_first, length);
    assert!(pieces.iter().all(|(_, at)| at.abs_diff(place) < crate::upstream::room::ROOM_BYTES), "{pieces:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_holds_no_buffer() {
    let (mut client, server) = duplex(1 << 16);
    let mut connection = connection(server);
    client.write_all(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n").await.unwrap();
    let talking = async {
        tokio::task::yield_now().await;
        client.write_all(b"ok").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        client
    };
    let served = tokio::time::timeout(Duration::from_secs(2), connection.serve(service_fn(echo)));
    let (served, client) = tokio::join!(served, talking);
    assert!(served.is_err(), "it is still open");
    assert!(!connection.intake.holds_memory() && connection.outflow.is_empty());
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_flushed_whenever_it_pauses() {
    let (mut client, server) = duplex(1 << 16);
    let (tell, told) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
    let told = Rc::new(std::cell::RefCell::new(Some(told)));
    let service = service_fn(move |_: Request<ClientBody>| {
        let frames = stream::unfold(told.borrow_mut().take().unwrap(), |mut told| async {
            let text = told.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(text.as_bytes()))), told))
        });
        std::future::ready(Ok::<_, Infallible>(Response::new(StreamBody::new(frames.boxed_local()))))
    });
    let mut connection = connection(server);
    let talking = async {
        client.write_all(GET).await.unwrap();
        let mut got = Vec::new();
        for (text, chunk) in [("", "\r\n\r\n"), ("one", "3\r\none\r\n"), ("two", "3\r\ntwo\r\n")] {
            if !text.is_empty() {
                tell.send(text).unwrap();
            }
            while !got.ends_with(chunk.as_bytes()) {
                assert!(client.read_buf(&mut got).await.unwrap() > 0);
            }
        }
        // The client leaves in the midst of the answer: that ends it, though nothing is written.
        drop(client);
        tell.closed().await;
    };
    let ((), ended) = tokio::join!(talking, async {
        let ended = connection.serve(service).await;
        drop(connection);
        ended
    });
    assert_eq!(ended, Ended::Broken);
}
