//! `[log]` as it is written.

use super::super::values::Located;
use schemars::JsonSchema;
use serde::Deserialize;

/// Access log and diagnostics.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Log")]
pub(in crate::config) struct RawLog {
    /// The file for one JSON line a request, relative to this configuration's folder; "-" is stdout. Default none.
    pub(in crate::config) access: Option<Located<String>>,
    /// Diagnostics on stderr: "error", "warn", "info" (default), "debug" or "trace".
    pub(in crate::config) level: Option<Located<RawLevel>>,
    /// How diagnostics look: "text" (default) or "json".
    pub(in crate::config) format: Option<Located<RawLogFormat>>,
}

/// How much diagnostics say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Level")]
pub(in crate::config) enum RawLevel {
    /// What went wrong.
    Error,
    /// And what may.
    Warn,
    /// And what happens seldom.
    Info,
    /// And what happens often.
    Debug,
    /// Everything.
    Trace,
}

/// How diagnostics look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "LogFormat")]
pub(in crate::config) enum RawLogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}
