//! W3C trace contexts on their way through: a good one is carried on, anything else is replaced.

use super::ids::RequestIds;
use http::{HeaderMap, HeaderName};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of a `traceparent` of version 00, and of the part that later versions share with it.
const LENGTH: usize = 55;
/// Bytes of one of a later version that are carried on.
const MOST: usize = 256;

/// Leaves a head with exactly one good `traceparent`. A `tracestate` belongs to the parent it came with, so it goes with it.
pub(super) fn carry_on(headers: &mut HeaderMap, ids: &RequestIds) {
    if !is_carried_on(headers) {
        headers.insert(TRACEPARENT, ids.traceparent());
        headers.remove(TRACESTATE);
    }
}

/// Whether a head has exactly one good `traceparent`.
pub(super) fn is_carried_on(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(&TRACEPARENT).iter();
    matches!((lines.next(), lines.next()), (Some(only), None) if is_traceparent(only.as_bytes()))
}

/// Whether this is a `traceparent` (W3C Trace Context §3.2): `00-TRACE-SPAN-FLAGS` in lower-case hexadecimal digits, neither id
/// all zero. What later versions add stands after one more dash; version ff does not exist.
fn is_traceparent(value: &[u8]) -> bool {
    let Some((known, more)) = value.split_at_checked(LENGTH) else { return false };
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let mut fields = known.split(|&byte| byte == b'-');
    let mut field = |length: usize| {
        fields.next().filter(|field| field.len() == length && field.iter().all(is_digit)).unwrap_or_default()
    };
    let (version, trace, span, flags) = (field(2), field(32), field(16), field(2));
    let is_some_id = |id: &[u8]| id.iter().any(|&byte| byte != b'0');
    let ends = match version {
        b"00" => more.is_empty(),
        b"" | b"ff" => false,
        _ => more.is_empty() || more.starts_with(b"-") && value.len() <= MOST,
    };
    ends && is_some_id(trace) && is_some_id(span) && !flags.is_empty() && fields.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_a_traceparent_and_what_is_not() {
        for good in [GOOD.to_owned(), GOOD.replacen("00", "cc", 1), GOOD.replacen("00", "01", 1) + "-more"] {
            assert!(is_traceparent(good.as_bytes()), "{good}");
        }
        let zero = |digits: usize| "0".repeat(digits);
        for bad in [
            String::new(),
            "00".to_owned(),
            GOOD.to_uppercase(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-more"),
            format!("{GOOD} "),
            GOOD.replacen("00", "ff", 1),
            GOOD.replacen("00", "0x", 1),
            GOOD.replacen("00", "01", 1) + "more",
            GOOD.replacen("00", "01", 1) + "-" + &"x".repeat(300),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &zero(32)),
            GOOD.replace("b7ad6b7169203331", &zero(16)),
            GOOD.replace('-', "_"),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", "0af7651916cd43dd8448eb211c80319"),
            "00-0af7651916cd43dd8448eb211c80319cb7ad-b7ad6b716920-1-01".to_owned(),
        ] {
            assert!(!is_traceparent(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_state_stays_with_its_parent() {
        let carried = |lines: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            carry_on(&mut headers, &RequestIds::new());
            let parents: Vec<_> =
                headers.get_all(TRACEPARENT).iter().map(|value| value.to_str().unwrap().to_owned()).collect();
            assert!(parents.len() == 1 && is_traceparent(parents[0].as_bytes()), "{parents:?}");
            (parents[0] == GOOD, headers.contains_key(TRACESTATE))
        };
        assert_eq!(carried(&[("traceparent", GOOD), ("tracestate", "a=1")]), (true, true));
        assert_eq!(carried(&[("traceparent", GOOD), ("traceparent", GOOD), ("tracestate", "a=1")]), (false, false));
        assert_eq!(carried(&[("traceparent", "00-x"), ("tracestate", "a=1")]), (false, false));
        assert_eq!(carried(&[("tracestate", "a=1")]), (false, false));
    }
}
