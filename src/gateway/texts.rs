//! The texts of 429s, written once and given again and again: a flood of refusals must cost less than what it keeps out.

use super::refusal::AddressCause;
use super::words;
use crate::config::Config;
use crate::engine::{LimitId, Limiter, Rejection};
use crate::explain::words::{Escaped, Length};
use crate::metrics::AddressMetrics;
use bytes::Bytes;
use http::HeaderValue;
use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;

/// What is the same in all refusals by one limit with the same figures.
pub struct Text {
    /// The answer's body up to whom the limit refused.
    before: Box<str>,
    /// The rest of it.
    after: Box<str>,
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
        let body = String::from_utf8(words::rejected(rejection, config, GAP).to_json()).unwrap_or_default();
        let (before, after) = body.rsplit_once(ESCAPED_GAP).unwrap_or((&body, ""));
        Text { before: before.into(), after: after.into(), name, policy: HeaderValue::try_from(policy).ok() }
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
            Rejection { limit, stage: Stage::GlobalConcurrency, limiter, of_connected: false, retry_at: None }
        };
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
