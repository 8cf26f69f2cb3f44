//! The texts of 429s, written once and given again and again: a flood of refusals must cost less than what it keeps out.

use super::refusal::AddressCause;
use super::respond::SHOULD_RETRY;
use super::words;
use crate::config::{Config, Responses, ShouldRetry};
use crate::engine::class::MAX_VALUES;
use crate::engine::{EndpointId, Id, LimitId, Limiter, Nanos, Rejection, RequestClass};
use crate::explain::words::{Escaped, Length};
use crate::metrics::AddressMetrics;
use crate::upstream::OwnFields;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What is the same in all refusals by one limit with the same figures.
pub struct Text {
    /// The answer's body up to whom the limit refused.
    before: Box<str>,
    /// The rest of it.
    after: Box<str>,
    /// The limit's name as a structured field's string.
    name: String,
    /// `RateLimit-Policy`.
    policy: Option<HeaderValue>,
    /// The last answer's fields, and in how many seconds it said to come back.
    fields: RefCell<Option<(Option<u64>, Rc<OwnFields>)>>,
    /// The last bodies, each in the place that its account has: a flood is of few accounts.
    bodies: RefCell<[Option<(Whom, Bytes)>; BODIES]>,
}

/// All of a request that the words for whom a limit refused depend on. Ids are keyed hashes of 128 bits: who has the same has the
/// same name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Whom {
    of_connected: bool,
    endpoint: EndpointId,
    account: Id,
    connected: Id,
    key: Id,
    ip: Id,
    values: [Id; MAX_VALUES],
}

impl Whom {
    /// Of a request of this class.
    #[must_use]
    pub fn new(class: &RequestClass, rejection: &Rejection) -> Whom {
        let RequestClass { endpoint, account, connected, key, ip, values, .. } = *class;
        Whom { of_connected: rejection.of_connected, endpoint, account, connected, key, ip, values }
    }

    fn place(&self) -> usize {
        usize::try_from(self.account.0[0] % BODIES as u64).unwrap_or(0)
    }
}

/// Bodies that are kept for each text, of some hundred bytes each.
const BODIES: usize = 8;

/// One thread's texts under one configuration. At most `MOST`; the usual ones move to the front, so that a rare one goes.
#[derive(Default)]
pub struct Texts {
    limits: RefCell<Vec<(LimitId, Limiter, Rc<Text>)>>,
    addresses: [OnceCell<Bytes>; AddressMetrics::CAUSES.len()],
}

/// Stands where whom goes: a letter that no name, figure or link has, and how JSON has it.
const GAP: &str = "\u{1}";
const ESCAPED_GAP: &str = "\\u0001";

/// Texts that are kept. More only if accounts with figures of their own are refused in turns.
const MOST: usize = 64;

impl Texts {
    /// The text for a rejection.
    #[must_use]
    pub fn of(&self, rejection: &Rejection, config: &Config) -> Rc<Text> {
        let mut known = self.limits.borrow_mut();
        let is_same = |(limit, limiter, _): &(LimitId, Limiter, Rc<Text>)| {
            *limit == rejection.limit && *limiter == rejection.limiter
        };
        if let Some(place) = known.iter().position(is_same)
            && let Some((_, _, text)) = known.get(place)
        {
            let text = Rc::clone(text);
            if place > 0 {
                known.swap(place, place - 1);
            }
            return text;
        }
        let text = Rc::new(Text::new(rejection, config));
        known.truncate(MOST - 1);
        known.push((rejection.limit, rejection.limiter, Rc::clone(&text)));
        text
    }

    /// The body of an answer to an address that has had its share.
    #[must_use]
    pub fn of_address(&self, cause: AddressCause, config: &Config) -> Bytes {
        let write = || Bytes::from(words::address(cause, config).to_json());
        self.addresses.get(cause.index()).map_or_else(write, |text| text.get_or_init(write).clone())
    }
}

impl Text {
    fn new(rejection: &Rejection, config: &Config) -> Text {
        let name = words::structured_string(&config.policy.limit(rejection.limit).name);
        let policy = format!("{name}{}", words::policy_parameters(&rejection.limiter));
        let body = String::from_utf8(words::rejected(rejection, config, GAP).to_json()).unwrap_or_default();
        let (before, after) = body.rsplit_once(ESCAPED_GAP).unwrap_or((&body, ""));
        Text {
            before: before.into(),
            after: after.into(),
            name,
            policy: HeaderValue::try_from(policy).ok(),
            fields: RefCell::default(),
            bodies: RefCell::default(),
        }
    }

    /// The answer's fields, but for the request's id. They change with the seconds to wait only.
    #[must_use]
    pub fn fields(&self, rejection: &Rejection, responses: &Responses, now: Nanos) -> Rc<OwnFields> {
        let seconds = retry_after_seconds(rejection, now);
        let mut last = self.fields.borrow_mut();
        if let Some((known, fields)) = &*last
            && *known == seconds
        {
            return Rc::clone(fields);
        }
        // In memory of its own, and no more of it: they stay.
        let mut fields = OwnFields::default();
        fields.add_map(&self.describe(rejection, responses, seconds));
        let fields = Rc::new(fields);
        *last = Some((seconds, Rc::clone(&fields)));
        fields
    }

    fn describe(&self, rejection: &Rejection, responses: &Responses, seconds: Option<u64>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(responses.reason_header.clone(), HeaderValue::from_static(rejection.stage.reason()));
        match responses.should_retry {
            ShouldRetry::Absent => {}
            ShouldRetry::True => drop(headers.insert(SHOULD_RETRY, HeaderValue::from_static("true"))),
            ShouldRetry::False => drop(headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"))),
        }
        if let Some(seconds) = seconds.filter(|_| responses.retry_after) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if responses.ratelimit_headers {
            let reset = seconds.map(|seconds| format!(";t={seconds}")).unwrap_or_default();
            let rate_limit = HeaderValue::try_from(format!("{};r=0{reset}", self.name)).ok();
            let told = [(RATE_LIMIT_POLICY, self.policy.clone()), (RATE_LIMIT, rate_limit)];
            headers.extend(told.into_iter().filter_map(|(name, value)| Some((name, value?))));
        }
        headers
    }

    /// The answer's body to whom it was given before, or as `write` writes it.
    #[must_use]
    pub fn body_for(&self, whom: &Whom, write: impl Fn(&mut dyn fmt::Write) -> fmt::Result) -> Bytes {
        let mut bodies = self.bodies.borrow_mut();
        let Some(place) = bodies.get_mut(whom.place()) else { return self.body(write).into() };
        match place {
            Some((known, body)) if known == whom => body.clone(),
            _ => {
                let body = Bytes::from(self.body(write));
                *place = Some((*whom, body.clone()));
                body
            }
        }
    }

    /// The answer's body, with what `write` writes in the place of whom. It is called twice, and makes one allocation.
    #[must_use]
    pub fn body(&self, write: impl Fn(&mut dyn fmt::Write) -> fmt::Result) -> Box<[u8]> {
        let mut length = Length::default();
        // Neither lengths nor strings fail to be written to.
        let _ = write(&mut Escaped(&mut length));
        let mut body = String::with_capacity(self.before.len() + length.0 + self.after.len());
        body.push_str(&self.before);
        let _ = write(&mut Escaped(&mut body));
        body.push_str(&self.after);
        body.into_bytes().into_boxed_slice()
    }
}

/// Whole seconds until the limit would admit the same request, rounded up and at least 1. A slot comes back at nobody knows
/// what time: then it is 1. `None` where waiting does not help.
fn retry_after_seconds(rejection: &Rejection, now: Nanos) -> Option<u64> {
    match (rejection.retry_at, rejection.limiter) {
        (Some(at), _) => Some(seconds_until(at, now)),
        (None, Limiter::Concurrency(figures)) if figures.slots > 0 => Some(1),
        (None, _) => None,
    }
}

/// Whole seconds until a moment, rounded up and at least 1.
pub(super) fn seconds_until(at: Nanos, now: Nanos) -> u64 {
    const SECOND_NS: u64 = 1_000_000_000;
    at.since(now).div_ceil(SECOND_NS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Concurrency, Seed, Stage};

    fn config() -> Config {
        let text = "[auth]\nmode = \"passthrough\"\n[upstreams.api]\nservers = [\"http://127.0.0.1:9\"]\n\
                    [[limits]]\nname = \"all\"\nstage = \"global\"\nconcurrency = 1\n";
        crate::config::parse(text, std::path::Path::new("t.toml"), &Seed([1, 2])).unwrap()
    }

    fn rejection(config: &Config, slots: u32) -> Rejection {
        let (limit, _) = config.policy.limits().next().unwrap();
        let limiter = Limiter::Concurrency(Concurrency { slots });
        Rejection { limit, stage: Stage::GlobalConcurrency, limiter, of_connected: false, retry_at: None }
    }

    #[test]
    fn a_body_is_given_again_to_whom_it_was_written_for_and_to_nobody_else() {
        let config = config();
        let text = Text::new(&rejection(&config, 1), &config);
        let one = Whom {
            of_connected: false,
            endpoint: EndpointId(1),
            account: Id([1, 1]),
            connected: Id::NONE,
            key: Id([2, 2]),
            ip: Id([3, 3]),
            values: [Id::NONE; MAX_VALUES],
        };
        let mut values = one.values;
        values[MAX_VALUES - 1] = Id([4, 4]);
        let others = [
            Whom { of_connected: true, ..one },
            Whom { endpoint: EndpointId(2), ..one },
            Whom { account: Id([1, 2]), ..one },
            Whom { account: Id([1 + BODIES as u64, 1]), ..one },
            Whom { connected: Id([1, 1]), ..one },
            Whom { key: Id([2, 3]), ..one },
            Whom { ip: Id([3, 2]), ..one },
            Whom { values, ..one },
        ];
        let body = |whom: &Whom, words: &str| text.body_for(whom, |out| out.write_str(words));
        let first = body(&one, " for one");
        assert_eq!(body(&one, " not written").as_ptr(), first.as_ptr());
        for other in others {
            assert_eq!(body(&other, " for another"), text.body(|out| out.write_str(" for another"))[..]);
            assert_eq!(body(&one, " for one"), first);
        }
    }

    #[test]
    fn when_to_come_back_is_told_anew_when_it_changes() {
        let config = config();
        let text = Text::new(&rejection(&config, 1), &config);
        let told = |seconds: Option<u64>, slots| {
            let retry_at = seconds.map(|seconds| Nanos(seconds * 1_000_000_000));
            let rejection = Rejection { retry_at, ..rejection(&config, slots) };
            let fields = text.fields(&rejection, &config.responses, Nanos::ZERO);
            assert!(Rc::ptr_eq(&fields, &text.fields(&rejection, &config.responses, Nanos::ZERO)));
            let mut headers = HeaderMap::new();
            fields.add_to(&mut headers);
            assert_eq!(
                (headers["cache-control"].as_bytes(), headers.len()),
                (&b"no-store"[..], 5 + headers.contains_key("retry-after") as usize)
            );
            let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
            (text("retry-after"), text("ratelimit"))
        };
        let some = |text: &str| Some(text.to_owned());
        for _ in 0..2 {
            assert_eq!(told(Some(1), 1), (some("1"), some("\"all\";r=0;t=1")));
            assert_eq!(told(Some(1), 1), (some("1"), some("\"all\";r=0;t=1")));
            assert_eq!(told(None, 1), (some("1"), some("\"all\";r=0;t=1")), "a slot may come back at any time");
            assert_eq!(told(None, 0), (None, some("\"all\";r=0")));
            assert_eq!(told(Some(86_400), 1), (some("86400"), some("\"all\";r=0;t=86400")));
        }
    }

    #[test]
    fn a_text_is_written_once_for_each_figure_and_few_are_kept() {
        let config = config();
        let rejection = |slots| rejection(&config, slots);
        let texts = Texts::default();
        let first = texts.of(&rejection(1), &config);
        assert!(Rc::ptr_eq(&first, &texts.of(&rejection(1), &config)));
        let body = |text: &Text, whom: &str| text.body(|out| out.write_str(whom));
        let whole = words::rejected(&rejection(1), &config, " for \"a\"\n").to_json();
        // JSON has shorter words for some letters: what they say is the same.
        let json = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).unwrap();
        assert_eq!(json(&body(&first, " for \"a\"\n")), json(&whole));
        assert_ne!(body(&first, ""), body(&texts.of(&rejection(2), &config), ""));
        for slots in 3..200 {
            let anew = Text::new(&rejection(slots), &config);
            assert_eq!(body(&texts.of(&rejection(slots), &config), "x"), body(&anew, "x"));
        }
        assert_eq!(texts.limits.borrow().len(), MOST);
        assert!(Rc::ptr_eq(&first, &texts.of(&rejection(1), &config)), "the usual one stays");
    }
}
