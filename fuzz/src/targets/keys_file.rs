//! The keys file: any text is good, or wrong at places that it has, and what looks like a secret is never repeated.

use tollgate::engine::Seed;
use tollgate::keys::Keyring;

/// A keys file.
pub(super) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.len() > 4096 {
        return;
    }
    let seed = Seed([1, 2]);
    match (Keyring::parse(text, &seed), Keyring::parse(text, &seed)) {
        (Ok(once), Ok(again)) => {
            assert_eq!(once.len(), again.len());
            for principal in once.principals() {
                assert!(!principal.id.is_empty() && !principal.account.is_empty());
                assert_eq!(principal.id_header.to_str().ok(), Some(&*principal.id));
                assert_eq!(principal.account_header.to_str().ok(), Some(&*principal.account));
            }
        }
        (Err(once), Err(again)) => {
            assert!(!once.is_empty());
            assert_eq!(format!("{once:?}"), format!("{again:?}"), "reading twice gives two answers");
            for mistake in &once {
                let shown = mistake.to_string();
                assert!(!shows_secret(&shown), "a secret stands in {shown:?}");
                let line = text.split('\n').nth(mistake.line.saturating_sub(1)).unwrap_or_else(|| panic!("{shown}"));
                assert!(mistake.column <= line.chars().count() + 1, "{shown}");
            }
        }
        _ => panic!("good once and bad once"),
    }
}

/// Whether more of a secret stands in a text than its prefix and its last four characters.
fn shows_secret(text: &str) -> bool {
    let bodies = ["sk_live_", "sk_test_", "rk_live_", "rk_test_", "pk_live_", "pk_test_"]
        .iter()
        .flat_map(|prefix| text.split(prefix).skip(1));
    bodies.into_iter().any(|body| body.bytes().take_while(u8::is_ascii_alphanumeric).count() >= 16)
}
