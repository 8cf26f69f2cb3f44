use super::*;
use crate::engine::Mode;
use proptest::prelude::*;

#[test]
fn masking_keeps_prefix_and_end() {
    let hidden = |count: usize| "*".repeat(count);
    for (text, want) in [
        (SECRET, format!("sk_live_{}ABCD", hidden(24))),
        ("rk_test_0123456789abcdef", format!("rk_test_{}cdef", hidden(12))),
        ("rk_test_0123456789abcde", format!("rk_test_{}", hidden(15))),
        ("sk_live_", "sk_live_".to_owned()),
        ("sk_liv", hidden(6)),
        ("null", hidden(4)),
        ("abcdefghijklmnopqrst", format!("{}qrst", hidden(16))),
        ("x_live_0123456789abcdef", format!("{}cdef", hidden(19))),
        ("", String::new()),
        ("sk_live_0123456789\u{1b}[2J", hidden(22)),
        ("sk_live_\u{445}\u{445}", hidden(10)),
    ] {
        assert_eq!(masked(text), want);
    }
    assert_eq!(masked(&"k".repeat(100_000)), hidden(MAX_SECRET_BYTES));
}

#[test]
fn a_secret_says_its_mode_and_kind() {
    for (text, mode, kind) in [
        ("sk_live_x", Some(Mode::Live), Some(KeyKind::Secret)),
        ("rk_test_x", Some(Mode::Test), Some(KeyKind::Restricted)),
        ("pk_test_x_live_", Some(Mode::Test), Some(KeyKind::Publishable)),
        ("sk_org_live_x", None, Some(KeyKind::Secret)),
        ("sk_test", None, Some(KeyKind::Secret)),
        ("opaque", None, None),
        ("xx_live_x", Some(Mode::Live), None),
    ] {
        assert_eq!((secret(text).mode(), secret(text).kind()), (mode, kind), "{text}");
    }
}

#[test]
fn a_digest_is_read_and_shown() {
    let digest = secret("abc").digest();
    let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(digest.to_string(), text);
    assert_eq!(Digest::parse(text), Some(digest));
    assert_eq!(Digest::parse(&text.to_uppercase().replace("SHA", "sha")), Some(digest));
    assert_ne!(Digest::parse(&text.replace("5ad", "5ae")), Some(digest));
    for bad in [
        "",
        "sha256:",
        &text[..70],
        &format!("{text}0"),
        &text.replace("sha256:", ""),
        &text.replace('b', "g"),
        &text.replace("ba", "\u{e9}"),
    ] {
        assert_eq!(Digest::parse(bad), None, "{bad}");
    }
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let owned = Secret::from_owned(SECRET.to_owned().into()).unwrap();
    for text in [format!("{:?}", secret(SECRET)), format!("{owned:?} {:?}", owned.digest()), owned.masked()] {
        assert!(!text.contains("LEAK") && !text.contains("leak"), "{text}");
    }
    let ring = keyring(&table("key_1", SECRET, ""));
    let text = format!("{ring:?} {:?}", Passthrough::new(SEED).principal(&secret(SECRET)));
    let hash = secret(SECRET).digest().to_string();
    assert!(!text.contains("LEAK") && !text.contains(&hash[7..20]), "{text}");
}

#[test]
fn made_secrets_are_long_distinct_and_checkable() {
    let mut seen = std::collections::HashSet::new();
    for kind in KeyKind::ALL {
        for mode in Mode::ALL {
            let made = generate(kind, mode).unwrap();
            let text = made.expose();
            assert!(text.starts_with(&format!("{}_{}_", kind.prefix(), mode.as_str())));
            assert_eq!((text.len(), made.kind(), made.mode()), (54, Some(kind), Some(mode)));
            assert!(text[8..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
            assert!(has_valid_checksum(text));
            assert!(seen.insert(text.to_owned()));
            assert_eq!(from_authorization(format!("Bearer {text}").as_bytes()).unwrap().expose(), text);
        }
    }
    assert_ne!(new_id().unwrap(), new_id().unwrap());
}

#[test]
fn a_slip_breaks_the_checksum() {
    let made = generate(KeyKind::Secret, Mode::Live).unwrap();
    let text = made.expose();
    for at in 0..text.len() {
        let mut wrong = text.as_bytes().to_vec();
        wrong[at] = if wrong[at] == b'x' { b'y' } else { b'x' };
        assert!(!has_valid_checksum(std::str::from_utf8(&wrong).unwrap()), "{at}");
    }
    // CRC-32 of all before it, as zlib computes it, in base 62.
    assert!(has_valid_checksum("sk_test_0123456789abcdefghijABCDEFGHIJ01234567890iCy8q"));
    for other in ["", "000000", "sk_live_", "\u{e9}\u{e9}\u{e9}\u{e9}", &text[1..]] {
        assert!(!has_valid_checksum(other), "{other}");
    }
}

#[test]
fn passthrough_tells_keys_apart_and_keeps_mode() {
    let principal = |seed: Seed, text: &str| Passthrough::new(seed).principal(&secret(text));
    let one = principal(SEED, "sk_test_aaaa");
    assert_eq!(one.account.len(), 21);
    assert!(one.account.starts_with("acct_") && one.id.starts_with("key_"));
    assert_eq!((one.mode, one.account_header.as_bytes()), (Mode::Test, one.account.as_bytes()));
    assert_eq!(one.account_id, SEED.id(crate::engine::IdKind::Account, one.account.as_bytes()));
    assert!(one.may_use(crate::engine::EndpointId(9999)) && one.may_act_for("acct_other"));
    assert_eq!(principal(SEED, "sk_test_aaaa").account, one.account);
    assert_ne!(principal(SEED, "sk_test_aaab").account, one.account);
    assert_ne!(principal(Seed([1, 3]), "sk_test_aaaa").account, one.account);
    assert_ne!(one.account[5..], one.id[4..]);
    assert_eq!(principal(SEED, "whatever").mode, Mode::Live);
    // The upstream judges what a restricted key may do.
    assert!(principal(SEED, "rk_live_aaaa").may_use(crate::engine::EndpointId(0)));
}

proptest! {
    #[test]
    fn masking_hides_all_but_the_end(body in "[a-zA-Z0-9]{0,600}") {
        let text = format!("sk_live_{body}");
        let shown = masked(&text);
        prop_assert!(shown.len() <= MAX_SECRET_BYTES);
        let hidden = shown.matches('*').count();
        prop_assert!(hidden >= body.len().min(12));
        prop_assert!(shown.trim_start_matches("sk_live_").trim_matches('*').len() <= 4);
    }
}

#[test]
fn a_secret_in_a_text_is_noticed() {
    let holds = crate::keys::secret::holds_secret;
    for text in ["sk_live_x", " sk_live_x", "]rk_test_x", "key: pk_live_x"] {
        assert!(holds(text), "{text}");
    }
    for text in ["", "_", "live_x", "sk_living", "S_live_x", "\u{e9}_live_x"] {
        assert!(!holds(text), "{text}");
    }
}
