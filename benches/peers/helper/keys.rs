//! Keys for benchmarks, which nobody could use elsewhere: they are numbers.

use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufWriter, Result, Write};

/// The secret of one account.
fn secret(account: u32) -> String {
    format!("sk_live_{account:048x}")
}

pub(crate) fn write(file: &str, count: u32) -> Result<()> {
    let mut keys = BufWriter::new(File::create(file)?);
    let mut secrets = BufWriter::new(File::create(format!("{file}.secrets"))?);
    for account in 0..count {
        let secret = secret(account);
        let hash = Sha256::digest(secret.as_bytes());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(keys, "[[keys]]\nid = \"key_{account}\"\nhash = \"sha256:{hash}\"")?;
        writeln!(keys, "account = \"acct_{account}\"\nmode = \"live\"")?;
        writeln!(secrets, "{secret}")?;
    }
    keys.flush()?;
    secrets.flush()
}
