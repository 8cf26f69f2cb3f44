//! `[auth]` as it is written.

use super::super::values::Located;
use schemars::JsonSchema;
use serde::Deserialize;

/// Who may pass.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Auth")]
pub(in crate::config) struct RawAuth {
    /// "keys" (default): only known keys pass. "passthrough": any key passes, the account is a keyed hash of it.
    pub(in crate::config) mode: Option<Located<RawAuthMode>>,
    /// The file of known keys, relative to this configuration's folder.
    pub(in crate::config) keys_file: Option<Located<String>>,
    /// "file" (default): known keys are those of `keys_file`. "redis": those in the Redis of `[store]`, where `tollgate keys` puts them
    /// and all gateways see a change within a second.
    pub(in crate::config) store: Option<Located<RawKeysStore>>,
    /// The realm named in `WWW-Authenticate`. Default "Stripe".
    pub(in crate::config) realm: Option<Located<String>>,
}

/// How keys are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "AuthMode")]
pub(in crate::config) enum RawAuthMode {
    /// Only known keys pass.
    Keys,
    /// Any key passes.
    Passthrough,
}

/// Where known keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "KeysStore")]
pub(in crate::config) enum RawKeysStore {
    /// In a file.
    File,
    /// In Redis.
    Redis,
}
