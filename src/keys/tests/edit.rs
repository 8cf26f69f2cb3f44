use super::*;
use crate::engine::Mode;
use crate::keys::edit::{EditError, NewKey, add, add_to_file, list, revoke, revoke_in_file};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

fn new_key<'a>(id: &'a str, secret_text: &str) -> NewKey<'a> {
    NewKey {
        id,
        digest: secret(secret_text).digest(),
        account: "acct_1",
        mode: Mode::Test,
        kind: KeyKind::Secret,
        allow: &[],
        connected_accounts: &[],
        expires_at: None,
        created_at: "2026-01-02T03:04:05Z".parse().unwrap(),
    }
}

#[test]
fn adding_keeps_all_there_is() {
    let text = format!("# top\n{}# tail\n", table("key_1", SECRET, "note = 'mine' # said"));
    let added = add(&text, &new_key("key_2", "sk_b")).unwrap();
    assert!(added.starts_with("# top\n[[keys]]\nid = \"key_1\"\n"), "{added}");
    assert!(added.contains("note = 'mine' # said\n") && added.contains("# tail"), "{added}");
    let keyring = keyring(&added);
    assert_eq!(keyring.find(&secret("sk_b")).unwrap().mode, Mode::Test);
    assert_eq!(&*keyring.find(&secret(SECRET)).unwrap().id, "key_1");
}

#[test]
fn everything_asked_for_is_written() {
    let (allow, accounts) = (["payouts.*".to_owned(), "GET /v1/charges*".to_owned()], ["acct_2".to_owned()]);
    let end = "2030-01-01T00:00:00Z".parse().unwrap();
    let key = NewKey {
        kind: KeyKind::Restricted,
        allow: &allow,
        connected_accounts: &accounts,
        expires_at: Some(end),
        ..new_key("key_2", "sk_b")
    };
    let ring = keyring(&add("", &key).unwrap());
    let found = ring.find(&secret("sk_b")).unwrap();
    assert_eq!((found.kind, found.expires_at), (KeyKind::Restricted, Some(end)));
    assert!(found.may_use_name("payouts.list") && !found.may_use_name("charges"));
    assert!(found.may_act_for("acct_2") && !found.may_act_for("acct_3"));
    let any = ["*".to_owned()];
    let ring = keyring(&add("", &NewKey { connected_accounts: &any, ..new_key("key_2", "sk_b") }).unwrap());
    assert!(ring.find(&secret("sk_b")).unwrap().may_act_for("acct_3"));
}

#[test]
fn keys_in_line_and_empty_lists_are_added_to() {
    let inline = table("key_1", SECRET, "").replace("[[keys]]\n", "").trim().replace('\n', ", ");
    for text in [
        format!("# why\nkeys = [{{ {inline} }}] # end\n"),
        "# why\nkeys = [] # none\n".to_owned(),
        "# why\n".to_owned(),
    ] {
        let added = add(&text, &new_key("key_2", "sk_b")).unwrap();
        assert!(added.contains("# why"), "{added}");
        assert!(keyring(&added).find(&secret("sk_b")).is_some());
        assert_eq!(keyring(&added).len(), 1 + text.matches("key_1").count());
        let revoked = revoke(&added, "key_2").unwrap().unwrap();
        assert!(keyring(&revoked).find(&secret("sk_b")).unwrap().revoked);
    }
}

#[test]
fn what_cannot_be_added_is_refused() {
    let text = table("key_1", SECRET, "");
    assert!(matches!(add(&text, &new_key("key_1", "sk_b")), Err(EditError::IdTaken(id)) if *id == *"key_1"));
    for (key, part) in [
        (new_key("key 2", "sk_b"), "an id is"),
        (new_key("key_2", SECRET), "the hash is that of the key in line 3"),
        (NewKey { account: "a,b", ..new_key("key_2", "sk_b") }, "an id is"),
    ] {
        let error = add(&text, &key).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let error = add("[[keys]\n", &new_key("key_2", "sk_b")).unwrap_err().to_string();
    assert!(error.starts_with("1:"), "{error}");
    assert!(matches!(add("x = 1\n", &new_key("key_2", "sk_b")), Err(EditError::Mistakes(_))));
}

#[test]
fn revoking_touches_one_word() {
    let text = table("key_1", SECRET, "revoked = false # for now") + &table("key_2", "sk_b", "");
    let once = revoke(&text, "key_1").unwrap().unwrap();
    assert_eq!(once, text.replace("revoked = false # for now", "revoked = true # for now"));
    assert_eq!(revoke(&once, "key_1").unwrap(), None);
    let both = revoke(&once, "key_2").unwrap().unwrap();
    assert!(keyring(&both).principals().all(|principal| principal.revoked));
}

#[test]
fn an_unknown_id_names_the_nearest() {
    let text = table("key_first", SECRET, "") + &table("key_other", "sk_b", "");
    let error = revoke(&text, "key_frist").unwrap_err().to_string();
    assert_eq!(error, "there is no key with the id \"key_frist\"; did you mean \"key_first\"?");
    assert_eq!(revoke(&text, "zzz").unwrap_err().to_string(), "there is no key with the id \"zzz\"");
    let error = revoke(&text, SECRET).unwrap_err();
    assert!(matches!(error, EditError::SecretForId));
    assert!(!format!("{error} {error:?}").contains("LEAK"));
}

#[test]
fn a_missing_file_is_made_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    add_to_file(&path, &new_key("key_1", SECRET)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&path).unwrap().contains("LEAK"));
    add_to_file(&path, &new_key("key_2", "sk_b")).unwrap();
    assert!(revoke_in_file(&path, "key_1").unwrap());
    assert!(!revoke_in_file(&path, "key_1").unwrap());
    let keys = list(&path).unwrap();
    assert_eq!(keys.iter().map(|key| (&*key.id, key.revoked)).collect::<Vec<_>>(), [("key_1", true), ("key_2", false)]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left behind");
}

#[test]
fn who_may_read_a_file_and_links_to_it_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (path, link) = (directory.path().join("real.toml"), directory.path().join("keys.toml"));
    fs::write(&path, "keys = []\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&path, &link).unwrap();
    add_to_file(&link, &new_key("key_1", SECRET)).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(list(&path).unwrap().len(), 1);
}

#[test]
fn a_refused_change_leaves_the_file_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    assert!(matches!(revoke_in_file(&path, "key_1"), Err(EditError::Read(_))));
    assert!(!path.exists());
    fs::write(&path, "# broken\n[[keys]\n").unwrap();
    add_to_file(&path, &new_key("key_1", SECRET)).unwrap_err();
    assert_eq!(fs::read_to_string(&path).unwrap(), "# broken\n[[keys]\n");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn changes_at_once_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let (id, text) = (format!("key_{thread}"), format!("sk_live_{thread}"));
                add_to_file(path, &new_key(&id, &text)).unwrap();
            });
        }
    });
    assert_eq!(list(&path).unwrap().len(), 8);
}

#[test]
fn what_a_new_file_says_stays_at_its_top() {
    let heading = "# These are keys.\n";
    let one = add(heading, &new_key("key_1", "sk_a")).unwrap();
    let two = add(&one, &new_key("key_2", "sk_b")).unwrap();
    for text in [&one, &two] {
        assert!(text.starts_with(heading) && text.matches(heading).count() == 1, "{text}");
    }
    assert_eq!(keyring(&two).len(), 2);
}
