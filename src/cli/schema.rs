//! `tollgate schema`: the JSON Schema of the configuration.

use crate::config;
use std::io::Write;

/// Print the JSON Schema of the configuration, for editors.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Schema {}

impl Schema {
    /// Prints to `out` (stdout).
    ///
    /// # Errors
    /// `out` cannot be written to.
    pub fn run(self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "{:#}", config::json_schema())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_json_and_describes_every_key() {
        let mut out = Vec::new();
        Schema {}.run(&mut out).unwrap();
        let schema: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(schema["title"], "Config");
        let described = |table: &str| {
            let properties = schema["$defs"][table]["properties"].as_object().unwrap().clone();
            properties.iter().all(|(_, property)| property["description"].is_string())
        };
        assert!(["Server", "Limit", "Condition", "Upstream"].into_iter().all(described));
        assert_eq!(schema["$defs"]["Limit"]["required"], serde_json::json!(["name", "stage"]));
        assert_eq!(schema["$defs"]["Limit"]["additionalProperties"], false);
    }
}
