//! Keys for benchmarks, which nobody could use elsewhere: they are numbers.

use sha2::{Digest, Sha256};
use std::io::Result;

/// The secret of one account.
pub(crate) fn secret(account: u32) -> String {
    format!("sk_live_{account:048x}")
}

/// The first account alone.
pub(crate) fn write(file: &str) -> Result<()> {
    let hash = Sha256::digest(secret(0).as_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("id = \"key_0\"\nhash = \"sha256:{hash}\"\naccount = \"acct_0\"\nmode = \"live\"");
    std::fs::write(file, format!("[[keys]]\n{key}\n"))
}
