//! Figures that come from elsewhere than the file: an override's.

use super::compile::{Context, Written, limiter};
use super::error::{Finding, Report};
use super::raw::{RawAllocation, RawFigures};
use super::source::{Place, Sources};
use super::values::Located;
use super::{Config, Mistake};
use crate::engine::{LimitId, Limiter, ProfileId, Seed};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::sync::Arc;

/// Figures as they are written: exactly one of `rate` (with or without `burst`), `quota`, `concurrency` and `allocation`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenFigures {
    /// `"15/s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Of a rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// `"1000/h"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<String>,
    /// In flight at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Earned by transactions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocation: Option<WrittenAllocation>,
}

/// An allocation's figures as they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenAllocation {
    /// Requests that one transaction earns.
    pub per_transaction: u32,
    /// Requests there are without any.
    #[serde(default)]
    pub at_least: u32,
    /// How long requests and transactions count: `"30d"`.
    pub window: String,
}

impl Config {
    /// The limit of this name with these figures in place of its own.
    ///
    /// # Errors
    /// All that is wrong, each with what was expected.
    pub fn figures(&self, limit: &str, written: &WrittenFigures) -> Result<(LimitId, Limiter), Vec<Mistake>> {
        let (mut report, seed) = (Report::default(), Seed([0, 0]));
        let mut context = Context::bare(&mut report, &seed);
        let raw = RawFigures {
            rate: parsed(&mut context, written.rate.as_deref()),
            burst: written.burst.map(located),
            quota: parsed(&mut context, written.quota.as_deref()),
            concurrency: written.concurrency.map(located),
            allocation: written.allocation.as_ref().map(|allocation| allocated(&mut context, allocation)),
        };
        let damaged = context.report.errors() > 0;
        let written = Written { figures: &raw, place: Place::start_of_file(), damaged };
        let new = limiter(&mut context, &written, &format!("the override of `{limit}`"));
        let known = self.policy.limits().find(|(_, known)| *known.name == *limit);
        match (&known, &new) {
            (None, _) => context.report.add(self.no_limit(limit)),
            (Some((_, known)), Some(new)) if known.limiter.mechanism() != new.mechanism() => {
                let [wanted, found] = [&known.limiter, new].map(|limiter| limiter.mechanism().as_str());
                let message = format!("the limit `{limit}` is a {wanted}, not a {found}");
                context.report.add(Finding::error(Place::start_of_file(), message).expected(format!("`{wanted}`")));
            }
            _ => {}
        }
        match (known, new) {
            (Some((id, _)), Some(new)) if report.errors() == 0 => Ok((id, new)),
            _ => Err(report.finish(&Sources::new("", "")).mistakes),
        }
    }

    fn no_limit(&self, name: &str) -> Finding {
        let finding = Finding::error(Place::start_of_file(), format!("there is no limit `{name}`"));
        match super::error::nearest(name, self.policy.limits().map(|(_, limit)| &*limit.name)) {
            Some(hint) => finding.hint(hint),
            None => finding,
        }
    }

    /// The same configuration with further figures for some accounts, over those they have. Later ones go before earlier ones.
    #[must_use]
    pub fn with_figures<'a>(&self, figures: impl Iterator<Item = (&'a str, LimitId, Limiter)>) -> Config {
        let mut config = self.clone();
        let known = self.policy.profiles();
        let mut more = Vec::new();
        for (account, id, limiter) in figures {
            let current = config.profile(account);
            // A profile of the file may be shared by a tier: the first change of an account makes it one of its own.
            let own = match (current.0 as usize).checked_sub(known) {
                Some(own) => own,
                None => {
                    more.push(self.policy.profile(current));
                    let own = more.len() - 1;
                    config.profiles.insert(account.into(), ProfileId(u32::try_from(known + own).unwrap_or(u32::MAX)));
                    own
                }
            };
            if let Some(profile) = more.get_mut(own) {
                profile.limiters.insert(id, limiter);
            }
        }
        config.policy = Arc::new(self.policy.with_profiles(more));
        config
    }
}

fn located<T>(value: T) -> Located<T> {
    Located { value, span: 0..0 }
}

fn allocated(context: &mut Context<'_>, written: &WrittenAllocation) -> Located<RawAllocation> {
    located(RawAllocation {
        per_transaction: Some(located(written.per_transaction)),
        at_least: Some(located(written.at_least)),
        window: parsed(context, Some(&written.window)),
    })
}

fn parsed<T: FromStr<Err = String> + super::values::Text>(
    context: &mut Context<'_>,
    text: Option<&str>,
) -> Option<Located<T>> {
    match text?.parse() {
        Ok(value) => Some(located(value)),
        Err(reason) => {
            context.report.add(Finding::error(Place::start_of_file(), reason).expected(T::EXPECTED));
            None
        }
    }
}
