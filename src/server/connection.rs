//! One client connection: TLS where configured, HTTP/1, the stack.

use super::door::Place;
use super::http1::{Bounds, Connection, Ended, Leave};
use super::proxy_protocol;
use super::wire::{self, WireFault, WireLimits};
use super::{http2, sniff};
use crate::gateway::context::{RequestLabels, View};
use crate::gateway::{Home, Peer, forward, stack, words};
use crate::metrics::{Closed, HandshakeResult};
use crate::tls::{Acceptor, Handshake, HandshakeError, Protocol};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Serves a connection from its first byte to its last.
///
/// Its future is what an idle connection costs, so all but HTTP/1 on a plain connection is boxed: that has no room for what
/// others need, and they none for each other.
pub(super) async fn serve(mut place: Place, mut socket: TcpStream, peer: IpAddr) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a client left at once");
        return;
    }
    let Some(client) = client_of(&mut place, &mut socket, peer).await else { return };
    let view = place.door.home.view();
    match &view.snapshot.tls.clients {
        None => match begins_with_preface(&place, &socket, client).await {
            None => {}
            Some(true) => Box::pin(serve_http2(&place, socket, Peer::new(client, false))).await,
            Some(false) => serve_http(&place, socket, Peer::new(client, false)).await,
        },
        Some(acceptor) => {
            if let Some((stream, handshake)) = Box::pin(shake_hands(&place, &view, acceptor, socket)).await {
                let protocol = handshake.protocol;
                let peer = Peer::over_tls(client, handshake);
                match protocol {
                    Protocol::Http1 => Box::pin(serve_http(&place, stream, peer)).await,
                    Protocol::Http2 => Box::pin(serve_http2(&place, stream, peer)).await,
                }
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

/// TLS on a connection, within `handshake_timeout`.
async fn shake_hands(
    place: &Place,
    view: &View,
    acceptor: &Acceptor,
    socket: TcpStream,
) -> Option<(TlsStream<TcpStream>, Handshake)> {
    let home = &place.door.home;
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
async fn begins_with_preface(place: &Place, socket: &TcpStream, client: IpAddr) -> Option<bool> {
    let door = &place.door;
    let view = door.home.view();
    let server = &view.snapshot.config.server;
    if server.http2.is_none() {
        return Some(false);
    }
    let peer = Rc::new(Peer::new(client, false));
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
    let door = &place.door;
    let peer = Rc::new(peer.over_http2());
    let stack = stack(&door.home, &peer, tower::service_fn(forward::forward));
    http2::serve(door, stream, peer, stack).await;
}

async fn serve_http<IO>(place: &Place, stream: IO, peer: Peer)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let door = &place.door;
    let view = door.home.view();
    let server = &view.snapshot.config.server;
    let peer = Rc::new(peer);
    let bounds = Bounds {
        wire: limits(server),
        write_timeout: server.write_timeout,
        min_write_rate: server.min_write_rate,
        body_timeout: server.body_timeout,
    };
    let entry = door.guests.enter(&peer, door.home.now());
    let (guest, closing) = (Rc::clone(&entry.guest), Rc::clone(door));
    let leaves = move |cx: &Context<'_>| match guest.is_asked(cx) {
        true => Leave::Now,
        false if closing.guests.is_closing() => Leave::Soon,
        false => Leave::No,
    };
    let mut connection = Connection::new(stream, &peer, &door.spares, bounds, leaves);
    let ended = connection.serve(stack(&door.home, &peer, tower::service_fn(forward::forward))).await;
    drop(entry);
    let mut stream = connection.into_inner();
    match ended {
        Ended::Whole => Box::pin(wire::linger(&mut stream)).await,
        Ended::Refused(fault) => Box::pin(refuse(&view, &door.home, fault, &mut stream)).await,
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
    let body = words::Words::of_fault(fault).to_json();
    let id = home.ids.request_id();
    let headers = [("request-id", id.to_str().unwrap_or_default())];
    if let Err(error) = wire::refuse(stream, fault, &headers, &body).await {
        tracing::debug!(%error, "a client left before it was refused");
    }
}
