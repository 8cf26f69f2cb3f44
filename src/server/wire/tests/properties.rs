//! The guard against random bytes and random good requests.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// Small bounds, so that random input meets them.
const TIGHT: WireLimits = WireLimits {
    max_head_bytes: 120,
    max_headers: 4,
    max_target_bytes: 30,
    max_chunk_extension: 8,
    max_trailer_bytes: 40,
    head_timeout: std::time::Duration::from_secs(30),
};

/// Pieces of HTTP in no order: what random bytes alone would hardly ever hit.
pub(super) fn scraps() -> impl Strategy<Value = Vec<u8>> {
    let known: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n",
        b"POST /v1 HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b":",
        b"0\r\n",
        b"5\r\nhello\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"X: y\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
    ];
    let scrap = prop_oneof![
        8 => proptest::sample::select(known).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..4),
        1 => vec(b' '..=b'~', 0..60),
    ];
    vec(scrap, 0..16).prop_map(|scraps| scraps.concat())
}

pub(in crate::server) fn good_request() -> impl Strategy<Value = Vec<u8>> {
    let header = ("X-[A-Za-z0-9-]{1,12}", "[!-~ \t\u{e0}-\u{ff}]{0,20}")
        .prop_map(|(name, value)| format!("{name}: {value}\r\n"));
    let head = (
        proptest::sample::select(vec!["GET", "POST", "DELETE", "PATCH"]),
        "(/[a-z0-9_%.~-]{0,8}){1,4}(\\?[a-z0-9=&\\[\\]]{0,20})?",
        vec(header, 0..8).prop_map(|headers| headers.concat()),
    );
    let chunk = (vec(any::<u8>(), 1..40), "(;[a-z]{1,5}(=[a-z0-9]{1,5})?)?")
        .prop_map(|(data, extension)| [format!("{:x}{extension}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat());
    let chunks = (vec(chunk, 0..5), "(X-T: [a-z]{0,9}\r\n){0,2}").prop_map(|(chunks, trailers)| {
        let body = [&chunks.concat()[..], b"0\r\n", trailers.as_bytes(), b"\r\n"].concat();
        ("Transfer-Encoding: chunked\r\n".to_owned(), body)
    });
    let plain = vec(any::<u8>(), 0..80).prop_map(|body| (format!("Content-Length: {}\r\n", body.len()), body));
    let body = prop_oneof![Just((String::new(), Vec::new())), plain, chunks];
    (head, body).prop_map(|((method, target, headers), (framing, body))| {
        [format!("{method} {target} HTTP/1.1\r\n{headers}Host: api.example.com\r\n{framing}\r\n").as_bytes(), &body]
            .concat()
    })
}

/// `bytes` cut at the given fractions of their length.
fn cut<'a>(bytes: &'a [u8], cuts: &[u16]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> =
        cuts.iter().map(|&cut| usize::from(cut) * bytes.len() / usize::from(u16::MAX)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_have_one_verdict(bytes in scraps(), cuts in vec(any::<u16>(), 0..6), room in 1usize..64) {
        let whole = pass([&bytes[..]], 1 << 16, TIGHT);
        prop_assert!(bytes.starts_with(&whole.bytes));
        prop_assert_eq!(&pass(cut(&bytes, &cuts), room, TIGHT), &whole);
        prop_assert_eq!(&pass(bytes.chunks(1), 8192, TIGHT), &whole);
    }

    #[test]
    fn noise_never_panics(bytes in vec(any::<u8>(), 0..2000)) {
        let passed = pass([&bytes[..]], 8192, TIGHT);
        prop_assert!(bytes.starts_with(&passed.bytes));
    }

    #[test]
    fn good_requests_pass_unchanged(requests in vec(good_request(), 1..6), cuts in vec(any::<u16>(), 0..8), room in 1usize..4096) {
        let bytes = requests.concat();
        let passed = pass(cut(&bytes, &cuts), room, WireLimits::default());
        prop_assert_eq!(passed.verdict, None);
        prop_assert_eq!(passed.requests, requests.len() as u64);
        prop_assert!(passed.bytes == bytes);
    }
}
