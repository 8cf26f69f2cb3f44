//! The texts of 429s, written once and given again and again: a flood of refusals must cost less than what it keeps out.

use super::refusal::AddressCause;
use super::words;
use crate::config::Config;
use crate::engine::{LimitId, Limiter, Rejection};
use crate::metrics::AddressMetrics;
use bytes::Bytes;
use http::HeaderValue;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

/// What is the same in all refusals by one limit with the same figures.
pub struct Text {
    /// The answer's body.
    pub body: Bytes,
    /// The limit's name as a structured field's string.
    pub name: String,
    /// `RateLimit-Policy`.
    pub policy: Option<HeaderValue>,
}

/// One thread's texts under one configuration. At most `MOST`; the usual ones move to the front, so that a rare one goes.
#[derive(Default)]
pub struct Texts {
    limits: RefCell<Vec<(LimitId, Limiter, Rc<Text>)>>,
    addresses: [OnceCell<Bytes>; AddressMetrics::CAUSES.len()],
}

/// Texts that are kept. More only if accounts with figures of their own are refused in turns.
const MOST: usize = 64;

impl Texts {
    /// The text for a rejection.
    #[must_use]
    pub fn of(&self, rejection: &Rejection, config: &Config) -> Rc<Text> {
        let mut known = self.limits.borrow_mut();
        let is_same = |(limit, limiter, _): &(LimitId, Limiter, Rc<Text>)| {
            (*limit, *limiter) == (rejection.limit, rejection.limiter)
        };
        if let Some(place) = known.iter().position(is_same)
            && let Some((_, _, text)) = known.get(place)
        {
            let text = Rc::clone(text);
            known.swap(place, place.saturating_sub(1));
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
        let body = words::rejected(rejection, config).to_json().into();
        Text { body, name, policy: HeaderValue::try_from(policy).ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Concurrency, Seed, Stage};

    #[test]
    fn a_text_is_written_once_for_each_figure_and_few_are_kept() {
        let text = "[auth]\nmode = \"passthrough\"\n[upstreams.api]\nservers = [\"http://127.0.0.1:9\"]\n\
                    [[limits]]\nname = \"all\"\nstage = \"global\"\nconcurrency = 1\n";
        let config = crate::config::parse(text, std::path::Path::new("t.toml"), &Seed([1, 2])).unwrap();
        let (limit, _) = config.policy.limits().next().unwrap();
        let rejection = |slots| {
            let limiter = Limiter::Concurrency(Concurrency { slots });
            Rejection { limit, stage: Stage::GlobalConcurrency, limiter, retry_at: None }
        };
        let texts = Texts::default();
        let first = texts.of(&rejection(1), &config);
        assert!(Rc::ptr_eq(&first, &texts.of(&rejection(1), &config)));
        assert_ne!(first.body, texts.of(&rejection(2), &config).body);
        for slots in 3..200 {
            assert_eq!(texts.of(&rejection(slots), &config).body, Text::new(&rejection(slots), &config).body);
        }
        assert_eq!(texts.limits.borrow().len(), MOST);
        assert!(Rc::ptr_eq(&first, &texts.of(&rejection(1), &config)), "the usual one stays");
    }
}
