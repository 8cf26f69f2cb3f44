//! What a route does to heads, as it is written: rules for header fields, and the credentials for the upstream.

use super::super::values::Located;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Changes to header fields: first `remove`, then `set`, then `add`. Values may hold {account}, {key_id}, {mode}, {request_id}
/// and {client_ip}; those of responses only the last three.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HeaderRules")]
pub(in crate::config) struct RawHeaderRules {
    /// Fields in place of any of the same name.
    pub(in crate::config) set: Option<BTreeMap<Located<String>, Located<String>>>,
    /// Fields besides those of the same name.
    pub(in crate::config) add: Option<BTreeMap<Located<String>, Located<String>>>,
    /// Fields that go.
    pub(in crate::config) remove: Option<Vec<Located<String>>>,
}

/// What becomes of the client's `Authorization`.
#[derive(Clone, Debug)]
pub(in crate::config) enum RawCredentials {
    /// "keep" or "drop".
    Word(String),
    /// Another credential in its place.
    Table(Box<RawCredentialsTable>),
}

/// A credential in place of the client's; exactly one of these, or `header` with one value.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Credentials")]
pub(in crate::config) struct RawCredentialsTable {
    /// The environment variable that holds a bearer token.
    pub(in crate::config) bearer_env: Option<Located<String>>,
    /// The file that holds a bearer token, relative to this configuration's folder. Read again when it changes.
    pub(in crate::config) bearer_file: Option<Located<String>>,
    /// The environment variable that holds `user:password`.
    pub(in crate::config) basic_env: Option<Located<String>>,
    /// The file that holds `user:password`.
    pub(in crate::config) basic_file: Option<Located<String>>,
    /// The header for a value of its own.
    pub(in crate::config) header: Option<Located<String>>,
    /// The environment variable that holds the header's value.
    pub(in crate::config) value_env: Option<Located<String>>,
    /// The file that holds the header's value.
    pub(in crate::config) value_file: Option<Located<String>>,
}

struct CredentialsVisitor;

impl<'de> Visitor<'de> for CredentialsVisitor {
    type Value = RawCredentials;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#""keep", "drop" or a table such as { bearer_file = "token" }"#)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawCredentials, E> {
        match text {
            "keep" | "drop" => Ok(RawCredentials::Word(text.to_owned())),
            // What stands there may be a secret in the wrong place: it is not shown.
            _ => Err(E::invalid_type(Unexpected::Other("another text"), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawCredentials, A::Error> {
        RawCredentialsTable::deserialize(MapAccessDeserializer::new(map)).map(Box::new).map(RawCredentials::Table)
    }
}

impl<'de> Deserialize<'de> for RawCredentials {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CredentialsVisitor)
    }
}

impl JsonSchema for RawCredentials {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "KeepDropOrCredentials".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<RawCredentialsTable>();
        json_schema!({ "anyOf": [{ "type": "string", "enum": ["keep", "drop"] }, table] })
    }
}

/// Whether upstreams get `Forwarded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Forwarded")]
pub(in crate::config) enum RawForwarded {
    /// No.
    Off,
    /// Yes: after what a trusted proxy wrote, in place of what anybody else did.
    Append,
}
