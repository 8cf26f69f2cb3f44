//! FLOOR 5: the commands.

pub mod check;
pub mod schema;
