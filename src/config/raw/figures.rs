//! Figures: an allocation's, and those of tiers and accounts in place of a limit's own.

use crate::config::values::{Dur, Located, Rate};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Requests per sliding window, as many as transactions earn.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Allocation")]
pub(in crate::config) struct RawAllocation {
    /// Requests that one transaction earns.
    #[schemars(required)]
    pub(in crate::config) per_transaction: Option<Located<u32>>,
    /// Requests there are without any. Default 0.
    pub(in crate::config) at_least: Option<Located<u32>>,
    /// How long requests and transactions count: "30d".
    #[schemars(required)]
    pub(in crate::config) window: Option<Located<Dur>>,
}

/// A set of figures in place of the limits' own.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tier")]
pub(in crate::config) struct RawTier {
    /// Figures by the limit's name.
    #[serde(default)]
    pub(in crate::config) limits: BTreeMap<Located<String>, Located<RawFigures>>,
}

/// An account with a tier or figures of its own; these go before its tier's.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Account")]
pub(in crate::config) struct RawAccount {
    /// The tier's name.
    pub(in crate::config) tier: Option<Located<String>>,
    /// Figures by the limit's name.
    #[serde(default)]
    pub(in crate::config) limits: BTreeMap<Located<String>, Located<RawFigures>>,
}

/// Figures in place of a limit's own, of the same mechanism.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Figures")]
pub(in crate::config) struct RawFigures {
    /// Tokens per time.
    pub(in crate::config) rate: Option<Located<Rate>>,
    /// Tokens at once. Default one second's worth of this rate, at least 1.
    pub(in crate::config) burst: Option<Located<u64>>,
    /// Requests in flight at once.
    pub(in crate::config) concurrency: Option<Located<u32>>,
    /// Requests per sliding window.
    pub(in crate::config) quota: Option<Located<Rate>>,
    /// Requests per sliding window, as many as transactions earn.
    pub(in crate::config) allocation: Option<Located<RawAllocation>>,
}
