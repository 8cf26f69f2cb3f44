//! Hostile `Authorization` headers: each is told apart, none panics, none is echoed.

use super::super::*;
use AuthorizationError::*;
use base64::Engine as _;
use proptest::prelude::*;

fn encoded(text: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn basic(text: &[u8]) -> Result<String, AuthorizationError> {
    key_of(format!("Basic {}", encoded(text)).as_bytes())
}

fn key_of(value: &[u8]) -> Result<String, AuthorizationError> {
    from_authorization(value).map(|secret| secret.expose().to_owned())
}

#[test]
fn a_key_comes_as_bearer_or_basic_in_any_case() {
    for value in [
        "Bearer sk_test_1",
        "bearer sk_test_1",
        "BEARER sk_test_1",
        "Basic sk_test_1",
        "basic c2tfdGVzdF8xOg==",
        "BASIC c2tfdGVzdF8xOg",
        "Basic c2tfdGVzdF8xOg=",
    ] {
        assert_eq!(key_of(value.as_bytes()).as_deref(), Ok("sk_test_1"), "{value}");
    }
    assert_eq!(basic(b"opaque.token:").as_deref(), Ok("opaque.token"));
    assert_eq!(key_of(b"Bearer abc+/=~-.").as_deref(), Ok("abc+/=~-."));
}

#[test]
fn the_longest_key_fits_both_ways() {
    let longest = "k".repeat(MAX_SECRET_BYTES);
    assert_eq!(key_of(format!("Bearer {longest}").as_bytes()).as_ref(), Ok(&longest));
    assert_eq!(basic(format!("{longest}:").as_bytes()).as_ref(), Ok(&longest));
    assert_eq!(key_of(format!("Bearer {longest}k").as_bytes()), Err(TooLong));
    assert_eq!(basic(format!("{longest}k:").as_bytes()), Err(TooLong));
}

#[test]
fn malformed_headers_are_told_apart() {
    let million = "A".repeat(1_000_000);
    let cases: Vec<(String, AuthorizationError)> = [
        ("", Empty),
        (" ", UnknownScheme),
        ("null", UnknownScheme),
        ("sk_live_x", UnknownScheme),
        ("Digest abc", UnknownScheme),
        ("Bearersk_live_x", UnknownScheme),
        ("Bearer\tsk_live_x", UnknownScheme),
        ("Bearer", NoKey),
        ("Bearer ", NoKey),
        ("Basic", NoKey),
        ("Basic ", NoKey),
        ("Basic Og==", NoKey),
        ("Basic ====", BadBase64),
        ("Basic !!!!", BadBase64),
        ("Basic c2s", NoColon),
        ("Basic c2t", BadBase64),
        ("Basic c", BadBase64),
        ("Basic c2tfdGVzdF8xOg== ", BadBase64),
        ("Basic c2tfdGVz dF8xOg==", BadBase64),
        ("Basic c2tfdGVzdF8xOg==:", BadBase64),
        ("Bearer  sk_live_x", Character),
        ("Bearer sk_live_x ", Character),
        ("Bearer sk_live_x\r", Character),
        ("Bearer sk_live x", Character),
        ("Bearer sk_live_\u{445}", Character),
        ("Bearer \u{ff53}k_live_x", Character),
        ("Bearer sk_live_x,sk_live_y", Character),
        ("Basic sk_live_x:", Character),
    ]
    .into_iter()
    .map(|(value, error)| (value.to_owned(), error))
    .chain([
        (format!("Basic {million}"), TooLong),
        (format!("Bearer {million}"), TooLong),
        (format!("Basic {}", &million[..4000]), TooLong),
        (million, TooLong),
    ])
    .collect();
    for (value, error) in cases {
        assert_eq!(key_of(value.as_bytes()), Err(error), "{}", value.chars().take(40).collect::<String>());
    }
    assert_eq!(key_of(b"Bearer \xff"), Err(Character));
    assert_eq!(key_of(b"\xff\xfe"), Err(UnknownScheme));
}

#[test]
fn malformed_basic_credentials_are_told_apart() {
    assert_eq!(basic(b"sk_test_1"), Err(NoColon));
    assert_eq!(basic(b"sk_test_1\0:"), Err(Nul));
    assert_eq!(basic(b"sk_test_1:\0"), Err(Nul));
    assert_eq!(basic(b"sk_\xff:"), Err(NotUtf8));
    assert_eq!(basic(b"sk_test_1::"), Err(Password));
    assert_eq!(basic(b"sk_test_1:secret"), Err(Password));
    assert_eq!(basic(b":"), Err(NoKey));
    assert_eq!(basic(b":sk_test_1"), Err(Password));
    assert_eq!(basic(b" sk_test_1:"), Err(Character));
    assert_eq!(basic("sk_test_\u{445}:".as_bytes()), Err(Character));
    assert_eq!(basic(b"sk_test_1\r\n:"), Err(Character));
    // The unused bits of the last letter must be zero: one key, one spelling.
    assert_eq!(key_of(b"Basic c2tfdGVzdF8xOh=="), Err(BadBase64));
}

proptest! {
    #[test]
    fn whatever_comes_never_panics(value in prop::collection::vec(any::<u8>(), 0..64), scheme in 0..3_usize) {
        let value = [[&b""[..], b"Bearer ", b"Basic "][scheme], &value].concat();
        if let Ok(secret) = from_authorization(&value) {
            prop_assert!(Secret::new(secret.expose()).is_ok());
        }
    }

    #[test]
    fn every_key_comes_through(key in "[A-Za-z0-9._~+/=-]{1,512}") {
        prop_assert_eq!(basic(format!("{key}:").as_bytes()), Ok(key.clone()));
        prop_assert_eq!(key_of(format!("Bearer {key}").as_bytes()), Ok(key));
    }
}
