//! `[state]` as it is written.

use super::super::values::{Dur, Located};
use schemars::JsonSchema;
use serde::Deserialize;

/// What outlives a restart.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "State")]
pub(in crate::config) struct RawState {
    /// The directory, relative to this configuration's folder, for this gateway alone. Default none: a restart forgets.
    pub(in crate::config) dir: Option<Located<String>>,
    /// Time between two writes of what has changed: what a kill may lose. Default "1s".
    pub(in crate::config) persist_interval: Option<Located<Dur>>,
    /// Quotas whose window is at least this long are kept. Default "1m".
    pub(in crate::config) persist_min_window: Option<Located<Dur>>,
}
