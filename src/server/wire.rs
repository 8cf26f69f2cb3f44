//! The wire guard: a strict reader of HTTP/1 framing.
//!
//! Lenient readers repair or overlook what two servers may read differently (a bare LF, authority-form, a dropped fragment, two
//! `Host`). The guard follows the framing of every request and refuses everything ambiguous. It reads bytes only: the connection
//! in `server::http1` makes requests of what it lets pass, and answers what it does not with [`refuse()`], in JSON.
//!
//! Invariants, each held by a test:
//! 1. Whatever passes is byte for byte what was read. Nothing is repaired.
//! 2. A head, and a trailer section, pass whole or not at all. Body bytes pass at once.
//! 3. The verdict depends on the bytes alone, never on how they were cut into reads.
//! 4. What is incomplete is bounded by [`WireLimits::max_head_bytes`] and [`WireLimits::max_trailer_bytes`].

mod chunk;
mod field;
mod head;
mod known;
mod places;
mod refuse;
mod scan;
mod target;
#[cfg(test)]
pub(super) mod tests;

pub use crate::wire_fault::WireFault;
pub use head::Framing;
pub use refuse::{linger, refuse};
pub use scan::{Bad, Part, Scanner, Step};

pub(super) use field::{is_never_trailer, is_shadow_name, trim};
pub(super) use places::Places;
pub(super) use target::{check as check_target, check_authority};

use std::time::Duration;

/// Bounds of what a client may send besides bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLimits {
    /// Bytes of a request line and its headers.
    pub max_head_bytes: usize,
    /// Headers of a request, and apart from them its trailers.
    pub max_headers: usize,
    /// Bytes of a request target.
    pub max_target_bytes: usize,
    /// Bytes of all chunk extensions of one request.
    pub max_chunk_extension: usize,
    /// Bytes of a trailer section.
    pub max_trailer_bytes: usize,
    /// Time from a head's first bytes to its last.
    pub head_timeout: Duration,
}

impl Default for WireLimits {
    fn default() -> WireLimits {
        WireLimits {
            max_head_bytes: 32 * 1024,
            max_headers: 100,
            max_target_bytes: 8 * 1024,
            max_chunk_extension: 4 * 1024,
            max_trailer_bytes: 16 * 1024,
            head_timeout: Duration::from_secs(30),
        }
    }
}
