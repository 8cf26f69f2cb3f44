//! The whole gateway: configuration in, requests over real sockets, a scripted upstream behind it.

mod faults;
mod happy;
mod headers;
mod refusals;
mod stream;
