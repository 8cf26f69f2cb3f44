//! TLS to upstreams: our own certificate, and the name that is verified.

use crate::support::running::{Folder, LIVE, Running, Setup, get};
use crate::support::secure::{Authority, Pair, provider};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

/// A server that asks for certificates of `clients` and answers with the one it was shown, in short, and the name it was
/// asked for. Connections stay open.
fn server(pair: &Pair, clients: &Authority) -> SocketAddr {
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(clients.pem.as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let config = config.with_client_cert_verifier(verifier).with_single_cert(vec![pair.der()], pair.key()).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().take(16).flatten() {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            std::thread::spawn(move || serve(StreamOwned::new(session, socket)));
        }
    });
    address
}

fn serve(mut stream: StreamOwned<ServerConnection, std::net::TcpStream>) {
    loop {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_exact(&mut byte).is_err() {
                return;
            }
            head.push(byte[0]);
        }
        let shown = stream.conn.peer_certificates().map_or_else(String::new, |chain| short(&chain[0]));
        let name = stream.conn.server_name().unwrap_or("none").to_owned();
        let answer = format!("HTTP/1.1 200 OK\r\nx-shown: {shown}\r\nx-name: {name}\r\ncontent-length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn short(certificate: &[u8]) -> String {
    Sha256::digest(certificate).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn gateway(folder: &Folder, address: SocketAddr, more: &str) -> Running {
    let [ca, certificate, key] = ["ca.pem", "own.pem", "own-key.pem"].map(|name| folder.path(name));
    let lines = format!(
        "servers = [\"https://{address}\"]\nca = {ca:?}\n\
         client_certificate = {{ certificate = {certificate:?}, private_key = {key:?} }}\n{more}\n"
    );
    Setup { upstream: lines, ..Setup::new(address) }.start()
}

#[test]
fn a_server_by_its_address_is_verified_by_the_name_given_and_shown_our_certificate() {
    let (ca, clients, folder) = (Authority::new("ca"), Authority::new("clients"), Folder::new());
    let (first, second) = (clients.issue(&["gateway"]), clients.issue(&["gateway"]));
    let address = server(&ca.issue(&["api.internal"]), &clients);
    folder.put("ca.pem", &ca.pem);
    first.put(&folder, "own");
    assert_eq!(gateway(&folder, address, "").ask(get("/v1/charges", LIVE)).status(), 502, "it is not named by address");

    let gateway = gateway(&folder, address, "server_name = \"api.internal\"");
    let ask = || gateway.ask(get("/v1/charges", LIVE));
    let answer = ask();
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.head.value("x-name"), Some("api.internal"));
    assert_eq!(answer.head.value("x-shown"), Some(short(&first.der()).as_str()));

    second.put(&folder, "own");
    gateway.handle().reload().unwrap();
    assert_eq!(ask().head.value("x-shown"), Some(short(&second.der()).as_str()), "not on the old connection");

    first.put(&folder, "own");
    folder.put("own-key.pem", &second.key);
    let error = gateway.handle().reload().unwrap_err().to_string();
    assert!(error.contains("own.pem and its private key"), "{error}");
    assert_eq!(ask().head.value("x-shown"), Some(short(&second.der()).as_str()), "the last good one stays");

    Authority::new("clients").issue(&["gateway"]).put(&folder, "own");
    gateway.handle().reload().unwrap();
    assert_eq!(ask().status(), 502, "the server does not accept this one");
    first.put(&folder, "own");
    gateway.handle().reload().unwrap();
    assert_eq!(ask().head.value("x-shown"), Some(short(&first.der()).as_str()), "what was used before works again");
    gateway.handle().reload().unwrap();
    assert_eq!(
        ask().head.value("x-shown"),
        Some(short(&first.der()).as_str()),
        "and after a reload that changes nothing"
    );
}
