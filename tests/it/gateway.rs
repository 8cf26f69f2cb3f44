//! The whole gateway: configuration in, requests over real sockets, a scripted upstream behind it.

mod allocation;
mod bodies;
mod catalogue;
mod drain;
mod edges;
mod faults;
mod happy;
mod headers;
mod http2;
mod http2_floods;
mod http2_slots;
mod http2_upstream;
mod leaks;
mod limits;
mod locks;
mod observe;
mod paths;
mod refusals;
mod reload;
mod stack;
mod stream;
mod threads;
mod tls;
mod turns;
