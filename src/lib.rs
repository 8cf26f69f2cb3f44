//! Tollgate: an HTTP reverse-proxy gateway that enforces Stripe-style API limits.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod endpoints;
pub mod engine;

pub mod path;
