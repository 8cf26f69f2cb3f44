//! A connection and what is known of it: shared by whoever sends on it, whoever reads its answer, and the pool.

use super::fault::{ExchangeFault, Malformed};
use super::head::{self, Asked, Head};
use super::section::Search;
use super::stream::Stream;
use super::{LEAST_READ_BYTES, MAX_HEAD_BYTES, MAX_INTERIM, MAX_READ_BYTES};
use crate::upstream::room;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::AsyncReadExt;
use tokio::task::AbortHandle;

/// One connection.
pub(super) struct Link {
    stream: Stream,
    /// Read, and not taken yet.
    pub(super) read: BytesMut,
    answer: Answer,
    upload: Upload,
    /// The server agreed to another request.
    keeps: bool,
    /// It never serves another request, and nothing of it is to be trusted.
    closed: bool,
    /// The upload broke off behind the head of the answer.
    is_broken: bool,
    /// Who reads the answer while the upload goes on.
    reader: Option<Waker>,
}

/// How far the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// None is expected.
    None,
    Head,
    Body,
}

/// How far the request is.
enum Upload {
    /// Nothing is left to write.
    Done,
    /// Whoever waits for the answer writes.
    Sending,
    /// A task of its own writes.
    Task(#[expect(dead_code, reason = "held for what its drop does")] AbortOnDrop),
}

/// A task that ends when this is dropped.
pub(super) struct AbortOnDrop(pub(super) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The search for the head of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadSearch {
    search: Search,
    /// Interim answers so far, and their bytes.
    interim: usize,
    interim_bytes: usize,
    /// Whether any byte of an answer came.
    pub(super) answered: bool,
}

impl Link {
    pub(super) fn new(stream: Stream) -> Link {
        Link {
            stream,
            read: BytesMut::new(),
            answer: Answer::None,
            upload: Upload::Done,
            keeps: true,
            closed: false,
            is_broken: false,
            reader: None,
        }
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// The connection itself, and what was read of it and not taken.
    pub(super) fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.read.freeze())
    }

    /// Whether it can take a request, as far as is known without asking the connection.
    pub(super) fn is_ready(&self) -> bool {
        self.answer == Answer::None && matches!(self.upload, Upload::Done) && self.keeps && !self.closed
    }

    /// Whether it will never be ready again.
    pub(super) fn is_closed(&self) -> bool {
        self.closed || (self.answer == Answer::None && !self.keeps)
    }

    /// Whether the server has closed an idle connection, or sent what nobody asked for. It costs no system call unless something
    /// has come.
    pub(super) fn is_stale(&mut self) -> bool {
        self.closed |= !self.read.is_empty() || !self.stream.is_silent();
        self.closed
    }

    /// A request is about to be written.
    pub(super) fn begin(&mut self) {
        self.answer = Answer::Head;
        self.upload = Upload::Sending;
    }

    /// Nobody goes on with it.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.upload = Upload::Done;
    }

    /// All of the request is written, or no more of it will be.
    pub(super) fn upload_ended(&mut self, is_whole: bool) {
        self.upload = Upload::Done;
        self.closed |= !is_whole;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// The request's body broke off: the server waits for more, and so nothing more is to be expected from it.
    pub(super) fn break_off(&mut self) {
        self.is_broken = true;
        self.upload_ended(false);
    }

    /// The request's body goes on by itself.
    pub(super) fn upload_goes_on(&mut self, task: AbortHandle) {
        self.upload = Upload::Task(AbortOnDrop(task));
    }

    /// Reads up to the head of the final answer.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        asked: Asked,
        search: &mut HeadSearch,
        headers: &mut HeaderMap,
    ) -> Poll<Result<Head, ExchangeFault>> {
        loop {
            if let Some(head) = self.take_head(asked, search, headers)? {
                return Poll::Ready(Ok(head));
            }
            if ready!(self.poll_more(cx, LEAST_READ_BYTES)).map_err(ExchangeFault::Io)? == 0 {
                return Poll::Ready(Err(ExchangeFault::Closed));
            }
            search.answered = true;
        }
    }

    /// The head of the final answer, if it is there.
    fn take_head(
        &mut self,
        asked: Asked,
        search: &mut HeadSearch,
        headers: &mut HeaderMap,
    ) -> Result<Option<Head>, Malformed> {
        loop {
            if !head::may_begin(&self.read) {
                return Err(Malformed::NotHttp);
            }
            let Some(length) = search.search.end(&self.read, MAX_HEAD_BYTES - search.interim_bytes)? else {
                return Ok(None);
            };
            let bytes = self.read.get(..length).unwrap_or_default();
            let line = head::status_line(bytes)?;
            let status = line.status;
            if let Some(head) = head::plain(bytes, &line, asked) {
                // The request's fields: nothing of them is the answer's.
                headers.clear();
                self.read.advance(length);
                self.leave_room();
                return Ok(Some(self.answer_begins(head)));
            }
            let bytes = self.take(length);
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                if status == StatusCode::SWITCHING_PROTOCOLS && !asked.upgrade {
                    return Err(Malformed::Unasked);
                }
                headers.clear();
                let head = head::parse(&bytes, line, asked, headers)?;
                return Ok(Some(self.answer_begins(head)));
            }
            search.interim += 1;
            search.interim_bytes += length;
            search.search = Search::default();
            if search.interim > MAX_INTERIM || search.interim_bytes >= MAX_HEAD_BYTES {
                return Err(Malformed::TooManyInterim);
            }
        }
    }

    /// The head of the final answer has been taken.
    fn answer_begins(&mut self, head: Head) -> Head {
        self.keeps = head.keeps && head.status != StatusCode::SWITCHING_PROTOCOLS;
        self.answer = Answer::Body;
        head
    }

    /// Takes the first `length` bytes of what was read. What is empty then keeps no room.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        if length >= self.read.len() {
            return std::mem::take(&mut self.read).freeze();
        }
        self.read.split_to(length).freeze()
    }

    /// Reads what there is, up to about `wanted` bytes; 0 is the end.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        if self.is_broken {
            return Poll::Ready(Ok(0));
        }
        let wanted = wanted.clamp(LEAST_READ_BYTES, MAX_READ_BYTES);
        let outcome = if self.read.is_empty() {
            let (outcome, fresh) = room::with_room(wanted, |room| pin!(self.stream.read_buf(room)).poll(cx));
            self.read = fresh;
            outcome
        } else {
            // It was read into the room, and goes on in memory of its own.
            self.read.reserve(wanted);
            pin!(self.stream.read_buf(&mut self.read)).poll(cx)
        };
        if outcome.is_pending() && matches!(self.upload, Upload::Task(_)) {
            self.reader = Some(cx.waker().clone());
        }
        outcome
    }

    /// The answer's last byte has been taken.
    pub(super) fn answer_ended(&mut self) {
        self.answer = Answer::None;
        self.reader = None;
        // What follows was not asked for: it must never be taken for the answer to somebody else's request.
        self.closed |= !self.read.is_empty();
        if self.is_closed() {
            self.close();
        }
        // What came behind a switch of protocols belongs to the other one.
        self.leave_room();
    }

    /// Even an empty part of the room that was read into would keep all of it.
    pub(super) fn leave_room(&mut self) {
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
    }
}
