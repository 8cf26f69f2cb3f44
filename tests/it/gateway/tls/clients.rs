//! Client certificates: who comes in, what the upstream is told, and that nobody resumes past a change.

use crate::support::running::Setup;
use crate::support::secure::{Authority, Caller, Manner, Pair, SecureGateway, TLS12, TLS13, files};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use rcgen::{KeyPair, SerialNumber};
use sha2::{Digest, Sha256};

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
