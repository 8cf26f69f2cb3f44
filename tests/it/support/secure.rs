//! Both ends of TLS: authorities and certificates made on the spot, and clients that say what became of a handshake.

use super::running::{Folder, LIVE, Running, Setup, keys, request};
use super::wait::PATIENCE;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use tollgate::process::Source;

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pair {
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// Puts both into files, `NAME.pem` and `NAME-key.pem`.
    pub(crate) fn put(&self, folder: &Folder, name: &str) {
        folder.put(&format!("{name}-key.pem"), &self.key);
        folder.put(&format!("{name}.pem"), &self.certificate);
    }
}

/// Somebody who signs certificates.
pub(crate) struct Authority {
    pub(crate) pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        Authority { pem: own.pem(), der: own.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for these names.
    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        self.issue_with(names, KeyPair::generate().unwrap(), |_| {})
    }

    /// The same that was valid until the year 2001.
    pub(crate) fn issue_expired(&self, names: &[&str]) -> Pair {
        self.issue_with(names, KeyPair::generate().unwrap(), |params| {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        })
    }

    pub(crate) fn issue_with(&self, names: &[&str], key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A list that revokes the certificates with these serial numbers.
    pub(crate) fn revoke(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| rcgen::RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A client that remembers its sessions.
#[derive(Clone)]
pub(crate) struct Caller(Arc<ClientConfig>);

/// Clients of one version only.
pub(crate) static TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub(crate) static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// How a client differs from the usual one.
pub(crate) struct Manner<'a> {
    pub(crate) certificate: Option<&'a Pair>,
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) alpn: &'a [&'a str],
    pub(crate) says_name: bool,
}

impl Default for Manner<'_> {
    fn default() -> Self {
        Manner {
            certificate: None,
            versions: rustls::DEFAULT_VERSIONS,
            provider: provider(),
            alpn: &[],
            says_name: true,
        }
    }
}

impl Caller {
    pub(crate) fn new(trusted: &Authority) -> Caller {
        Caller::with(trusted, Manner::default())
    }

    /// One that shows a certificate.
    pub(crate) fn showing(trusted: &Authority, certificate: &Pair) -> Caller {
        Caller::with(trusted, Manner { certificate: Some(certificate), ..Manner::default() })
    }

    pub(crate) fn with(trusted: &Authority, manner: Manner<'_>) -> Caller {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.der.clone()).unwrap();
        let config =
            ClientConfig::builder_with_provider(manner.provider).with_protocol_versions(manner.versions).unwrap();
        let config = config.with_root_certificates(roots);
        let mut config = match manner.certificate {
            Some(own) => config.with_client_auth_cert(vec![own.der()], own.key()).unwrap(),
            None => config.with_no_client_auth(),
        };
        config.enable_sni = manner.says_name;
        config.alpn_protocols = manner.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Caller(Arc::new(config))
    }

    /// What it does, for a client of another kind.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    /// A connection to a server of this name; the handshake happens at the first byte.
    pub(crate) fn connect(&self, address: SocketAddr, name: &str) -> Secure {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::clone(&self.0), name).unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Secure(StreamOwned::new(session, socket))
    }

    /// One request to `name` on a connection of its own, its status, and the connection.
    pub(crate) fn ask(&self, address: SocketAddr, name: &str) -> std::io::Result<(u16, Secure)> {
        let mut connection = self.connect(address, name);
        let status = connection.ask(name)?;
        Ok((status, connection))
    }
}

/// A client's end of a TLS connection.
pub(crate) struct Secure(pub(crate) StreamOwned<ClientConnection, TcpStream>);

impl Secure {
    /// One request for this host, and the status of its whole answer; the connection stays open.
    pub(crate) fn ask(&mut self, host: &str) -> std::io::Result<u16> {
        self.ask_with(host, "")
    }

    /// The same with further header lines.
    pub(crate) fn ask_with(&mut self, host: &str, lines: &str) -> std::io::Result<u16> {
        let request = request("GET", "/v1/charges", LIVE, lines).replace("api.test", host);
        self.0.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        let head = String::from_utf8(answer).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        self.0.read_exact(&mut vec![0; length.unwrap_or(0)])?;
        Ok(head.split(' ').nth(1).unwrap().parse().unwrap())
    }

    /// Whether the server showed this certificate.
    pub(crate) fn was_shown(&self, pair: &Pair) -> bool {
        self.0.conn.peer_certificates().is_some_and(|chain| chain.first() == Some(&pair.der()))
    }

    pub(crate) fn resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

/// A gateway in a folder of its own that speaks TLS.
pub(crate) struct SecureGateway {
    pub(crate) folder: Folder,
    pub(crate) running: Running,
}

impl SecureGateway {
    /// `files` are put into the folder first; `tls` is the inside of the key of that name.
    pub(crate) fn start(upstream: SocketAddr, tls: &str, files: &[(&str, &Pair)]) -> SecureGateway {
        SecureGateway::start_with(Setup::new(upstream), tls, files, &[])
    }

    pub(crate) fn start_with(
        setup: Setup,
        tls: &str,
        files: &[(&str, &Pair)],
        texts: &[(&str, &str)],
    ) -> SecureGateway {
        let folder = Folder::new();
        for (name, pair) in files {
            pair.put(&folder, name);
        }
        for (name, text) in texts {
            folder.put(name, text);
        }
        folder.put("keys.toml", &keys());
        folder.put("tollgate.toml", &setup.server(&format!("tls = {{ {tls} }}")).toml());
        let running = Running::start(Source::File(folder.path("tollgate.toml")));
        SecureGateway { folder, running }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// Handshakes that ended so.
    pub(crate) fn handshakes(&self, result: &str) -> f64 {
        self.running.metrics().sum("tollgate_tls_handshakes_total", &[("result", result)])
    }
}

/// `certificate` and `private_key` of a pair that was put as `name`.
pub(crate) fn files(name: &str) -> String {
    format!("certificate = \"{name}.pem\", private_key = \"{name}-key.pem\"")
}
