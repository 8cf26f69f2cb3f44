//! `enforce`: whether a limit refuses, or for which share of the accounts.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::borrow::Cow;
use std::fmt;

/// As it is written; a number has yet to be held against its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::config) enum RawEnforce {
    /// For everybody or for nobody.
    Whole(bool),
    /// For this share of the accounts.
    Share(f64),
}

struct EnforceVisitor;

impl Visitor<'_> for EnforceVisitor {
    type Value = RawEnforce;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, or a share of the accounts from 0 to 1")
    }

    fn visit_bool<E: Error>(self, whole: bool) -> Result<RawEnforce, E> {
        Ok(RawEnforce::Whole(whole))
    }

    fn visit_f64<E: Error>(self, share: f64) -> Result<RawEnforce, E> {
        Ok(RawEnforce::Share(share))
    }

    fn visit_i64<E: Error>(self, share: i64) -> Result<RawEnforce, E> {
        Ok(RawEnforce::Share(share as f64))
    }
}

impl<'de> Deserialize<'de> for RawEnforce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EnforceVisitor)
    }
}

impl JsonSchema for RawEnforce {
    fn schema_name() -> Cow<'static, str> {
        "Enforce".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["boolean", "number"],
            "minimum": 0,
            "maximum": 1,
            "description": "Whether it refuses; or for which share of the accounts, from 0 to 1"
        })
    }
}
