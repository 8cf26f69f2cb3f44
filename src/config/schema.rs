//! The JSON Schema of the configuration, for editors.

use super::raw::RawConfig;

/// The JSON Schema (draft 2020-12), from the very structs that the TOML is read into.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(RawConfig).to_value()
}
