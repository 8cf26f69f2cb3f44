//! A client's body whose beginning may have been read already, to be passed on byte for byte all the same.

use super::pace::Pace;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A body that can be read ahead of its reader, within a bound.
///
/// What was read is handed out first, as one piece, then what follows; the length that is known, the trailers and an error stay
/// what they are. At most the bound and one frame are held.
pub struct ReadAhead<B> {
    inner: B,
    /// What was read.
    front: Bytes,
    /// A frame that came after it: more than the bound admits, or the trailers. Boxed: it is seldom, and a body is moved a lot.
    next: Option<Box<Frame<Bytes>>>,
    /// The body has no more frames.
    ended: bool,
}

/// How far reading ahead came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of the body was read.
    Whole,
    /// The body is longer than the bound.
    Beyond,
}

/// Why reading ahead failed.
#[derive(Debug)]
pub enum ReadFault<E> {
    /// The body could not be read.
    Body(E),
    /// Nothing came for too long.
    Idle,
}

impl<B> ReadAhead<B> {
    /// Nothing read yet.
    #[must_use]
    pub fn new(inner: B) -> ReadAhead<B> {
        ReadAhead { inner, front: Bytes::new(), next: None, ended: false }
    }

    /// A body that was read before, whole. `inner` has nothing.
    #[must_use]
    pub fn again(inner: B, whole: Bytes) -> ReadAhead<B> {
        ReadAhead { inner, front: whole, next: None, ended: true }
    }

    /// The whole body, if it was read to its end and has no trailers.
    #[must_use]
    pub fn whole(&self) -> Option<&Bytes> {
        (self.ended && self.next.is_none()).then_some(&self.front)
    }

    /// Whether it was found to be longer than the bound, or to have trailers.
    #[must_use]
    pub fn is_beyond(&self) -> bool {
        self.next.is_some()
    }

    /// Puts what was handed out back in front. `is_whole`: nothing comes after it.
    pub fn put_back(&mut self, handed: Bytes, is_whole: bool) {
        if !handed.is_empty() {
            self.front = handed;
        }
        self.ended |= is_whole;
    }

    /// The body itself.
    pub fn inner_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    /// What was read so far.
    #[must_use]
    pub fn front(&self) -> &Bytes {
        &self.front
    }
}

impl<B: Body<Data = Bytes> + Unpin> ReadAhead<B> {
    /// Reads on until the body ends or has more than `most` bytes. `gathered` must be the same at each call.
    ///
    /// # Errors
    /// When the body fails, or is slower than `pace` admits.
    pub fn poll_ahead(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        gathered: &mut BytesMut,
        pace: &mut Pace,
    ) -> Poll<Result<Reach, ReadFault<B::Error>>> {
        loop {
            let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(pace.poll_expired(cx));
                    return Poll::Ready(Err(ReadFault::Idle));
                }
            };
            let length = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
            pace.advance(length);
            let reach = match frame {
                None => Reach::Whole,
                Some(Err(error)) => return Poll::Ready(Err(ReadFault::Body(error))),
                Some(Ok(frame)) => match self.add(frame, most, gathered) {
                    Some(reach) => reach,
                    None if self.inner.is_end_stream() => Reach::Whole,
                    None => continue,
                },
            };
            self.ended = reach == Reach::Whole;
            if !gathered.is_empty() {
                self.front = std::mem::take(gathered).freeze();
            }
            return Poll::Ready(Ok(reach));
        }
    }

    /// Keeps a frame. The first one is kept as it is; from the second on all are copied together, so that a body that comes byte
    /// by byte takes no more room than its bytes.
    fn add(&mut self, frame: Frame<Bytes>, most: usize, gathered: &mut BytesMut) -> Option<Reach> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => {
                self.next = Some(Box::new(trailers));
                return Some(Reach::Whole);
            }
        };
        let length = self.front.len() + gathered.len();
        if length + data.len() > most {
            self.next = Some(Box::new(Frame::data(data)));
            return Some(Reach::Beyond);
        }
        if length == 0 {
            self.front = data;
        } else {
            if gathered.is_empty() {
                let expected = self.inner.size_hint().lower();
                let rest = usize::try_from(expected).unwrap_or(most).min(most);
                gathered.reserve(length + data.len() + rest.min(most - length - data.len()));
                gathered.extend_from_slice(&std::mem::take(&mut self.front));
            }
            gathered.extend_from_slice(&data);
        }
        None
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ReadAhead<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if !self.front.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.front)))));
        }
        if let Some(frame) = self.next.take() {
            return Poll::Ready(Some(Ok(*frame)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.front.is_empty() && self.next.is_none() && (self.ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let next = self.next.as_deref().and_then(Frame::data_ref).map_or(0, Bytes::len);
        let ahead = u64::try_from(self.front.len() + next).unwrap_or(u64::MAX);
        let mut hint = SizeHint::new();
        let rest = self.inner.size_hint();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}
