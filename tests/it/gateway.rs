//! The whole gateway: configuration in, requests over real sockets, a scripted upstream behind it.

mod allocation;
mod bodies;
mod catalogue;
mod drain;
mod edges;
mod faults;
mod happy;
mod headers;
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
mod upgrade;
