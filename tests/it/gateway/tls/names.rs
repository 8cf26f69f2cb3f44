//! Which certificate a client gets, and what it may ask for then.

use crate::support::secure::{Authority, Caller, Manner, SecureGateway, files, provider};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use rcgen::KeyPair;
use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use std::sync::Arc;

#[test]
fn a_client_gets_the_certificate_with_the_name_it_asks_for() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let first = ca.issue(&["default.test", "localhost"]);
    let (exact, wild) = (ca.issue(&["api.pay.test"]), ca.issue(&["*.pay.test", "pay.test"]));
    let tls = format!("{}, certificates = [{{ {} }}, {{ {} }}]", files("first"), files("wild"), files("exact"));
    let given = [("first", &first), ("exact", &exact), ("wild", &wild)];
    let gateway = SecureGateway::start(upstream.address(), &tls, &given);
    let caller = Caller::new(&ca);
    let cases = [
        ("default.test", &first),
        ("api.pay.test", &exact),
        ("API.Pay.test", &exact),
        ("eu.pay.test", &wild),
        ("pay.test", &wild),
    ];
    for (name, pair) in cases {
        let (status, connection) = caller.ask(gateway.address(), name).unwrap();
        assert_eq!(status, 200, "{name}");
        assert!(connection.was_shown(pair), "{name}");
    }
    // Not a whole label, two labels, nobody's, none: the first, which the client then does not accept unless it is for it.
    for name in ["a.eu.pay.test", "nobody.test"] {
        let error = caller.ask(gateway.address(), name).err().unwrap().to_string();
        assert!(error.contains("certificate not valid for name"), "{name}: {error}");
    }
    let silent = Caller::with(&ca, Manner { says_name: false, ..Manner::default() });
    assert!(silent.ask(gateway.address(), "localhost").unwrap().1.was_shown(&first));
}

#[test]
fn unknown_names_are_refused_where_that_is_wanted() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let pair = ca.issue(&["api.test", "localhost"]);
    let tls = format!("{}, unknown_sni = \"refuse\"", files("a"));
    let gateway = SecureGateway::start(upstream.address(), &tls, &[("a", &pair)]);
    assert_eq!(Caller::new(&ca).ask(gateway.address(), "api.test").unwrap().0, 200);
    let silent = Caller::with(&ca, Manner { says_name: false, ..Manner::default() });
    for (caller, name) in [(&silent, "localhost"), (&Caller::new(&ca), "nobody.test")] {
        let error = caller.ask(gateway.address(), name).err().unwrap().to_string();
        assert!(error.contains("AccessDenied"), "{name}: {error}");
    }
    wait_until("both have failed", || gateway.handshakes("failed") == 2.0);
    assert_eq!(gateway.handshakes("full"), 1.0);
}

#[test]
fn of_two_kinds_of_keys_a_client_gets_the_one_that_it_knows() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let modern = ca.issue_with(&["api.test"], KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(), |_| {});
    let usual = ca.issue(&["api.test"]);
    let tls = format!("{}, certificates = [{{ {} }}]", files("modern"), files("usual"));
    let gateway = SecureGateway::start(upstream.address(), &tls, &[("modern", &modern), ("usual", &usual)]);
    assert!(Caller::new(&ca).ask(gateway.address(), "api.test").unwrap().1.was_shown(&modern));

    let mut older = (*provider()).clone();
    let known = older.signature_verification_algorithms;
    let mapping: Vec<_> =
        known.mapping.iter().filter(|(scheme, _)| *scheme != SignatureScheme::ED25519).copied().collect();
    // A client lives for the whole test anyway.
    older.signature_verification_algorithms = WebPkiSupportedAlgorithms { all: known.all, mapping: mapping.leak() };
    let older = Caller::with(&ca, Manner { provider: Arc::new(older), ..Manner::default() });
    assert!(older.ask(gateway.address(), "api.test").unwrap().1.was_shown(&usual));
}

#[test]
fn a_request_for_a_host_of_another_certificate_is_misdirected() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let (one, other) = (ca.issue(&["api.test", "www.test", "127.0.0.1"]), ca.issue(&["other.test", "*.other.test"]));
    let tls = format!("{}, certificates = [{{ {} }}]", files("one"), files("other"));
    let gateway = SecureGateway::start(upstream.address(), &tls, &[("one", &one), ("other", &other)]);
    let hosts = [
        ("api.test", 200),
        ("API.test:8443", 200),
        ("www.test.", 200),
        ("127.0.0.1:8443", 200),
        ("other.test", 421),
        ("eu.other.test", 421),
        ("nobody.test", 421),
    ];
    for (host, status) in hosts {
        let mut client = Caller::new(&ca).connect(gateway.address(), "api.test");
        assert_eq!(client.ask("api.test").unwrap(), 200);
        assert_eq!(client.ask(host).unwrap(), status, "{host}");
    }
    let seen = upstream.requests();
    assert_eq!(seen.len(), 11, "a misdirected request goes nowhere: {seen:?}");
    // A client that asked for nobody, or for a name that no certificate has, was promised nothing.
    let silent = Caller::with(&ca, Manner { says_name: false, ..Manner::default() });
    assert_eq!(silent.connect(gateway.address(), "127.0.0.1").ask("other.test").unwrap(), 200);
}

#[test]
fn a_client_that_speaks_nothing_we_know_is_told_so() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let pair = ca.issue(&["api.test"]);
    let gateway = SecureGateway::start(upstream.address(), &files("a"), &[("a", &pair)]);
    let with = |alpn: &[&str]| Caller::with(&ca, Manner { alpn, ..Manner::default() });
    let (_, connection) = with(&["acme", "http/1.1"]).ask(gateway.address(), "api.test").unwrap();
    assert_eq!(connection.0.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    let error = with(&["smtp"]).ask(gateway.address(), "api.test").err().unwrap().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
}
