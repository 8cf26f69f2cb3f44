//! Tollgate: an HTTP reverse-proxy gateway that enforces Stripe-style API limits.

#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
pub mod endpoints;
pub mod engine;
pub mod metrics;
pub mod path;
pub mod server;
