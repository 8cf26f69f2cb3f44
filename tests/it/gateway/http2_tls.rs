//! HTTP/2 by ALPN, on either side, and health checks of servers that speak nothing else.

use crate::support::h2::{Client, H2Upstream, answer, request as ask, runtime};
use crate::support::running::{Folder, LIVE, Running, Setup, get};
use crate::support::secure::{Authority, Caller, Manner, Pair, SecureGateway, files, provider};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use http::{Method, Response, StatusCode};
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[test]
fn a_client_that_offers_http2_gets_it() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let pair = ca.issue(&["api.test"]);
    let gateway = SecureGateway::start(upstream.address(), &files("a"), &[("a", &pair)]);
    let caller = Caller::with(&ca, Manner { alpn: &["h2", "http/1.1"], ..Manner::default() });
    runtime().block_on(async {
        let socket = TcpStream::connect(gateway.address()).await.unwrap();
        let name = ServerName::try_from("api.test").unwrap();
        let stream = TlsConnector::from(caller.config()).connect(name, socket).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut client = Client::over(&h2::client::Builder::new(), stream).await;
        for _ in 0..3 {
            let mut head = ask(Method::POST, "/v1/charges", LIVE);
            *head.uri_mut() = "https://api.test/v1/charges".parse().unwrap();
            let answer = client.ask(head, vec![1; 100_000]).await;
            assert_eq!((answer.status, answer.text()), (StatusCode::OK, "ok"));
        }
        // Its certificate does not cover this host.
        let mut head = ask(Method::GET, "/v1/charges", LIVE);
        *head.uri_mut() = "https://other.test/v1/charges".parse().unwrap();
        assert_eq!(client.ask(head, "").await.status, StatusCode::MISDIRECTED_REQUEST);
    });
    let head = upstream.last();
    assert_eq!((head.value("x-forwarded-proto"), head.values("host")), (Some("https"), vec!["api.test"]));
    // Without ALPN, and where HTTP/1 alone is offered, it is what it was.
    for alpn in [&[][..], &["http/1.1"]] {
        let caller = Caller::with(&ca, Manner { alpn, ..Manner::default() });
        assert_eq!(caller.ask(gateway.address(), "api.test").unwrap().0, 200, "{alpn:?}");
    }
}

#[test]
fn a_server_without_http2_does_not_choose_it() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let pair = ca.issue(&["api.test"]);
    let setup = Setup::new(upstream.address()).server("http2 = false");
    let gateway = SecureGateway::start_with(setup, &files("a"), &[("a", &pair)], &[]);
    let both = Caller::with(&ca, Manner { alpn: &["h2", "http/1.1"], ..Manner::default() });
    assert_eq!(both.ask(gateway.address(), "api.test").unwrap().0, 200, "HTTP/1 is in its list too");
    let only = Caller::with(&ca, Manner { alpn: &["h2"], ..Manner::default() });
    let error = only.ask(gateway.address(), "api.test").err().unwrap().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
}

/// An upstream over TLS that offers these protocols and says by which it was asked.
struct Secured {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Secured {
    fn start(pair: &Pair, offered: &[&str]) -> Secured {
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_no_client_auth().with_single_cert(vec![pair.der()], pair.key()).unwrap();
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&connections);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(acceptor.clone(), socket));
            }
        });
        Secured { address, connections, _runtime: runtime }
    }
}

async fn serve(acceptor: TlsAcceptor, socket: TcpStream) {
    let Ok(mut stream) = acceptor.accept(socket).await else { return };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((_, respond))) = connection.accept().await {
            answer(respond, "two");
        }
        return;
    }
    let mut seen = Vec::new();
    while stream.read_buf(&mut seen).await.is_ok_and(|length| length > 0) {
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            let one = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none";
            if stream.write_all(one).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }
}

fn in_front_of(upstream: &Secured, ca: &Authority, folder: &Folder, more: &str) -> Running {
    folder.put("ca.pem", &ca.pem);
    let ca = folder.path("ca.pem");
    let lines = format!("servers = [\"https://{}\"]\nca = {ca:?}\n{more}\n", upstream.address);
    Setup { upstream: lines, ..Setup::new(upstream.address) }.start()
}

#[test]
fn an_upstream_over_tls_is_spoken_to_as_it_likes() {
    let (ca, folder) = (Authority::new("ca"), Folder::new());
    let pair = ca.issue(&["127.0.0.1"]);
    for (offered, wanted, said) in [
        (&["h2", "http/1.1"][..], "", "two"),
        (&["http/1.1"], "", "one"),
        (&[], "", "one"),
        (&["h2", "http/1.1"], "protocol = \"http1\"", "one"),
        (&["h2"], "protocol = \"http2\"", "two"),
    ] {
        let upstream = Secured::start(&pair, offered);
        let gateway = in_front_of(&upstream, &ca, &folder, wanted);
        let mut client = gateway.connect();
        for _ in 0..3 {
            assert_eq!(client.ask(get("/v1/charges", LIVE)).text(), said, "{offered:?} {wanted}");
        }
        assert_eq!(upstream.connections.load(Ordering::SeqCst), 1, "{offered:?} {wanted}");
    }
}

#[test]
fn an_upstream_that_must_speak_http2_and_does_not_is_not_asked() {
    let (ca, folder) = (Authority::new("ca"), Folder::new());
    let upstream = Secured::start(&ca.issue(&["127.0.0.1"]), &["http/1.1"]);
    let gateway = in_front_of(&upstream, &ca, &folder, "protocol = \"http2\"");
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 502);
}

#[test]
fn health_checks_ask_over_http2() {
    let well = Arc::new(AtomicBool::new(true));
    let upstream = {
        let well = Arc::clone(&well);
        H2Upstream::scripted(move |request, mut respond| {
            let well = well.load(Ordering::SeqCst);
            async move {
                if request.uri().path() != "/ready" {
                    return answer(respond, "ok");
                }
                assert_eq!(request.uri().to_string(), "http://health.test/ready?deep=1");
                let status = if well { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
                let response = Response::builder().status(status).body(()).unwrap();
                let _ = respond.send_response(response, true);
            }
        })
    };
    let health = "protocol = \"http2\"\nhealth = { path = \"/ready?deep=1\", interval = \"100ms\", unhealthy = 2, \
                  healthy = 1, host = \"health.test\" }";
    let gateway = Setup::new(upstream.address).upstream(health).start();
    let state = || gateway.servers()[0]["state"].as_str().unwrap().to_owned();
    wait_until("it is checked", || upstream.requests() > 1);
    assert_eq!((state().as_str(), gateway.ask(get("/v1/charges", LIVE)).status()), ("up", 200));
    well.store(false, Ordering::SeqCst);
    wait_until("it is found to be down", || state() != "up");
    well.store(true, Ordering::SeqCst);
    wait_until("it is up again", || state() == "up");
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).text(), "ok");
}
