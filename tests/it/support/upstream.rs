//! A scripted upstream: a server whose every byte the test decides.

use super::wire::{Head, Wire};
use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Listens on loopback until it is dropped; one thread for each connection.
pub(crate) struct Upstream {
    address: SocketAddr,
    seen: Arc<Seen>,
    closing: Arc<AtomicBool>,
    acceptor: Option<std::thread::JoinHandle<()>>,
}

/// Heads that are kept.
const MAX_HEADS: usize = 10_000;

/// What has come in so far.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<Head>>,
}

/// A request as the upstream got it.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Upstream {
    /// Hands each connection to `script`, with the head of its first request read.
    pub(crate) fn scripted(script: impl Fn(&mut Wire, Head) + Send + Sync + 'static) -> Upstream {
        Upstream::start(move |wire, seen| {
            if let Some(head) = wire.head() {
                seen.note(&head);
                script(wire, head);
            }
        })
    }

    /// Reads whole requests and sends what `answer` makes of each, on connections that stay open.
    pub(crate) fn answering(answer: impl Fn(&Got) -> Vec<u8> + Send + Sync + 'static) -> Upstream {
        Upstream::start(Upstream::serving(answer))
    }

    fn serving(answer: impl Fn(&Got) -> Vec<u8> + Send + Sync + 'static) -> impl Fn(&mut Wire, &Seen) + Send + Sync {
        move |wire, seen| {
            while let Some(head) = wire.head() {
                seen.note(&head);
                let Ok((body, trailers)) = wire.body_and_trailers(&head) else { return };
                if wire.try_send(answer(&Got { head, body, trailers })).is_err() {
                    return;
                }
            }
        }
    }

    /// Answers everything with 200 and `ok`.
    pub(crate) fn fine() -> Upstream {
        Upstream::answering(|_| ok("ok"))
    }

    /// The same as [`Upstream::answering`] at an address that the test has chosen.
    pub(crate) fn answering_at(
        address: SocketAddr,
        answer: impl Fn(&Got) -> Vec<u8> + Send + Sync + 'static,
    ) -> Upstream {
        Upstream::start_at(address, Upstream::serving(answer))
    }

    fn start(serve: impl Fn(&mut Wire, &Seen) + Send + Sync + 'static) -> Upstream {
        Upstream::start_at((Ipv4Addr::LOCALHOST, 0).into(), serve)
    }

    fn start_at(address: SocketAddr, serve: impl Fn(&mut Wire, &Seen) + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, closing, serve) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)), Arc::new(serve));
        let accepting = (Arc::clone(&seen), Arc::clone(&closing));
        let acceptor = std::thread::spawn(move || {
            let (seen, closing) = accepting;
            for stream in listener.incoming().flatten() {
                if closing.load(Ordering::SeqCst) {
                    return;
                }
                seen.connections.fetch_add(1, Ordering::SeqCst);
                let (seen, serve) = (Arc::clone(&seen), Arc::clone(&serve));
                std::thread::spawn(move || serve(&mut Wire::over(stream), &seen));
            }
        });
        Upstream { address, seen, closing, acceptor: Some(acceptor) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// The heads of all requests so far, of the first [`MAX_HEADS`] of them.
    pub(crate) fn requests(&self) -> Vec<Head> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// The newest request's head.
    #[track_caller]
    pub(crate) fn last(&self) -> Head {
        self.requests().pop().expect("a request has come")
    }
}

impl Seen {
    fn note(&self, head: &Head) {
        let mut requests = self.requests.lock().unwrap();
        if requests.len() < MAX_HEADS {
            requests.push(head.clone());
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        drop(std::net::TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap();
        }
    }
}

/// A 200 with this body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The same as [`ok`] from a server that closes the connection: one that does not say so may get one more request in the
/// moment of closing it, which is lost.
pub(crate) fn ok_and_close(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes()
}

/// A port that is taken, but where nobody listens: connections are refused for as long as this lives.
pub(crate) struct Nobody(Socket);

impl Nobody {
    pub(crate) fn new() -> Nobody {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Nobody(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }
}
