use super::*;
use crate::keys::file::ReadError;
use proptest::prelude::*;

/// The mistakes in a text, as `line:column: message; hint`.
fn mistakes(text: &str) -> Vec<String> {
    match Keyring::parse(text, &SEED) {
        Ok(keyring) => panic!("{} keys were read", keyring.len()),
        Err(mistakes) => mistakes.iter().map(KeysMistake::to_string).collect(),
    }
}

#[test]
fn no_keys_must_be_said() {
    for text in ["", "\n \n", "# only a comment\n", "\u{feff}"] {
        assert_eq!(
            mistakes(text),
            ["1:1: the file has no keys; write \"keys = []\" if it is meant to have none"],
            "{text}"
        );
    }
    assert!(keyring("keys = []").is_empty());
    assert_eq!(keyring(&format!("\u{feff}{}", table("key_1", SECRET, ""))).len(), 1);
}

#[test]
fn every_field_is_read_and_some_are_ignored() {
    let more = "kind = \"restricted\"\nallow = [\"a\"]\nconnected_accounts = \"*\"\nrevoked = false\ncreated_at = 2026-01-01T00:00:00Z\n\
                note = \"for tests\"\nexpires_at = \"2030-01-01T00:00:00+02:00\"";
    let key = principal(more);
    assert_eq!(key.expires_at, Some("2029-12-31T22:00:00Z".parse().unwrap()));
    assert!(matches!(key.connected_accounts, ConnectedAccounts::Any));
    let inline = table("key_1", SECRET, "").replace("[[keys]]\n", "").trim().replace('\n', ", ");
    assert_eq!(keyring(&format!("keys = [{{ {inline} }}]")).len(), 1);
}

#[test]
fn all_mistakes_come_at_once_with_their_places() {
    let text = "\
# keys
[[keys]]
id = \"key 1\"
hash = \"sha256:12\"
acount = \"acct_1\"
mode = \"lives\"
kind = 7

[[keys]]
id = \"\u{e9}\"
expires_at = 2026-01-01
revoked = \"yes\"
allow = [\"a\", 1, \" \"]
connected_accounts = [\"*\", \"acct 2\"]
  surprise = true

[keyz]
";
    let want = [
        "3:6: an id is 1 to 255 letters",
        "2:1: this key has no \"account\"",
        "4:8: expected \"sha256:\" and 64 hexadecimal digits; tollgate keys new makes",
        "5:1: unknown key \"acount\"; did you mean \"account\"?",
        "6:8: expected live or test, found \"lives\"; did you mean \"live\"?",
        "7:8: expected a string, found integer",
        "9:1: this key has no \"hash\"",
        "9:1: this key has no \"account\"",
        "9:1: this key has no \"mode\"",
        "10:6: an id is",
        "11:14: expected a time with its offset from UTC; write date, time and offset",
        "12:11: expected true or false, found string",
        "13:15: expected a string, found integer",
        "13:18: an empty glob fits no endpoint",
        "14:23: \"*\" is not an account's id; for any account write connected_accounts = \"*\"",
        "14:28: \"acct 2\" is not an account's id",
        "15:3: unknown key \"surprise\"",
        "17:2: unknown key \"keyz\"; a keys file holds",
    ];
    let mut found = mistakes(text);
    let mut want: Vec<&str> = want.to_vec();
    assert_eq!(found.len(), want.len(), "{found:#?}");
    found.sort();
    want.sort();
    for (found, want) in found.iter().zip(want) {
        assert!(found.starts_with(want), "{found} is not {want}");
    }
}

#[test]
fn mistakes_stand_in_the_order_of_the_file() {
    let text = format!("x = 1\n{}{}", table("key_1", SECRET, "y = 1"), table("key_1", SECRET, "z = 1"));
    let places: Vec<(usize, usize)> =
        Keyring::parse(&text, &SEED).unwrap_err().iter().map(|mistake| (mistake.line, mistake.column)).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert_eq!(places.len(), 5);
}

#[test]
fn ids_and_hashes_are_unique() {
    let text = table("key_1", SECRET, "") + &table("key_1", "sk_b", "") + &table("key_3", SECRET, "");
    let found = mistakes(&text);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("8:6: the id \"key_1\" is taken by the key in line 2"), "{found:?}");
    assert!(found[1].starts_with("15:8: the hash is that of the key in line 3"), "{found:?}");
}

#[test]
fn broken_toml_is_one_mistake_and_hides_no_other() {
    let text = format!("{}[[keys]]\nid = \nmodes = 1\n", table("key_1", SECRET, "kind = \"secrets\""));
    let found = mistakes(&text);
    assert!(found.iter().any(|mistake| mistake.contains("did you mean \"secret\"?")), "{found:#?}");
    assert!(found.iter().any(|mistake| mistake.starts_with("8:")), "{found:#?}");
    assert!(!found.iter().any(|mistake| mistake.contains("has no")), "{found:#?}");
    assert!(!mistakes("keys = 7").is_empty());
    assert!(mistakes("[keys]\nid = \"a\"").concat().contains("[[keys]] with two brackets"));
    assert!(!mistakes("keys = [1, \"a\"]").is_empty());
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let secret_hash = format!("sha256:{}", SECRET);
    for text in [
        format!("[[keys]]\nid = \"{SECRET}\""),
        format!("[[keys]]\nhash = \"{SECRET}\""),
        format!("[[keys]]\nhash = \"{secret_hash}\""),
        format!("[[keys]]\naccount = \"{SECRET}\""),
        format!("[[keys]]\nmode = \"{SECRET}\""),
        format!("[[keys]]\nkind = \"{SECRET}\""),
        format!("[[keys]]\nconnected_accounts = [\"{SECRET} \"]"),
        format!("[[keys]]\nexpires_at = \"{SECRET}\""),
        format!("[[keys]]\n{SECRET} = 1"),
        format!("{SECRET} = 1"),
        format!("[[keys]]\nid = {SECRET}"),
        SECRET.to_owned(),
        format!("[{SECRET}]\n[{SECRET}]\n{SECRET} = 1\n{SECRET} = 2"),
    ] {
        let found = mistakes(&text).concat();
        assert!(!found.contains("LEAK") && !found.contains("leak"), "{found}");
    }
    let hint = mistakes(&format!("[[keys]]\nhash = \"{SECRET}\"")).concat();
    assert!(hint.contains("looks like the secret itself"), "{hint}");
}

#[test]
fn only_a_regular_file_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    assert!(matches!(read(&path), Err(ReadError::Io(_))));
    assert!(matches!(read(directory.path()), Err(ReadError::NotAFile)));
    std::fs::write(&path, b"keys = [\xff]").unwrap();
    assert!(matches!(read(&path), Err(ReadError::Io(_))));
    std::fs::write(&path, "keys = []").unwrap();
    assert_eq!(read(&path).unwrap(), "keys = []");
    let huge = std::fs::File::create(&path).unwrap();
    huge.set_len(MAX_FILE_BYTES + 1).unwrap();
    assert!(matches!(read(&path), Err(ReadError::TooLarge)));
}

proptest! {
    #[test]
    fn whatever_is_in_the_file_never_panics(text in "(\\[\\[keys\\]\\]|[a-z]{1,9}|[=\\[\\]{}\",.#'é\n]| |[0-9]{1,5}){0,40}") {
        if let Err(mistakes) = Keyring::parse(&text, &SEED) {
            prop_assert!(!mistakes.is_empty());
            prop_assert!(mistakes.iter().all(|mistake| mistake.line >= 1 && mistake.column >= 1));
        }
    }
}
