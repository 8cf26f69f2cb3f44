//! A client's body until the request is forwarded, and what becomes of it when it never is.
//!
//! A refused request leaves its body on the connection. Closing the connection over it would cost every refused POST a new
//! handshake, just when there are too many requests already; so a small body is read and dropped, and the connection goes on.
//! Bounds: [`MAX_DRAIN_BYTES`] and a time. A longer body, or one that waits for `100 Continue`, closes the connection.

use http::{Request, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Bytes of a refused request's body that are read to keep its connection.
pub const MAX_DRAIN_BYTES: usize = 64 * 1024;

/// The body of a connection's newest request, if it was refused before anybody read it.
#[derive(Default)]
pub struct Leftover(Cell<Option<Incoming>>);

/// A body that nobody has begun to read. Dropped unread, it stays with its connection as the [`Leftover`].
pub struct ClientBody {
    incoming: Option<Incoming>,
    leftover: Option<Rc<Leftover>>,
}

impl ClientBody {
    /// Takes a request's body into care.
    #[must_use]
    pub fn of(request: Request<Incoming>, leftover: &Rc<Leftover>) -> Request<ClientBody> {
        // Reading would ask the client for a body that it has not begun to send.
        let waits = request.headers().contains_key(header::EXPECT);
        request.map(|incoming| {
            let small = !incoming.is_end_stream() && incoming.size_hint().lower() <= MAX_DRAIN_BYTES as u64;
            let leftover = (small && !waits).then(|| Rc::clone(leftover));
            ClientBody { incoming: Some(incoming), leftover }
        })
    }

    /// The body itself, for whoever reads it. `None` never happens: this is the only way to take it.
    #[must_use]
    pub fn into_incoming(mut self) -> Option<Incoming> {
        self.incoming.take()
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if let (Some(incoming), Some(leftover)) = (self.incoming.take(), &self.leftover) {
            leftover.0.set(Some(incoming));
        }
    }
}

impl Leftover {
    /// The body of a request that was refused, once.
    pub fn take(&self) -> Option<Incoming> {
        self.0.take()
    }
}

/// Reads and drops a body, for at most `patience` in all. If it ends within the bounds, its connection serves on.
pub async fn drain(mut body: Incoming, patience: Duration) {
    let mut room = MAX_DRAIN_BYTES;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, bytes::Bytes::len);
            match room.checked_sub(length) {
                Some(left) => room = left,
                None => return,
            }
        }
    };
    // Whether it ended or not shows in the connection.
    let _ = tokio::time::timeout(patience, reading).await;
}
