//! The whole gateway: configuration in, requests over real sockets, a scripted upstream behind it.

mod addresses;
mod allocation;
mod bodies;
mod bounds;
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
mod options;
mod overload;
mod paths;
mod refusals;
mod reload;
mod retries;
mod servers;
mod stack;
mod stream;
mod threads;
mod tls;
mod turns;
