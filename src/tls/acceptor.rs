//! Handshakes with clients.

use super::clients::ClientTrust;
use super::lasting::Lasting;
use super::{Certificate, Certificates, TlsError, TlsErrors, facts, provider};
use crate::config::{Server, Tls, TlsVersion};
use http::HeaderValue;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, SupportedProtocolVersion};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a client and a server agree to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1; also where nothing was said.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// As ALPN has it (RFC 7301).
    #[must_use]
    pub const fn id(self) -> &'static [u8] {
        match self {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        }
    }
}

/// Shakes hands with clients, for all threads.
pub struct Acceptor {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    /// What bounds handshakes at once.
    turns: Arc<Semaphore>,
}

/// What a handshake told of a client.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// The name it asked for, in lower case.
    server_name: Option<Box<str>>,
    certificates: Arc<Certificates>,
    /// The SHA-256 of its certificate, in hexadecimal; `None` where it showed none. One that is here was verified.
    pub client_certificate: Option<HeaderValue>,
    /// What is spoken now.
    pub protocol: Protocol,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

impl Handshake {
    /// Whether a request for `host` may come over this connection; see [`Certificates::serve`].
    #[must_use]
    pub fn serves(&self, host: &str) -> bool {
        self.server_name.as_ref().is_none_or(|name| self.certificates.serve(name, host))
    }
}

/// Why there is no handshake.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client left before it said anything.
    #[error("the client left at once")]
    Gone,
    /// The client speaks HTTP without TLS; the connection as it came.
    #[error("the client does not speak TLS")]
    PlainHttp(TcpStream),
    /// The handshake failed; the client has been told.
    #[error(transparent)]
    Failed(#[from] io::Error),
    /// The certificate of a session to be resumed has expired since.
    #[error("the client's certificate has expired since its session began")]
    Expired,
}

impl Acceptor {
    /// Loads all that `[server] tls` names, past every mistake. `protocols` are offered in this order.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn load(
        tls: &Tls,
        server: &Server,
        protocols: &[Protocol],
        lasting: &mut Lasting,
        now: Timestamp,
        warnings: &mut Vec<String>,
    ) -> Result<Acceptor, TlsErrors> {
        let mut errors = Vec::new();
        let mut good = Vec::new();
        for pair in &tls.certificates {
            match Certificate::load(pair, now, warnings) {
                Ok(certificate) => good.push(certificate),
                Err(error) => errors.push(error),
            }
        }
        let clients = tls.clients.as_ref().map(|clients| ClientTrust::load(clients, now, warnings)).transpose();
        let clients = clients.unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        if !errors.is_empty() {
            return Err(TlsErrors(errors));
        }
        let certificates = Arc::new(Certificates::new(good, tls.refuse_unknown_sni));
        let config = config(tls, &certificates, clients, protocols, lasting).map_err(TlsError::Setup)?;
        Ok(Acceptor { config: Arc::new(config), certificates, turns: lasting.turns(server.max_handshakes) })
    }

    /// The certificates that clients may get.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// One handshake. It waits for the client's first byte, then for a turn; whoever calls bounds both. `now` is asked only
    /// when a client with a certificate resumes a session.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn accept(
        &self,
        socket: TcpStream,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<(TlsStream<TcpStream>, Handshake), HandshakeError> {
        let mut first = [0];
        // A connection that says nothing holds no turn, and one that speaks plain HTTP can be told.
        if socket.peek(&mut first).await? == 0 {
            return Err(HandshakeError::Gone);
        }
        if first[0].is_ascii_alphabetic() {
            return Err(HandshakeError::PlainHttp(socket));
        }
        // The semaphore is never closed.
        let turn = self.turns.acquire().await.ok();
        let stream = TlsAcceptor::from(Arc::clone(&self.config)).accept(socket).await?;
        drop(turn);
        let handshake = self.told(stream.get_ref().1, now)?;
        Ok((stream, handshake))
    }

    fn told(
        &self,
        connection: &ServerConnection,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<Handshake, HandshakeError> {
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        if let Some(certificate) = certificate.filter(|_| resumed)
            && facts::not_after(certificate).is_none_or(|not_after| not_after < now())
        {
            return Err(HandshakeError::Expired);
        }
        let speaks_http2 = connection.alpn_protocol() == Some(Protocol::Http2.id());
        Ok(Handshake {
            server_name: connection.server_name().map(|name| name.to_ascii_lowercase().into()),
            certificates: Arc::clone(&self.certificates),
            client_certificate: certificate.and_then(fingerprint),
            protocol: if speaks_http2 { Protocol::Http2 } else { Protocol::Http1 },
            resumed,
        })
    }
}

fn config(
    tls: &Tls,
    certificates: &Arc<Certificates>,
    clients: Option<ClientTrust>,
    protocols: &[Protocol],
    lasting: &mut Lasting,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&'static SupportedProtocolVersion] = match tls.min_version {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let sessions = lasting.sessions(clients.as_ref().map_or([0; 32], |clients| clients.digest))?;
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients.verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(certificates) as Arc<_>);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.id().to_vec()).collect();
    config.ticketer = sessions.tickets;
    config.session_storage = sessions.memory;
    // It is rustls' default; a replayed POST is a second payment.
    config.max_early_data_size = 0;
    Ok(config)
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Option<HeaderValue> {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(certificate) {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    HeaderValue::try_from(text).ok()
}
