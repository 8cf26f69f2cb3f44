//! What several gateways share over Redis, apart from counts: keys and overrides, and the boards beneath both.

mod board;
