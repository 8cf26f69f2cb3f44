//! One exchange at a time: the future of a request, until the head of its answer.

use super::body::Body;
use super::fault::{ExchangeFault, Failure};
use super::head::{Asked, Head};
use super::link::{HeadSearch, Link};
use super::stream::Stream;
use super::upload::{Rest, Upload};
use crate::upstream::BodyFault;
use bytes::Bytes;
use http::{Request, Response, Uri};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// The right to send requests on a connection, one at a time. Dropped while nobody reads an answer, it closes the connection.
pub struct Sender {
    link: Rc<RefCell<Link>>,
}

impl Sender {
    /// A connection that nothing was sent on.
    #[must_use]
    pub fn new(stream: Stream) -> Sender {
        Sender { link: Rc::new(RefCell::new(Link::new(stream))) }
    }

    /// Sends a request and waits for the head of its answer. Dropped before it is ready, it leaves a connection that is not
    /// ready and never will be.
    pub fn try_send<B>(&mut self, request: Request<B>) -> Sending<'_, B>
    where
        B: http_body::Body<Data = Bytes, Error = BodyFault> + Unpin,
    {
        self.try_send_with(Box::new(request), |_| b"", false)
    }

    /// The same with further fields for its head, whole lines, which it carries along with its body. `in_lines` says that the answer's
    /// fields may come as [`Lines`](super::Lines) with its body, and none in its map.
    pub fn try_send_with<B>(
        &mut self,
        request: Box<Request<B>>,
        further: fn(&B) -> &[u8],
        in_lines: bool,
    ) -> Sending<'_, B>
    where
        B: http_body::Body<Data = Bytes, Error = BodyFault> + Unpin,
    {
        let asked = Asked::new(request.method(), request.headers(), in_lines);
        let upload = Upload::new(request.body());
        let exchange = Exchange { request, further, upload, refused: None };
        Sending { link: &self.link, exchange: Some(exchange), asked, search: HeadSearch::default(), has_begun: false }
    }

    /// Whether both messages of the last exchange have ended, with nothing in the way of another.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.link.borrow().is_ready()
    }

    /// Whether it will never be ready again, or the server has closed it meanwhile. A connection that is neither closed nor
    /// ready is still busy with its last exchange.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let mut link = self.link.borrow_mut();
        link.is_closed() || (link.is_ready() && link.is_stale())
    }

    /// The connection itself after an answer of 101, with what the server has sent behind it. `None` while anybody still reads
    /// the answer.
    #[must_use]
    pub fn into_io(self) -> Option<(Stream, Bytes)> {
        Rc::into_inner(self.link).map(|link| link.into_inner().into_parts())
    }
}

#[cfg(test)]
impl Sender {
    /// Bytes that the connection keeps while it is idle.
    pub(super) fn kept_bytes(&self) -> usize {
        self.link.borrow().read.capacity()
    }
}

/// A request and how far it is.
struct Exchange<B> {
    /// Its fields make room for the answer's once they are written.
    request: Box<Request<B>>,
    further: fn(&B) -> &[u8],
    upload: Upload,
    /// Why the server takes no more of it. It may have answered before that.
    refused: Option<ExchangeFault>,
}

/// The future of an answer's head.
#[must_use = "nothing is sent unless it is polled"]
pub struct Sending<'a, B> {
    link: &'a Rc<RefCell<Link>>,
    /// Taken when it is ready.
    exchange: Option<Exchange<B>>,
    asked: Asked,
    search: HeadSearch,
    has_begun: bool,
}

impl<B> Future for Sending<'_, B>
where
    B: http_body::Body<Data = Bytes, Error = BodyFault> + Unpin + 'static,
{
    type Output = Result<Response<Body>, Box<Failure<B>>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut link = this.link.borrow_mut();
        let outcome = match &mut this.exchange {
            Some(exchange) => {
                if !this.has_begun {
                    this.has_begun = true;
                    link.begin();
                    exchange.upload.begin(&exchange.request, exchange.further);
                }
                ready!(exchange.poll(&mut link, cx, this.asked, &mut this.search))
            }
            None => return Poll::Pending,
        };
        let Some(exchange) = this.exchange.take() else { return Poll::Pending };
        Poll::Ready(match outcome {
            Ok(answer) => {
                drop(link);
                Ok(exchange.respond(this.link, answer))
            }
            Err(error) => {
                link.close();
                Err(exchange.fail(error, this.search.answered))
            }
        })
    }
}

impl<B> Exchange<B>
where
    B: http_body::Body<Data = Bytes, Error = BodyFault> + Unpin,
{
    /// Writes what there is to write and reads what there is to read, in one task.
    fn poll(
        &mut self,
        link: &mut Link,
        cx: &mut Context<'_>,
        asked: Asked,
        search: &mut HeadSearch,
    ) -> Poll<Result<Response<Head>, ExchangeFault>> {
        if !self.upload.is_done && self.refused.is_none() {
            match self.upload.poll(self.request.body_mut(), link.stream(), cx) {
                Poll::Ready(Ok(())) => link.upload_ended(true),
                Poll::Ready(Err(error @ ExchangeFault::Io(_))) if self.upload.outgoing.began => {
                    link.upload_ended(false);
                    self.refused = Some(error);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            if self.upload.is_begun {
                // Nobody can be given the request back any more, and its head shares memory with much else.
                self.request.headers_mut().clear();
                *self.request.uri_mut() = Uri::default();
            }
        }
        // An answer's fields go where the request's were, once it has come: there is room for them already.
        let outcome = ready!(link.poll_head(cx, asked, search, self.request.headers_mut()));
        Poll::Ready(match (outcome, &mut self.refused) {
            (Ok(head), _) => {
                let status = head.status;
                let mut answer = Response::new(head);
                *answer.status_mut() = status;
                *answer.headers_mut() = std::mem::take(self.request.headers_mut());
                Ok(answer)
            }
            (Err(error), refused) => Err(refused.take().unwrap_or(error)),
        })
    }

    fn fail(self, error: ExchangeFault, answered: bool) -> Box<Failure<B>> {
        let Exchange { request, upload, .. } = self;
        let written = upload.outgoing.began;
        let unsent = (!upload.is_begun && !answered).then_some(request);
        Box::new(Failure { unsent, error, written, answered })
    }

    /// The answer with its body, which reads on. What is left of the request goes on by itself.
    fn respond(self, link: &Rc<RefCell<Link>>, answer: Response<Head>) -> Response<Body>
    where
        B: 'static,
    {
        if !self.upload.is_done && self.refused.is_none() {
            let task = tokio::task::spawn_local(Rest::new(Rc::downgrade(link), self.request, self.upload));
            link.borrow_mut().upload_goes_on(task.abort_handle());
        }
        answer.map(|head| Body::new(link, head.framing, head.lines))
    }
}
