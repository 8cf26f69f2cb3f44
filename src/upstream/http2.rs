//! HTTP/2 bodies, either side's, and connections to upstreams that many requests share.
//!
//! Bounds of a connection: the upstream's own bound on streams, at most [`MAX_STREAMS`]; [`STREAM_WINDOW`] bytes of answers wait
//! for each, [`CONNECTION_WINDOW`] for all; heads are at most [`MAX_HEAD_BYTES`](super::MAX_HEAD_BYTES) long.

use super::http1::{ExchangeFault, Failure, Malformed};
use super::own_fields::OwnFields;
use super::pace::Pace;
use super::pipe::{Broken, Pipe};
use super::server::{Open, Server};
use super::watched::Watched;
use super::{MAX_HEAD_BYTES, MAX_HEADERS, RequestBody};
use crate::clock::Time;
use crate::config::Scheme;
use crate::engine::{Clock, Nanos};
use crate::fields;
use crate::wire_fault::WireFault;
use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Request, Response, Uri, Version, header};
use http_body::{Body, Frame, SizeHint};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

/// Requests in flight on one connection, where the upstream would take more.
const MAX_STREAMS: usize = 100;
/// Bytes of an answer that may wait for its client.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes of all answers of a connection that may wait.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of a request's body that may wait for the upstream's socket.
const SEND_BUFFER: usize = 64 * 1024;

/// Why a stream's body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum StreamFault {
    /// The stream or its connection broke off.
    #[error(transparent)]
    Broken(#[from] h2::Error),
    /// Trailers that nobody may send.
    #[error("the trailers are refused")]
    Trailers(#[source] WireFault),
}

/// What one end of a stream sends, as a body.
pub struct StreamBody {
    stream: RecvStream,
    length: Option<u64>,
    /// Whether trailers may pass.
    check: fn(&HeaderMap) -> Result<(), WireFault>,
    data_ended: bool,
    /// What sends the request while the answer comes already.
    sending: Option<AbortHandle>,
    /// Who tells the other end that its body is wanted, where it waits for that.
    wanted: Option<Rc<Wanted>>,
}

/// Whether somebody has begun to read a body whose sender waits for `100 Continue`.
#[derive(Default)]
pub struct Wanted {
    is_asked: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Wanted {
    fn ask(&self) {
        if !self.is_asked.replace(true)
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// Ready when the body is wanted.
    pub fn poll_asked(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_asked.get() {
            return Poll::Ready(());
        }
        self.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl StreamBody {
    /// The body of a message with this head. `check` says whether trailers may pass.
    #[must_use]
    pub fn new(headers: &HeaderMap, stream: RecvStream, check: fn(&HeaderMap) -> Result<(), WireFault>) -> StreamBody {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        StreamBody { stream, length, check, data_ended: false, sending: None, wanted: None }
    }

    /// The same, whose first reading is told to `wanted`.
    #[must_use]
    pub fn telling(mut self, wanted: Rc<Wanted>) -> StreamBody {
        self.wanted = Some(wanted);
        self
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        if let Some(sending) = &self.sending {
            sending.abort();
        }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = StreamFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamFault>>> {
        if let Some(wanted) = self.wanted.take() {
            wanted.ask();
        }
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // The room goes back as bytes go on: whoever does not ask for more stops the sender.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    let length = data.len() as u64;
                    self.length = self.length.map(|left| left.saturating_sub(length));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // Whatever the reason given: what was cut off is never taken for whole.
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.data_ended = true,
            }
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => match (self.check)(&trailers) {
                Ok(()) => Some(Ok(Frame::trailers(trailers))),
                Err(fault) => Some(Err(StreamFault::Trailers(fault))),
            },
            Ok(None) => None,
            // All data was there, and the other end has ended its side of the stream since.
            Err(error) if error.reason() == Some(Reason::NO_ERROR) => None,
            Err(error) => Some(Err(error.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A new connection that has no place yet.
pub(super) struct Fresh {
    sender: SendRequest<Bytes>,
    watched: Rc<Watched>,
}

/// A connection that many requests share.
pub(super) struct Shared {
    sender: SendRequest<Bytes>,
    scheme: Scheme,
    /// What the connection's bytes tell that the library does not.
    watched: Rc<Watched>,
    /// Its place among the connections to its server.
    place: Open,
    streams: Cell<usize>,
    /// When the last stream ended.
    since: Cell<Nanos>,
    time: Time,
}

impl Shared {
    /// Puts HTTP/2 on a stream and lets a task of this thread drive it.
    pub(super) async fn handshake<IO>(stream: IO) -> Result<Fresh, h2::Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let watched = Rc::new(Watched::default());
        let (sender, connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            .handshake(watched.watch(stream))
            .await?;
        let ended = Rc::clone(&watched);
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an upstream connection ended");
            }
            ended.retire();
        });
        Ok(Fresh { sender, watched })
    }

    /// The connection, in its place.
    pub(super) fn new(fresh: Fresh, place: Open, time: &Time) -> Rc<Shared> {
        let Fresh { sender, watched } = fresh;
        let (scheme, since) = (place.server().target.scheme(), Cell::new(time.now()));
        Rc::new(Shared { sender, scheme, watched, place, streams: Cell::new(0), since, time: time.clone() })
    }

    /// Whether new requests may go on it.
    pub(super) fn is_fit(&self) -> bool {
        !self.watched.is_retired() && self.place.server().is_listed()
    }

    /// Whether one more request may go on it now.
    pub(super) fn has_room(&self) -> bool {
        self.is_fit() && self.streams.get() < self.sender.current_max_send_streams().min(MAX_STREAMS)
    }

    /// Since when nothing is in flight on it; `None` while something is.
    pub(super) fn idle_since(&self) -> Option<Nanos> {
        (self.streams.get() == 0).then(|| self.since.get())
    }

    /// A place for one request.
    pub(super) fn join(self: &Rc<Self>) -> Lane {
        self.streams.set(self.streams.get() + 1);
        Lane(Rc::clone(self))
    }
}

/// A request's place on a shared connection.
pub struct Lane(Rc<Shared>);

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
        self.0.since.set(self.0.time.now());
    }
}

impl Lane {
    /// The server at the other end.
    pub(super) fn server(&self) -> &Arc<Server> {
        self.0.place.server()
    }

    /// No new request goes on this connection.
    pub(super) fn retire(&self) {
        self.0.watched.retire();
    }

    /// Sends a request and takes the head of its answer, while the body goes on its way.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<StreamBody>, Box<Failure<RequestBody>>> {
        let (parts, body) = request.into_parts();
        let ends = body.is_end_stream();
        let mut sender = self.0.sender.clone();
        let ready = poll_fn(|cx| sender.poll_ready(cx)).await;
        let (response, stream) =
            match ready.and_then(|()| sender.send_request(head(&parts, body.own(), self.0.scheme), ends)) {
                Ok(sent) => sent,
                Err(error) => {
                    self.retire();
                    let unsent = Some(Box::new(Request::from_parts(parts, body)));
                    let error = ExchangeFault::Stream(error);
                    return Err(Box::new(Failure { unsent, error, written: false, answered: false }));
                }
            };
        let id = response.stream_id().as_u32();
        let mut sending = Sending::new(body, stream, ends);
        let error = match sending.drive(response).await {
            Ok(response) if response.headers().len() <= MAX_HEADERS => return Ok(accept(response, sending)),
            Ok(_) => ExchangeFault::Malformed(Malformed::TooLarge),
            Err(error) => error,
        };
        let written = !matches!(&error, ExchangeFault::Stream(error) if self.is_unprocessed(error, id));
        let answered = matches!(error, ExchangeFault::Malformed(_));
        let unsent = sending.into_unsent().map(|body| Box::new(Request::from_parts(parts, body)));
        Err(Box::new(Failure { unsent, error, written, answered }))
    }

    /// Whether the upstream has certainly not begun to act on the request of stream `id`.
    fn is_unprocessed(&self, error: &h2::Error, id: u32) -> bool {
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        // A GOAWAY fails those streams only that come after the last one it names.
        error.is_remote() && (refused || error.is_go_away()) || !self.0.watched.has_written(id)
    }
}

/// The request's head as HTTP/2 has it: the host in the target.
fn head(parts: &http::request::Parts, own: &OwnFields, scheme: Scheme) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = parts.method.clone();
    *head.version_mut() = Version::HTTP_2;
    *head.headers_mut() = parts.headers.clone();
    own.add_to(head.headers_mut());
    fields::keep_out_of_tables(head.headers_mut());
    // No other protocol can be asked for here, so the request is what it is without.
    for name in [header::CONNECTION, header::UPGRADE] {
        head.headers_mut().remove(name);
    }
    let host = head.headers_mut().remove(header::HOST);
    let mut target = http::uri::Parts::default();
    target.authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    target.scheme = target.authority.is_some().then_some(match scheme {
        Scheme::Http => http::uri::Scheme::HTTP,
        Scheme::Https => http::uri::Scheme::HTTPS,
    });
    target.path_and_query = parts.uri.path_and_query().cloned().or(Some(PathAndQuery::from_static("/")));
    if let Ok(uri) = Uri::from_parts(target) {
        *head.uri_mut() = uri;
    }
    head
}

/// A request's body on its way, if it has one.
enum Sending {
    Whole(Box<RequestBody>),
    Going(Box<Pipe<RequestBody>>),
    /// Kept, for a server that turns it away.
    Sent(Box<RequestBody>),
    Gone,
}

impl Sending {
    fn new(mut body: RequestBody, stream: SendStream<Bytes>, ends: bool) -> Sending {
        // How long the upstream may take nothing is what `response_timeout` and the body's own time-out bound.
        const PATIENCE: Duration = Duration::from_secs(24 * 3600);
        if ends {
            return Sending::Whole(Box::new(body));
        }
        body.remember();
        Sending::Going(Box::new(Pipe::new(body, stream, Reason::CANCEL, Pace::new(PATIENCE, 0))))
    }

    /// Sends on until the head of the answer is there.
    async fn drive(&mut self, mut response: ResponseFuture) -> Result<Response<RecvStream>, ExchangeFault> {
        poll_fn(|cx| {
            if let Sending::Going(pipe) = self {
                match pipe.poll(cx) {
                    Poll::Ready(Err(Broken::Body(fault))) => return Poll::Ready(Err(ExchangeFault::Request(fault))),
                    // What the upstream thinks of it, its answer says.
                    Poll::Ready(ended) => self.end(ended.is_ok()),
                    Poll::Pending => {}
                }
            }
            Pin::new(&mut response).poll(cx).map_err(ExchangeFault::Stream)
        })
        .await
    }

    /// No more of the body goes. A reader that came to its end again would take each look for progress.
    fn end(&mut self, is_whole: bool) {
        if let Sending::Going(pipe) = std::mem::replace(self, Sending::Gone)
            && let Some(kept) = pipe.into_body().kept(is_whole)
        {
            *self = Sending::Sent(Box::new(kept));
        }
    }

    /// The body as it was before, where all of it is there.
    fn into_unsent(self) -> Option<RequestBody> {
        match self {
            Sending::Whole(body) => Some(*body),
            Sending::Sent(body) => body.rewound(),
            Sending::Going(pipe) => pipe.into_body().rewound(),
            Sending::Gone => None,
        }
    }
}

/// The answer; what is left of the request's body goes on beside it, for as long as anybody reads the answer.
fn accept(response: Response<RecvStream>, sending: Sending) -> Response<StreamBody> {
    let (parts, stream) = response.into_parts();
    let mut body = StreamBody::new(&parts.headers, stream, |_| Ok(()));
    if let Sending::Going(mut pipe) = sending {
        pipe.body_mut().forget();
        let rest = tokio::task::spawn_local(async move {
            if let Err(broken) = poll_fn(|cx| pipe.poll(cx)).await {
                tracing::debug!(?broken, "a request broke off behind its answer");
            }
        });
        body.sending = Some(rest.abort_handle());
    }
    Response::from_parts(parts, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_is_said_once_stays_out_of_the_upstreams_table() {
        let parts = Request::post("/v1/charges?a=b")
            .header("host", "api.test")
            .header("idempotency-key", "1")
            .header("accept", "*/*")
            .body(())
            .map(|request| request.into_parts().0)
            .unwrap();
        let mut own = OwnFields::new();
        own.add(&http::HeaderName::from_static("request-id"), &HeaderValue::from_static("req_1"));
        let head = head(&parts, &own, Scheme::Https);
        assert_eq!(head.uri(), "https://api.test/v1/charges?a=b");
        let kept_out = ["request-id", "idempotency-key", "accept"].map(|name| head.headers()[name].is_sensitive());
        assert_eq!(kept_out, [true, true, false]);
    }
}
