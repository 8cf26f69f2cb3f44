//! The decision engine, held against a plain reference model, on real threads, and at its bounds.

mod bound;
mod cases;
mod exactness;
mod late;
mod reference;
mod strategies;
mod threads;
mod window;
