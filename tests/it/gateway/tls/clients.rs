//! Client certificates: who comes in, what the upstream is told, and that nobody resumes past a change.

use crate::support::running::{Folder, Setup};
use crate::support::secure::{Authority, Caller, Manner, Pair, SecureGateway, TLS12, TLS13, files};
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, wait_until};
use rcgen::{KeyPair, SerialNumber};
use sha2::{Digest, Sha256};
use std::net::TcpListener;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tollgate::clock::Time;
use tollgate::engine::Seed;
use tollgate::tls::{Acceptor, HandshakeError, Lasting, Protocol};

const HEADER: &str = "tollgate-client-certificate-sha256";
const FORGED: &str = "Tollgate-Client-Certificate-SHA256: forged\r\nTollgate_Client_Certificate_SHA256: forged\r\n";

fn fingerprint(pair: &Pair) -> String {
    Sha256::digest(pair.der()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn numbered(ca: &Authority, serial: u64) -> Pair {
    let number = |params: &mut rcgen::CertificateParams| params.serial_number = Some(SerialNumber::from(serial));
    ca.issue_with(&["client"], KeyPair::generate().unwrap(), number)
}

/// A gateway for `api.test` that asks clients for certificates of `clients`.
fn asking(
    upstream: &Upstream,
    ca: &Authority,
    clients: &Authority,
    more: &str,
    texts: &[(&str, &str)],
) -> SecureGateway {
    let tls = format!("{}, client_ca = \"clients.pem\"{more}", files("a"));
    let texts: Vec<_> = [("clients.pem", clients.pem.as_str())].into_iter().chain(texts.iter().copied()).collect();
    SecureGateway::start_with(Setup::new(upstream.address()), &tls, &[("a", &ca.issue(&["api.test"]))], &texts)
}

#[test]
fn only_certificates_of_the_authority_come_in_where_one_is_required() {
    let (ca, clients, upstream) = (Authority::new("ca"), Authority::new("clients"), Upstream::fine());
    let gateway = asking(&upstream, &ca, &clients, "", &[]);
    let good = clients.issue(&["client"]);
    for versions in [TLS13, TLS12] {
        let caller = Caller::with(&ca, Manner { certificate: Some(&good), versions, ..Manner::default() });
        let mut connection = caller.connect(gateway.address(), "api.test");
        assert_eq!(connection.ask_with("api.test", "Connection: tollgate-client-certificate-sha256\r\n").unwrap(), 200);
        assert_eq!(upstream.last().values(HEADER), [fingerprint(&good)]);
    }
    let refused = [
        ("none", Caller::new(&ca)),
        ("expired", Caller::showing(&ca, &clients.issue_expired(&["client"]))),
        ("of another authority", Caller::showing(&ca, &Authority::new("clients").issue(&["client"]))),
        ("of the server's authority", Caller::showing(&ca, &ca.issue(&["client"]))),
    ];
    for (which, caller) in refused {
        assert!(caller.ask(gateway.address(), "api.test").is_err(), "{which}");
    }
    wait_until("all have failed", || gateway.handshakes("failed") == 4.0);
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn a_forged_fingerprint_never_reaches_the_upstream() {
    let (ca, clients, upstream) = (Authority::new("ca"), Authority::new("clients"), Upstream::fine());
    let gateway = asking(&upstream, &ca, &clients, ", client_auth = \"optional\"", &[]);
    let without = |lines: &str| Caller::new(&ca).connect(gateway.address(), "api.test").ask_with("api.test", lines);
    assert_eq!(without("Tollgate-Client-Certificate-SHA256: forged\r\n").unwrap(), 200);
    assert!(!upstream.last().has(HEADER), "{:?}", upstream.last());
    // The other spelling is refused on the wire, or dropped.
    let _ = without(FORGED);
    let forged = |head: &crate::support::wire::Head| head.fields.iter().any(|field| field.1 == "forged");
    assert!(!upstream.requests().iter().any(forged), "{:?}", upstream.requests());

    let good = clients.issue(&["client"]);
    let mut connection = Caller::showing(&ca, &good).connect(gateway.address(), "api.test");
    assert_eq!(connection.ask_with("api.test", "Tollgate-Client-Certificate-SHA256: forged\r\n").unwrap(), 200);
    assert_eq!(upstream.last().values(HEADER), [fingerprint(&good)]);
    let wrong = Caller::showing(&ca, &Authority::new("clients").issue(&["client"]));
    assert!(wrong.ask(gateway.address(), "api.test").is_err(), "what is shown must be good");
}

#[test]
fn a_revoked_certificate_is_out_and_so_is_its_session() {
    let (ca, clients, upstream) = (Authority::new("ca"), Authority::new("clients"), Upstream::fine());
    let crl = ", client_crl = \"revoked.pem\"";
    let gateway = asking(&upstream, &ca, &clients, crl, &[("revoked.pem", &clients.revoke(&[7]))]);
    let (revoked, good) = (Caller::showing(&ca, &numbered(&clients, 7)), Caller::showing(&ca, &numbered(&clients, 8)));
    assert!(revoked.ask(gateway.address(), "api.test").is_err());
    assert!(!good.ask(gateway.address(), "api.test").unwrap().1.resumed());
    assert!(good.ask(gateway.address(), "api.test").unwrap().1.resumed());

    gateway.folder.put("revoked.pem", &clients.revoke(&[7, 8]));
    gateway.running.handle().reload().unwrap();
    assert!(good.ask(gateway.address(), "api.test").is_err(), "its session would have gone on");
    gateway.folder.put("revoked.pem", "none");
    assert!(gateway.running.handle().reload().is_err());
    assert!(good.ask(gateway.address(), "api.test").is_err(), "the last good list stays");
}

#[test]
fn a_session_does_not_outlive_the_trust_it_began_with() {
    let (ca, clients, upstream) = (Authority::new("ca"), Authority::new("clients"), Upstream::fine());
    let gateway = asking(&upstream, &ca, &clients, "", &[]);
    let certificate = clients.issue(&["client"]);
    for versions in [TLS13, TLS12] {
        gateway.folder.put("clients.pem", &clients.pem);
        gateway.running.handle().reload().unwrap();
        let caller = Caller::with(&ca, Manner { certificate: Some(&certificate), versions, ..Manner::default() });
        let resumed = || caller.ask(gateway.address(), "api.test").map(|(_, connection)| connection.resumed());
        assert!(!resumed().unwrap());
        assert!(resumed().unwrap());
        gateway.running.handle().reload().unwrap();
        assert!(resumed().unwrap(), "nothing has changed");
        let mut open = caller.connect(gateway.address(), "api.test");
        assert_eq!(open.ask("api.test").unwrap(), 200);
        gateway.folder.put("clients.pem", &Authority::new("clients").pem);
        gateway.running.handle().reload().unwrap();
        assert!(resumed().is_err(), "its authority is trusted no more");
        assert_eq!(open.ask("api.test").unwrap(), 200, "open connections go on");
    }
}

/// A full handshake verifies by the machine's clock; here only the clock that resumptions ask goes on.
#[test]
fn a_session_does_not_outlive_its_certificate() {
    let (ca, clients, folder) = (Authority::new("ca"), Authority::new("clients"), Folder::new());
    ca.issue(&["api.test"]).put(&folder, "a");
    folder.put("clients.pem", &clients.pem);
    let tls = format!("{}, client_ca = \"clients.pem\"", files("a"));
    let text = Setup::new(([127, 0, 0, 1], 1).into()).server(&format!("tls = {{ {tls} }}")).toml();
    let config = tollgate::config::parse(&text, &folder.path("tollgate.toml"), &Seed([1, 2])).unwrap();
    let (now, mut lasting, mut warnings) = (Time::system().wall(), Lasting::default(), Vec::new());
    let server = &config.server;
    let tls = server.tls.as_ref().unwrap();
    let acceptor = Acceptor::load(tls, server, &[Protocol::Http1], &mut lasting, now, &mut warnings).unwrap();

    let not_after = now + Duration::from_secs(3 * 86_400);
    let certificate = clients.issue_with(&["client"], KeyPair::generate().unwrap(), |params| {
        params.not_after = rcgen::date_time_ymd(2000, 1, 1) + since_2000(not_after);
    });
    let late = not_after + Duration::from_secs(2);
    for versions in [TLS13, TLS12] {
        let caller = Caller::with(&ca, Manner { certificate: Some(&certificate), versions, ..Manner::default() });
        for (asked, expected) in [(late, Ok(false)), (now, Ok(true)), (late, Err(()))] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let (told, resumed) = std::thread::scope(|scope| {
                let serving = scope.spawn(|| serve_once(&acceptor, listener, asked));
                (caller.ask(address, "api.test").map(|answer| answer.0), serving.join().unwrap())
            });
            assert_eq!(told.is_ok(), expected.is_ok(), "{told:?}");
            match resumed {
                Ok(resumed) => assert_eq!(Ok(resumed), expected),
                Err(error) => assert!(expected.is_err() && matches!(error, HandshakeError::Expired), "{error}"),
            }
        }
    }
}

/// Seconds since the year 2000, as the library that makes certificates takes them.
fn since_2000(moment: jiff::Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(moment.as_second()).unwrap() - 946_684_800)
}

/// One handshake with this time on the clock and, where it succeeds, one answer; whether it was a resumption.
fn serve_once(acceptor: &Acceptor, listener: TcpListener, now: jiff::Timestamp) -> Result<bool, HandshakeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    listener.set_nonblocking(true).unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (socket, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let (mut stream, handshake) = acceptor.accept(socket, || now).await?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await? == 1 {
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
        stream.shutdown().await?;
        Ok(handshake.resumed)
    })
}
