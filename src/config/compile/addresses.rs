//! `[addresses]`: rates become gates.

use super::super::error::Finding;
use super::super::model::Addresses;
use super::super::raw::{Item, RawAddresses};
use super::super::values::{Located, Rate, RateOrOff};
use super::Context;
use crate::engine::{Gate, Gcra};
use std::time::Duration;

/// More than anybody mistypes in a minute, less than anybody guesses with.
const FAILURES: Rate = Rate { count: 60, period: Duration::from_secs(60) };
const ALL_FAILURES: Rate = Rate { count: 1_000, period: Duration::from_secs(1) };

pub(super) fn compile(context: &mut Context<'_>, raw: Option<Item<RawAddresses>>) -> Addresses {
    let item = raw.unwrap_or_default();
    let raw = &item.raw;
    let given = |field: &Option<Located<RateOrOff>>, default| field.as_ref().map_or(default, |given| given.value.0);
    let one_second = |rate: Rate| rate.one_second();
    let requests = Written::new("requests", &raw.requests, given(&raw.requests, None));
    let failures = Written::new(
        "failed_authentications",
        &raw.failed_authentications,
        given(&raw.failed_authentications, Some(FAILURES)),
    );
    let total = &raw.failed_authentications_total;
    let all = Written::new("failed_authentications_total", total, given(total, Some(ALL_FAILURES)));
    Addresses {
        requests: requests.gate(context, &item, raw.requests_burst.as_ref(), one_second),
        failures: failures.gate(context, &item, raw.failed_authentications_burst.as_ref(), |rate| rate.count),
        all_failures: all.gate(context, &item, None, one_second),
        private_failures: raw.failed_authentications.is_some() || total.is_some(),
        exempt: raw.exempt.iter().flatten().map(|network| network.value.0).collect(),
        max_addresses: context.number(&item, raw.max_addresses.as_ref(), 250_000, 1_000..=10_000_000),
    }
}

/// A rate as it is written, or its default.
struct Written<'a> {
    key: &'static str,
    place: Option<&'a Located<RateOrOff>>,
    rate: Option<Rate>,
}

impl<'a> Written<'a> {
    fn new(key: &'static str, field: &'a Option<Located<RateOrOff>>, rate: Option<Rate>) -> Written<'a> {
        Written { key, place: field.as_ref(), rate }
    }

    fn gate(
        &self,
        context: &mut Context<'_>,
        item: &Item<RawAddresses>,
        burst: Option<&Located<u32>>,
        default_burst: impl FnOnce(Rate) -> u64,
    ) -> Option<Gate> {
        let place =
            |located: Option<&std::ops::Range<usize>>| located.map_or_else(|| item.place(), |span| item.at(span));
        let Some(rate) = self.rate else {
            if let Some(burst) = burst {
                let message = format!("a burst without `{}`", self.key);
                context
                    .tell(Finding::error(item.at(&burst.span), message).hint("give the rate, or leave the burst out"));
            }
            return None;
        };
        if rate.count == 0 {
            let finding = Finding::error(place(self.place.map(|place| &place.span)), "a rate that admits nobody, ever");
            context.tell(finding.expected(r#"a number above 0, or "off" for no limit"#));
            return None;
        }
        if let Some(burst) = burst.filter(|burst| burst.value == 0) {
            context
                .tell(Finding::error(item.at(&burst.span), "a burst of 0 admits nothing, ever").expected("1 or more"));
            return None;
        }
        let tokens = burst.map_or_else(|| default_burst(rate), |burst| burst.value.into());
        let figures = Gcra::new(rate.count, rate.period, tokens);
        if figures.depth_ns() == u64::MAX {
            let spans = burst.map(|burst| &burst.span).or(self.place.map(|place| &place.span));
            let finding = Finding::error(place(spans), "the bucket would take more than 584 years to fill");
            context.tell(finding.hint("a smaller burst or a faster rate"));
            return None;
        }
        Some(Gate::new(context.seed, self.key, figures))
    }
}
