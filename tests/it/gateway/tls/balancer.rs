//! TLS behind a balancer that speaks the PROXY protocol: its header first, in the clear, then the handshake.

use crate::support::h2::{Client, request as ask, runtime};
use crate::support::running::{LIVE, Setup, get};
use crate::support::secure::{Authority, Caller, Manner, SecureGateway, files};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, wait_until};
use http::{Method, StatusCode};
use rustls::pki_types::ServerName;
use std::io::{Read, Write};
use std::net::TcpStream;
use tokio_rustls::TlsConnector;

const INTRODUCED: &str = "proxy_protocol = \"required\"\ntrusted_proxies = [\"127.0.0.0/8\"]";

fn gateway(ca: &Authority, upstream: &Upstream, server: &str) -> SecureGateway {
    let setup = Setup::new(upstream.address()).server(&format!("{INTRODUCED}\n{server}"));
    SecureGateway::start_with(setup, &files("a"), &[("a", &ca.issue(&["api.test"]))], &[])
}

/// Version 2 of the header, for a client at this address.
fn binary(client: [u8; 4]) -> Vec<u8> {
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &client, &[192, 0, 2, 1, 0, 1, 1, 187]].concat()
}

fn refused(gateway: &SecureGateway, cause: &str) -> f64 {
    gateway.running.metrics().sum("tollgate_connections_refused_total", &[("cause", cause)])
}

#[test]
fn a_client_that_is_introduced_shakes_hands_behind_the_header() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let gateway = gateway(&ca, &upstream, "max_connections_per_address = 1");
    let caller = Caller::new(&ca);
    let mut first = caller.connect(gateway.address(), "api.test");
    first.0.sock.write_all(b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\r\n").unwrap();
    assert_eq!(first.ask("api.test").unwrap(), 200);
    assert_eq!(first.ask("api.test").unwrap(), 200);
    let mut second = caller.connect(gateway.address(), "api.test");
    // In pieces, and its last byte together with the handshake's first.
    let header = binary([203, 0, 113, 8]);
    for byte in &header[..header.len() - 1] {
        second.0.sock.write_all(&[*byte]).unwrap();
    }
    let mut hello = header[header.len() - 1..].to_vec();
    second.0.conn.write_tls(&mut hello).unwrap();
    second.0.sock.write_all(&hello).unwrap();
    assert_eq!(second.ask("api.test").unwrap(), 200);
    assert!(second.resumed(), "sessions are resumed behind a balancer too");

    let seen = upstream.requests();
    let told: Vec<_> = seen
        .iter()
        .map(|head| (head.value("x-forwarded-for").unwrap(), head.value("x-forwarded-proto").unwrap()))
        .collect();
    assert_eq!(told, [("203.0.113.7", "https"), ("203.0.113.7", "https"), ("203.0.113.8", "https")]);

    let mut third = caller.connect(gateway.address(), "api.test");
    third.0.sock.write_all(&binary([203, 0, 113, 7])).unwrap();
    assert!(third.ask("api.test").is_err(), "the named address has its one connection");
    assert_eq!(refused(&gateway, "address"), 1.0);
}

#[test]
fn http2_is_chosen_behind_the_header() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let gateway = gateway(&ca, &upstream, "");
    let caller = Caller::with(&ca, Manner { alpn: &["h2"], ..Manner::default() });
    runtime().block_on(async {
        let mut socket = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, &binary([203, 0, 113, 9])).await.unwrap();
        let name = ServerName::try_from("api.test").unwrap();
        let stream = TlsConnector::from(caller.config()).connect(name, socket).await.unwrap();
        let mut client = Client::over(&h2::client::Builder::new(), stream).await;
        let mut head = ask(Method::GET, "/v1/charges", LIVE);
        *head.uri_mut() = "https://api.test/v1/charges".parse().unwrap();
        assert_eq!(client.ask(head, "").await.status, StatusCode::OK);
    });
    assert_eq!(upstream.last().value("x-forwarded-for"), Some("203.0.113.9"));
}

/// A header inside of TLS is the client's own, and a handshake without one is nobody's.
#[test]
fn the_header_is_believed_in_its_own_place_only() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let gateway = gateway(&ca, &upstream, "");
    assert!(Caller::new(&ca).ask(gateway.address(), "api.test").is_err(), "no header");
    wait_until("it is counted", || refused(&gateway, "proxy_protocol") == 1.0);
    assert_eq!(gateway.handshakes("failed") + gateway.handshakes("full"), 0.0, "nobody shook hands with it");

    let mut inside = Caller::new(&ca).connect(gateway.address(), "api.test");
    inside.0.sock.write_all(&binary([203, 0, 113, 7])).unwrap();
    inside.0.write_all(b"PROXY TCP4 198.51.100.1 192.0.2.1 50000 443\r\n").unwrap();
    inside.0.write_all(get("/v1/charges", LIVE).as_bytes()).unwrap();
    let mut answer = Vec::new();
    // Whatever is said behind it, the first answer is the refusal, and the last.
    let _ = inside.0.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", answer.escape_ascii());

    let mut plain = TcpStream::connect(gateway.address()).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(&binary([203, 0, 113, 7])).unwrap();
    plain.write_all(get("/v1/charges", LIVE).as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "HTTP on the port of TLS: {}", answer.escape_ascii());
    assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
}
