//! Names of fields that are told at a glance: those that decide something, and those that most requests have.

use super::field::Deciding;
use crate::swar;
use http::{HeaderName, header};

/// A name that is known here. For others nothing is different but that they take longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Known {
    Deciding(Deciding),
    Accept,
    AcceptEncoding,
    AcceptLanguage,
    Connection,
    StripeClient,
    StripeVersion,
    TraceParent,
    UserAgent,
    ForwardedFor,
}

impl Known {
    #[cfg(test)]
    const OTHERS: [Known; 9] = [
        Known::Accept,
        Known::AcceptEncoding,
        Known::AcceptLanguage,
        Known::Connection,
        Known::StripeClient,
        Known::StripeVersion,
        Known::TraceParent,
        Known::UserAgent,
        Known::ForwardedFor,
    ];

    /// The field of this name, in any case.
    pub(super) fn of(name: &[u8]) -> Option<Known> {
        let at = |place: usize| name.get(place).map(u8::to_ascii_lowercase);
        // Length and a letter or two leave one candidate, and only it is compared.
        let candidate = match (name.len(), at(0)?) {
            (4, b'h') => Known::Deciding(Deciding::Host),
            (6, b'a') => Known::Accept,
            (6, b'e') => Known::Deciding(Deciding::Expect),
            (10, b'c') => Known::Connection,
            (10, b'u') => Known::UserAgent,
            (11, b't') => Known::TraceParent,
            (12, b'c') => Known::Deciding(Deciding::ContentType),
            (13, b'a') => Known::Deciding(Deciding::Authorization),
            (14, b'c') => Known::Deciding(Deciding::ContentLength),
            (14, b's') => match at(7)? {
                b'a' => Known::Deciding(Deciding::StripeAccount),
                b'c' => Known::Deciding(Deciding::StripeContext),
                _ => Known::StripeVersion,
            },
            (15, b'a') if at(7)? == b'e' => Known::AcceptEncoding,
            (15, b'a') => Known::AcceptLanguage,
            (15, b'i') => Known::Deciding(Deciding::IdempotencyKey),
            (15, b'x') => Known::ForwardedFor,
            (17, b't') => Known::Deciding(Deciding::TransferEncoding),
            (26, b'x') => Known::StripeClient,
            _ => return None,
        };
        swar::is_in_any_case(name, candidate.spelled()).then_some(candidate)
    }

    /// In lower case.
    const fn spelled(self) -> &'static [u8] {
        match self {
            Known::Deciding(deciding) => deciding.name(),
            Known::Accept => b"accept",
            Known::AcceptEncoding => b"accept-encoding",
            Known::AcceptLanguage => b"accept-language",
            Known::Connection => b"connection",
            Known::StripeClient => b"x-stripe-client-user-agent",
            Known::StripeVersion => b"stripe-version",
            Known::TraceParent => b"traceparent",
            Known::UserAgent => b"user-agent",
            Known::ForwardedFor => b"x-forwarded-for",
        }
    }

    /// The name as a request has it: not read again, and without memory of its own.
    pub(in crate::server) fn name(self) -> HeaderName {
        match self {
            Known::Deciding(Deciding::Host) => header::HOST,
            Known::Deciding(Deciding::ContentLength) => header::CONTENT_LENGTH,
            Known::Deciding(Deciding::TransferEncoding) => header::TRANSFER_ENCODING,
            Known::Deciding(Deciding::ContentType) => header::CONTENT_TYPE,
            Known::Deciding(Deciding::Authorization) => header::AUTHORIZATION,
            Known::Deciding(Deciding::StripeAccount) => const { HeaderName::from_static("stripe-account") },
            Known::Deciding(Deciding::StripeContext) => const { HeaderName::from_static("stripe-context") },
            Known::Deciding(Deciding::IdempotencyKey) => const { HeaderName::from_static("idempotency-key") },
            Known::Deciding(Deciding::Expect) => header::EXPECT,
            Known::Accept => header::ACCEPT,
            Known::AcceptEncoding => header::ACCEPT_ENCODING,
            Known::AcceptLanguage => header::ACCEPT_LANGUAGE,
            Known::Connection => header::CONNECTION,
            Known::StripeClient => const { HeaderName::from_static("x-stripe-client-user-agent") },
            Known::StripeVersion => const { HeaderName::from_static("stripe-version") },
            Known::TraceParent => const { HeaderName::from_static("traceparent") },
            Known::UserAgent => header::USER_AGENT,
            Known::ForwardedFor => const { HeaderName::from_static("x-forwarded-for") },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Known> {
        Deciding::ALL.map(Known::Deciding).into_iter().chain(Known::OTHERS)
    }

    #[test]
    fn names_are_found_in_any_case_and_nothing_beside_them() {
        let same = |name: &[u8]| {
            let expected = all().find(|known| name.eq_ignore_ascii_case(known.spelled()));
            assert_eq!(Known::of(name), expected, "{}", String::from_utf8_lossy(name));
        };
        for known in all() {
            let spelled = known.spelled();
            assert_eq!(known.name().as_str().as_bytes(), spelled);
            assert_eq!(Known::of(&spelled.to_ascii_uppercase()), Some(known));
            same(&[spelled, b"s"].concat());
            for place in 0..spelled.len() {
                same(&spelled[..place]);
                for byte in 0..=u8::MAX {
                    let mut name = spelled.to_vec();
                    name[place] = byte;
                    same(&name);
                }
            }
        }
    }
}
