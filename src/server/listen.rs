//! Listening sockets.

use super::connection::Door;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

/// Connections the kernel may hold for us before they are accepted.
const BACKLOG: i32 = 4_096;

/// One set of listeners for each of `threads`, all on the same addresses; the kernel spreads connections over them. Port 0
/// takes a free one, the same for all.
///
/// # Errors
/// When an address cannot be listened on; the message names it.
pub fn bind(addresses: &[SocketAddr], threads: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let mut sets: Vec<Vec<TcpListener>> = (0..threads.max(1)).map(|_| Vec::new()).collect();
    for &address in addresses {
        let mut address = address;
        for set in &mut sets {
            let listener = listen(address)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
            address = listener.local_addr()?;
            set.push(listener);
        }
    }
    Ok(sets)
}

/// Whether nobody listens on the address, not even with `SO_REUSEPORT`.
#[must_use]
pub fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the door closes. An error (out of descriptors, a client that left already) pauses, never ends it.
pub(super) async fn accept(listener: tokio::net::TcpListener, door: Rc<Door>) {
    const PAUSE: Duration = Duration::from_millis(50);
    let mut closing = door.phase();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|phase| *phase != super::Phase::Serving) => return,
        };
        match accepted {
            Ok((socket, peer)) => door.enter(socket, peer),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
