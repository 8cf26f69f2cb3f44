//! Tollgate: an HTTP reverse-proxy gateway that enforces Stripe-style API limits.
//!
//! A request is authenticated, classified, held against the limits of five ordered stages, and forwarded; a refusal takes
//! nothing and says which limit it was. The binary `tollgate` is [`cli`]. A program can embed the whole gateway
//! ([`process::Gateway`]) or drive the decision engine alone ([`engine::Engine`]); `examples/embed.rs` does both.
//!
//! # The map, in reading order
//!
//! Modules stand on floors and import lower floors only; the test `tests/it/architecture.rs` holds every `use` against this.
//!
//! | floor | module | what it is |
//! |---|---|---|
//! | 0 | [`engine`] | the decision: pure, given the time, `std`, `dashmap` and a hasher only |
//! | 0 | `swar` | bytes looked at eight at a time, and by tables |
//! | 1 | [`clock`] | the only reader of the operating system's clocks |
//! | 1 | [`fields`] | header fields that mean something to a gateway, by what they do |
//! | 1 | [`files`] | files that an operator names, read within bounds |
//! | 1 | [`budget`] | how much memory the buffers of client connections may take |
//! | 1 | [`path`] | the one canonical path of a request |
//! | 1 | [`body`] | what queries and bodies say, read without trust |
//! | 1 | [`endpoints`] | method and canonical path to endpoint: a trie of templates |
//! | 1 | [`config`] | TOML to a compiled policy, every mistake at once |
//! | 1 | [`metrics`] | every metric, declared once |
//! | 2 | [`board`] | tables in the shared store that every gateway knows by heart |
//! | 2 | [`keys`] | API key to principal, hashed at rest |
//! | 2 | [`classification`] | request to class: one classification for live traffic, explain and replay |
//! | 2 | [`locks`] | one request at a time per object, in order of arrival |
//! | 2 | [`tls`] | certificates, who is trusted, handshakes with clients |
//! | 2 | [`upstream`] | connections to upstream servers, one pool a thread |
//! | 3 | [`explain`] | what a request would meet and why, in words |
//! | 3 | [`gateway`] | the stack of one request, top to bottom in one file |
//! | 3 | [`replay`] | recorded traffic through the engine on virtual time |
//! | 4 | [`server`] | threads, listeners, TLS, connections and the wire guard |
//! | 4 | [`admin`] | metrics and health, never on the public listener |
//! | 4 | [`process`] | a whole gateway: load, start, reload, drain |
//! | 4 | [`mock`] | a stand-in upstream with Stripe-shaped answers |
//! | 5 | [`cli`] | the commands |
//!
//! `ARCHITECTURE.md` in the repository tells the life of one request and where each invariant is tested.

#![forbid(unsafe_code)]

pub mod admin;
pub mod board;
pub mod body;
pub mod budget;
pub mod classification;
pub mod cli;
pub mod clock;
pub mod config;
pub mod endpoints;
pub mod engine;
pub mod explain;
pub mod fields;
pub mod files;
pub mod frames;
pub mod gateway;
pub mod keys;
pub mod locks;
pub mod metrics;
pub mod mock;
pub mod path;
pub mod process;
pub mod replay;
pub mod server;
pub mod state;
pub mod store;
mod swar;
pub mod tls;
pub mod upstream;
pub mod wire_fault;
