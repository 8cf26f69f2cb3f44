//! What a body is, by its head.

use http::{HeaderMap, header};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `application/x-www-form-urlencoded` in UTF-8.
    Form,
    /// `application/json` or `…+json` in UTF-8.
    Json,
    /// Compressed, of another character set, of another type, or of none.
    Unclear,
}

impl Kind {
    /// What a request's head says of its body.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Kind {
        let plain = |value: &http::HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
        if !headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
            return Kind::Unclear;
        }
        let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        value.map_or(Kind::Unclear, of_type)
    }
}

fn of_type(value: &str) -> Kind {
    let mut parts = value.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let is_utf8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            let value = value.trim().trim_matches('"');
            value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8")
        }
        _ => true,
    };
    if !parts.all(is_utf8) {
        return Kind::Unclear;
    }
    if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Kind::Form;
    }
    let has_suffix = kind.len() > 5 && kind.get(kind.len() - 5..).is_some_and(|end| end.eq_ignore_ascii_case("+json"));
    if kind.eq_ignore_ascii_case("application/json") || (has_suffix && kind.contains('/')) {
        Kind::Json
    } else {
        Kind::Unclear
    }
}
