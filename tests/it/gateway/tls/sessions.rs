//! Sessions, versions, and certificates that change under a running gateway.

use crate::support::running::{Folder, Setup, keys};
use crate::support::secure::{Authority, Caller, Manner, SecureGateway, TLS12, TLS13, files};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_until;
use std::sync::atomic::{AtomicBool, Ordering};
use tollgate::process::{Gateway, Source};

#[test]
fn sessions_are_resumed_over_threads_and_reloads() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let setup = Setup { threads: 2, ..Setup::new(upstream.address()) };
    let gateway = SecureGateway::start_with(setup, &files("a"), &[("a", &ca.issue(&["api.test"]))], &[]);
    for versions in [TLS13, TLS12] {
        let caller = Caller::with(&ca, Manner { versions, ..Manner::default() });
        let resumed = || caller.ask(gateway.address(), "api.test").unwrap().1.resumed();
        assert!(!resumed());
        assert!((0..8).all(|_| resumed()));
        gateway.running.handle().reload().unwrap();
        assert!(resumed(), "the same certificate");
        ca.issue(&["api.test"]).put(&gateway.folder, "a");
        gateway.running.handle().reload().unwrap();
        assert!(resumed(), "a renewed certificate makes no storm of handshakes");
    }
    assert_eq!((gateway.handshakes("full"), gateway.handshakes("resumed")), (2.0, 20.0));
}

#[test]
fn two_gateways_share_no_sessions() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let pair = ca.issue(&["api.test"]);
    let one = SecureGateway::start(upstream.address(), &files("a"), &[("a", &pair)]);
    let other = SecureGateway::start(upstream.address(), &files("a"), &[("a", &pair)]);
    let caller = Caller::new(&ca);
    assert!(!caller.ask(one.address(), "api.test").unwrap().1.resumed());
    assert!(!caller.ask(other.address(), "api.test").unwrap().1.resumed());
}

#[test]
fn versions_below_the_least_are_refused() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let tls = format!("{}, min_version = \"1.3\"", files("a"));
    let gateway = SecureGateway::start(upstream.address(), &tls, &[("a", &ca.issue(&["api.test"]))]);
    let caller = |versions| Caller::with(&ca, Manner { versions, ..Manner::default() });
    assert_eq!(caller(TLS13).ask(gateway.address(), "api.test").unwrap().0, 200);
    let error = caller(TLS12).ask(gateway.address(), "api.test").err().unwrap().to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
}

#[test]
fn certificates_are_swapped_under_load_and_fail_nobody() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let pairs = [ca.issue(&["api.test"]), ca.issue(&["api.test"])];
    let gateway = SecureGateway::start(upstream.address(), &files("a"), &[("a", &pairs[0])]);
    let (address, done) = (gateway.address(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut open = Caller::new(&ca).connect(address, "api.test");
                    let mut shown = [false; 2];
                    while !done.load(Ordering::SeqCst) {
                        assert_eq!(open.ask("api.test").unwrap(), 200);
                        let (status, connection) = Caller::new(&ca).ask(address, "api.test").unwrap();
                        assert_eq!(status, 200);
                        for (shown, pair) in shown.iter_mut().zip(&pairs) {
                            *shown |= connection.was_shown(pair);
                        }
                    }
                    shown
                })
            })
            .collect();
        for round in 1..=20 {
            pairs[round % 2].put(&gateway.folder, "a");
            gateway.running.handle().reload().unwrap();
            let caller = Caller::new(&ca);
            assert!(caller.ask(address, "api.test").unwrap().1.was_shown(&pairs[round % 2]), "round {round}");
        }
        done.store(true, Ordering::SeqCst);
        for client in clients {
            assert_eq!(client.join().unwrap(), [true, true]);
        }
    });
    assert_eq!(gateway.handshakes("failed"), 0.0);
}

#[test]
fn a_bad_pair_keeps_the_last_good_one_and_is_told() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let (first, second) = (ca.issue(&["api.test"]), ca.issue(&["api.test"]));
    let gateway = SecureGateway::start(upstream.address(), &files("a"), &[("a", &first)]);
    let reloads = |result| gateway.running.metrics().sum("tollgate_config_reloads_total", &[("result", result)]);
    let mut open = Caller::new(&ca).connect(gateway.address(), "api.test");
    assert_eq!(open.ask("api.test").unwrap(), 200);
    // As the first half of a renewal that stops there, cut in the midst, emptied, or taken away.
    let cut = &second.certificate[..second.certificate.len() / 2];
    for (nth, bad) in [second.certificate.as_str(), cut, ""].into_iter().enumerate() {
        gateway.folder.put("a.pem", bad);
        wait_until("the file is refused", || reloads("failure") >= (nth + 1) as f64);
        assert!(Caller::new(&ca).ask(gateway.address(), "api.test").unwrap().1.was_shown(&first), "{bad}");
    }
    std::fs::remove_file(gateway.folder.path("a.pem")).unwrap();
    let error = gateway.running.handle().reload().unwrap_err().to_string();
    assert!(error.contains("cannot read the certificate") && error.contains("a.pem"), "{error}");

    second.put(&gateway.folder, "a");
    let shown = || Caller::new(&ca).ask(gateway.address(), "api.test").unwrap().1;
    wait_until("the new pair is in use", || shown().was_shown(&second));
    assert_eq!(open.ask("api.test").unwrap(), 200, "open connections go on");
}

#[test]
fn what_is_wrong_with_all_files_is_told_at_once_at_the_start() {
    let (ca, folder) = (Authority::new("ca"), Folder::new());
    let (one, other) = (ca.issue(&["a.test"]), ca.issue(&["b.test"]));
    folder.put("keys.toml", &keys());
    folder.put("cut.pem", &one.certificate[..200]);
    folder.put("cut-key.pem", &one.key);
    folder.put("mixed.pem", &one.certificate);
    folder.put("mixed-key.pem", &other.key);
    folder.put("keyless.pem", &one.certificate);
    folder.put("keyless-key.pem", &one.key[..60]);
    let lists = ["mixed", "keyless"].map(|name| format!("{{ {} }}", files(name))).join(", ");
    let tls = format!("tls = {{ {}, certificates = [{lists}], client_ca = \"cut.pem\" }}", files("cut"));
    let upstream = Upstream::fine();
    folder.put("tollgate.toml", &Setup::new(upstream.address()).server(&tls).toml());
    let error = Gateway::start(Source::File(folder.path("tollgate.toml"))).err().unwrap().to_string();
    assert_eq!(error.lines().count(), 4, "{error}");
    for told in ["the certificate", "cut.pem", "mixed.pem and its private key", "keyless-key.pem", "the authorities in"]
    {
        assert!(error.contains(told), "{told}: {error}");
    }
    assert!(!error.contains("BEGIN"), "{error}");
}

#[test]
fn the_expiry_of_each_certificate_is_a_metric() {
    let (ca, upstream) = (Authority::new("ca"), Upstream::fine());
    let until = |year: i32| {
        let key = rcgen::KeyPair::generate().unwrap();
        ca.issue_with(&["api.test"], key, |params| params.not_after = rcgen::date_time_ymd(year, 1, 1))
    };
    let tls = format!("{}, certificates = [{{ {} }}]", files("a"), files("b"));
    let gateway = SecureGateway::start(upstream.address(), &tls, &[("a", &until(2080)), ("b", &until(2081))]);
    let expiry = |name: &str| {
        let name = [("certificate", name)];
        gateway.running.metrics().sum("tollgate_tls_certificate_expiry_timestamp_seconds", &name)
    };
    assert_eq!((expiry("a"), expiry("b")), (3_471_292_800.0, 3_502_915_200.0));
    until(2082).put(&gateway.folder, "a");
    gateway
        .folder
        .put("tollgate.toml", &Setup::new(upstream.address()).server(&format!("tls = {{ {} }}", files("a"))).toml());
    gateway.running.handle().reload().unwrap();
    assert_eq!(expiry("a"), 3_534_451_200.0);
    let text = gateway.running.metrics().text;
    assert!(!text.contains("certificate=\"b\""), "{text}");
}
