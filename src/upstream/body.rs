//! The request's body on its way to the upstream: streamed frame by frame, never gathered.

use super::client_body::ClientBody;
use super::http1;
use super::http2::StreamBody;
use super::inlet::ClientFault;
use super::own_fields::OwnFields;
use super::pace::Pace;
use super::read_ahead::{ReadAhead, ReadFault};
use crate::budget::Charge;
use crate::clock::timer_now;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// An upstream's answer, by what it comes over.
pub enum UpstreamBody {
    /// HTTP/1.
    Http1(http1::Body),
    /// HTTP/2.
    Http2(StreamBody),
}

impl UpstreamBody {
    /// The fields of the head before it, where they are in no map.
    pub fn take_lines(&mut self) -> Option<http1::Lines> {
        match self {
            UpstreamBody::Http1(body) => body.take_lines(),
            UpstreamBody::Http2(_) => None,
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        match &mut *self {
            UpstreamBody::Http1(body) => Pin::new(body).poll_frame(cx).map_err(Cause::from),
            UpstreamBody::Http2(body) => Pin::new(body).poll_frame(cx).map_err(Cause::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            UpstreamBody::Http1(body) => body.is_end_stream(),
            UpstreamBody::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            UpstreamBody::Http1(body) => body.size_hint(),
            UpstreamBody::Http2(body) => body.size_hint(),
        }
    }
}

/// What a body's reader found: of whatever protocol it came over.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong with a body on its way through.
#[derive(Debug, thiserror::Error)]
pub enum BodyFault {
    /// The client's framing was bad, or the client left in the middle.
    #[error("the client's body could not be read")]
    Client(#[source] ClientFault),
    /// The client sent nothing for too long.
    #[error("the client's body did not come in time")]
    ClientIdle,
    /// The client sent more than `max_body_bytes`.
    #[error("the client's body is too long")]
    ClientTooLong,
    /// The gateway ends.
    #[error("the gateway ends before the body did")]
    CutOff,
    /// The upstream broke off.
    #[error("the upstream's body could not be read")]
    Upstream(#[source] Cause),
    /// The upstream sent nothing for too long.
    #[error("the upstream's body did not come in time")]
    UpstreamIdle,
}

/// Bounds the time between two frames. The timer exists only while a body makes its reader wait.
pub struct Tick {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Tick {
    /// At most `limit` between two frames.
    #[must_use]
    pub fn new(limit: Duration) -> Tick {
        Tick { limit, timer: None }
    }

    /// A frame came.
    pub fn reset(&mut self) {
        self.timer = None;
    }

    /// None came yet: whether it has been too long.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(timer_now() + limit)));
        timer.as_mut().poll(cx)
    }
}

/// A moment that a connection's exchanges set anew one after another. Its timer stays registered in between: to move it on
/// costs far less than to make one for each request.
#[derive(Default)]
pub struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    /// Waits until `at`.
    pub async fn wait_until(&mut self, at: Instant) {
        let timer = match &mut self.0 {
            Some(timer) => {
                timer.as_mut().reset(at);
                timer
            }
            None => self.0.insert(Box::pin(sleep_until(at))),
        };
        timer.as_mut().await;
    }
}

/// Bytes of a body that are kept until its request is answered, for a server that turns it away.
const KEPT_BYTES: usize = 16 * 1024;

/// The client's body, passed on as it comes.
pub struct RequestBody {
    inner: ReadAhead<ClientBody>,
    pace: Pace,
    /// Bytes that may still come.
    room: u64,
    progress: Option<Rc<Cell<Instant>>>,
    /// What the gateway adds to the head that goes before it.
    own: OwnFields,
    /// Whether the answer's fields may come in lines.
    in_lines: bool,
    /// Memory for what waits of it.
    held: Option<Charge>,
    /// What has been handed out since it was to be remembered, as long as all of it is there.
    handed: Option<Box<Handed>>,
}

/// The beginning of a body.
#[derive(Default)]
struct Handed {
    bytes: Vec<u8>,
    /// Nothing comes after it.
    is_whole: bool,
}

impl RequestBody {
    /// Passes `inner` on; fails when it is slower than `pace` or has more than `most` bytes. `progress`, where given, holds the
    /// moment of the last frame, so that an upload that moves on is not taken for an upstream that does not answer.
    #[must_use]
    pub fn new(
        inner: ReadAhead<ClientBody>,
        pace: Pace,
        most: u64,
        progress: Option<Rc<Cell<Instant>>>,
    ) -> RequestBody {
        RequestBody {
            inner,
            pace,
            room: most,
            progress,
            own: OwnFields::default(),
            in_lines: false,
            held: None,
            handed: None,
        }
    }

    /// The same behind a head that the gateway adds these fields to.
    #[must_use]
    pub fn behind(self, own: OwnFields) -> RequestBody {
        RequestBody { own, ..self }
    }

    /// What the gateway adds to the head that goes before it.
    #[must_use]
    pub fn own(&self) -> &OwnFields {
        &self.own
    }

    /// The same, for an answer whose fields nobody looks at before they are written: they may come in lines.
    #[must_use]
    pub fn answered_in_lines(self, in_lines: bool) -> RequestBody {
        RequestBody { in_lines, ..self }
    }

    pub(super) fn is_answered_in_lines(&self) -> bool {
        self.in_lines
    }

    pub(super) fn own_lines(&self) -> &[u8] {
        self.own.lines()
    }

    /// The same with memory for what waits of it for the server; it goes back with the body.
    #[must_use]
    pub fn within(mut self, held: Option<Charge>) -> RequestBody {
        self.held = held;
        self
    }

    /// What is handed out from here on is remembered, so that the body can be sent a second time: up to [`KEPT_BYTES`], and not
    /// behind trailers.
    pub(super) fn remember(&mut self) {
        self.handed = Some(Box::default());
    }

    /// Nobody will send it a second time.
    pub(super) fn forget(&mut self) {
        self.handed = None;
    }

    /// The body for [`RequestBody::rewound`], of which nothing goes now; where the whole of it has gone, it needs memory for what is
    /// remembered only.
    pub(super) fn kept(mut self, is_whole: bool) -> Option<RequestBody> {
        let handed = self.handed.as_ref()?;
        if let Some(held) = self.held.as_mut().filter(|_| is_whole) {
            held.set(handed.bytes.len());
        }
        Some(self)
    }

    /// The body from where it was to be remembered, unless what was handed out since was too much.
    pub(super) fn rewound(mut self) -> Option<RequestBody> {
        let Handed { bytes, is_whole } = *self.handed.take()?;
        self.room = self.room.saturating_add(bytes.len() as u64);
        self.inner.put_back(bytes.into(), is_whole);
        Some(self)
    }

    /// Remembers a frame that is handed out, or that there are no more.
    fn note(&mut self, frame: Option<&Frame<Bytes>>) {
        let Some(handed) = &mut self.handed else { return };
        match frame.map(Frame::data_ref) {
            None => handed.is_whole = true,
            Some(Some(data)) if handed.bytes.len() + data.len() <= KEPT_BYTES => handed.bytes.extend_from_slice(data),
            Some(_) => self.handed = None,
        }
    }

    /// Counts a frame, unless it is more than may come.
    fn admit(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyFault> {
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.pace.advance(length);
        match self.room.checked_sub(length as u64) {
            Some(room) => self.room = room,
            None => return Err(BodyFault::ClientTooLong),
        }
        Ok(frame)
    }
}

impl RequestBody {
    /// A body that was kept, for another try.
    #[must_use]
    pub fn again(whole: Bytes, idle: Duration) -> RequestBody {
        RequestBody::new(ReadAhead::again(ClientBody::default(), whole), Pace::new(idle, 0), u64::MAX, None)
    }

    /// Reads the body to its end before anything of it is sent, so that it can be sent twice. `None` where it is longer than
    /// `most` bytes or has trailers: then it goes once.
    ///
    /// # Errors
    /// When the client's body is bad, or pauses for too long.
    pub async fn keep(&mut self, most: usize) -> Result<Option<Bytes>, BodyFault> {
        let is_long = self.inner.size_hint().lower() > most as u64;
        if self.inner.whole().is_none() && !is_long && !self.inner.is_beyond() {
            let (mut gathered, inner, pace) = (BytesMut::new(), &mut self.inner, &mut self.pace);
            let read = std::future::poll_fn(|cx| inner.poll_ahead(cx, most, &mut gathered, pace)).await;
            read.map_err(|fault| match fault {
                ReadFault::Body(error) => BodyFault::Client(error),
                ReadFault::Idle => BodyFault::ClientIdle,
            })?;
        }
        Ok(self.inner.whole().filter(|whole| whole.len() <= most).cloned())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let Some(progress) = &self.progress {
                    progress.set(timer_now());
                }
                let frame = frame.transpose().map_err(BodyFault::Client)?;
                self.note(frame.as_ref());
                Poll::Ready(frame.map(|frame| self.admit(frame)))
            }
            Poll::Pending => {
                ready!(self.pace.poll_expired(cx));
                Poll::Ready(Some(Err(BodyFault::ClientIdle)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
