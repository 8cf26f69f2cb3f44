//! Mutex and atomics of the standard library, or loom's when the feature `model-check` explores every interleaving.

#[cfg(feature = "model-check")]
pub(super) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, Ordering},
};
#[cfg(not(feature = "model-check"))]
pub(super) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, Ordering},
};
