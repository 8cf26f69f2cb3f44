//! One request of an HTTP/2 connection, from its head to the last byte of its answer.

use super::{grpc, head};
use crate::budget::Charge;
use crate::config::Server;
use crate::fields;
use crate::gateway::context::RequestLabels;
use crate::gateway::headers::REQUEST_ID;
use crate::gateway::{Arrived, GatewayBody, Home, words};
use crate::server::door::Door;
use crate::server::wire::{WireFault, WireLimits};
use crate::upstream::{Bodies, Broken, ClientBody, Pace, Pipe, StreamBody, Wanted};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{FlowControl, Reason, RecvStream, StreamId};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;
use tower::Service;

/// What the streams of a connection share.
pub(super) struct Desk<S> {
    door: Rc<Door>,
    stack: RefCell<S>,
    limits: WireLimits,
    write_timeout: Duration,
    min_write_rate: usize,
    bodies: Rc<Bodies>,
    uploads: Uploads,
    /// Wakes the streams when the gateway ends.
    cut: Notify,
    is_cut: Cell<bool>,
}

impl<S> Desk<S> {
    pub(super) fn new(door: &Rc<Door>, stack: S, limits: WireLimits, server: &Server, bodies: &Rc<Bodies>) -> Desk<S> {
        Desk {
            door: Rc::clone(door),
            stack: RefCell::new(stack),
            limits,
            write_timeout: server.write_timeout,
            min_write_rate: server.min_write_rate,
            bodies: Rc::clone(bodies),
            uploads: Uploads::new(Charge::none(&door.home.shared.budget)),
            cut: Notify::new(),
            is_cut: Cell::new(false),
        }
    }

    /// Whether the gateway ends. The streams are told once: each has a last answer to give.
    pub(super) fn is_cut(&self) -> bool {
        if self.home().is_cutting() && !self.is_cut.replace(true) {
            self.cut.notify_waiters();
        }
        self.is_cut.get()
    }

    /// Takes memory for what has come of bodies and waits for its readers. `has_come`: whether more has.
    pub(super) fn charge_uploads(&self, has_come: bool) {
        self.uploads.charge(has_come);
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
        let mut response = Response::new(GatewayBody::own(words::Words::of_fault(fault).to_json()));
        *response.status_mut() = fault.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REQUEST_ID, home.ids.request_id());
        if fault == WireFault::Overloaded {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The bodies of a connection's requests, as far as they wait here for their readers.
struct Uploads {
    open: RefCell<Vec<(StreamId, FlowControl)>>,
    charge: RefCell<Charge>,
    is_charged: Cell<bool>,
}

impl Uploads {
    fn new(charge: Charge) -> Uploads {
        Uploads { open: RefCell::default(), charge: RefCell::new(charge), is_charged: Cell::new(false) }
    }

    fn enter(&self, stream: &mut RecvStream) -> Upload<'_> {
        let id = stream.stream_id();
        self.open.borrow_mut().push((id, stream.flow_control().clone()));
        Upload { uploads: self, id }
    }

    /// Counts what waits, where that may have changed: mostly nothing does.
    fn charge(&self, has_come: bool) {
        if has_come || self.is_charged.get() {
            let waits: usize = self.open.borrow().iter().map(|(_, window)| window.used_capacity()).sum();
            self.charge.borrow_mut().set(waits);
            self.is_charged.set(waits > 0);
        }
    }
}

/// One of them.
struct Upload<'a> {
    uploads: &'a Uploads,
    id: StreamId,
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        self.uploads.open.borrow_mut().retain(|(id, _)| *id != self.id);
    }
}

/// Serves one request. Dropped, or reset by the client, it gives up whatever it held; when the gateway ends, it is polled.
pub(super) async fn answer<S>(desk: Rc<Desk<S>>, request: Request<RecvStream>, respond: SendResponse<Bytes>)
where
    S: Service<Arrived<ClientBody>, Response = Response<GatewayBody>, Error = Infallible>,
{
    let mut cut = pin!(desk.cut.notified());
    let mut served = pin!(serve(&desk, request, respond));
    let mut is_cut = false;
    poll_fn(|cx| {
        is_cut = is_cut || cut.as_mut().poll(cx).is_ready();
        served.as_mut().poll(cx)
    })
    .await;
}

async fn serve<S>(desk: &Desk<S>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>)
where
    S: Service<Arrived<ClientBody>, Response = Response<GatewayBody>, Error = Infallible>,
{
    let is_head = *request.method() == Method::HEAD;
    let is_call = grpc::is_call(request.headers());
    let (mut parts, mut stream) = request.into_parts();
    let has_body = !stream.is_end_stream();
    let is_short = has_body && desk.home().shared.budget.is_short();
    let _upload = has_body.then(|| desk.uploads.enter(&mut stream));
    let admitted = if is_short { Err(WireFault::Overloaded) } else { head::admit(&mut parts, &desk.limits) };
    let response = match admitted {
        Ok(()) => {
            let wanted = parts.headers.contains_key(header::EXPECT).then(Rc::<Wanted>::default);
            let body = StreamBody::new(&parts.headers, stream, head::check_trailers);
            let body = match &wanted {
                Some(wanted) => body.telling(Rc::clone(wanted)),
                None => body,
            };
            let request = Arrived::from(Request::from_parts(parts, ClientBody::Http2(Box::new(body))));
            let future = desk.stack.borrow_mut().call(request);
            match unless_reset(future, &mut respond, wanted.as_deref()).await {
                Some(response) => GatewayBody::spelled_out(response),
                None => return,
            }
        }
        Err(fault) => desk.refuse(fault),
    };
    let response = if is_call { grpc::translate(response) } else { response };
    // Nobody reads the body of what is refused here; one that came too late is not even on its way.
    let is_late = response.status() == StatusCode::REQUEST_TIMEOUT;
    let is_cut = has_body && !is_late && matches!(response.body(), GatewayBody::Own(..));
    let Some(mut pipe) = send(desk, response, respond, is_head, is_call).await else { return };
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
    is_call: bool,
) -> Option<Pipe<GatewayBody>> {
    let length = response.body().size_hint().exact();
    head::finish(&mut response, length, || date(desk));
    fields::keep_out_of_tables(response.headers_mut());
    let (parts, body) = response.into_parts();
    let has_body = !(is_head || head::is_bodiless(parts.status) || body.is_end_stream());
    let Ok(stream) = respond.send_response(Response::from_parts(parts, ()), !has_body) else {
        // It was reset just now.
        return None;
    };
    if !has_body {
        return None;
    }
    // A call is a conversation: a client that thinks about what it was told is not slow.
    let pace = Pace::new(desk.write_timeout, if is_call { 0 } else { desk.min_write_rate });
    let charge = Charge::none(&desk.home().shared.budget);
    let mut pipe = Pipe::new(body, stream, Reason::INTERNAL_ERROR, pace).among(&desk.bodies, charge);
    match poll_fn(|cx| pipe.poll(cx)).await {
        Ok(()) => return Some(pipe),
        Err(Broken::Stalled) => tracing::debug!("a client does not read its response"),
        // Whoever broke off knows it, or was told.
        Err(Broken::Refused | Broken::Body(_)) => {}
    }
    None
}
