//! One client connection: TLS where configured, the wire guard, HTTP/1.1, the stack.

use super::door::{Door, Place};
use super::lent::Lent;
use super::proxy_protocol;
use super::wire::{self, Answers, Followed, Guarded, WireFault, WireLimits};
use crate::budget::Charge;
use crate::gateway::context::{RequestLabels, View};
use crate::gateway::{GatewayBody, Home, Peer, forward, stack, words};
use crate::metrics::Closed;
use crate::upstream::{self, ClientBody, Gather, Leftover, Pace};
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tower::Service;

/// Serves a connection from its first byte to its last.
pub(super) async fn serve(mut place: Place, mut socket: TcpStream, peer: IpAddr) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a client left at once");
        return;
    }
    let Some(client) = client_of(&mut place, &mut socket, peer).await else { return };
    let view = place.door.home.view();
    match &view.snapshot.tls {
        None => serve_http(&place, socket, Peer::new(client, false)).await,
        Some(acceptor) => {
            let timeout = view.snapshot.config.server.header_timeout;
            match tokio::time::timeout(timeout, acceptor.accept(socket)).await {
                Ok(Ok(stream)) => serve_http(&place, stream, Peer::new(client, true)).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake did not end in time"),
            }
        }
    }
}

/// The client's address: the peer's, or behind a balancer the one it names. `None`: the connection is closed.
async fn client_of(place: &mut Place, socket: &mut TcpStream, peer: IpAddr) -> Option<IpAddr> {
    if !place.door.is_behind_balancer() {
        return Some(peer);
    }
    let timeout = place.door.home.view().snapshot.config.server.header_timeout;
    let accept = &place.door.home.shared.metrics.accept;
    if !place.door.believes(peer) {
        tracing::debug!(%peer, "a connection that comes from no trusted proxy");
        accept.refuse(Closed::ProxyProtocol);
        return None;
    }
    let client = match tokio::time::timeout(timeout, proxy_protocol::read(socket)).await {
        Ok(Ok(client)) => client.unwrap_or(peer).to_canonical(),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a connection without a PROXY protocol header");
            accept.refuse(Closed::ProxyProtocol);
            return None;
        }
        Err(_) => {
            tracing::debug!(%peer, "a PROXY protocol header did not come in time");
            accept.refuse(Closed::ProxyProtocol);
            return None;
        }
    };
    place.count(client).then_some(client)
}

async fn serve_http<IO>(place: &Place, stream: IO, peer: Peer)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let door = &place.door;
    let view = door.home.view();
    let server = &view.snapshot.config.server;
    let peer = Rc::new(peer);
    let budget = &door.home.shared.budget;
    let guarded = Guarded::new(Gather(stream), limits(server)).charged_to(Charge::none(budget));
    let guarded = Rc::new(RefCell::new(guarded));
    let pace = Pace::new(server.write_timeout, server.min_write_rate);
    let lent = Lent::new(&guarded, &peer, pace, Charge::none(budget));
    let forward = tower::service_fn(forward::forward);
    let answers = guarded.borrow().answers();
    let service = Adapter {
        stack: RefCell::new(stack(&door.home, &peer, forward)),
        door: Rc::clone(door),
        answers,
        leftover: Rc::default(),
        body_timeout: server.body_timeout,
    };
    let entry = door.guests.enter(&peer, door.home.now());
    let ended = {
        let connection = http1::Builder::new()
            // Idle connections are the guests' business, slow heads the guard's.
            .header_read_timeout(None)
            .max_buf_size(server.max_header_bytes + READ_AHEAD_BYTES)
            .max_header_size(server.max_header_bytes + READ_AHEAD_BYTES)
            .max_headers(server.max_headers)
            .serve_connection(TokioIo::new(lent), service);
        let mut connection = pin!(connection);
        let mut leaves = false;
        poll_fn(|cx| {
            if !leaves && entry.guest.is_asked(cx) {
                leaves = true;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx)
        })
        .await
    };
    drop(entry);
    // hyper has let go of its part, so this is the last one.
    let Some(guarded) = Rc::into_inner(guarded).map(RefCell::into_inner) else { return };
    let fault = guarded.unanswered();
    let mut stream = guarded.into_inner();
    match (fault, ended) {
        (Some(fault), _) => refuse(&view, &door.home, fault, &mut stream).await,
        (None, Ok(())) => wire::linger(&mut stream).await,
        // The answer broke off: the client must see that it did, so nothing is ended cleanly.
        (None, Err(error)) => tracing::debug!(%error, "a client connection ended"),
    }
}

/// What hyper may hold of a connection besides one whole head.
const READ_AHEAD_BYTES: usize = 32 * 1024;

fn limits(server: &crate::config::Server) -> WireLimits {
    WireLimits {
        max_head_bytes: server.max_header_bytes,
        max_headers: server.max_headers,
        max_target_bytes: server.max_uri_bytes,
        head_timeout: server.header_timeout,
        ..WireLimits::default()
    }
}

/// Answers a head that never became a request.
async fn refuse<IO>(view: &View, home: &Home, fault: WireFault, stream: &mut IO)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let labels = RequestLabels { route: None, mode: None, access: None, status: fault.status().as_u16() };
    view.count(&home.shared.metrics, labels);
    home.shared.metrics.bad_request(fault.label());
    let body = words::Words::of_fault(fault).to_json();
    let id = home.ids.request_id();
    let headers = [("request-id", id.to_str().unwrap_or_default())];
    if let Err(error) = wire::refuse(stream, fault, &headers, &body).await {
        tracing::debug!(%error, "a client left before it was refused");
    }
}

/// The stack as hyper wants it: called through a shared reference. It is always ready, so nothing is cloned for a request.
struct Adapter<S> {
    stack: RefCell<S>,
    door: Rc<Door>,
    answers: Answers,
    leftover: Rc<Leftover>,
    body_timeout: Duration,
}

impl<S, F> hyper::service::Service<Request<Incoming>> for Adapter<S>
where
    S: Service<Request<ClientBody>, Response = Response<GatewayBody>, Error = Infallible, Future = F>,
    F: Future<Output = Result<Response<GatewayBody>, Infallible>>,
{
    type Response = Response<Followed<GatewayBody>>;
    type Error = Infallible;
    type Future = Following<F>;

    fn call(&self, request: Request<Incoming>) -> Following<F> {
        let request = ClientBody::of(request, &self.leftover);
        Following {
            future: self.stack.borrow_mut().call(request),
            door: Rc::clone(&self.door),
            answers: self.answers.clone(),
            leftover: Rc::clone(&self.leftover),
            body_timeout: self.body_timeout,
        }
    }
}

pin_project! {
    /// Ties an answer to the connection's count of them, and reads what a request left behind that nobody read.
    struct Following<F> {
        #[pin]
        future: F,
        door: Rc<Door>,
        answers: Answers,
        leftover: Rc<Leftover>,
        body_timeout: Duration,
    }
}

impl<F> Future for Following<F>
where
    F: Future<Output = Result<Response<GatewayBody>, Infallible>>,
{
    type Output = Result<Response<Followed<GatewayBody>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.future.poll(cx))?;
        if this.door.guests.is_closing() {
            // So that the client sends its next request elsewhere, and none is lost between its sending and our closing.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(body) = this.leftover.close()
            && !response.headers().contains_key(CONNECTION)
        {
            tokio::task::spawn_local(upstream::drain(body, *this.body_timeout));
        }
        Poll::Ready(Ok(response.map(|body| this.answers.follow(body))))
    }
}
