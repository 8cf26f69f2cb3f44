//! Listening sockets.

use super::door::Door;
use super::inherited::{self, Inherited};
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
/// its part of the traffic on its own, and every limit would admit twice what it says. Not so an address whose sockets this
/// process was given: those it takes.
///
/// # Errors
/// When an address cannot be listened on; the message names it.
pub fn bind(addresses: &[SocketAddr], threads: usize, inherited: &mut Inherited) -> io::Result<Vec<Vec<TcpListener>>> {
    let mut sets: Vec<Vec<TcpListener>> = (0..threads.max(1)).map(|_| Vec::new()).collect();
    for &address in addresses {
        let given = inherited.take(address);
        if !given.is_empty() {
            given.iter().try_for_each(|socket| bound_unsent(&socket2::SockRef::from(socket)))?;
            inherited::share(&given, &mut sets)?;
            continue;
        }
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

/// Bounds what the kernel keeps of a response that it has not sent yet, on every connection of a listener: so a client that does
/// not read is noticed soon, and holds little memory of the system.
fn bound_unsent(socket: &Socket) -> io::Result<()> {
    const MAX_UNSENT_BYTES: u32 = 256 * 1024;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
    Ok(())
}

/// A socket bound to the address. It takes no connection before it listens.
fn socket(address: SocketAddr, shares_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shares_port)?;
    socket.set_nonblocking(true)?;
    bound_unsent(&socket)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Accepts until the door closes. No error ends it: out of descriptors or memory it pauses, and a client that left already
/// is none of its business.
pub(super) async fn accept(listener: tokio::net::TcpListener, door: Rc<Door>) {
    let mut closing = door.phase();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = closing.wait_for(|phase| !phase.accepts()) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => door.enter(socket, peer.ip()).await,
            Err(error) => fail(&error, &door).await,
        }
    }
    accept_last(listener, &door).await;
}

/// Takes those who have connected already and wait in the kernel's queue: closing the listener would reset them.
async fn accept_last(listener: tokio::net::TcpListener, door: &Rc<Door>) {
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..BACKLOG {
        let Ok((socket, peer)) = listener.accept() else { return };
        let entered = socket.set_nonblocking(true).and_then(|()| tokio::net::TcpStream::from_std(socket));
        match entered {
            Ok(socket) => door.enter(socket, peer.ip()).await,
            Err(error) => tracing::debug!(%error, "a client left at once"),
        }
    }
}

async fn fail(error: &io::Error, door: &Rc<Door>) {
    /// For connections to end; the kernel keeps new ones meanwhile.
    const PAUSE: Duration = Duration::from_millis(50);
    let is_exhausted = is_exhausted(error);
    door.home.shared.metrics.accept.fail(is_exhausted);
    if is_exhausted {
        door.complain(error);
        door.make_room();
        tokio::time::sleep(PAUSE).await;
    } else {
        tracing::debug!(%error, "a client left before it was accepted");
        // Were it every time, other tasks should still get their turn.
        tokio::task::yield_now().await;
    }
}

/// Whether the process or the system has run out of something, so that trying again at once is vain.
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    let gone = [Errno::CONNABORTED, Errno::PROTO, Errno::PERM, Errno::CONNRESET, Errno::TIMEDOUT, Errno::HOSTUNREACH];
    !code.is_some_and(|code| gone.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_a_port_and_processes_do_not() {
        let any = [SocketAddr::from(([127, 0, 0, 1], 0))];
        let sets = bind(&any, 3, &mut Inherited::default()).unwrap();
        let addresses: Vec<_> = sets.iter().flatten().map(|listener| listener.local_addr().unwrap()).collect();
        assert_eq!(addresses.len(), 3);
        assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
        // As a second gateway would: with SO_REUSEPORT set on both sides.
        let error = bind(&addresses[..1], 1, &mut Inherited::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("cannot listen on {}", addresses[0])), "{error}");
        drop(sets);
        bind(&addresses[..1], 1, &mut Inherited::default()).unwrap();
    }
}
