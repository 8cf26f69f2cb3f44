//! The whole gateway: configuration in, requests over real sockets, a scripted upstream behind it.

mod faults;
mod happy;
mod headers;
mod limits;
mod paths;
mod refusals;
mod stack;
mod stream;
