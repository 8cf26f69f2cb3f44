use super::*;
use proptest::prelude::*;

fn of(raw: &str) -> Result<String, PathError> {
    canonical(raw.as_bytes()).map(|path| path.as_str().to_owned())
}

#[test]
fn plain_paths_stay_and_are_borrowed() {
    for path in [
        "/",
        "/v1/payouts",
        "/v1/payouts/po_1A2b/",
        "/v1/coupons/50-off_~.x;a=b,c",
        "/.well-known/x",
        "/a/...",
        "/a/..b/.c",
        "/v1/a:b@c!$&'()*+,;=",
    ] {
        let found = canonical(path.as_bytes()).unwrap();
        assert_eq!(found.as_str(), path);
        assert!(found.is_borrowed(), "{path}");
    }
}

#[test]
fn dodges_come_to_one_form() {
    for raw in [
        "//v1/payouts",
        "///v1//payouts",
        "/v1/./payouts",
        "/./v1/payouts",
        "/v1/x/../payouts",
        "/x/../../../v1/payouts",
        "/%76%31/payouts",
        "/v1/%70ayout%73",
        "/v1/%2e/payouts",
        "/v1/%2E%2e/v1/payouts",
        "/v1/x/.%2e/payouts",
        "/v1/x/..;/payouts",
        "/v1/x/..;a=b/payouts",
        "/v1/.;a/payouts",
        "/v1/x/%2e%2e;a/payouts",
    ] {
        assert_eq!(of(raw).as_deref(), Ok("/v1/payouts"), "{raw}");
    }
}

#[test]
fn thousands_of_segments_are_one_path() {
    for filler in ["/./", "//", "x/../", "%2e/", "..;/"] {
        let raw = format!("/v1/{}payouts", filler.repeat(1_300).trim_start_matches('/'));
        assert_eq!(of(&raw).as_deref(), if filler == "..;/" { Ok("/payouts") } else { Ok("/v1/payouts") }, "{filler}");
    }
    // A dot of another script is a letter like any.
    assert_eq!(of("/v1/%ef%bc%8e%ef%bc%8e/payouts").as_deref(), Ok("/v1/%EF%BC%8E%EF%BC%8E/payouts"));
}

#[test]
fn a_trailing_slash_and_parameters_stay() {
    for (raw, want) in [
        ("/v1//", "/v1/"),
        ("/v1/.", "/v1/"),
        ("/v1/x/..", "/v1/"),
        ("/..", "/"),
        ("/.", "/"),
        ("//", "/"),
        ("/v1//payouts;x", "/v1/payouts;x"),
        ("/v1/pay%6Futs;x/", "/v1/payouts;x/"),
        // Parameters of no segment.
        ("/v1/accounts/;a", "/v1/accounts/"),
        ("/;a/;b/v1", "/v1"),
        ("/v1/%3ba", "/v1/%3Ba"),
    ] {
        assert_eq!(of(raw).as_deref(), Ok(want), "{raw}");
    }
}

#[test]
fn escapes_are_decoded_once_or_upper_cased() {
    for (raw, want) in [
        ("/%252e%252e/x", "/%252e%252e/x"),
        ("/%252f", "/%252f"),
        ("/a%3ab", "/a%3Ab"),
        ("/a%3fb", "/a%3Fb"),
        ("/a%23b", "/a%23b"),
        ("/a%3bb", "/a%3Bb"),
        ("/caf\u{e9}", "/caf%C3%A9"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/\u{ff0e}\u{ff0e}/x", "/%EF%BC%8E%EF%BC%8E/x"),
        ("/a b", "/a%20b"),
        ("/{id}|^`\"<>[]", "/%7Bid%7D%7C%5E%60%22%3C%3E%5B%5D"),
        ("/%7e%2D%5F%2e%41", "/~-_.A"),
        ("/a?b", "/a%3Fb"),
    ] {
        assert_eq!(of(raw).as_deref(), Ok(want), "{raw}");
    }
}

#[test]
fn what_cannot_be_made_canonical_is_refused() {
    use PathError::*;
    let cases: [(&[u8], PathError); 34] = [
        (b"", Empty),
        (b"a:80", NotAbsolute),
        (b"!", NotAbsolute),
        (b"*", NotAbsolute),
        (b"~", NotAbsolute),
        (b"v1/charges", NotAbsolute),
        (b"%2fv1", NotAbsolute),
        (b"#x", Fragment),
        (b"/v1/charges#x", Fragment),
        (b"/%zz", BadEscape),
        (b"/%", BadEscape),
        (b"/%4", BadEscape),
        (b"/%4/", BadEscape),
        (b"/%+1", BadEscape),
        (b"/%%41", BadEscape),
        (b"/v1%2fpayouts", EncodedSlash),
        (b"/v1%2Fpayouts", EncodedSlash),
        (b"/x%2f..%2fv1", EncodedSlash),
        (b"/v1\\payouts", Backslash),
        (b"/v1%5cpayouts", Backslash),
        (b"/v1%5Cpayouts", Backslash),
        (b"/%00", Control),
        (b"/v1/payouts%00", Control),
        (b"/%0d%0aX:1", Control),
        (b"/%7f", Control),
        (b"/a\x7f", Control),
        (b"/a\0", Control),
        (b"/a\tb", Control),
        (b"/%1f", Control),
        (b"/%c0%af", NotUtf8),
        (b"/%c0%ae%c0%ae/x", NotUtf8),
        (b"/\xff", NotUtf8),
        (b"/%ed%a0%80", NotUtf8),
        // Split by a slash, and in a segment that a later one removes.
        (b"/%c3/%a9/../../x", NotUtf8),
    ];
    for (raw, want) in cases {
        assert_eq!(canonical(raw).map(|path| path.to_string()), Err(want), "{}", raw.escape_ascii());
    }
    assert_eq!(of("/%FF/../v1"), Err(NotUtf8));
    assert_eq!(of("/%00/../v1"), Err(Control));
}

#[test]
fn length_is_bounded_before_and_after() {
    let longest = format!("/{}", "a".repeat(MAX_BYTES - 1));
    assert_eq!(of(&longest), Ok(longest.clone()));
    assert_eq!(of(&format!("{longest}a")), Err(PathError::TooLong));
    // Fits as it came, not once escaped.
    assert_eq!(of(&format!("/{}", "\u{e9}".repeat(2000))), Err(PathError::TooLong));
    let many = "/a".repeat(2000);
    assert_eq!(canonical(many.as_bytes()).unwrap().segments().count(), 2000);
    assert_eq!(of(&"/..".repeat(2000)).as_deref(), Ok("/"));
}

#[test]
fn segments_leave_out_the_empty_last() {
    let path = canonical(b"/v1/a;b/").unwrap();
    assert_eq!(path.segments().collect::<Vec<_>>(), ["v1", "a;b"]);
    assert_eq!(canonical(b"/").unwrap().segments().count(), 0);
}

/// Paths made of the pieces that matter, and of anything.
fn raw_path() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "/", "/", "//", ".", "..", "/../", "/./", ";", ";a", "%2e", "%2E", "%25", "%252e", "%41", "%3a", "%3B", "%C3%A9", "%c3",
            "%a9", "%2f", "%5c", "%00", "%7f", "%zz", "%", "v1", "payouts", "\u{e9}", "#", "?", " ", "{", "\\", "~", ":", "%20",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| {
        let mut path = vec![b'/'];
        path.extend(pieces.concat());
        path
    })
}

/// As [`raw_path`], of pieces that are never refused.
fn good_path() -> impl Strategy<Value = String> {
    let pieces = [
        "/", "/", "/", "//", ".", "..", "/../", "/./", ";", ";a", "%2e", "%252e", "%41", "%3a", "%3B", "%c3%a9", "v1",
        "\u{e9}", "?", " ",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..24)
        .prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn check_form(raw: &[u8]) {
    if let Ok(text) = std::str::from_utf8(raw) {
        assert_eq!(canonical_text(text), canonical(raw), "{text:?}");
    }
    let Ok(path) = canonical(raw) else { return };
    let text = path.as_str();
    assert!(text.starts_with('/') && text.is_ascii() && !text.contains("//"), "{text}");
    assert!(text.len() <= raw.len() * 3 && text.len() <= MAX_BYTES);
    assert!(path.segments().all(|segment| dots(segment.as_bytes()) == Dots::None), "{text}");
    assert_eq!(canonical(text.as_bytes()).as_ref(), Ok(&path), "not a fixed point");
    let target = http::uri::PathAndQuery::try_from(text).unwrap();
    assert_eq!((target.path(), target.query()), (text, None));
    assert!(!path.is_borrowed() || text.as_bytes() == raw);
    assert!(String::from_utf8(decoded(text).collect()).is_ok());
}

/// Escapes every byte of the path but its slashes: the widest disguise.
fn disguise(path: &str) -> String {
    path.bytes().map(|byte| if byte == b'/' { "/".to_owned() } else { format!("%{byte:02x}") }).collect()
}

proptest! {
    #[test]
    fn whatever_comes_out_is_canonical(raw in raw_path()) {
        check_form(&raw);
    }

    #[test]
    fn good_paths_are_accepted(raw in good_path()) {
        prop_assert!(canonical(raw.as_bytes()).is_ok());
        check_form(raw.as_bytes());
    }

    #[test]
    fn a_disguised_path_is_the_same_path(path in "(/[a-z0-9._~-]{1,6}){1,5}/?") {
        prop_assert_eq!(of(&disguise(&path)), of(&path));
    }
}
