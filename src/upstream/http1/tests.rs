//! The codec over a connection that a test writes byte by byte.

use super::*;
