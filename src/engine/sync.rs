//! Atomics of the standard library, or loom's when the feature `model-check` explores every interleaving.

#[cfg(feature = "model-check")]
pub(super) use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
#[cfg(not(feature = "model-check"))]
pub(super) use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
