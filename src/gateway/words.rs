//! The words of a refusal: Stripe's where it has some, and always which limit, which figure, counted by what.

use super::refusal::{AddressCause, Forbidden, Refusal, Unauthenticated, UpstreamFailure};
use crate::config::Config;
use crate::engine::{Limiter, Mode, Rejection};
use crate::explain::words::figure;
use crate::wire_fault::WireFault;
use serde::Serialize;
use std::borrow::Cow;

/// The `error` object. Keys that Stripe leaves out are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Words {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    doc_url: Option<Cow<'static, str>>,
    message: Cow<'static, str>,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: &'a Words,
}

const INVALID_REQUEST: &str = "invalid_request_error";
const API_ERROR: &str = "api_error";

/// Stripe's own words, to the letter: there are those who look for them.
const LOCK_TIMEOUT: &str = "This object cannot be accessed right now because another API request or Stripe process is \
     currently accessing it. If you see this error intermittently, retry the request. If you see this error frequently and \
     are making multiple concurrent requests to a single object, make your requests serially or at a lower rate.";

impl Words {
    /// An `invalid_request_error` without a code.
    #[must_use]
    pub fn invalid_request(message: impl Into<Cow<'static, str>>) -> Words {
        Words { code: None, doc_url: None, message: message.into(), kind: INVALID_REQUEST }
    }

    /// What to say of bytes that never became a request.
    #[must_use]
    pub fn of_fault(fault: WireFault) -> Words {
        if fault == WireFault::Overloaded {
            Words::api_error(fault.message())
        } else {
            Words::invalid_request(fault.message())
        }
    }

    /// The whole answer's body: one line of JSON, its keys in Stripe's order.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Strings and nothing else: this cannot fail.
        serde_json::to_vec(&Envelope { error: self }).unwrap_or_default()
    }

    fn api_error(message: &'static str) -> Words {
        Words { code: None, doc_url: None, message: message.into(), kind: API_ERROR }
    }
}

/// What to say of a refusal.
#[must_use]
pub fn of(refusal: &Refusal, config: Option<&Config>) -> Words {
    match refusal {
        Refusal::Address(rejection) => match config {
            Some(config) => address(rejection.cause, config),
            None => Words { code: Some("rate_limit"), ..Words::invalid_request("Request rate limit exceeded.") },
        },
        Refusal::Loop => {
            Words::api_error("This request has passed this gateway before: the way to the API is a circle.")
        }
        Refusal::Unauthenticated(cause) => unauthenticated(cause),
        Refusal::Forbidden(forbidden) => forbid(forbidden),
        Refusal::NoRoute { method, path } => Words::invalid_request(format!(
            "Unrecognized request URL ({method}: {path}). No route of this gateway takes this host and path."
        )),
        Refusal::Rejected(rejected) => match config {
            Some(config) => self::rejected(&rejected.rejection, config, ""),
            None => Words { code: Some("rate_limit"), ..Words::invalid_request("Request rate limit exceeded.") },
        },
        Refusal::LockTimeout(_) => Words {
            code: Some("lock_timeout"),
            doc_url: Some("https://stripe.com/docs/error-codes/lock-timeout".into()),
            ..Words::invalid_request(LOCK_TIMEOUT)
        },
        Refusal::BadRequest(bad) => Words::invalid_request(bad.message),
        Refusal::Upstream(failure) => Words::api_error(match failure {
            UpstreamFailure::Unreachable => "The API behind this gateway cannot be reached. The request was not sent.",
            UpstreamFailure::Untaken => {
                "The API behind this gateway turned the request away before it did anything with it. It had no effect."
            }
            UpstreamFailure::ConnectTimedOut => {
                "The API behind this gateway did not take a connection in time. The request was not sent."
            }
            UpstreamFailure::Overloaded => {
                "The API behind this gateway takes no more requests right now. The request was not sent."
            }
            UpstreamFailure::Broken => {
                "The API behind this gateway broke off before it answered. Whether the request took effect is unknown."
            }
            UpstreamFailure::TimedOut => {
                "The API behind this gateway did not answer in time. Whether the request took effect is unknown."
            }
            UpstreamFailure::CutOff => {
                "This gateway ends, and the API behind it has not answered yet. Whether the request took effect is unknown."
            }
        }),
        Refusal::NoKeysYet => Words::api_error(
            "This gateway does not know any API keys yet. The request was not sent; try again in a moment.",
        ),
        Refusal::Overloaded => {
            Words::api_error("This gateway is short of memory. The request was not sent; try again in a moment.")
        }
        Refusal::Internal => Words::api_error("Something went wrong in this gateway."),
    }
}

fn unauthenticated(cause: &Unauthenticated) -> Words {
    match cause {
        Unauthenticated::NoKey => Words::invalid_request(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth \
             (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
        ),
        Unauthenticated::Malformed => Words::invalid_request(
            "You did not provide an API key, though you did set your Authorization header. Using Bearer auth, your \
             Authorization header should look something like 'Authorization: Bearer YOUR_SECRET_KEY'.",
        ),
        Unauthenticated::Unknown { masked } | Unauthenticated::Revoked { masked } => {
            Words::invalid_request(format!("Invalid API Key provided: {masked}"))
        }
        Unauthenticated::Expired { masked } => Words {
            code: Some("api_key_expired"),
            doc_url: Some("https://stripe.com/docs/error-codes/api-key-expired".into()),
            ..Words::invalid_request(format!("Expired API Key provided: {masked}"))
        },
    }
}

fn forbid(forbidden: &Forbidden) -> Words {
    match forbidden {
        Forbidden::Endpoint { key_id, endpoint, account } => Words::invalid_request(format!(
            "The provided key '{key_id}' does not have the required permissions for this endpoint on account '{account}'. \
             Allowing '{endpoint}' for it would let this request continue."
        )),
        Forbidden::Account { key_id, connected } => Words {
            code: Some("account_invalid"),
            doc_url: Some("https://stripe.com/docs/error-codes/account-invalid".into()),
            ..Words::invalid_request(format!(
                "The provided key '{key_id}' does not have access to account '{connected}' (or that account does not exist). \
                 Application access may have been revoked."
            ))
        },
    }
}

/// What to say of a request that a limit refused, with `partition` for whom.
#[must_use]
pub fn rejected(rejection: &Rejection, config: &Config, partition: &str) -> Words {
    let limit = config.policy.limit(rejection.limit);
    let testmode = if limit.when.mode == Some(Mode::Test) { "Testmode request" } else { "Request" };
    let message = format!(
        "{testmode} rate limit exceeded: the limit '{}' admits {}{partition}. You can learn more about rate limits here \
         https://stripe.com/docs/rate-limits.",
        limit.name,
        figure(&rejection.limiter),
    );
    Words {
        code: Some("rate_limit"),
        doc_url: Some(config.doc_url(rejection.limit).to_owned().into()),
        ..Words::invalid_request(message)
    }
}

/// What to say to an address that has had its share. Nothing of the key, which may not have been looked at.
#[must_use]
pub fn address(cause: AddressCause, config: &Config) -> Words {
    let message = match (cause, &config.addresses.requests) {
        (AddressCause::Requests, Some(gate)) => {
            format!("Request rate limit exceeded: an address may send {}.", figure(&Limiter::Gcra(*gate.figures())))
        }
        (AddressCause::Requests, None) => "Request rate limit exceeded.".to_owned(),
        (AddressCause::FailedAuthentications, _) => {
            "Request rate limit exceeded: too many requests with an invalid API key \
             have come from this address. No key is looked at until there is room again."
                .to_owned()
        }
        (AddressCause::AllFailedAuthentications, _) => {
            "Request rate limit exceeded: too many requests with an invalid API key are coming in.".to_owned()
        }
    };
    Words {
        code: Some("rate_limit"),
        doc_url: Some(config.responses.doc_url.clone().into()),
        ..Words::invalid_request(message)
    }
}

/// The parameters of a policy in `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10): quota, its unit where it is not
/// requests over time, and the window in whole seconds.
#[must_use]
pub fn policy_parameters(limiter: &Limiter) -> String {
    match limiter {
        Limiter::Gcra(figures) => {
            let period = figures.period();
            if period.subsec_nanos() == 0 && period.as_secs() > 0 {
                format!(";q={};w={}", figures.count(), period.as_secs())
            } else {
                let per_second = 1_000_000_000 / figures.emission_ns();
                format!(";q={per_second};w=1")
            }
        }
        Limiter::SlidingWindow(figures) => format!(";q={};w={}", figures.limit(), figures.window().as_secs().max(1)),
        Limiter::Allocation(figures) => format!(";q={};w={}", figures.at_least, figures.window.as_secs().max(1)),
        Limiter::Concurrency(figures) => format!(";q={};qu=\"concurrent-requests\"", figures.slots),
    }
}

/// A string of structured fields (RFC 9651 §3.3.3).
#[must_use]
pub fn structured_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars().filter(|letter| (' '..='~').contains(letter)) {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Gcra;
    use std::time::Duration;

    #[test]
    fn structured_fields() {
        assert_eq!(structured_string("a\"b\\cé"), r#""a\"b\\c""#);
        let gcra = |count, millis| Limiter::Gcra(Gcra::new(count, Duration::from_millis(millis), count));
        assert_eq!(policy_parameters(&gcra(15, 1_000)), ";q=15;w=1");
        assert_eq!(policy_parameters(&gcra(5, 100)), ";q=50;w=1");
        assert_eq!(policy_parameters(&gcra(0, 0)), ";q=0;w=1");
    }
}
