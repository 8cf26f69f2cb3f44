//! HTTP/1.1 towards upstream servers: our own, without a task or a channel for a connection.
//!
//! The future of a request writes its head and body and reads the head of the answer; whoever reads the answer's body reads
//! the socket. So an exchange wakes one task only, the client's. What must always hold:
//!
//! 1. Nothing ambiguous is written: the framing of a request is made here from the body that it has, never copied from it.
//! 2. An answer is read in one way or not at all (RFC 9112 §6.3): both framings, two lengths, a coding besides one `chunked`,
//!    a bare LF, a folded line or a status outside 100 to 599 fail the exchange.
//! 3. A connection serves another request only after both its messages have ended where their framing says, with nothing
//!    behind, and if the server agreed. In any other case it is closed.
//! 4. A body that breaks off is an error, never an end.
//!
//! Bounds: heads of answers, interim ones included, [`MAX_HEAD_BYTES`] and [`MAX_HEADERS`]; [`MAX_INTERIM`] interim answers;
//! [`MAX_EXTENSION_BYTES`] of chunk extensions and [`MAX_TRAILER_BYTES`] of trailers a message. At most [`MAX_READ_BYTES`] are
//! read at a time and nothing is read that nobody waits for. An idle connection keeps no buffer.

mod body;
mod chunks;
mod encode;
mod fault;
mod head;
mod lines;
mod link;
mod outgoing;
mod section;
mod send;
mod stream;
#[cfg(test)]
mod tests;
mod upload;

pub use body::Body;
pub use encode::put_number;
pub use fault::{ExchangeFault, Failure, Malformed};
pub use lines::Lines;
pub use send::{Sender, Sending};
pub use stream::Stream;

use super::{MAX_HEAD_BYTES, MAX_HEADERS};

/// Interim (1xx) answers before a final one. They are read and dropped.
pub const MAX_INTERIM: usize = 100;
/// Bytes of chunk extensions in one answer.
pub const MAX_EXTENSION_BYTES: usize = 4 * 1024;
/// Bytes of the trailers of one answer.
pub const MAX_TRAILER_BYTES: usize = 16 * 1024;
/// Bytes that there is room for at least when an answer is read.
const LEAST_READ_BYTES: usize = 4 * 1024;
/// Bytes that are read at a time at most.
pub const MAX_READ_BYTES: usize = super::room::ROOM_BYTES;
