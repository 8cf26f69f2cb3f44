//! What the tests share: clocks, policies and requests written by name, and whole gateways with both ends of the wire.

pub(crate) mod cases;
mod clocks;
pub(crate) mod frames;
pub(crate) mod h2;
pub(crate) mod redis;
pub(crate) mod running;
pub(crate) mod secure;
pub(crate) mod stub;
pub(crate) mod upstream;
pub(crate) mod wait;
pub(crate) mod wire;
mod world;

pub(crate) use clocks::{ManualClock, RealClock};
pub(crate) use world::{
    Figures, LimitSpec, MatchSpec, PartSpec, RequestSpec, class, has_id, policy, rate, seed, slots,
};
