//! The body of an answer: whoever reads it reads the connection.

use super::chunks::{Chunks, Decoded};
use super::fault::ExchangeFault;
use super::head::Framing;
use super::lines::Lines;
use super::link::Link;
use super::{LEAST_READ_BYTES, MAX_READ_BYTES};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// An answer's body. Dropped before its end, it closes the connection.
pub struct Body {
    /// Let go of at the body's end: from then on the connection may be somebody else's.
    link: Option<Rc<RefCell<Link>>>,
    decoder: Decoder,
    /// Bytes to read next, where nobody knows how many are left: more as long as reads are full.
    appetite: usize,
    /// Why it breaks off: told one turn late, so that what came before it is with the client by then.
    fault: Option<ExchangeFault>,
    fault_is_due: bool,
    /// The fields of the head before it, where they are in no map.
    lines: Option<Lines>,
}

enum Decoder {
    /// So many bytes are left.
    Length(u64),
    Chunked(Chunks),
    UntilClose,
}

impl Body {
    /// The body of the answer whose head has just been taken from `link`.
    pub(super) fn new(link: &Rc<RefCell<Link>>, framing: Framing, lines: Option<Lines>) -> Body {
        let decoder = match framing {
            Framing::Empty => Decoder::Length(0),
            Framing::Length(length) => Decoder::Length(length),
            Framing::Chunked => Decoder::Chunked(Chunks::new()),
            Framing::UntilClose => Decoder::UntilClose,
        };
        let (link_of_body, appetite) = (Some(Rc::clone(link)), LEAST_READ_BYTES);
        let mut body = Body { link: link_of_body, decoder, appetite, fault: None, fault_is_due: false, lines };
        if framing == Framing::Empty {
            body.end(&mut link.borrow_mut());
        }
        body
    }

    /// The fields of the head before it, where they are in no map.
    pub fn take_lines(&mut self) -> Option<Lines> {
        self.lines.take()
    }

    fn end(&mut self, link: &mut Link) {
        link.answer_ended();
        self.decoder = Decoder::Length(0);
        self.link = None;
    }

    fn poll(&mut self, link: &mut Link, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, ExchangeFault>> {
        loop {
            match self.decode(link)? {
                Decoded::Data(data) => return Poll::Ready(Ok(Some(Frame::data(data)))),
                Decoded::Trailers(trailers) => {
                    self.end(link);
                    return Poll::Ready(Ok(Some(Frame::trailers(trailers))));
                }
                Decoded::End => {
                    self.end(link);
                    return Poll::Ready(Ok(None));
                }
                Decoded::More => {}
            }
            let wanted = match self.decoder {
                Decoder::Length(left) => usize::try_from(left).unwrap_or(MAX_READ_BYTES),
                _ => self.appetite,
            };
            match ready!(link.poll_more(cx, wanted)).map_err(ExchangeFault::Io)? {
                0 if matches!(self.decoder, Decoder::UntilClose) => {
                    self.end(link);
                    return Poll::Ready(Ok(None));
                }
                0 => return Poll::Ready(Err(ExchangeFault::Closed)),
                read if read >= self.appetite => self.appetite = (2 * read).min(MAX_READ_BYTES),
                _ => {}
            }
        }
    }

    /// The next piece of what has been read. The end comes with the last piece wherever it can.
    fn decode(&mut self, link: &mut Link) -> Result<Decoded, ExchangeFault> {
        match &mut self.decoder {
            Decoder::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(link.read.len());
                if here == 0 {
                    return Ok(Decoded::More);
                }
                *left -= here as u64;
                let is_last = *left == 0;
                let data = link.take(here);
                if is_last {
                    self.end(link);
                }
                Ok(Decoded::Data(data))
            }
            Decoder::Chunked(chunks) => {
                let decoded = chunks.decode(&mut link.read)?;
                link.leave_room();
                if matches!(decoded, Decoded::Data(_)) {
                    match chunks.is_over(&mut link.read) {
                        Ok(true) => self.end(link),
                        Ok(false) => {}
                        Err(error) => self.fault = Some(error.into()),
                    }
                    link.leave_room();
                }
                Ok(decoded)
            }
            Decoder::UntilClose if link.read.is_empty() => Ok(Decoded::More),
            Decoder::UntilClose => Ok(Decoded::Data(std::mem::take(&mut link.read).freeze())),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = ExchangeFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ExchangeFault>>> {
        let Some(shared) = self.link.clone() else { return Poll::Ready(None) };
        let mut link = shared.borrow_mut();
        if self.fault.is_none() {
            match ready!(self.poll(&mut link, cx)) {
                Ok(frame) => return Poll::Ready(frame.map(Ok)),
                Err(fault) => self.fault = Some(fault),
            }
        }
        link.close();
        if !std::mem::replace(&mut self.fault_is_due, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.link = None;
        Poll::Ready(self.fault.take().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.link.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.decoder {
            Decoder::Length(left) => SizeHint::with_exact(left),
            Decoder::Chunked(_) | Decoder::UntilClose => SizeHint::new(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.borrow_mut().close();
        }
    }
}
