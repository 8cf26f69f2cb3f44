//! A client's body, and what becomes of it when nobody reads it.
//!
//! A request that is refused, or that no server can be reached for, leaves its body on the connection. Closing the connection
//! over it would cost every refused POST a new handshake, just when there are too many requests already; so a small body is
//! read and dropped, and the connection goes on. Bounds: [`MAX_DRAIN_BYTES`] and a time. A longer body, or one that waits for
//! `100 Continue`, closes the connection.

use super::body::BodyError;
use super::http2::StreamBody;
use bytes::Bytes;
use http::{Request, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Bytes of a refused request's body that are read to keep its connection.
pub const MAX_DRAIN_BYTES: usize = 64 * 1024;

/// The body of a connection's newest request, if it was given up before anybody began to read it.
#[derive(Default)]
pub struct Leftover {
    /// Whether the newest request is without its answer. A body that is given up later closes its connection.
    is_open: Cell<bool>,
    body: RefCell<Option<Incoming>>,
}

impl Leftover {
    /// The request has its answer: what it left, once.
    pub fn close(&self) -> Option<Incoming> {
        self.is_open.set(false);
        self.body.borrow_mut().take()
    }

    fn keep(&self, body: Incoming) {
        if self.is_open.get() {
            self.body.replace(Some(body));
        }
    }
}

/// What a client's body comes over.
enum Source {
    Http1(Incoming),
    Http2(StreamBody),
}

/// A client's body. Given up before anybody began to read it, it stays with its connection as the [`Leftover`].
pub struct ClientBody {
    /// Taken only when dropped.
    incoming: Option<Source>,
    /// Gone once reading has begun, or where the connection should rather close.
    leftover: Option<Rc<Leftover>>,
}

impl ClientBody {
    /// Takes the body of a connection's newest request into care.
    #[must_use]
    pub fn of(request: Request<Incoming>, leftover: &Rc<Leftover>) -> Request<ClientBody> {
        leftover.is_open.set(true);
        // Reading would ask the client for a body that it has not begun to send.
        let waits = request.headers().contains_key(header::EXPECT);
        request.map(|incoming| {
            let small = !incoming.is_end_stream() && incoming.size_hint().lower() <= MAX_DRAIN_BYTES as u64;
            let leftover = (small && !waits).then(|| Rc::clone(leftover));
            ClientBody { incoming: Some(Source::Http1(incoming)), leftover }
        })
    }

    /// The body of a stream. Given up, it leaves nothing behind: its stream ends, and the connection goes on.
    #[must_use]
    pub fn of_stream(body: StreamBody) -> ClientBody {
        ClientBody { incoming: Some(Source::Http2(body)), leftover: None }
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if let (Some(Source::Http1(incoming)), Some(leftover)) = (self.incoming.take(), &self.leftover) {
            leftover.keep(incoming);
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.leftover = None;
        match &mut self.incoming {
            Some(Source::Http1(incoming)) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::from),
            Some(Source::Http2(body)) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.incoming {
            Some(Source::Http1(incoming)) => incoming.is_end_stream(),
            Some(Source::Http2(body)) => body.is_end_stream(),
            None => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Some(Source::Http1(incoming)) => incoming.size_hint(),
            Some(Source::Http2(body)) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

/// Reads and drops a body, for at most `patience` in all. If it ends within the bounds, its connection serves on.
pub async fn drain(mut body: Incoming, patience: Duration) {
    let mut room = MAX_DRAIN_BYTES;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match room.checked_sub(length) {
                Some(left) => room = left,
                None => return,
            }
        }
    };
    // Whether it ended or not shows in the connection.
    let _ = tokio::time::timeout(patience, reading).await;
}
