//! libFuzzer's end of the fuzz targets. Which target is in `TOLLGATE_FUZZ_TARGET`: one program for all is linked once.
//! `scripts/fuzz` builds and runs it.

#![no_main]

#[path = "../../tests/it/support/stub.rs"]
#[allow(dead_code, reason = "the integration tests use more of it")]
mod stub;
mod targets;

/// What the targets share with the integration tests, under the names that it has there.
mod support {
    pub(crate) use crate::stub;
}

/// The seed of all ids, as the stub expects it one module up.
fn seed() -> tollgate::engine::Seed {
    tollgate::engine::Seed([17, 42])
}

use std::sync::OnceLock;
use targets::{TARGETS, Target};

fn chosen() -> &'static Target {
    static CHOSEN: OnceLock<&Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("TOLLGATE_FUZZ_TARGET").unwrap_or_default();
        TARGETS.iter().find(|target| target.0 == name).unwrap_or_else(|| {
            let known: Vec<&str> = TARGETS.iter().map(|target| target.0).collect();
            panic!("TOLLGATE_FUZZ_TARGET must be one of {}", known.join(", "))
        })
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| (chosen().1)(data));
