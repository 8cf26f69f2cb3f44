//! One request of an HTTP/2 connection, from its head to the last byte of its answer.

use super::{grpc, head};
use crate::gateway::context::RequestLabels;
use crate::gateway::headers::REQUEST_ID;
use crate::gateway::{GatewayBody, Home, words};
use crate::server::door::Door;
use crate::server::wire::{WireFault, WireLimits};
use crate::upstream::{Broken, ClientBody, Pipe, StreamBody, Wanted};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tower::Service;

/// What the streams of a connection share.
pub(super) struct Desk<S> {
    door: Rc<Door>,
    stack: RefCell<S>,
    limits: WireLimits,
    write_timeout: Duration,
}

impl<S> Desk<S> {
    pub(super) fn new(door: &Rc<Door>, stack: S, limits: WireLimits, write_timeout: Duration) -> Desk<S> {
        Desk { door: Rc::clone(door), stack: RefCell::new(stack), limits, write_timeout }
    }

    fn home(&self) -> &Rc<Home> {
        &self.door.home
    }

    /// An answer's body panicked. Its stream is reset, the others go on.
    pub(super) fn panicked(&self) {
        self.home().shared.metrics.panics.inc();
    }

    /// Answers a head that never became a request.
    fn refuse(&self, fault: WireFault) -> Response<GatewayBody> {
        let home = self.home();
        let labels = RequestLabels { route: None, mode: None, access: None, status: fault.status().as_u16() };
        home.view().count(&home.shared.metrics, labels);
        home.shared.metrics.bad_request(fault.label());
        let mut response = Response::new(GatewayBody::own(words::Words::invalid_request(fault.message()).to_json()));
        *response.status_mut() = fault.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REQUEST_ID, home.ids.request_id());
        response
    }
}

/// Serves one request. Dropped, or reset by the client, it gives up whatever it held.
pub(super) async fn answer<S>(desk: Rc<Desk<S>>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>)
where
    S: Service<Request<ClientBody>, Response = Response<GatewayBody>, Error = Infallible>,
{
    let is_head = *request.method() == Method::HEAD;
    let is_call = grpc::is_call(request.headers());
    let (mut parts, stream) = request.into_parts();
    let has_body = !stream.is_end_stream();
    let response = match head::admit(&mut parts, &desk.limits) {
        Ok(()) => {
            let wanted = parts.headers.contains_key(header::EXPECT).then(Rc::<Wanted>::default);
            let body = StreamBody::new(&parts.headers, stream, head::check_trailers);
            let body = match &wanted {
                Some(wanted) => body.telling(Rc::clone(wanted)),
                None => body,
            };
            let request = Request::from_parts(parts, ClientBody::Http2(body));
            let future = desk.stack.borrow_mut().call(request);
            match unless_reset(future, &mut respond, wanted.as_deref()).await {
                Some(response) => response,
                None => return,
            }
        }
        Err(fault) => desk.refuse(fault),
    };
    let response = if is_call { grpc::translate(response) } else { response };
    // Nobody reads the body of what is refused here; one that came too late is not even on its way.
    let is_late = response.status() == StatusCode::REQUEST_TIMEOUT;
    let is_cut = has_body && !is_late && matches!(response.body(), GatewayBody::Own(_));
    let Some(mut pipe) = send(&desk, response, respond, is_head).await else { return };
    if is_cut {
        // Letting go of the stream resets it, and clients that are still sending then drop the answer unread.
        let _ = tokio::time::timeout(LINGER, poll_fn(|cx| pipe.poll_left(cx))).await;
    }
}

/// Time for a client to read its refusal while it sends a body that nobody wants.
const LINGER: Duration = Duration::from_secs(1);

/// The answer, unless the client resets its request before.
async fn unless_reset<F>(
    answer: F,
    respond: &mut SendResponse<Bytes>,
    wanted: Option<&Wanted>,
) -> Option<Response<GatewayBody>>
where
    F: Future<Output = Result<Response<GatewayBody>, Infallible>>,
{
    let mut answer = pin!(answer);
    let mut wanted = wanted;
    poll_fn(|cx| {
        let polled = answer.as_mut().poll(cx);
        if let Poll::Ready(Ok(response)) = polled {
            return Poll::Ready(Some(response));
        }
        if wanted.is_some_and(|wanted| wanted.poll_asked(cx).is_ready()) {
            wanted = None;
            let mut go_on = Response::new(());
            *go_on.status_mut() = StatusCode::CONTINUE;
            // Without it the client sends its body a little later.
            let _ = respond.send_informational(go_on);
        }
        respond.poll_reset(cx).map(|_| None)
    })
    .await
}

/// The date of this second.
fn date<S>(desk: &Desk<S>) -> Option<HeaderValue> {
    let mut date = Vec::new();
    desk.door.spares.put_date(&mut date);
    HeaderValue::try_from(date).ok()
}

/// Sends an answer until its last byte has been taken by the client's windows; what has been sent whole is answered.
async fn send<S>(
    desk: &Desk<S>,
    mut response: Response<GatewayBody>,
    mut respond: SendResponse<Bytes>,
    is_head: bool,
) -> Option<Pipe<GatewayBody>> {
    let length = response.body().size_hint().exact();
    head::finish(&mut response, length, || date(desk));
    let (parts, body) = response.into_parts();
    let has_body = !(is_head || head::is_bodiless(parts.status) || body.is_end_stream());
    let Ok(stream) = respond.send_response(Response::from_parts(parts, ()), !has_body) else {
        // It was reset just now.
        return None;
    };
    if !has_body {
        return None;
    }
    let mut pipe = Pipe::new(body, stream, Reason::INTERNAL_ERROR, desk.write_timeout);
    match poll_fn(|cx| pipe.poll(cx)).await {
        Ok(()) => return Some(pipe),
        Err(Broken::Stalled) => tracing::debug!("a client does not read its response"),
        // Whoever broke off knows it, or was told.
        Err(Broken::Refused | Broken::Body(_)) => {}
    }
    None
}
