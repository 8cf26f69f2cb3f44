mod authorization;
mod edit;
mod file;
mod keyring;
mod secret;

use super::*;

const SEED: Seed = Seed([1, 2]);

/// A secret that shows at once where it leaks.
const SECRET: &str = "sk_live_LEAKleakLEAKleakLEAKleakABCD";

fn secret(text: &str) -> Secret<'_> {
    Secret::new(text).unwrap()
}

/// One table of a keys file for a secret.
fn table(id: &str, secret_text: &str, more: &str) -> String {
    let hash = secret(secret_text).digest();
    format!("[[keys]]\nid = \"{id}\"\nhash = \"{hash}\"\naccount = \"acct_1\"\nmode = \"live\"\n{more}\n")
}

fn keyring(text: &str) -> Keyring {
    Keyring::parse(text, &SEED).unwrap()
}

fn principal(more: &str) -> Principal {
    keyring(&table("key_1", SECRET, more)).principals().next().unwrap().clone()
}
