//! Form bodies, as far as the mock echoes them.

use bytes::Buf;
use http_body::Body;
use http_body_util::BodyExt;

/// Bytes of a body that are read as a form.
pub(super) const MAX_FORM_BYTES: usize = 64 * 1024;

/// Reads a body to its end and keeps its first [`MAX_FORM_BYTES`]. `None` when it fails.
pub(super) async fn collect<B: Body + Unpin>(mut body: B) -> Option<Vec<u8>> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(mut data) = frame.ok()?.into_data() {
            let length = data.remaining().min(MAX_FORM_BYTES - kept.len());
            kept.extend_from_slice(&data.copy_to_bytes(length));
        }
    }
    Some(kept)
}

/// The fields of a form or a query, decoded, in order.
pub(super) fn fields(form: &[u8]) -> impl Iterator<Item = (String, String)> {
    form.split(|&byte| byte == b'&').filter(|field| !field.is_empty()).map(|field| {
        let mut parts = field.splitn(2, |&byte| byte == b'=');
        let mut part = || decode(parts.next().unwrap_or_default());
        (part(), part())
    })
}

/// Decodes `+` and `%xx`. A bad escape stands for itself, and what is not UTF-8 becomes replacement characters.
fn decode(part: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(part.len());
    let mut rest = part;
    while let [byte, after @ ..] = rest {
        rest = after;
        decoded.push(match (byte, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => *byte,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
