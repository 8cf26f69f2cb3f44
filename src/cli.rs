//! FLOOR 5: the commands.

pub mod mock;
