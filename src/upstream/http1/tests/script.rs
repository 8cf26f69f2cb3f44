//! Both ends of an exchange, by hand: what comes and goes, in which pieces.

use crate::fields::HOP_BY_HOP;
use crate::upstream::BodyFault;
use crate::upstream::http1::{Body, ExchangeFault, Failure, Sender, Stream};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What happens to a read when all pieces have been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The server has closed.
    End,
    /// The server says nothing more.
    Silence,
}

/// A connection to a server that says what it was told to.
pub struct Script {
    reads: VecDeque<Bytes>,
    after: After,
    /// A piece comes with every other read only.
    waits: bool,
    /// Bytes that one write takes; 0 for an error.
    room: usize,
    /// Bytes that all writes together take before they fail.
    budget: usize,
    is_stuck: bool,
    /// Bytes that must have been written before the server says anything.
    patience: usize,
    written: Arc<Mutex<Vec<u8>>>,
    writes: Arc<AtomicUsize>,
}

/// What a test looks at while the codec has the connection.
#[derive(Clone, Default)]
pub(super) struct Seen {
    written: Arc<Mutex<Vec<u8>>>,
    writes: Arc<AtomicUsize>,
}

impl Seen {
    pub(super) fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
    }
}

impl Script {
    pub(super) fn new(reads: impl IntoIterator<Item = impl AsRef<[u8]>>, after: After) -> Script {
        let reads = reads.into_iter().map(|piece| Bytes::copy_from_slice(piece.as_ref()));
        let Seen { written, writes } = Seen::default();
        let reads = reads.filter(|piece| !piece.is_empty()).collect();
        Script {
            reads,
            after,
            waits: true,
            room: usize::MAX,
            budget: usize::MAX,
            is_stuck: false,
            patience: 0,
            written,
            writes,
        }
    }

    pub(super) fn room(mut self, room: usize) -> Script {
        self.room = room;
        self
    }

    /// Takes so many bytes and no more.
    pub(super) fn room_once(mut self, budget: usize) -> Script {
        self.budget = budget;
        self
    }

    /// Takes so many bytes and then none, without a word.
    pub(super) fn stuck_after(mut self, budget: usize) -> Script {
        (self.budget, self.is_stuck) = (budget, true);
        self
    }

    pub(super) fn patience(mut self, patience: usize) -> Script {
        self.patience = patience;
        self
    }

    pub(super) fn seen(&self) -> Seen {
        Seen { written: Arc::clone(&self.written), writes: Arc::clone(&self.writes) }
    }

    pub(super) fn sender(self) -> Sender {
        Sender::new(Stream::Scripted(self))
    }
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.waits = !self.waits;
        if !self.waits || self.written.lock().unwrap().len() < self.patience {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.reads.pop_front() {
            Some(mut piece) => {
                room.put_slice(&piece.split_to(piece.len().min(room.remaining())));
                if !piece.is_empty() {
                    self.reads.push_front(piece);
                }
                Poll::Ready(Ok(()))
            }
            None if self.after == After::End => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Script {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.room).min(self.budget);
        if taken == 0 && self.is_stuck {
            return Poll::Pending;
        }
        if taken == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.budget -= taken;
        self.written.lock().unwrap().extend_from_slice(&bytes[..taken]);
        self.writes.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).take(self.room.max(1)).collect();
        self.poll_write(cx, &whole)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A step of a request's body.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    /// Nothing for one poll.
    Wait,
    Fail,
}

/// A request's body, step by step.
#[derive(Debug, Default)]
pub(super) struct Steps {
    steps: VecDeque<Step>,
    length: Option<u64>,
}

impl Steps {
    pub(super) fn none() -> Steps {
        Steps { steps: VecDeque::new(), length: Some(0) }
    }

    pub(super) fn new(length: Option<u64>, steps: impl IntoIterator<Item = Step>) -> Steps {
        Steps { steps: steps.into_iter().collect(), length }
    }

    pub(super) fn text(text: &'static str) -> Steps {
        Steps::new(Some(text.len() as u64), [Step::Data(Bytes::from_static(text.as_bytes()))])
    }
}

impl http_body::Body for Steps {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match self.steps.pop_front() {
            None => Poll::Ready(None),
            Some(Step::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Step::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Some(Step::Wait) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Fail) => Poll::Ready(Some(Err(BodyFault::ClientIdle))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// Polls until it is ready; a few hundred thousand polls are more than anything here needs.
pub(super) fn drive<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..300_000).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

/// A request without a body.
pub(super) fn bare(method: &str) -> Request<Steps> {
    Request::builder().method(method).uri("/v1/charges?limit=3").body(Steps::none()).unwrap()
}

/// An answer, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, Vec<u8>)>,
    /// Why the body broke off.
    pub(super) broke: Option<String>,
    /// Whether the connection may serve another request.
    pub(super) is_ready: bool,
}

fn listed(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

/// Reads an answer's body to its end.
pub(super) fn read(sender: &Sender, response: Response<Body>) -> Whole {
    let (mut parts, mut body) = response.into_parts();
    if let Some(lines) = body.take_lines() {
        assert!(parts.headers.is_empty(), "fields in lines are in no map");
        lines.fields.add_to(&mut parts.headers);
    }
    let (status, fields) = (parts.status.as_u16(), listed(&parts.headers));
    let mut whole = Whole { status, fields, body: Vec::new(), trailers: Vec::new(), broke: None, is_ready: false };
    while let Some(frame) = drive(std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)))
        .expect("the body goes on or ends")
    {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => whole.body.extend_from_slice(&data),
            Ok(Err(frame)) => whole.trailers = listed(&frame.into_trailers().unwrap()),
            Err(error) => {
                whole.broke = Some(told(&error));
                break;
            }
        }
    }
    drop(body);
    // A piece may come with every other look only.
    let is_closed = sender.is_closed() || sender.is_closed();
    assert!(is_closed || sender.is_ready(), "nothing is left to wait for");
    whole.is_ready = !is_closed;
    whole
}

/// An error without what the operating system says.
pub(super) fn told(error: &ExchangeFault) -> String {
    format!("{error:?}")
}

/// Sends a request; its whole answer or why there is none.
pub(super) fn exchange(script: Script, request: Request<Steps>) -> Result<Whole, Box<Failure<Steps>>> {
    let mut sender = script.sender();
    let response = drive(sender.try_send(request)).expect("the exchange ends")?;
    Ok(read(&sender, response))
}

/// The whole answer to a request without a body, or why there is none: the same whether its fields may come in lines or not.
#[track_caller]
pub(super) fn answered(script: impl Fn() -> Script, method: &str) -> Result<Whole, String> {
    let in_map = exchange(script(), bare(method)).map_err(|failure| told(&failure.error));
    let mut sender = script().sender();
    let sending = sender.try_send_with(Box::new(bare(method)), |_| b"", true);
    let response = drive(sending).expect("the exchange ends").map_err(|failure| told(&failure.error));
    let in_lines = response.map(|response| read(&sender, response));
    let seen = |answer: &Result<Whole, String>| answer.clone().map(without_the_connections);
    assert_eq!(seen(&in_map), seen(&in_lines));
    in_map
}

/// An answer as it goes on: without the fields that end with the connection or frame the body, in any order.
fn without_the_connections(mut whole: Whole) -> Whole {
    let goes_on = |name: &str| !HOP_BY_HOP.contains(&name) && name != "connection" && name != "content-length";
    whole.fields.retain(|(name, _)| goes_on(name));
    whole.fields.sort();
    whole
}
