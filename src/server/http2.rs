//! One HTTP/2 connection: its streams, its bounds, how it leaves.
//!
//! Where ALPN or the preface says HTTP/2, only HTTP/2 is spoken: another preface ends the connection. The same stack serves as
//! over HTTP/1; [`head`] makes the two alike, [`stream`] carries one request. Streams are polled by their connection's task and
//! end with it, so a client that leaves gives back all it held at once.
//!
//! Bounds: requests in flight and bytes that wait, by the configuration; heads as over HTTP/1; frames of no request, and
//! resets, by [`budget`]; resets that a client provokes, endless heads and small pieces by the library, tightened here. Time: for
//! the preface and for each head `header_timeout`, for a client that takes nothing, on its connection or on one stream,
//! `write_timeout`, for silence with requests in flight `idle_timeout` and then an unanswered ping.
//!
//! Memory: a connection takes [`CONNECTION_BYTES`] of the budget for all buffers, and what waits: of a head that is not whole, of
//! bodies for their readers, of answers for the client. Where the budget is used up, no connection begins, and requests with a
//! body are refused.
//!
//! A slot goes back once the last byte of its answer has left the process: a stream ends only when its window had room for all of
//! it, and is let go of when the connection has then written everything.

mod budget;
mod grpc;
mod head;
mod socket;
mod stream;

use super::door::Door;
use super::guests::Guest;
use super::wire::{self, WireLimits};
use crate::budget::Charge;
use crate::clock::timer_now;
use crate::config::{Http2, Server};
use crate::gateway::{Arrived, GatewayBody, Peer};
use crate::upstream::ClientBody;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::server::{Builder, Connection};
use h2::{Ping, PingPong, Reason};
use http::Response;
use socket::{Line, Socket};
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use stream::Desk;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep_until};
use tower::Service;

/// Streams that the client has reset and that are remembered, so that frames still on their way are told from bad ones.
const REMEMBERED_RESETS: usize = 50;
/// Streams that a client may have reset by mistakes of its own before the connection ends. Those count too that it began before
/// it knew how many it may.
const PROVOKED_RESETS: usize = 1_000;
/// Bytes that a connection holds, whatever it does: two buffers and two tables of the library.
const CONNECTION_BYTES: usize = 32 * 1024;
/// Bytes of a head beyond `max_header_bytes` that the library takes, so that the refusal can be ours. What is longer it refuses
/// with an answer that has no body.
const HEAD_GRACE_BYTES: usize = 16 * 1024;

/// Serves until the client leaves or is asked to.
pub(super) async fn serve<IO, S>(door: &Rc<Door>, stream: IO, peer: Rc<Peer>, stack: S)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service<Arrived<ClientBody>, Response = Response<GatewayBody>, Error = Infallible>,
{
    let view = door.home.view();
    let server = &view.snapshot.config.server;
    let Some(bounds) = server.http2 else { return };
    let mut held = Charge::none(&door.home.shared.budget);
    if !held.try_set(CONNECTION_BYTES) {
        tracing::debug!("there is no memory for an HTTP/2 connection");
        return;
    }
    let entry = door.guests.enter(&peer, door.home.now());
    let io = Rc::new(RefCell::new(stream));
    let line = Rc::new(Line::new(&door.home));
    let socket = Socket::new(&io, &line, server);
    if let Some(connection) = begin(socket, &bounds, server).await {
        let desk = Desk::new(door, stack, limits(server), server, line.bodies());
        let session = Session { peer: &peer, guest: &entry.guest, line: &line, pulse: Pulse::new(server) };
        if let Err(error) = session.run(connection, desk).await {
            tracing::debug!(%error, "a client connection ended");
        }
    }
    peer.let_go();
    drop(entry);
    // The library has let go of its part, so this is the last one.
    if let Some(io) = Rc::into_inner(io) {
        wire::linger(&mut io.into_inner()).await;
    }
}

fn limits(server: &Server) -> WireLimits {
    WireLimits {
        max_head_bytes: server.max_header_bytes,
        max_headers: server.max_headers,
        max_target_bytes: server.max_uri_bytes,
        ..WireLimits::default()
    }
}

/// Waits for the preface. `None` when there is none in time. A client that is asked to leave meanwhile may have sent a request
/// behind it, so it is told afterwards.
async fn begin<IO>(socket: Socket<IO>, bounds: &Http2, server: &Server) -> Option<Connection<Socket<IO>, Bytes>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = Builder::new()
        .max_concurrent_streams(bounds.max_streams)
        .initial_window_size(bounds.stream_window)
        .initial_connection_window_size(bounds.connection_window)
        .max_header_list_size(u32::try_from(server.max_header_bytes + HEAD_GRACE_BYTES).unwrap_or(u32::MAX))
        .max_send_buffer_size(bounds.send_buffer)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .max_local_error_reset_streams(Some(PROVOKED_RESETS))
        .handshake(socket);
    match tokio::time::timeout(server.header_timeout, handshake).await {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a client did not begin HTTP/2");
            None
        }
        Err(_) => {
            tracing::debug!("a client did not begin HTTP/2 in time");
            None
        }
    }
}

/// What a connection is served with, besides its streams.
struct Session<'a> {
    peer: &'a Rc<Peer>,
    guest: &'a Guest,
    line: &'a Rc<Line>,
    pulse: Pulse,
}

impl Session<'_> {
    async fn run<IO, S>(mut self, mut connection: Connection<Socket<IO>, Bytes>, desk: Desk<S>) -> Result<(), h2::Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
        S: Service<Arrived<ClientBody>, Response = Response<GatewayBody>, Error = Infallible>,
    {
        let desk = Rc::new(desk);
        self.pulse.pings = connection.ping_pong();
        let mut streams = FuturesUnordered::new();
        poll_fn(|cx| {
            if self.pulse.poll_asked(self.guest, cx) {
                connection.graceful_shutdown();
            }
            let (is_cut, was_idle) = (desk.is_cut(), streams.is_empty());
            loop {
                match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        let answer = stream::answer(Rc::clone(&desk), request, respond);
                        streams.push(AssertUnwindSafe(answer).catch_unwind());
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending if self.line.take_flood() => connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM),
                    Poll::Pending => break,
                }
            }
            // The connection has just been polled: nothing waits in it that could be written.
            if self.line.is_clean() {
                self.line.bodies().wrote_all();
                self.peer.let_go();
            }
            while let Poll::Ready(Some(answered)) = streams.poll_next_unpin(cx) {
                if answered.is_err() {
                    desk.panicked();
                }
            }
            desk.charge_uploads(self.line.take_data());
            if is_cut && was_idle && streams.is_empty() && self.line.is_clean() {
                self.pulse.hurry();
            }
            match self.pulse.poll(self.line, streams.is_empty(), cx) {
                Poll::Ready(Beat::Gone) => Poll::Ready(Ok(())),
                Poll::Ready(Beat::Farewell) => {
                    // Says which stream was the last one, so that the client knows what was never begun.
                    connection.abrupt_shutdown(Reason::NO_ERROR);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

/// What a connection's silence means.
enum Beat {
    /// It was asked to leave and has nothing more to do here.
    Farewell,
    /// Nobody is there.
    Gone,
}

/// Tells connections that are gone from those that are quiet, and those that do not leave from those that do.
struct Pulse {
    quiet: Duration,
    patience: Duration,
    timer: Pin<Box<Sleep>>,
    pings: Option<PingPong>,
    /// What had come when the timer was set.
    reads: u64,
    is_pinged: bool,
    is_leaving: bool,
    is_dismissed: bool,
}

impl Pulse {
    /// Time that a client without requests may take to leave when it is asked to.
    const FAREWELL: Duration = Duration::from_secs(2);

    fn new(server: &Server) -> Pulse {
        let (quiet, patience) = (server.idle_timeout, server.write_timeout);
        let timer = Box::pin(sleep_until(timer_now() + quiet));
        Pulse {
            quiet,
            patience,
            timer,
            pings: None,
            reads: 0,
            is_pinged: false,
            is_leaving: false,
            is_dismissed: false,
        }
    }

    /// Whether the client is now to be asked to leave: once.
    fn poll_asked(&mut self, guest: &Guest, cx: &Context<'_>) -> bool {
        // Asked a second time it is woken again: the gateway ends at once.
        if !guest.is_asked(cx) || self.is_leaving {
            return false;
        }
        (self.is_leaving, self.is_pinged) = (true, false);
        self.timer.as_mut().reset(timer_now() + Pulse::FAREWELL);
        true
    }

    /// Who is leaving and has nothing more to do here says so now.
    fn hurry(&mut self) {
        if !self.is_dismissed {
            self.is_leaving = true;
            self.timer.as_mut().reset(timer_now());
        }
    }

    /// Ready when there is nobody to wait for.
    fn poll(&mut self, line: &Line, is_idle: bool, cx: &mut Context<'_>) -> Poll<Beat> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let is_silent = self.reads == line.reads();
            if self.is_dismissed || self.is_pinged && is_silent {
                return Poll::Ready(Beat::Gone);
            }
            if self.is_leaving && is_idle {
                self.is_dismissed = true;
                self.timer.as_mut().reset(timer_now() + Pulse::FAREWELL);
                return Poll::Ready(Beat::Farewell);
            }
            self.reads = line.reads();
            // Without requests it is the guests' business, at the end the drain's.
            self.is_pinged = is_silent && !is_idle && !self.is_leaving && self.ping(cx);
            let wait = match (self.is_leaving, self.is_pinged) {
                (true, _) => Pulse::FAREWELL,
                (false, true) => self.patience,
                (false, false) => self.quiet,
            };
            self.timer.as_mut().reset(timer_now() + wait);
        }
        Poll::Pending
    }

    fn ping(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(pings) = &mut self.pings else { return false };
        // The answer to the one before; that anything came at all is what counts.
        let _ = pings.poll_pong(cx);
        pings.send_ping(Ping::opaque()).is_ok()
    }
}
