//! The configuration as a whole: what good files become, and what is said of bad ones.

mod bad;
mod good;
mod reference;

use super::*;
use crate::engine::Seed;

pub(super) const SEED: Seed = Seed([7, 9]);

/// What every file needs.
pub(super) const BASE: &str = "[auth]\nkeys_file = 'k'\n[upstreams.a]\nservers = 'http://a'\n";

pub(super) fn compile(text: &str) -> Result<Config, ConfigErrors> {
    parse(text, std::path::Path::new("dir/t.toml"), &SEED)
}

pub(super) fn good(text: &str) -> Config {
    compile(text).unwrap_or_else(|errors| panic!("{errors}"))
}
