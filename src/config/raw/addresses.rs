//! `[addresses]` as it is written.

use super::super::values::{Located, Network, RateOrOff};
use schemars::JsonSchema;
use serde::Deserialize;

/// Limits by the client's address, before its key is looked at. An IPv6 client counts by its /64.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Addresses")]
pub(in crate::config) struct RawAddresses {
    /// Requests of one address per time, whatever becomes of them: "200/s". Default "off".
    pub(in crate::config) requests: Option<Located<RateOrOff>>,
    /// So many of them at once. Default one second's worth, at least 1.
    pub(in crate::config) requests_burst: Option<Located<u32>>,
    /// Requests of one address per time whose key is not good; when they are used up, no request of it passes until there is
    /// room again: "20/m". Default "60/m", and then only for public addresses; "off" for none.
    pub(in crate::config) failed_authentications: Option<Located<RateOrOff>>,
    /// So many of them at once. Default the rate's number: 20 for "20/m".
    pub(in crate::config) failed_authentications_burst: Option<Located<u32>>,
    /// Answers per time that say of a key that it is not good, to all addresses together; beyond, such a request gets a 429.
    /// Good keys pass. Default "1000/s"; "off" for none.
    pub(in crate::config) failed_authentications_total: Option<Located<RateOrOff>>,
    /// Networks that none of this holds for. Default none.
    pub(in crate::config) exempt: Option<Vec<Located<Network>>>,
    /// Buckets of addresses with state at once, about 100 bytes each. New ones share one beyond that. Default 250,000.
    pub(in crate::config) max_addresses: Option<Located<u32>>,
}
