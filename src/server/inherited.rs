//! Listening sockets that whoever started this process has opened for it, as systemd does (`LISTEN_FDS`).
//!
//! Such a socket outlives the process: who connects between two of them waits in its queue, so a restart refuses nobody.

use listenfd::ListenFd;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// The sockets, by what they listen on.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(SocketAddr, TcpListener)>);

impl Inherited {
    /// Those that are meant for this process.
    ///
    /// # Errors
    /// When one of them is no listening TCP socket.
    pub fn from_env() -> io::Result<Inherited> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for nth in 0..passed.len() {
            let refused = |error| io::Error::other(format!("socket {nth} of those passed cannot be used: {error}"));
            let Some(socket) = passed.take_tcp_listener(nth).map_err(refused)? else { continue };
            if !socket2::SockRef::from(&socket).is_listener()? {
                return Err(refused(io::Error::other("it does not listen")));
            }
            socket.set_nonblocking(true)?;
            sockets.push((socket.local_addr()?, socket));
        }
        Ok(Inherited(sockets))
    }

    /// Takes those that listen on this address; one for all addresses of the machine stands for the other kind's too.
    pub fn take(&mut self, address: SocketAddr) -> Vec<TcpListener> {
        let fits = |other: SocketAddr| {
            let all = address.ip().is_unspecified() && other.ip().is_unspecified();
            other.port() == address.port() && (other.ip() == address.ip() || all)
        };
        self.0.extract_if(.., |(other, _)| fits(*other)).map(|(_, socket)| socket).collect()
    }

    /// Fails where a socket is left that nobody asked for: whoever connects to it would wait for ever.
    ///
    /// # Errors
    /// When there is one; the message names it.
    pub fn finish(self) -> io::Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((address, _)) => {
                let message =
                    format!("a socket on {address} was passed, but no `listen` of the configuration names it");
                Err(io::Error::other(message))
            }
        }
    }
}

/// Gives every thread its part of the sockets of one address: each socket to one thread at least, each thread one at least.
///
/// # Errors
/// When a socket cannot be shared.
pub(super) fn share(sockets: &[TcpListener], sets: &mut [Vec<TcpListener>]) -> io::Result<()> {
    let threads = sets.len();
    for place in 0..sockets.len().max(threads) {
        let socket = sockets.get(place % sockets.len().max(1));
        let set = sets.get_mut(place % threads.max(1));
        if let (Some(socket), Some(set)) = (socket, set) {
            set.push(socket.try_clone()?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> (SocketAddr, TcpListener) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        (socket.local_addr().unwrap(), socket)
    }

    #[test]
    fn sockets_go_to_whoever_names_their_address() {
        let (one, other) = (listener(), listener());
        let address = one.0;
        let mut inherited = Inherited(vec![one, other]);
        assert_eq!(inherited.take(address).len(), 1);
        assert!(inherited.take(address).is_empty());
        assert!(inherited.finish().unwrap_err().to_string().contains("no `listen`"));
    }

    #[test]
    fn all_addresses_of_one_kind_are_all_of_the_other() {
        let socket = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut inherited = Inherited(vec![(socket.local_addr().unwrap(), socket)]);
        assert!(inherited.take(SocketAddr::from(([127, 0, 0, 1], port))).is_empty());
        assert_eq!(inherited.take(format!("[::]:{port}").parse().unwrap()).len(), 1);
        inherited.finish().unwrap();
    }

    #[test]
    fn every_thread_has_a_socket_and_every_socket_a_thread() {
        for (sockets, threads) in [(1, 1), (1, 4), (4, 1), (2, 3), (3, 2)] {
            let sockets: Vec<_> = (0..sockets).map(|_| listener().1).collect();
            let mut sets: Vec<Vec<TcpListener>> = (0..threads).map(|_| Vec::new()).collect();
            share(&sockets, &mut sets).unwrap();
            assert!(sets.iter().all(|set| !set.is_empty()));
            let served: std::collections::BTreeSet<_> =
                sets.iter().flatten().map(|socket| socket.local_addr().unwrap()).collect();
            assert_eq!(served.len(), sockets.len());
        }
    }
}
