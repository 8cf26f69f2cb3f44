//! FLOOR 4: the gateway's side of a client's connection.

pub mod wire;
