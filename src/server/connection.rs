//! One client connection: TLS where configured, the protocol that the client chooses, the stack. HTTP/1.1 goes through the wire
//! guard; HTTP/2 is [`super::http2`]'s.

use super::date::Dates;
use super::guests::Guests;
use super::lent::Lent;
use super::wire::{self, Answers, Followed, Guarded, WireFault, WireLimits};
use super::{Phase, http2, sniff};
use crate::gateway::context::{RequestLabels, View};
use crate::gateway::{GatewayBody, Home, Peer, forward, stack, words};
use crate::upstream::{self, ClientBody, Gather, Leftover};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tower::Service;

/// HTTP/2 as ALPN calls it.
const HTTP2: &[u8] = b"h2";

/// Where a thread's connections come in, and what counts them.
pub(super) struct Door {
    pub(super) home: Rc<Home>,
    phase: watch::Receiver<Phase>,
    /// Those that speak HTTP.
    pub(super) guests: Guests,
    pub(super) dates: Dates,
    inside: Cell<usize>,
    left: Notify,
}

/// A connection's place; the next one may come in when it is dropped.
struct Place(Rc<Door>);

impl Door {
    pub(super) fn new(home: Rc<Home>, phase: watch::Receiver<Phase>) -> Door {
        let (guests, dates) = (Guests::default(), Dates::default());
        Door { home, phase, guests, dates, inside: Cell::new(0), left: Notify::new() }
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Waits until nobody is inside.
    pub(super) async fn emptied(&self) {
        while self.inside.get() > 0 {
            self.left.notified().await;
        }
    }

    /// Lets a client in, unless there are `max_connections` already: then its connection is closed.
    pub(super) fn enter(self: &Rc<Self>, socket: TcpStream, peer: SocketAddr) {
        let shared = &self.home.shared;
        let max = self.home.view().snapshot.config.server.max_connections;
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= max {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            shared.metrics.connections_refused.inc();
            return;
        }
        shared.metrics.connections.inc();
        self.inside.set(self.inside.get() + 1);
        tokio::task::spawn_local(serve(Place(Rc::clone(self)), socket, peer));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let door = &self.0;
        door.home.shared.connections.fetch_sub(1, Ordering::Relaxed);
        door.home.shared.metrics.connections.dec();
        door.inside.set(door.inside.get() - 1);
        door.left.notify_waiters();
    }
}

async fn serve(place: Place, socket: TcpStream, peer: SocketAddr) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a client left at once");
        return;
    }
    let view = place.0.home.view();
    match &view.snapshot.tls {
        None => match begins_with_preface(&place, &socket, peer).await {
            None => {}
            Some(true) => serve_http2(&place, socket, Peer::new(peer.ip(), false)).await,
            Some(false) => serve_http(&place, socket, Peer::new(peer.ip(), false)).await,
        },
        Some(acceptor) => {
            let timeout = view.snapshot.config.server.header_timeout;
            match tokio::time::timeout(timeout, acceptor.accept(socket)).await {
                Ok(Ok(stream)) => {
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
                    let peer = Peer::new(peer.ip(), true);
                    if is_http2 {
                        serve_http2(&place, stream, peer).await;
                    } else {
                        serve_http(&place, stream, peer).await;
                    }
                }
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake did not end in time"),
            }
        }
    }
}

/// Whether the client begins with HTTP/2 on a plain connection. `None` when it left, or was asked to, before it began.
async fn begins_with_preface(place: &Place, socket: &TcpStream, peer: SocketAddr) -> Option<bool> {
    let door = &place.0;
    let view = door.home.view();
    let server = &view.snapshot.config.server;
    if server.http2.is_none() {
        return Some(false);
    }
    let peer = Rc::new(Peer::new(peer.ip(), false));
    let entry = door.guests.enter(&peer, door.home.now());
    let mut begun = pin!(sniff::begins_with_preface(socket, server.header_timeout));
    poll_fn(|cx| match begun.as_mut().poll(cx) {
        Poll::Pending if entry.guest.is_asked(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
        Poll::Ready(begun) => Poll::Ready(begun.ok()),
    })
    .await
}

async fn serve_http2<IO>(place: &Place, stream: IO, peer: Peer)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let door = &place.0;
    let peer = Rc::new(peer.over_http2());
    let stack = stack(&door.home, &peer, tower::service_fn(forward::forward));
    http2::serve(door, stream, peer, stack).await;
}

async fn serve_http<IO>(place: &Place, stream: IO, peer: Peer)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let door = &place.0;
    let view = door.home.view();
    let server = &view.snapshot.config.server;
    let peer = Rc::new(peer);
    let guarded = Rc::new(RefCell::new(Guarded::new(Gather(stream), limits(server))));
    let forward = tower::service_fn(forward::forward);
    let answers = guarded.borrow().answers();
    let service = Adapter {
        stack: RefCell::new(stack(&door.home, &peer, forward)),
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
            .serve_connection(TokioIo::new(Lent::new(&guarded, &peer, server.write_timeout)), service);
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
    let body = words::Words::invalid_request(fault.message()).to_json();
    let id = home.ids.request_id();
    let headers = [("request-id", id.to_str().unwrap_or_default())];
    if let Err(error) = wire::refuse(stream, fault, &headers, &body).await {
        tracing::debug!(%error, "a client left before it was refused");
    }
}

/// The stack as hyper wants it: called through a shared reference. It is always ready, so nothing is cloned for a request.
struct Adapter<S> {
    stack: RefCell<S>,
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
        let response = ready!(this.future.poll(cx))?;
        if let Some(body) = this.leftover.close()
            && !response.headers().contains_key(http::header::CONNECTION)
        {
            tokio::task::spawn_local(upstream::drain(body, *this.body_timeout));
        }
        Poll::Ready(Ok(response.map(|body| this.answers.follow(body))))
    }
}
