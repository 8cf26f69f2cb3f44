//! The codec over a connection that a test writes byte by byte.

mod answers;
mod requests;
mod script;
mod splits;

pub(super) use script::Script;
