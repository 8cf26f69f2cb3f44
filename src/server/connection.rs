//! One client connection: TLS where configured, the wire guard, HTTP/1.1, the stack.

use super::Phase;
use crate::gateway::{GatewayBody, Home, Peer, forward, stack};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tower::Service;

/// Where a thread's connections come in, and what counts them.
pub(super) struct Door {
    home: Rc<Home>,
    phase: watch::Receiver<Phase>,
    inside: Cell<usize>,
    left: Notify,
}

/// A connection's place; the next one may come in when it is dropped.
struct Place(Rc<Door>);

impl Door {
    pub(super) fn new(home: Rc<Home>, phase: watch::Receiver<Phase>) -> Door {
        Door { home, phase, inside: Cell::new(0), left: Notify::new() }
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
        None => serve_http(&place, socket, Peer::new(peer.ip(), false)).await,
        Some(acceptor) => {
            let timeout = view.snapshot.config.server.header_timeout;
            match tokio::time::timeout(timeout, acceptor.accept(socket)).await {
                Ok(Ok(stream)) => serve_http(&place, stream, Peer::new(peer.ip(), true)).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake did not end in time"),
            }
        }
    }
}

async fn serve_http<IO>(place: &Place, stream: IO, peer: Peer)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let door = &place.0;
    let view = door.home.view();
    let server = &view.snapshot.config.server;
    let forward = tower::service_fn(forward::forward);
    let service = Adapter(RefCell::new(stack(&door.home, &Rc::new(peer), forward)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.header_timeout)
        .max_header_size(server.max_header_bytes)
        .max_headers(server.max_headers)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut phase = door.phase();
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client connection ended");
    }
}

/// The stack as hyper wants it: called through a shared reference. It is always ready, so nothing is cloned for a request.
struct Adapter<S>(RefCell<S>);

impl<S, F> hyper::service::Service<Request<Incoming>> for Adapter<S>
where
    S: Service<Request<Incoming>, Response = Response<GatewayBody>, Error = Infallible, Future = F>,
    F: Future<Output = Result<Response<GatewayBody>, Infallible>>,
{
    type Response = Response<GatewayBody>;
    type Error = Infallible;
    type Future = F;

    fn call(&self, request: Request<Incoming>) -> F {
        self.0.borrow_mut().call(request)
    }
}
