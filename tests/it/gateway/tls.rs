//! TLS on both sides: certificates made on the spot, reloads, and nobody trusted unasked.

mod balancer;
mod clients;
mod faults;
mod names;
mod sessions;
mod upstreams;

use crate::support::running::{Folder, LIVE, Running, Setup, get, keys};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use tollgate::process::Source;

/// A certificate for `localhost` and `api.test`, the host that requests name, and its key, as PEM.
struct Pair {
    certificate: String,
    key: String,
}

fn pair() -> Pair {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "api.test".to_owned()]).unwrap();
    Pair { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A connection on which only this certificate is trusted. The handshake happens at the first byte.
fn connect(address: SocketAddr, trusted: &Pair) -> Secure {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.certificate.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let session = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    StreamOwned::new(session, TcpStream::connect(address).unwrap())
}

/// One request and its whole answer; the connection stays open.
fn ask(connection: &mut Secure) -> std::io::Result<String> {
    connection.write_all(get("/v1/charges", LIVE).as_bytes())?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    connection.read_exact(&mut vec![0; length.unwrap_or(0)])?;
    Ok(head)
}

/// A gateway in a folder of its own that speaks TLS with `pair`.
fn secure_gateway(folder: &Folder, upstream: SocketAddr, pair: &Pair) -> Running {
    folder.put("cert.pem", &pair.certificate);
    folder.put("key.pem", &pair.key);
    folder.put("keys.toml", &keys());
    let setup = Setup::new(upstream).server("tls = { certificate = \"cert.pem\", private_key = \"key.pem\" }");
    folder.put("tollgate.toml", &setup.toml());
    Running::start(Source::File(folder.path("tollgate.toml")))
}

#[test]
fn requests_over_tls_are_served_and_say_so_to_the_upstream() {
    let (folder, upstream, pair) = (Folder::new(), Upstream::fine(), pair());
    let gateway = secure_gateway(&folder, upstream.address(), &pair);
    let mut client = connect(gateway.address, &pair);
    for _ in 0..2 {
        assert!(ask(&mut client).unwrap().starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(upstream.last().value("x-forwarded-proto"), Some("https"));
    assert_eq!(client.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    ask(&mut connect(gateway.address, &self::pair())).expect_err("another certificate is not this one");
}

#[test]
fn a_new_certificate_serves_new_connections_and_a_bad_one_changes_nothing() {
    let (folder, upstream, first, second) = (Folder::new(), Upstream::fine(), pair(), pair());
    let gateway = secure_gateway(&folder, upstream.address(), &first);
    let mut open = connect(gateway.address, &first);
    ask(&mut open).unwrap();

    folder.put("cert.pem", &second.certificate);
    assert!(gateway.handle().reload().is_err(), "the certificate and the key do not belong together");
    ask(&mut connect(gateway.address, &first)).unwrap();

    folder.put("key.pem", &second.key);
    wait_until("the new pair is in use", || ask(&mut connect(gateway.address, &second)).is_ok());
    assert!(ask(&mut open).unwrap().starts_with("HTTP/1.1 200 "), "open connections go on");

    folder.put("cert.pem", "-----BEGIN CERTIFICATE-----\nhalf");
    assert!(gateway.handle().reload().is_err());
    ask(&mut connect(gateway.address, &second)).unwrap();
}

/// An upstream that speaks TLS with `pair` and answers every request with the `Host` it got.
fn secure_upstream(pair: &Pair) -> SocketAddr {
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().take(8).flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), socket);
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default().to_owned();
            // A client that does not trust us is gone already.
            let _ =
                write!(stream, "HTTP/1.1 200 OK\r\nx-host: {host}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    address
}

#[test]
fn an_https_upstream_is_verified_and_called_by_its_own_name() {
    let (folder, pair) = (Folder::new(), pair());
    folder.put("ca.pem", &pair.certificate);
    let port = secure_upstream(&pair).port();
    let toml = |ca: &str| {
        let servers = format!("servers = [\"https://localhost:{port}\"]\n{ca}");
        Setup { upstream: servers, ..Setup::new(([127, 0, 0, 1], 1).into()) }
    };
    let trusting = toml(&format!("ca = {:?}\n", folder.path("ca.pem"))).start();
    let answer = trusting.ask(get("/v1/charges", LIVE));
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.head.value("x-host"), Some(format!("localhost:{port}").as_str()));

    let refused = toml("").start().ask(get("/v1/charges", LIVE));
    assert_eq!(refused.status(), 502, "nobody vouches for it: {refused:?}");
}

#[test]
fn an_authority_that_is_put_in_place_of_another_is_the_one_believed() {
    let (folder, right, wrong) = (Folder::new(), pair(), pair());
    folder.put("ca.pem", &wrong.certificate);
    let port = secure_upstream(&right).port();
    let servers = format!("servers = [\"https://localhost:{port}\"]\nca = {:?}\n", folder.path("ca.pem"));
    let gateway = Setup { upstream: servers, ..Setup::new(([127, 0, 0, 1], 1).into()) }.start();
    let status = || gateway.ask(get("/v1/charges", LIVE)).status();
    assert_eq!(status(), 502);
    for bad in ["", "no certificate"] {
        folder.put("ca.pem", bad);
        assert!(gateway.handle().reload().is_err(), "{bad:?}");
    }
    folder.put("ca.pem", &right.certificate);
    gateway.handle().reload().unwrap();
    assert_eq!(status(), 200);
    folder.put("ca.pem", &wrong.certificate);
    gateway.handle().reload().unwrap();
    assert_eq!(status(), 502, "it is trusted no more");
}
