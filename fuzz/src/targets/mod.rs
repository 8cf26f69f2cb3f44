//! What is fuzzed: for each target a function that takes any bytes and panics where an invariant does not hold.
//!
//! The functions are used twice: by libFuzzer (`fuzz/src/main.rs`, run by `scripts/fuzz`), and by a plain test that replays
//! the corpora and a fixed number of mutations of them (`tests/it/fuzz.rs`). So they read no clock, no random source and no
//! file, and the same bytes always do the same. A file `mod.rs`, because one of the two names it by its path.
//!
//! Each target says the same thing as the code it looks at in another, plainer way; a check that only calls the code again
//! finds panics and nothing else.
//!
//! A new target is a module, a line in [`TARGETS`] and a folder of small inputs in `fuzz/corpus`.

mod access_log;
mod answers;
mod body;
mod config;
mod key;
mod keys_file;
mod path;
mod proxy_protocol;
mod strict;
mod trace;
mod wire;

/// A target: its name, which is its corpus's folder too, and what it does.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target.
pub(crate) const TARGETS: &[Target] = &[
    ("access_log", access_log::run),
    ("answers", answers::run),
    ("body", body::run),
    ("config", config::run),
    ("key", key::run),
    ("keys_file", keys_file::run),
    ("path", path::run),
    ("proxy_protocol", proxy_protocol::run),
    ("trace", trace::run),
    ("wire", wire::run),
];

/// `data` cut into `N` pieces at line feeds: `N - 1` lines and the rest. Missing ones are empty.
fn lines<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut pieces = data.splitn(N, |&byte| byte == b'\n');
    std::array::from_fn(|_| pieces.next().unwrap_or_default())
}
