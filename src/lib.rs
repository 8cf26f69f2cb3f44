//! Tollgate: an HTTP reverse-proxy gateway that enforces Stripe-style API limits.

#![forbid(unsafe_code)]

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod endpoints;
pub mod engine;
pub mod gateway;
pub mod keys;
pub mod metrics;
pub mod mock;
pub mod path;
pub mod process;
pub mod server;
pub mod state;
pub mod upstream;
