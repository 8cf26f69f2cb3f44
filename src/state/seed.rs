//! The seed file: 32 hexadecimal digits.

use super::{replace_file, set_aside};
use crate::engine::Seed;
use std::io;
use std::path::Path;

/// Reads the seed; makes one where there is none. One that cannot be understood is set aside: all counts begin anew then.
pub(super) fn read_or_make(path: &Path, random: impl FnOnce() -> Seed) -> io::Result<Seed> {
    match std::fs::read(path) {
        Ok(text) => match parse(&text) {
            Some(seed) => return Ok(seed),
            None => {
                let aside = set_aside(path)?;
                tracing::error!(file = %aside.display(), "the seed is damaged and set aside: all saved counts are lost");
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let seed = random();
    replace_file(path, format!("{:016x}{:016x}\n", seed.0[0], seed.0[1]).as_bytes())?;
    Ok(seed)
}

fn parse(text: &[u8]) -> Option<Seed> {
    let digits = std::str::from_utf8(text).ok()?.trim();
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let whole = u128::from_str_radix(digits, 16).ok()?;
    Some(Seed([(whole >> 64) as u64, whole as u64]))
}
