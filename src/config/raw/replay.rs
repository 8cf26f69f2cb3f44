//! `[replay]` as it is written.

use super::super::trace_format::TraceFormat;
use super::super::values::Located;
use schemars::JsonSchema;
use serde::Deserialize;

/// What `tollgate replay` reads; the gateway itself has no use for it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Replay")]
pub(in crate::config) struct RawReplay {
    /// Where the fields of traces are that are not the gateway's own log. Default: the first line tells, and has the usual names.
    pub(in crate::config) format: Option<Located<TraceFormat>>,
}
