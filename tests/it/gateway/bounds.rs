//! What clients may take: places, descriptors, time, memory. Who takes more loses it, and nobody else notices.

use crate::support::running::{LIVE, Running, Setup, get, request};
use crate::support::upstream::{Upstream, ok, ok_and_close};
use crate::support::wait::wait_until;
use crate::support::wire::Wire;
use socket2::{Domain, Socket, Type};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

fn refused(gateway: &Running, cause: &str) -> f64 {
    gateway.metrics().sum("tollgate_connections_refused_total", &[("cause", cause)])
}

/// A connection from another loopback address.
fn connect_from(from: [u8; 4], to: SocketAddr) -> Wire {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    Wire::over(TcpStream::from(socket))
}

#[test]
fn one_address_has_so_many_connections_and_others_theirs() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server("max_connections_per_address = 2").start();
    let mut inside: Vec<Wire> = (0..2).map(|_| gateway.connect()).collect();
    for client in &mut inside {
        assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
    }
    assert!(gateway.connect().is_over());
    assert_eq!(refused(&gateway, "address"), 1.0);
    assert_eq!(connect_from([127, 0, 0, 9], gateway.address).ask(get("/v1/charges", LIVE)).status(), 200);
    assert_eq!(inside[1].ask(get("/v1/charges", LIVE)).status(), 200, "those inside notice nothing");
    inside.pop();
    wait_until("the place is free", || gateway.metrics().sum("tollgate_connections", &[]) == 1.0);
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200);
}

#[test]
fn proxies_have_as_many_connections_as_they_like() {
    let upstream = Upstream::fine();
    let lines = "max_connections_per_address = 1\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let gateway = Setup::new(upstream.address()).server(lines).start();
    let mut inside: Vec<Wire> = (0..8).map(|_| gateway.connect()).collect();
    assert!(inside.iter_mut().all(|client| client.ask(get("/v1/charges", LIVE)).status() == 200));
}

#[test]
fn a_balancer_names_the_client() {
    let upstream = Upstream::fine();
    let lines = "proxy_protocol = \"required\"\ntrusted_proxies = [\"127.0.0.0/8\"]\nmax_connections_per_address = 1";
    let gateway = Setup::new(upstream.address()).server(lines).start();
    let mut first = gateway.connect();
    first.send("PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\r\n");
    assert_eq!(first.ask(get("/v1/charges", LIVE)).status(), 200);
    let mut second = gateway.connect();
    let binary = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[203, 0, 113, 8, 192, 0, 2, 1, 0, 1, 0, 2]].concat();
    second.send(binary);
    assert_eq!(second.ask(get("/v1/charges", LIVE)).status(), 200);
    let named: Vec<_> =
        upstream.requests().iter().map(|head| head.value("x-forwarded-for").unwrap().to_owned()).collect();
    assert_eq!(named, ["203.0.113.7", "203.0.113.8"]);
    let mut third = gateway.connect();
    third.send("PROXY TCP4 203.0.113.7 192.0.2.1 50001 443\r\n");
    assert!(third.is_over(), "the named address has its one connection");
    assert_eq!(refused(&gateway, "address"), 1.0);
    let mut health = gateway.connect();
    health.send("PROXY UNKNOWN\r\n");
    assert_eq!(health.ask(get("/v1/charges", LIVE)).status(), 200, "the balancer for itself, as often as it likes");
}

#[test]
fn who_is_not_introduced_is_not_served() {
    let upstream = Upstream::fine();
    let lines = "proxy_protocol = \"required\"\nheader_timeout = \"50ms\"";
    let gateway = Setup::new(upstream.address()).server(lines).start();
    let mut plain = gateway.connect();
    plain.send(get("/v1/charges", LIVE));
    assert!(plain.is_over());
    let mut silent = gateway.connect();
    silent.send("PROXY TCP4 203.0");
    assert!(silent.is_over(), "the time for a head is that of the header too");
    assert_eq!(refused(&gateway, "proxy_protocol"), 2.0);
    let lines = "proxy_protocol = \"required\"\ntrusted_proxies = [\"10.0.0.0/8\"]";
    let gateway = Setup::new(upstream.address()).server(lines).start();
    assert!(gateway.connect().is_over(), "nobody who may introduce others");
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_body_that_says_it_is_too_long_is_refused_at_once() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server("max_body_bytes = \"1000B\"").start();
    let mut client = gateway.connect();
    let answer = client.ask(request("POST", "/v1/charges", LIVE, "content-length: 1001\r\n"));
    assert_eq!(answer.status(), 413);
    assert!(answer.closes() && answer.message().contains("too large"));
    assert!(upstream.requests().is_empty());
    let fits = request("POST", "/v1/charges", LIVE, "content-length: 1000\r\n") + &"x".repeat(1000);
    assert_eq!(gateway.ask(fits).status(), 200);
}

#[test]
fn a_body_that_grows_too_long_is_refused_and_the_upstream_never_has_all() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server("max_body_bytes = \"1000B\"").start();
    let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500));
    let head = request("POST", "/v1/charges", LIVE, "transfer-encoding: chunked\r\n");
    assert_eq!(gateway.ask(format!("{head}{chunk}{chunk}0\r\n\r\n")).status(), 200);
    let answer = gateway.ask(format!("{head}{chunk}{chunk}1\r\nx\r\n0\r\n\r\n"));
    assert_eq!(answer.status(), 413);
    assert!(answer.closes());
    wait_until("everything is given back", || gateway.metrics().in_flight() == 0.0);
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200, "no other request goes behind half a body");
}

/// Sends a byte now and then until the other end has had enough.
fn drip(client: &Wire) -> std::thread::JoinHandle<()> {
    let mut writer = client.writer();
    std::thread::spawn(move || {
        for _ in 0..1_000 {
            if writer.try_send("x").is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    })
}

#[test]
fn a_body_that_trickles_is_given_up() {
    let upstream = Upstream::fine();
    let lines = "body_timeout = \"200ms\"\nmin_body_rate = \"100KiB\"";
    let by_form = "[[limits]]\nname = \"l\"\nstage = \"resource\"\nrate = \"100/s\"\nper = [\"form.a\"]\n\
                   when = { endpoint = \"payouts.create\" }\n";
    let gateway = Setup::new(upstream.address()).server(lines).with(by_form).start();
    // Streamed to the upstream, and read ahead for a limit.
    for path in ["/v1/charges", "/v1/payouts"] {
        let form = "content-type: application/x-www-form-urlencoded\r\ncontent-length: 5000\r\n";
        let mut client = gateway.connect();
        client.send(request("POST", path, LIVE, form));
        let dripping = drip(&client);
        let answer = client.answer();
        assert_eq!(answer.status(), 408, "{answer:?}");
        assert!(answer.closes());
        drop(client);
        dripping.join().unwrap();
    }
    wait_until("everything is given back", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn a_client_that_reads_by_the_spoonful_is_given_up() {
    const BODY_BYTES: usize = 64 << 20;
    let upstream = Upstream::answering(|_| ok(&"x".repeat(BODY_BYTES)));
    let lines = "write_timeout = \"500ms\"\nmin_write_rate = \"1GiB\"";
    let gateway = Setup::new(upstream.address()).server(lines).start();
    let mut client = gateway.connect();
    client.send(get("/v1/charges", LIVE));
    client.head().unwrap();
    let mut read = 0;
    while client.exactly(64 * 1024).is_ok() {
        read += 64 * 1024;
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(read < BODY_BYTES, "the response broke off");
    wait_until("everything is given back", || gateway.metrics().in_flight() == 0.0);
}

#[test]
fn who_waits_for_a_place_gets_it_from_the_one_that_is_idle_for_longest() {
    let upstream = Upstream::fine();
    let gateway = Setup::new(upstream.address()).server("max_connections = 2").start();
    let mut inside: Vec<Wire> = (0..2).map(|_| gateway.connect()).collect();
    for client in &mut inside {
        assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
    }
    let mut third = gateway.connect();
    assert_eq!(third.ask(get("/v1/charges", LIVE)).status(), 200);
    assert!(inside[0].is_over());
    assert_eq!(gateway.metrics().sum("tollgate_accept_pauses_total", &[("cause", "connections")]), 1.0);
    assert!(gateway.metrics().sum("tollgate_connections", &[]) <= 2.0);
}

#[test]
fn half_heads_and_half_bodies_hold_no_more_memory_than_they_may() {
    const MOST: f64 = (4 << 20) as f64;
    let upstream = Upstream::fine();
    let by_form = "[[limits]]\nname = \"l\"\nstage = \"resource\"\nrate = \"100/s\"\nper = [\"form.a\"]\n\
                   when = { endpoint = \"payouts.create\" }\n";
    let gateway = Setup::new(upstream.address()).server("max_buffer_memory = \"4MiB\"").with(by_form).start();
    let form = "content-type: application/x-www-form-urlencoded\r\ncontent-length: 60000\r\n";
    let hostile: Vec<Wire> = (0..200)
        .map(|nth| {
            let mut client = gateway.connect();
            let half = if nth % 2 == 0 {
                format!("GET /v1/charges HTTP/1.1\r\nhost: api.test\r\nx: {}", "x".repeat(25_000))
            } else {
                request("POST", "/v1/payouts", LIVE, form) + "a="
            };
            // Who is refused already may see the connection break.
            let _ = client.try_send(half);
            client
        })
        .collect();
    let held = || gateway.metrics().sum("tollgate_buffer_bytes", &[]);
    wait_until("the bound is met", || gateway.metrics().sum("tollgate_requests_total", &[("status", "503")]) > 0.0);
    assert!(held() <= MOST, "{}", held());
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200, "there is room for who needs little");
    drop(hostile);
    wait_until("it is given back", || held() <= 64.0 * 1024.0);
}

#[test]
fn ipv6_and_ipv4_are_told_apart_by_a_balancer() {
    let upstream = Upstream::fine();
    let lines = "proxy_protocol = \"required\"\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let gateway = Setup::new(upstream.address()).server(lines).start();
    for (line, address) in
        [("TCP6 2001:db8::7 ::1 1 2", "2001:db8::7"), ("TCP6 ::ffff:203.0.113.9 ::1 1 2", "203.0.113.9")]
    {
        let mut client = gateway.connect();
        client.send(format!("PROXY {line}\r\n"));
        assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
        let seen = upstream.requests().last().unwrap().value("x-forwarded-for").unwrap().parse::<IpAddr>().unwrap();
        assert_eq!(seen, address.parse::<IpAddr>().unwrap());
    }
}

/// What waits of a body for a server is charged before it is asked for, and who finds no room has paid for nothing.
#[test]
fn uploads_to_a_slow_server_hold_no_more_memory_than_they_may() {
    const MOST: f64 = (1 << 20) as f64;
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let upstream = Upstream::scripted(move |wire, head| {
        if head.has("content-length") || head.has("transfer-encoding") {
            // Nobody reads on until the test is over.
            let _ = told.lock().unwrap().recv();
        } else {
            let _ = wire.try_send(ok_and_close("ok"));
        }
    });
    let limit = "[[limits]]\nname = \"all\"\nstage = \"global\"\nrate = \"1/h\"\nburst = 100\n";
    let gateway = Setup::new(upstream.address()).server("max_buffer_memory = \"1MiB\"").with(limit).start();
    let metric = |name: &str, labels: &[(&str, &str)]| gateway.metrics().sum(name, labels);
    let mut uploads: Vec<Wire> = Vec::new();
    for nth in 0..40 {
        let framing = if nth % 2 == 0 { "content-length: 100000\r\n" } else { "transfer-encoding: chunked\r\n" };
        let mut client = gateway.connect();
        let _ = client.try_send(request("POST", "/v1/charges", LIVE, framing));
        uploads.push(client);
        if metric("tollgate_requests_total", &[("status", "503")]) > 0.0 {
            break;
        }
    }
    wait_until("the bound is met", || metric("tollgate_requests_total", &[("status", "503")]) > 0.0);
    assert!(metric("tollgate_buffer_bytes", &[]) <= MOST);
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200, "there is room for who needs little");
    let mut client = gateway.connect();
    client.send(request("POST", "/v1/charges", LIVE, "content-length: 4000\r\n"));
    uploads.push(client);
    let refused = || metric("tollgate_requests_total", &[("status", "503")]);
    let in_flight = || metric("tollgate_in_flight", &[("stage", "all")]);
    let all = uploads.len() as f64;
    wait_until("a small body needs no more than its connection has", || in_flight() + refused() == all);
    let asked = "GET /v1/accounts/acct_a HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let shown = Wire::connect(gateway.admin).ask(asked);
    let shown: serde_json::Value = serde_json::from_slice(&shown.body).unwrap_or_else(|_| panic!("{shown:?}"));
    let usage = shown["limits"][0]["usage"].as_array().unwrap();
    let live = usage.iter().find(|usage| usage["mode"] == "live").unwrap();
    let spent = all + 1.0 - refused();
    assert_eq!(live["left"].as_f64(), Some(100.0 - spent), "{live}: who was refused has paid for nothing");
    drop(uploads);
    drop(tell);
    wait_until("it is given back", || metric("tollgate_buffer_bytes", &[]) == 0.0);
}
