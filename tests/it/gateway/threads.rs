//! Several worker threads, one state; and whom a gateway behind proxies takes for its client.

use crate::support::RealClock;
use crate::support::running::{LIVE, Setup, get, request};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::wait_until;
use crate::support::wire::Wire;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tollgate::engine::Clock;

const CLIENTS: usize = 8;

#[test]
fn a_rate_is_exact_over_all_threads() {
    let upstream = Upstream::fine();
    let (rate, burst) = (200.0, 40.0);
    let limit = format!("[[limits]]\nname = \"all\"\nstage = \"global\"\nrate = \"{rate}/s\"\nburst = {burst}\n");
    let mut setup = Setup::new(upstream.address()).with(&limit);
    setup.threads = 2;
    let gateway = setup.start();
    let address = gateway.address;
    let clock = RealClock::start();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            std::thread::spawn(move || {
                // A connection each round, so that the kernel spreads them over both threads.
                let ask = |client: &mut Wire| client.ask(get("/v1/charges", LIVE)).status();
                let round = || {
                    let mut client = Wire::connect(address);
                    (0..15).filter(|_| ask(&mut client) == 200).count()
                };
                (0..10).map(|_| round()).sum::<usize>()
            })
        })
        .collect();
    let admitted: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    let elapsed = clock.now().0 as f64 / 1e9;
    assert!(admitted as f64 <= rate * elapsed + burst, "{admitted} in {elapsed} s");
    assert!(admitted as f64 >= burst, "{admitted}");
    assert_eq!(upstream.requests().len(), admitted, "what was admitted was forwarded, nothing else");
    let decided = |verdict| gateway.metrics().sum("tollgate_decisions_total", &[("verdict", verdict)]);
    assert_eq!((decided("admit"), decided("reject")), (admitted as f64, (CLIENTS * 150 - admitted) as f64));
}

#[test]
fn a_burst_is_exact_over_all_threads() {
    let upstream = Upstream::fine();
    let limit = "[[limits]]\nname = \"all\"\nstage = \"global\"\nrate = \"1/h\"\nburst = 100\n";
    let mut setup = Setup::new(upstream.address()).with(limit);
    setup.threads = 2;
    let gateway = setup.start();
    let address = gateway.address;
    let hammer = move || {
        let mut client = Wire::connect(address);
        (0..50).filter(|_| client.ask(get("/v1/charges", LIVE)).status() == 200).count()
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| std::thread::spawn(hammer)).collect();
    let admitted: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!((admitted, upstream.requests().len()), (100, 100));
}

#[test]
fn slots_are_exact_over_all_threads() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let upstream = {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        Upstream::answering(move |_| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Long enough for others to come in between.
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            ok("ok")
        })
    };
    let limit = "[[limits]]\nname = \"slots\"\nstage = \"global\"\nconcurrency = 3\n";
    let mut setup = Setup::new(upstream.address()).with(limit);
    setup.threads = 2;
    let gateway = setup.start();
    let address = gateway.address;
    let hammer = move || {
        let mut client = Wire::connect(address);
        let statuses: Vec<u16> = (0..100).map(|_| client.ask(get("/v1/charges", LIVE)).status()).collect();
        assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
        statuses.iter().filter(|status| **status == 200).count()
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| std::thread::spawn(hammer)).collect();
    let admitted: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    let most = most.load(Ordering::SeqCst);
    assert!((1..=3).contains(&most), "{most} at once");
    assert_eq!(upstream.requests().len(), admitted);
    wait_until("every slot is back", || gateway.metrics().in_flight() == 0.0);
}

const PER_ADDRESS: &str =
    "[[limits]]\nname = \"address\"\nstage = \"global\"\nrate = \"1/h\"\nburst = 1\nper = [\"ip\"]\n";

/// Statuses of requests with these `X-Forwarded-For` lines, one after another.
fn through_proxies(server: &str, lines: &[&str]) -> Vec<u16> {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server(server).with(PER_ADDRESS).start();
    let mut client = gateway.connect();
    lines.iter().map(|lines| client.ask(request("GET", "/v1/charges", LIVE, lines)).status()).collect()
}

#[test]
fn strangers_cannot_name_another_address() {
    let lines = ["", "x-forwarded-for: 192.0.2.1\r\n", "x-forwarded-for: 192.0.2.2\r\nforwarded: for=192.0.2.3\r\n"];
    assert_eq!(through_proxies("", &lines), [200, 429, 429]);
    assert_eq!(through_proxies("trusted_proxies = [\"10.0.0.0/8\"]", &lines), [200, 429, 429]);
}

#[test]
fn a_trusted_proxy_names_the_client() {
    let lines = [
        "x-forwarded-for: 192.0.2.1\r\n",
        "x-forwarded-for: 192.0.2.2\r\n",
        "x-forwarded-for: 192.0.2.1\r\n",
        // What the client made up stands left of what the proxies wrote.
        "x-forwarded-for: 192.0.2.77, 192.0.2.1\r\n",
        "x-forwarded-for: 192.0.2.1, 10.1.2.3\r\n",
        "x-forwarded-for: 192.0.2.88\r\nx-forwarded-for: 192.0.2.2\r\n",
        "x-forwarded-for: 192.0.2.3, nonsense\r\n",
        "",
    ];
    let statuses = through_proxies("trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]", &lines);
    // What cannot be read is the peer's own, and so is nothing.
    assert_eq!(statuses, [200, 200, 429, 429, 429, 429, 200, 429]);
}

#[test]
fn an_ipv6_client_counts_by_its_network() {
    let lines = [
        "x-forwarded-for: 2001:db8:1:2::1\r\n",
        "x-forwarded-for: 2001:db8:1:2:ffff::9\r\n",
        "x-forwarded-for: 2001:db8:1:3::1\r\n",
        "x-forwarded-for: ::ffff:192.0.2.1\r\n",
        "x-forwarded-for: 192.0.2.1\r\n",
    ];
    assert_eq!(through_proxies("trusted_proxies = [\"127.0.0.1\"]", &lines), [200, 429, 200, 200, 429]);
}

#[test]
fn a_trusted_proxys_word_goes_on_with_our_own_added() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server("trusted_proxies = [\"127.0.0.1\"]").start();
    let lines = "x-forwarded-for: 6.6.6.6, 192.0.2.1\r\nx-forwarded-proto: https\r\nx-forwarded-host: shop.test\r\n";
    assert_eq!(gateway.ask(request("GET", "/v1/charges", LIVE, lines)).status(), 200);
    let head = upstream.last();
    assert_eq!(head.values("x-forwarded-for"), ["6.6.6.6, 192.0.2.1, 127.0.0.1"]);
    assert_eq!((head.values("x-forwarded-proto"), head.values("x-forwarded-host")), (vec!["https"], vec!["shop.test"]));
}
