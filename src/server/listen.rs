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
/// An address that another process listens on is an error, though `SO_REUSEPORT` would let both have it: each would then count
/// its part of the traffic on its own, and every limit would admit twice what it says.
///
/// # Errors
/// When an address cannot be listened on; the message names it.
pub fn bind(addresses: &[SocketAddr], threads: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let mut sets: Vec<Vec<TcpListener>> = (0..threads.max(1)).map(|_| Vec::new()).collect();
    for &address in addresses {
        let refused = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
        // Asked without `SO_REUSEPORT`, the kernel refuses what anybody else listens on.
        socket(address, false).map_err(refused)?;
        let mut address = address;
        for set in &mut sets {
            let listener = listen(address).map_err(refused)?;
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
    let socket = socket(address, true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket bound to the address. It takes no connection before it listens.
fn socket(address: SocketAddr, shares_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shares_port)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_a_port_and_processes_do_not() {
        let any = [SocketAddr::from(([127, 0, 0, 1], 0))];
        let sets = bind(&any, 3).unwrap();
        let addresses: Vec<_> = sets.iter().flatten().map(|listener| listener.local_addr().unwrap()).collect();
        assert_eq!(addresses.len(), 3);
        assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
        // As a second gateway would: with SO_REUSEPORT set on both sides.
        let error = bind(&addresses[..1], 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("cannot listen on {}", addresses[0])), "{error}");
        drop(sets);
        bind(&addresses[..1], 1).unwrap();
    }
}
