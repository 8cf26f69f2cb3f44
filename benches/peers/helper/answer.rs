//! The head of an answer, as far as a load has to read it.

use std::io::{Error, Result};

const HEAD_END: &[u8] = b"\r\n\r\n";

/// The status of the answer that `held` begins with, and the length of all of it; nothing until its head is there.
pub(crate) fn head(held: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = memchr::memmem::find(held, HEAD_END) else { return Ok(None) };
    let mut lines = held[..end].split(|&byte| byte == b'\n');
    let status = lines.next().and_then(|line| number(line.strip_prefix(b"HTTP/1.1 ")?.get(..3)?));
    match (status, lines.find_map(length)) {
        (Some(status), Some(length)) => Ok(Some((status, end + HEAD_END.len() + length))),
        _ => Err(Error::other(format!("not an answer with a length: {}", String::from_utf8_lossy(&held[..end])))),
    }
}

/// What a `content-length` says.
fn length(line: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let value = line.get(NAME.len()..)?;
    line[..NAME.len()].eq_ignore_ascii_case(NAME).then(|| number(value.trim_ascii()))?
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
