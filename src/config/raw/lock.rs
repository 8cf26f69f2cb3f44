//! `lock` of an endpoint as it is written.

use super::super::values::{Dur, Located};
use schemars::JsonSchema;
use serde::Deserialize;

/// An object lock. Endpoints whose locks have one name exclude each other.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Lock")]
pub(in crate::config) struct RawLock {
    /// The values that name the object among those of the account, 1 to 8: path.NAME, header.NAME.
    #[schemars(required)]
    pub(in crate::config) per: Option<Located<Vec<Located<String>>>>,
    /// Time that a request may wait for its turn, "0s" to "1h". Default "5s".
    pub(in crate::config) wait: Option<Located<Dur>>,
    /// Its name. Default: `per`, joined with commas.
    pub(in crate::config) name: Option<Located<String>>,
}
