//! The `Authorization` header: a key or none, and whose it is; never anything of it where it could be read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::OnceLock;
use tollgate::engine::{Mode, Seed};
use tollgate::keys::{
    Keyring, MAX_AUTHORIZATION_BYTES, MAX_SECRET_BYTES, Passthrough, Secret, from_authorization, masked,
};

const SEED: Seed = Seed([1, 2]);
const KNOWN: &str = "sk_live_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// Of [`KNOWN`].
const KEYS: &str = r#"
[[keys]]
id = "key_known"
hash = "sha256:HASH"
account = "acct_a"
mode = "live"
"#;

/// The header's value.
pub(super) fn run(data: &[u8]) {
    let Ok(secret) = from_authorization(data) else { return };
    let text = secret.expose();
    assert!(data.len() <= MAX_AUTHORIZATION_BYTES && (1..=MAX_SECRET_BYTES).contains(&text.len()));
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':' && byte != b','), "{text:?}");
    assert_hidden(&secret);
    let found = keyring().find(&secret);
    assert_eq!(found.is_some(), text == KNOWN);
    assert_eq!(found.map(|principal| &*principal.account), (text == KNOWN).then_some("acct_a"));
    let principal = Passthrough::new(SEED).principal(&secret);
    assert_eq!(principal.mode == Mode::Test, secret.mode() == Some(Mode::Test));
    // However it is carried, it is the same key.
    let basic = STANDARD.encode(format!("{text}:"));
    for carried in [format!("Bearer {text}"), format!("bEARER {text}"), format!("Basic {basic}")] {
        let again = from_authorization(carried.as_bytes()).unwrap_or_else(|error| panic!("{carried:?}: {error}"));
        assert_eq!(again.expose(), text);
        assert_eq!(Passthrough::new(SEED).principal(&again).account, principal.account);
    }
    for spoilt in
        [format!("Bearer  {text}"), format!("Bearer {text} "), format!("Token {text}"), format!("Bearer {text}:")]
    {
        assert!(from_authorization(spoilt.as_bytes()).is_err(), "{spoilt:?}");
    }
}

/// Besides a prefix and four characters, nothing of a key shows.
fn assert_hidden(secret: &Secret<'_>) {
    let (text, shown) = (secret.expose(), masked(secret.expose()));
    assert_eq!(shown.len(), text.len());
    let open = shown.bytes().filter(|&byte| byte != b'*').count();
    assert!(open <= "sk_live_".len() + 4, "{shown}");
    assert_eq!(format!("{secret:?}"), format!("Secret({shown})"));
    assert_eq!(format!("{:?}", secret.digest()), "Digest(..)");
}

fn keyring() -> &'static Keyring {
    static KEYRING: OnceLock<Keyring> = OnceLock::new();
    KEYRING.get_or_init(|| {
        let digest = Secret::new(KNOWN).expect("a key").digest().to_string();
        Keyring::parse(&KEYS.replace("sha256:HASH", &digest), &SEED).expect("a keys file")
    })
}
