use super::*;
use crate::engine::{EndpointId, Id, IdKind, Mode};
use jiff::Timestamp;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_key_is_found_by_its_secret_only() {
    let text = table("key_1", SECRET, "") + &table("key_2", "rk_test_2", "kind = \"restricted\"\nrevoked = true");
    let keyring = keyring(&text);
    let found = keyring.find(&secret(SECRET)).unwrap();
    assert_eq!((&*found.id, &*found.account, found.mode, found.kind), ("key_1", "acct_1", Mode::Live, KeyKind::Secret));
    assert_eq!(found.account_id, SEED.id(IdKind::Account, b"acct_1"));
    assert_eq!(found.key_id, SEED.id(IdKind::Key, b"key_1"));
    assert!(found.account_id != Id::NONE && found.account_id != found.key_id);
    assert_eq!((found.id_header.as_bytes(), found.account_header.as_bytes()), (&b"key_1"[..], &b"acct_1"[..]));
    assert!(keyring.find(&secret("rk_test_2")).unwrap().revoked);
    for other in ["sk_live_LEAKleakLEAKleakLEAKleakABCE", "SK_LIVE_LEAKleakLEAKleakLEAKleakABCD", "rk_test_", "key_1"] {
        assert!(keyring.find(&secret(other)).is_none(), "{other}");
    }
    assert_eq!(keyring.len(), 2);
}

#[test]
fn half_a_digest_is_not_enough() {
    let digest = secret(SECRET).digest().to_string();
    let other_end = format!("{}{}", &digest[..7 + 32], "0".repeat(32));
    let text = table("key_1", SECRET, "").replace(&digest, &other_end);
    assert!(keyring(&text).find(&secret(SECRET)).is_none());
}

#[test]
fn unknown_keys_leave_no_trace() {
    let keyring = keyring(&table("key_1", SECRET, ""));
    let before = (keyring.len(), keyring.settled.capacity());
    for number in 0..10_000 {
        assert!(keyring.find(&secret(&format!("sk_live_{number:032}"))).is_none());
    }
    assert_eq!((keyring.len(), keyring.settled.capacity()), before);
}

#[test]
fn expiry_and_revocation() {
    for more in ["expires_at = \"2026-03-01T00:00:00Z\"", "expires_at = 2026-03-01T01:00:00+01:00"] {
        let key = principal(more);
        assert_eq!(key.state(at("2026-02-28T23:59:59.999999999Z")), KeyState::Active, "{more}");
        assert_eq!(key.state(at("2026-03-01T00:00:00Z")), KeyState::Expired, "{more}");
    }
    assert_eq!(principal("").state(at("9999-01-01T00:00:00Z")), KeyState::Active);
    let both = principal("revoked = true\nexpires_at = 2026-03-01T00:00:00Z");
    assert_eq!(both.state(at("2026-03-02T00:00:00Z")), KeyState::Revoked);
    assert_eq!(principal("revoked = false").state(at("2026-01-01T00:00:00Z")), KeyState::Active);
}

#[test]
fn allow_lists_become_bits() {
    let many: Vec<String> = (0..150).map(|number| format!("filler.{number}")).collect();
    let mut names: Vec<&str> = many.iter().map(String::as_str).collect();
    names[0] = "payouts.create";
    names[63] = "payouts.list";
    names[64] = "charges.create";
    names[149] = "GET /v1/charges/{charge}";
    let mut keyring = keyring(
        &(table("a", "sk_a", "allow = [\"payouts.*\", \"GET /v1/charges*\"]")
            + &table("b", "sk_b", "kind = \"restricted\"\nallow = [\"charges.create\", \"refunds.*\"]")
            + &table("c", "sk_c", "")
            + &table("d", "sk_d", "kind = \"restricted\"")
            + &table("e", "sk_e", "kind = \"publishable\"\nallow = [\"*\"]")),
    );
    let may = |keyring: &Keyring, key: &str, id: usize| {
        keyring.find(&secret(key)).unwrap().may_use(EndpointId(u32::try_from(id).unwrap()))
    };
    // Nothing by default, before endpoints are known.
    assert!(!may(&keyring, "sk_a", 0) && may(&keyring, "sk_c", 0));
    keyring.bind(&names);
    for (id, name) in names.iter().enumerate() {
        for key in ["sk_a", "sk_b", "sk_c", "sk_d", "sk_e"] {
            let by_name = keyring.find(&secret(key)).unwrap().may_use_name(name);
            assert_eq!(may(&keyring, key, id), by_name, "{key} {name}");
        }
    }
    let allowed = |key: &str| (0..names.len() + 200).filter(|&id| may(&keyring, key, id)).collect::<Vec<_>>();
    assert_eq!(allowed("sk_a"), [0, 63, 149]);
    assert_eq!(allowed("sk_b"), [64]);
    assert_eq!(allowed("sk_c").len(), names.len() + 200);
    assert_eq!(allowed("sk_d"), [0; 0]);
    assert_eq!(allowed("sk_e").len(), names.len());
    assert_eq!(keyring.idle_globs(&names), ["refunds.*"]);
    // Endpoints may change with the configuration.
    keyring.bind(&["charges.create"]);
    assert!(may(&keyring, "sk_b", 0) && !may(&keyring, "sk_a", 0) && !may(&keyring, "sk_b", 64));
}

#[test]
fn acting_for_accounts() {
    for (more, own, listed, other, odd) in [
        ("", true, false, false, false),
        ("connected_accounts = []", true, false, false, false),
        ("connected_accounts = [\"acct_2\", \"acct_3\"]", true, true, false, false),
        ("connected_accounts = \"*\"", true, true, true, false),
    ] {
        let key = principal(more);
        assert_eq!(key.may_act_for("acct_1"), own, "{more}");
        assert_eq!(key.may_act_for("acct_2"), listed, "{more}");
        assert_eq!(key.may_act_for("acct_9"), other, "{more}");
        for text in ["", "acct_2,acct_3", "acct_2 ", "acct_\u{e9}", &"a".repeat(256)] {
            assert_eq!(key.may_act_for(text), odd, "{more} {text}");
        }
    }
}
