//! What the tests share: clocks, and policies and requests written by name.

pub(crate) mod cases;
mod clocks;
mod world;

pub(crate) use clocks::{ManualClock, RealClock};
pub(crate) use world::{
    Figures, LimitSpec, MatchSpec, PartSpec, RequestSpec, class, has_id, policy, rate, seed, slots,
};
