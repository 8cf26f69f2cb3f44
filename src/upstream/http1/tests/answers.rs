//! Answers, good and bad, each in every cut in two and byte by byte.

use super::script::{After, Script, Whole, answered};
use crate::upstream::http1::{MAX_EXTENSION_BYTES, MAX_INTERIM, MAX_TRAILER_BYTES};
use crate::upstream::{MAX_HEAD_BYTES, MAX_HEADERS};

/// What becomes of an answer: its status and body and whether the connection serves on, or why there is none.
type Verdict = Result<(u16, String, bool), String>;

fn verdict(pieces: &[&[u8]], method: &str, after: After) -> Verdict {
    match answered(|| Script::new(pieces, after), method) {
        Ok(Whole { broke: Some(why), body, .. }) => Err(format!("{} then {why}", String::from_utf8(body).unwrap())),
        Ok(whole) => Ok((whole.status, String::from_utf8(whole.body).unwrap(), whole.is_ready)),
        Err(why) => Err(why),
    }
}

/// The same answer in one piece, in every two, and byte by byte; what comes behind a last byte may come too late to be seen.
#[track_caller]
fn assert_verdict(answer: &str, method: &str, after: After, expected: &Verdict) {
    let bytes = answer.as_bytes();
    assert_eq!(&verdict(&[bytes], method, after), expected, "{answer:?}");
    for cut in 1..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(&verdict(&[first, second], method, after), expected, "{answer:?} cut at {cut}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(&verdict(&single, method, after), expected, "{answer:?} byte by byte");
}

fn good(status: u16, body: &str, is_ready: bool) -> Verdict {
    Ok((status, body.to_owned(), is_ready))
}

#[test]
fn answers_end_where_their_framing_says() {
    const KEPT: bool = true;
    let table: [(&str, &str, Verdict); 24] = [
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", good(200, "abc", KEPT)),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length:003  \r\n\r\nabc", good(200, "abc", KEPT)),
        ("GET", "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", good(200, "", KEPT)),
        ("GET", "HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n", good(200, "", KEPT)),
        ("GET", "HTTP/1.1 404 Nicht da \u{e4}\r\ncontent-length: 0\r\n\r\n", good(404, "", KEPT)),
        ("GET", "HTTP/1.1 599 Odd\r\ncontent-length: 0\r\n\r\n", good(599, "", KEPT)),
        ("GET", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\na", good(200, "a", false)),
        ("GET", "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 0\r\n\r\n", good(200, "", false)),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nconnection: close\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
            good(200, "", false),
        ),
        ("GET", "HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", good(200, "a", false)),
        ("GET", "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na", good(200, "a", KEPT)),
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", good(200, "abc", KEPT)),
        (
            "GET",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n0001;a=\"b\"\r\na\r\nA\r\n0123456789\r\n00\r\n\r\n",
            good(200, "a0123456789", KEPT),
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-sum: 4\r\n\r\n",
            good(200, "a", KEPT),
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n", good(200, "", KEPT)),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", good(200, "", KEPT)),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", good(200, "", KEPT)),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", good(204, "", KEPT)),
        ("GET", "HTTP/1.1 204 No Content\r\ncontent-length: 9\r\n\r\n", good(204, "", KEPT)),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", good(304, "", KEPT)),
        ("GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Made\r\ncontent-length: 1\r\n\r\na", good(201, "a", KEPT)),
        (
            "GET",
            "HTTP/1.1 103 Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 None\r\n\r\n",
            good(204, "", KEPT),
        ),
        ("GET", "HTTP/1.1 200 OK\r\nx:\r\nx: \t\u{e9} \r\ncontent-length: 0\r\n\r\n", good(200, "", KEPT)),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection:\r\n\r\n", good(200, "", KEPT)),
    ];
    for (method, answer, expected) in table {
        assert_verdict(answer, method, After::Silence, &expected);
    }
    assert_verdict("HTTP/1.1 200 OK\r\n\r\nto the end", "GET", After::End, &good(200, "to the end", false));
    assert_verdict("HTTP/1.0 200 OK\r\n\r\n", "GET", After::End, &good(200, "", false));
}

#[test]
fn what_two_readers_could_read_differently_is_no_answer() {
    let fields = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nabc");
    let table = [
        ("ContentLength", fields("content-length: 3\r\ncontent-length: 3")),
        ("ContentLength", fields("content-length: 3\r\ncontent-length: 4")),
        ("ContentLength", fields("content-length: 3, 3")),
        ("ContentLength", fields("content-length: +3")),
        ("ContentLength", fields("content-length: -3")),
        ("ContentLength", fields("content-length: 0x3")),
        ("ContentLength", fields("content-length:")),
        ("ContentLength", fields("content-length: 18446744073709551616")),
        ("TransferEncoding", fields("content-length: 3\r\ntransfer-encoding: chunked")),
        ("TransferEncoding", fields("transfer-encoding: chunked\r\ncontent-length: 3")),
        ("TransferEncoding", fields("transfer-encoding: chunked\r\ntransfer-encoding: chunked")),
        ("TransferEncoding", fields("transfer-encoding: gzip, chunked")),
        ("TransferEncoding", fields("transfer-encoding: chunked, identity")),
        ("TransferEncoding", fields("transfer-encoding: ,chunked")),
        ("TransferEncoding", fields("transfer-encoding: identity")),
        ("TransferEncoding", fields("transfer-encoding:")),
        ("TransferEncoding", "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        ("Unasked", "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n".to_owned()),
        ("NotHttp", "SSH-2.0-x\r\n\r\n".to_owned()),
        ("NotHttp", "<html>0.9</html>".to_owned()),
        ("NotHttp", "\r\nHTTP/1.1 200 OK\r\n\r\n".to_owned()),
        ("NotHttp", "HTTP/1.2 200 OK\r\n\r\n".to_owned()),
        ("NotHttp", "HTTP/2 200\r\n\r\n".to_owned()),
        ("NotHttp", "http/1.1 200 OK\r\n\r\n".to_owned()),
        ("NotHttp", "HTTP/1.1  200 OK\r\n\r\n".replace("1.1 ", "1.1\t")),
        ("StatusLine", "HTTP/1.1  200 OK\r\n\r\n".to_owned()),
        ("StatusLine", "HTTP/1.1 99 No\r\n\r\n".to_owned()),
        ("StatusLine", "HTTP/1.1 099 No\r\n\r\n".to_owned()),
        ("StatusLine", "HTTP/1.1 600 No\r\n\r\n".to_owned()),
        ("StatusLine", "HTTP/1.1 1000 No\r\n\r\n".to_owned()),
        ("StatusLine", "HTTP/1.1 200OK\r\n\r\n".to_owned()),
        ("StatusLine", "HTTP/1.1 200 O\0K\r\n\r\n".to_owned()),
        ("StatusLine", "HTTP/1.1 200 O\rK\r\n\r\n".to_owned()),
        ("BareLineFeed", "HTTP/1.1 200 OK\n\r\n\r\n".to_owned()),
        ("BareLineFeed", fields("x: y\nz: a")),
        ("Field", fields("x: y\rz: a")),
        ("Field", fields("x: y\r\rz: a")),
        ("Field", fields("x: y\r\n z")),
        ("Field", fields("\rcontent-length: 3")),
        ("Field", fields("x : y")),
        ("Field", fields(": y")),
        ("Field", fields("no colon")),
        ("Field", fields("x: \0")),
        ("Field", fields("x: \u{7f}")),
    ];
    for (why, answer) in table {
        assert_verdict(&answer, "GET", After::Silence, &Err(format!("Malformed({why})")));
    }
}

#[test]
fn a_body_that_breaks_off_is_an_error_behind_what_came_of_it() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let table = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_owned(), "abc", "Closed"),
        (format!("{chunked}3\r\nabc"), "abc", "Closed"),
        (format!("{chunked}9\r\nabc"), "abc", "Closed"),
        (format!("{chunked}3\r\nabc\r\n"), "abc", "Closed"),
        (format!("{chunked}3\r\nabc\r\n0\r\n"), "abc", "Closed"),
        (format!("{chunked}3\r\nabc\r\n0\r\nx: y\r\n"), "abc", "Closed"),
        (format!("{chunked}3\r\nabcd"), "abc", "Malformed(Chunk)"),
        (format!("{chunked}3\r\nabc\n0\r\n\r\n"), "abc", "Malformed(Chunk)"),
        (format!("{chunked}3\r\nabc\r\nzz\r\n"), "abc", "Malformed(Chunk)"),
        (format!("{chunked}\r\n"), "", "Malformed(Chunk)"),
        (format!("{chunked};a\r\n"), "", "Malformed(Chunk)"),
        (format!("{chunked}3 \r\nabc"), "", "Malformed(Chunk)"),
        (format!("{chunked}3\nabc"), "", "Malformed(Chunk)"),
        (format!("{chunked}3;\x01\r\n"), "", "Malformed(Chunk)"),
        (format!("{chunked}0x3\r\nabc"), "", "Malformed(Chunk)"),
        (format!("{chunked}00000000000000003\r\nabc"), "", "Malformed(Chunk)"),
        (format!("{chunked}1\r\na\r\n0\r\nx: y\nz: a\r\n\r\n"), "a", "Malformed(BareLineFeed)"),
        (format!("{chunked}1\r\na\r\n0\r\n x: y\r\n\r\n"), "a", "Malformed(Field)"),
    ];
    for (answer, body, why) in table {
        assert_verdict(&answer, "GET", After::End, &Err(format!("{body} then {why}")));
    }
    for (answer, why) in
        [("", "Closed"), ("HTTP/1.1 200 OK\r\n", "Closed"), ("HTTP/1.1 100 Continue\r\n\r\n", "Closed")]
    {
        assert_verdict(answer, "GET", After::End, &Err(why.to_owned()));
    }
}

#[test]
fn bytes_behind_an_answer_end_the_connection() {
    for (method, answer) in [
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcd"),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nx"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\nbody"),
        ("GET", "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\nbody"),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody"),
    ] {
        let whole = answered(|| Script::new([answer], After::Silence), method).unwrap();
        assert!(!whole.is_ready && whole.broke.is_none(), "{answer:?}");
        // They are found as well when they come after the answer has been taken.
        let end = answer.find("\r\n\r\n").unwrap() + 4;
        let pieces = [&answer[..end], &answer[end..]];
        assert!(!answered(|| Script::new(pieces, After::Silence), method).unwrap().is_ready, "{answer:?}");
    }
}

#[test]
fn heads_and_interim_answers_are_bounded() {
    let head = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n");
    let ask = |answer: String| verdict(&[answer.as_bytes()], "GET", After::Silence);
    let large = |bytes: usize| {
        let empty = head("x: \r\n").len();
        head(&format!("x: {}\r\n", "y".repeat(bytes - empty)))
    };
    assert_eq!(ask(large(MAX_HEAD_BYTES - 1)), good(200, "", true));
    let too_large = Err("Malformed(TooLarge)".to_owned());
    assert_eq!(ask(large(MAX_HEAD_BYTES + 1)), too_large);
    assert_eq!(ask(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(900 * 1024))), too_large);
    assert_eq!(ask(head(&"x: y\r\n".repeat(MAX_HEADERS - 1))), good(200, "", true));
    assert_eq!(ask(head(&"x: y\r\n".repeat(MAX_HEADERS))), too_large);
    let interim = |count: usize| "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count) + &head("");
    assert_eq!(ask(interim(MAX_INTERIM)), good(200, "", true));
    let too_many = Err("Malformed(TooManyInterim)".to_owned());
    assert_eq!(ask(interim(MAX_INTERIM + 1)), too_many);
    assert_eq!(ask(interim(1_000)), too_many);
    let long = format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "y".repeat(40 * 1024));
    assert_eq!(ask(long.repeat(2) + &head("")), too_large);
}

#[test]
fn chunk_extensions_and_trailers_are_bounded() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let ask = |body: String| verdict(&[chunked.as_bytes(), body.as_bytes()], "GET", After::Silence);
    let extended = |bytes: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(bytes));
    assert_eq!(ask(extended(MAX_EXTENSION_BYTES - 1)), good(200, "a", true));
    assert_eq!(ask(extended(MAX_EXTENSION_BYTES)), Err(" then Malformed(Chunk)".to_owned()));
    let many = "1;e\r\na\r\n".repeat(MAX_EXTENSION_BYTES);
    assert!(ask(many).is_err(), "a million small ones are one large one");
    let trailing = |lines: &str| format!("1\r\na\r\n0\r\n{lines}\r\n");
    assert_eq!(ask(trailing(&"x: y\r\n".repeat(MAX_HEADERS))), good(200, "a", true));
    let too_large = Err("a then Malformed(TooLarge)".to_owned());
    assert_eq!(ask(trailing(&"x: y\r\n".repeat(MAX_HEADERS + 1))), too_large);
    assert_eq!(ask(trailing(&format!("x: {}\r\n", "y".repeat(MAX_TRAILER_BYTES)))), too_large);
}

#[test]
fn trailers_go_on_unless_they_decide_something() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 4\r\ncontent-length: 3\r\n\
        Transfer-Encoding: chunked\r\nset-cookie: a\r\nstripe-should-retry: true\r\ngrpc-status: 0\r\n\r\n";
    let whole = answered(|| Script::new([&*answer], After::Silence), "GET").unwrap();
    let names: Vec<&str> = whole.trailers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-sum", "grpc-status"]);
    assert!(whole.is_ready);
    let bare_of_any = answer.replace("X-Sum: 4\r\n", "").replace("grpc-status: 0\r\n", "");
    assert_eq!(verdict(&[bare_of_any.as_bytes()], "GET", After::Silence), good(200, "a", true));
}

#[test]
fn fields_stay_in_order_and_as_they_were() {
    let answer =
        "HTTP/1.1 204 No\r\nSet-Cookie: a=1\r\nX-Odd:  b c \t\r\nset-cookie: \u{e9}\r\ncontent-length: 7\r\n\r\n";
    let whole = answered(|| Script::new([&*answer], After::Silence), "GET").unwrap();
    let values = |name: &str| -> Vec<Vec<u8>> {
        whole.fields.iter().filter(|field| field.0 == name).map(|field| field.1.clone()).collect()
    };
    assert_eq!(values("set-cookie"), [b"a=1".to_vec(), "\u{e9}".as_bytes().to_vec()]);
    assert_eq!(values("x-odd"), [b"b c".to_vec()]);
    assert!(values("content-length").is_empty(), "a length that nothing has is not passed on");
}
