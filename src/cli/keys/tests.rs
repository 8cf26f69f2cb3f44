use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    keys: KeysArgs,
}

const NOW: &str = "2026-01-02T03:04:05Z";

/// Runs `tollgate keys` with these words; what went to output and notes.
fn keys(directory: &Path, words: &[&str]) -> anyhow::Result<(String, String)> {
    let line = Line::try_parse_from(std::iter::once(&"keys").chain(words))?;
    let (mut output, mut notes) = (Vec::new(), Vec::new());
    let from_config = |config: &Path| Ok(Place::File(directory.join(config).with_extension("keys.toml")));
    run(&line.keys, NOW.parse()?, from_config, &mut output, &mut notes)?;
    Ok((String::from_utf8(output)?, String::from_utf8(notes)?))
}

fn file(directory: &tempfile::TempDir) -> String {
    directory.path().join("keys.toml").to_str().unwrap().to_owned()
}

#[test]
fn a_new_key_works_and_its_secret_is_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let file = file(&directory);
    let words = ["new", "--file", &file, "--account", "acct_1", "--mode", "test", "--id", "key_ci"];
    let (output, notes) = keys(directory.path(), &words).unwrap();
    let text = output.trim_end();
    assert!(text.starts_with("sk_test_") && keys::has_valid_checksum(text) && output.ends_with('\n'));
    assert!(notes.contains("key_ci") && !notes.contains(text));
    let content = std::fs::read_to_string(&file).unwrap();
    assert!(!content.contains(text));
    let ring = keys::Keyring::parse(&content, &crate::engine::Seed([0, 0])).unwrap();
    assert_eq!(&*ring.find(&keys::Secret::new(text).unwrap()).unwrap().id, "key_ci");
}

#[test]
fn keys_are_listed_and_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let file = file(&directory);
    let run = |words: &[&str]| keys(directory.path(), &[words, &["--file", &file]].concat());
    run(&["new", "--account", "acct_2", "--id", "key_b", "--expires-at", "2030-01-01T00:00:00Z"]).unwrap();
    run(&[
        "new",
        "--account",
        "acct_1",
        "--id",
        "key_a",
        "--kind",
        "restricted",
        "--allow",
        "payouts.*",
        "--allow",
        "a",
        "--connected-accounts",
        "acct_3,acct_4",
    ])
    .unwrap();
    run(&["revoke", "key_b"]).unwrap();
    assert!(run(&["revoke", "key_b"]).unwrap().1.contains("already"));
    let (table, _) = run(&["list"]).unwrap();
    assert_eq!(
        table,
        "ID     ACCOUNT  MODE  KIND        STATE    EXPIRES\n\
         key_a  acct_1   live  restricted  active   never\n\
         key_b  acct_2   live  secret      revoked  2030-01-01T00:00:00Z\n"
    );
    let (output, _) = run(&["list", "--json"]).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(listed[0]["allow"], json!(["payouts.*", "a"]));
    assert_eq!(listed[0]["connected_accounts"], json!(["acct_3", "acct_4"]));
    assert_eq!((&listed[1]["state"], &listed[1]["allow"]), (&json!("revoked"), &json!(null)));
    let error = format!("{:#}", run(&["revoke", "key_c"]).unwrap_err());
    assert!(error.contains("did you mean \"key_"), "{error}");
}

#[test]
fn the_file_may_come_from_a_configuration() {
    let directory = tempfile::tempdir().unwrap();
    keys(directory.path(), &["new", "--account", "acct_1", "--config", "tollgate.toml"]).unwrap();
    assert!(directory.path().join("tollgate.keys.toml").exists());
    assert!(keys(directory.path(), &["list", "--config", "a", "--file", "b"]).is_err());
}

#[test]
fn senseless_requests_make_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = file(&directory);
    for (words, part) in [
        (&["--account", "acct_1", "--kind", "restricted"][..], "give at least one endpoint"),
        (&["--account", "acct_1", "--kind", "publishable"], "give at least one endpoint"),
        (&["--account", "acct_1", "--expires-at", NOW], "in the past"),
        (&["--account", "acct_1", "--expires-at", "tomorrow"], "--expires-at"),
        (&["--account", "acct_1", "--connected-accounts", "*,acct_2"], "give it alone"),
        (&["--account", "acct 1"], "an id is"),
        (&["--account", "acct_1", "--mode", "prod"], "[possible values: live, test]"),
        (&[], "--account"),
    ] {
        let error = keys(directory.path(), &[&["new", "--file", &file], words].concat()).unwrap_err();
        assert!(format!("{error:#}").contains(part), "{error:#}");
    }
    assert!(!Path::new(&file).exists());
}
