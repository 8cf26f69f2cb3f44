//! What the stack of one request costs, without sockets: time and allocations, from the head to the end of the answer.
//! `cargo bench --bench stack` prints a table; dated runs are kept in `benches/runs`. Without `--bench` (as
//! `cargo test --all-targets` calls it) it does a small round only, so that it cannot rot.
//!
//! The gateway is a real one under the Stripe preset, loaded from text; requests go through [`stack`] on this thread, with a
//! forward service that answers at once. `cargo bench --bench stack -- --bench --only NAME` does one row, for a profiler.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::convert::Infallible;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tollgate::gateway::{Arrived, Classified, GatewayBody, Home, Peer, Refused, headers, stack};
use tollgate::keys::Secret;
use tollgate::process::{Gateway, Source, StartError};
use tollgate::upstream::ReadAhead;
use tower::Service;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests made at once, about as many as a busy thread has connections.
const BATCH: usize = 64;
/// Not a key of anybody's.
const SECRET: &str = "sk_live_515151515151515151515151515151515151515151515151";

fn main() {
    let measure = std::env::args().any(|argument| argument == "--bench");
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    let (rounds, requests) = if measure { (15, 100_000_usize) } else { (3, 100) };
    let gateway = match gateway() {
        Ok(gateway) => gateway,
        Err(error) => unreachable!("the configuration is good: {error}"),
    };
    let home = Home::new(Arc::clone(gateway.shared()));
    println!("{:<46} {:>10} {:>10} {:>24}", "", "median", "best", "allocations a request");
    for row in ROWS {
        if only.as_ref().is_none_or(|name| name == row.name) {
            row.print(&home, rounds, requests);
        }
    }
    gateway.handle().stop();
    drop(home);
    gateway.join();
}

/// One kind of request.
struct Row {
    name: &'static str,
    method: Method,
    path: &'static str,
    key: &'static str,
    body: &'static str,
    status: u16,
    /// Whether the forward service also makes the head fit for the upstream.
    rewrites: bool,
    /// The client's address.
    address: [u8; 4],
    /// Allocations a request that are too many.
    most: f64,
}

const CHARGES: Row = Row {
    name: "admitted",
    method: Method::GET,
    path: "/v1/charges?limit=3",
    key: SECRET,
    body: "",
    status: 200,
    rewrites: false,
    address: [127, 0, 0, 1],
    most: 0.01,
};

/// A form of 300 bytes, as an SDK sends it.
const FORM: &str = "amount=2000&currency=usd&customer=cus_NffrFeUfNV2Hib&payment_method=pm_1MqLiJLkdIwHu7ixUEgbFdYF&\
     confirmation_method=automatic&confirm=true&description=Order%20number%206735&metadata[order_id]=6735&\
     metadata[source]=web&metadata[campaign]=autumn&receipt_email=jenny.rosen%40example.com&statement=SHOP";

const ROWS: [Row; 9] = [
    CHARGES,
    Row { name: "admitted, payouts", method: Method::POST, path: "/v1/payouts", ..CHARGES },
    // The second costs what looking into the body adds.
    Row { name: "admitted, a form not looked into", method: Method::POST, path: "/v1/plain", body: FORM, ..CHARGES },
    Row {
        name: "admitted, counted by a form's customer",
        path: "/v1/counted",
        method: Method::POST,
        body: FORM,
        most: 8.0,
        ..CHARGES
    },
    // Request ids and trace contexts are cut from blocks: one allocation for a few hundred.
    Row { name: "admitted, head rewritten", rewrites: true, ..CHARGES },
    Row { name: "rejected by a limit (429)", path: "/v1/files", status: 429, most: 1.0, ..CHARGES },
    Row { name: "unknown key (401)", key: "sk_live_nobody", status: 401, most: 30.0, ..CHARGES },
    // Its first failure used up what its address has.
    Row {
        name: "refused by address (429)",
        key: "sk_live_nobody",
        status: 429,
        address: [192, 0, 2, 1],
        most: 8.0,
        ..CHARGES
    },
    // What the door costs those that it lets in.
    Row { name: "admitted from a counted address", address: [192, 0, 2, 2], ..CHARGES },
];

/// What [`stack`] makes.
trait Stack: Service<Arrived<Full<Bytes>>, Response = Response<GatewayBody>, Error = Infallible> {}

impl<S: Service<Arrived<Full<Bytes>>, Response = Response<GatewayBody>, Error = Infallible>> Stack for S {}

impl Row {
    fn print(&self, home: &Rc<Home>, rounds: usize, requests: usize) {
        let peer = Rc::new(Peer::new(self.address.into(), false));
        let rewrites = self.rewrites;
        let mut service = stack(home, &peer, tower::service_fn(move |request| forward(request, rewrites)));
        // Whatever is made once for each status, limit or partition is made here.
        self.round(&mut service, BATCH);
        let mut times: Vec<f64> = (0..rounds).map(|_| self.round(&mut service, requests)).collect();
        times.sort_by(f64::total_cmp);
        let count = self.allocations(&mut service, requests);
        println!("{:<46} {:>7.0} ns {:>7.0} ns {count:>24.3}", self.name, times[times.len() / 2], times[0]);
        assert!(count <= self.most, "{}: {count} allocations a request, not {}", self.name, self.most);
    }

    /// Nanoseconds a request. Requests are made before the clock starts, a batch at a time.
    fn round(&self, service: &mut impl Stack, requests: usize) -> f64 {
        let mut took = Duration::ZERO;
        let mut batch = Vec::with_capacity(BATCH);
        for _ in 0..requests.div_ceil(BATCH) {
            batch.extend((0..BATCH).map(|_| self.request()));
            took += timed(|| batch.drain(..).for_each(|request| drop(black_box(exchange(service, request)))));
        }
        took.as_nanos() as f64 / (requests.div_ceil(BATCH) * BATCH) as f64
    }

    /// Allocations a request, from its head to the end of its answer.
    fn allocations(&self, service: &mut impl Stack, requests: usize) -> f64 {
        let mut count = 0;
        for _ in 0..requests {
            let request = self.request();
            let region = Region::new(ALLOCATOR);
            let response = exchange(service, request);
            let status = response.status();
            drop(response);
            let change = region.change();
            count += change.allocations + change.reallocations;
            assert_eq!(status, self.status, "{}", self.name);
        }
        count as f64 / requests as f64
    }

    /// A request as a real client sends it, its header map as roomy as one that hyper uses again.
    fn request(&self) -> Request<Full<Bytes>> {
        let mut headers = HeaderMap::with_capacity(32);
        let fields = [
            ("host", "api.example.com"),
            ("accept", "*/*"),
            ("user-agent", "Stripe/v1 PythonBindings/12.0.0"),
            ("x-stripe-client-user-agent", "{\"bindings_version\":\"12.0.0\",\"lang\":\"python\"}"),
            ("stripe-version", "2025-03-31.basil"),
            ("accept-encoding", "gzip, deflate"),
        ];
        for (name, value) in fields {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        if let Ok(key) = HeaderValue::try_from(format!("Bearer {}", self.key)) {
            headers.insert(header::AUTHORIZATION, key);
        }
        if !self.body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        }
        let mut request = Request::new(Full::from(self.body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_static(self.path);
        *request.headers_mut() = headers;
        request
    }
}

/// One request, to the head of its answer.
fn exchange(service: &mut impl Stack, request: Request<Full<Bytes>>) -> Response<GatewayBody> {
    match service.call(request.into()).now_or_never() {
        Some(Ok(response)) => response,
        _ => unreachable!("the forward service answers at once"),
    }
}

/// Does with a request what the real forward service does, but for sending it.
async fn forward(
    classified: Classified<ReadAhead<Full<Bytes>>>,
    rewrites: bool,
) -> Result<Response<GatewayBody>, Refused> {
    let Classified { mut request, mut exchange, principal, mut held, .. } = classified;
    held.commit();
    if rewrites {
        let head = request.head.parts_mut();
        headers::forward_request(&mut head.headers, head.version, &exchange, &principal, None);
    }
    exchange.status = 200;
    exchange.sent = Some(exchange.started);
    exchange.answered = Some(exchange.started);
    black_box(&request);
    Ok(Response::new(GatewayBody::own(&b"{}"[..])))
}

/// A gateway under the Stripe preset, with figures that admit whatever the benchmark sends, but for one account's files.
fn gateway() -> Result<Gateway, StartError> {
    let config = r#"
        presets = ["stripe"]
        [server]
        listen = "127.0.0.1:0"
        threads = 1
        [admin]
        listen = "127.0.0.1:0"
        [addresses]
        failed_authentications = "1/h"
        exempt = ["127.0.0.0/8"]
        [auth]
        keys_file = "keys.toml"
        [upstreams.api]
        servers = ["http://127.0.0.1:9"]
        [[endpoints]]
        match = "POST /v1/plain"
        name = "plain"
        [[endpoints]]
        match = "POST /v1/counted"
        name = "counted"
        [[limits]]
        name = "counted-by-account"
        stage = "resource"
        rate = "1000000/s"
        burst = 4000000000
        per = ["account"]
        when = { endpoint = "plain" }
        [[limits]]
        name = "counted-by-form"
        stage = "resource"
        rate = "1000000/s"
        burst = 4000000000
        per = ["account", "form.customer"]
        when = { endpoint = "counted" }
        [accounts.acct_bench.limits]
        global-live = { rate = "1000000/s", burst = 4000000000 }
        endpoint-default = { rate = "1000000/s", burst = 4000000000 }
        payouts-rate = { rate = "1000000/s", burst = 4000000000 }
        files-read = { rate = "1/1h", burst = 1 }
    "#;
    let hash = Secret::new(SECRET).map_or_else(|_| String::new(), |secret| secret.digest().to_string());
    let keys = format!("[[keys]]\nid = \"key_bench\"\nhash = \"{hash}\"\naccount = \"acct_bench\"\nmode = \"live\"\n");
    Gateway::start(Source::Text { config: config.to_owned(), keys })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
