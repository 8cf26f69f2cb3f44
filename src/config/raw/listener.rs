//! What the public listener asks of those who connect.

use schemars::JsonSchema;
use serde::Deserialize;

/// Whether connections begin with a PROXY protocol header, version 1 or 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ProxyProtocol")]
pub(in crate::config) enum RawProxyProtocol {
    /// None does.
    Off,
    /// All do; others are closed.
    Required,
}
