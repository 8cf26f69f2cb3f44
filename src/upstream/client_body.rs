//! A client's body, whatever protocol it came over.

use super::http2::StreamBody;
use super::inlet::{ClientFault, Outlet};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A client's body.
#[derive(Default)]
pub enum ClientBody {
    /// None.
    #[default]
    Empty,
    /// Of a connection of ours.
    Own(Outlet),
    /// None, but what follows the head if both sides go on in another protocol.
    Upgrade(Outlet),
    /// Of a stream of HTTP/2. Given up, it leaves nothing behind: its stream ends, and the connection goes on. Boxed, for all other
    /// bodies would be moved with room for it.
    Http2(Box<StreamBody>),
}

impl ClientBody {
    /// Takes what a client that asks for another protocol would send in it.
    pub fn take_upgrade(&mut self) -> Option<Outlet> {
        match std::mem::take(self) {
            ClientBody::Upgrade(outlet) => Some(outlet),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = ClientFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientFault>>> {
        match &mut *self {
            ClientBody::Empty | ClientBody::Upgrade(_) => Poll::Ready(None),
            ClientBody::Own(outlet) => outlet.poll_frame(cx),
            ClientBody::Http2(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(ClientFault::from)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ClientBody::Empty | ClientBody::Upgrade(_) => true,
            ClientBody::Own(outlet) => outlet.is_end_stream(),
            ClientBody::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ClientBody::Empty | ClientBody::Upgrade(_) => SizeHint::with_exact(0),
            ClientBody::Own(outlet) => outlet.size_hint(),
            ClientBody::Http2(body) => body.size_hint(),
        }
    }
}
