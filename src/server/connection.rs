//! One client connection: TLS where configured, the protocol that the client chooses, the stack.

use super::guests::Guests;
use super::http1::{Bounds, Connection, Ended, Spares};
use super::wire::{self, WireFault, WireLimits};
use super::{Phase, http2, sniff};
use crate::gateway::context::{RequestLabels, View};
use crate::gateway::{Home, Peer, forward, stack, words};
use crate::metrics::HandshakeResult;
use crate::tls::{Acceptor, Handshake, HandshakeError, Protocol};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_rustls::server::TlsStream;

/// Where a thread's connections come in, and what counts them.
pub(super) struct Door {
    pub(super) home: Rc<Home>,
    phase: watch::Receiver<Phase>,
    /// Those that speak HTTP.
    pub(super) guests: Guests,
    pub(super) spares: Rc<Spares>,
    inside: Cell<usize>,
    left: Notify,
}

/// A connection's place; the next one may come in when it is dropped.
struct Place(Rc<Door>);

impl Door {
    pub(super) fn new(home: Rc<Home>, phase: watch::Receiver<Phase>) -> Door {
        let spares = Rc::new(Spares::new(home.shared.time.clone()));
        Door { home, phase, guests: Guests::default(), spares, inside: Cell::new(0), left: Notify::new() }
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
    match &view.snapshot.tls.clients {
        None => match begins_with_preface(&place, &socket, peer).await {
            None => {}
            Some(true) => serve_http2(&place, socket, Peer::new(peer.ip(), false)).await,
            Some(false) => serve_http(&place, socket, Peer::new(peer.ip(), false)).await,
        },
        Some(acceptor) => {
            if let Some((stream, handshake)) = shake_hands(&place, &view, acceptor, socket).await {
                let protocol = handshake.protocol;
                let peer = Peer::over_tls(peer.ip(), handshake);
                match protocol {
                    Protocol::Http1 => serve_http(&place, stream, peer).await,
                    Protocol::Http2 => serve_http2(&place, stream, peer).await,
                }
            }
        }
    }
}

/// TLS on a connection, within `handshake_timeout`.
async fn shake_hands(
    place: &Place,
    view: &View,
    acceptor: &Acceptor,
    socket: TcpStream,
) -> Option<(TlsStream<TcpStream>, Handshake)> {
    let home = &place.0.home;
    let timeout = view.snapshot.config.server.handshake_timeout;
    let outcome = tokio::time::timeout(timeout, acceptor.accept(socket, || home.shared.time.wall())).await;
    let count = |result| home.shared.metrics.tls.handshake(result);
    match outcome {
        Ok(Ok((stream, handshake))) => {
            count(if handshake.resumed { HandshakeResult::Resumed } else { HandshakeResult::Full });
            return Some((stream, handshake));
        }
        Ok(Err(HandshakeError::PlainHttp(mut socket))) => {
            count(HandshakeResult::PlainHttp);
            refuse(view, home, WireFault::PlainHttp, &mut socket).await;
        }
        Ok(Err(error)) => {
            count(HandshakeResult::Failed);
            tracing::debug!(%error, "a TLS handshake failed");
        }
        Err(_) => {
            count(HandshakeResult::TimedOut);
            tracing::debug!("a TLS handshake did not end in time");
        }
    }
    None
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
    let bounds =
        Bounds { wire: limits(server), write_timeout: server.write_timeout, body_timeout: server.body_timeout };
    let entry = door.guests.enter(&peer, door.home.now());
    let guest = Rc::clone(&entry.guest);
    let mut connection = Connection::new(stream, &peer, &door.spares, bounds, move |cx| guest.is_asked(cx));
    let ended = connection.serve(stack(&door.home, &peer, tower::service_fn(forward::forward))).await;
    drop(entry);
    let mut stream = connection.into_inner();
    match ended {
        Ended::Whole => wire::linger(&mut stream).await,
        Ended::Refused(fault) => refuse(&view, &door.home, fault, &mut stream).await,
        // The client must see that its answer broke off, so nothing is ended cleanly.
        Ended::Broken => {}
    }
}

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
