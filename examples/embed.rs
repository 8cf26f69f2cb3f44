//! Tollgate as a library: the decision engine alone on a time of the program's own, then a whole gateway with a mock API
//! behind it. `cargo run --example embed`; it ends by itself.
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tollgate::config::{self, Config};
use tollgate::engine::class::MAX_VALUES;
use tollgate::engine::{
    Access, Engine, Id, IdKind, LimitId, Mode, Nanos, Outcome, Payers, RequestClass, RouteId, Seed, Step,
};
use tollgate::keys::{self, KeyKind};
use tollgate::mock::{self, MockOptions};
use tollgate::path;
use tollgate::process::{Gateway, Source};

type Failure = Box<dyn Error>;

/// Two payouts at once and one more every 30 seconds, for each account; one at a time.
const LIMITS: &str = r#"
    [[endpoints]]
    match = "POST /v1/payouts"
    name = "payouts.create"

    [[limits]]
    name = "payouts-rate"
    stage = "endpoint"
    rate = "2/m"
    burst = 2
    when = { endpoint = "payouts.create" }

    [[limits]]
    name = "payouts-in-flight"
    stage = "endpoint"
    concurrency = 1
    when = { endpoint = "payouts.create" }
"#;

fn main() -> Result<(), Failure> {
    println!("The engine alone:");
    engine_alone()?;
    println!("\nA whole gateway:");
    whole_gateway()
}

/// Drives the engine by hand. It reads no clock: the program says what time it is.
fn engine_alone() -> Result<(), Failure> {
    // Of random numbers where others send the requests: without it nobody can choose two names that collide.
    let seed = Seed([1, 2]);
    let text =
        format!("[upstreams.none]\nservers = [\"http://127.0.0.1:1\"]\n[auth]\nmode = \"passthrough\"\n{LIMITS}");
    let config = config::parse(&text, Path::new("embed.toml"), &seed)?;
    let engine = Arc::new(Engine::new(seed, 1_000));
    let class = classify(&config, &seed, "acct_1", "/v1//payouts/")?;
    for seconds in [0, 0, 0, 30] {
        let now = Nanos(seconds * 1_000_000_000);
        let mut story: Vec<Step> = Vec::new();
        match engine.walk(&config.policy, &class, now, &mut story) {
            // Forwarded: the tokens are spent. The slot goes back when the hold is dropped, here at once.
            Ok(mut hold) => hold.commit(),
            Err(rejection) => {
                let wait = rejection.retry_at.map(|at| at - now);
                println!("  at {seconds:>2} s refused ({}), to come back in {wait:?}", rejection.stage.reason());
            }
        }
        for step in story {
            if let Step::Decided { limit, outcome, .. } = step {
                println!("  at {seconds:>2} s {:<18} {}", name(&config, limit), in_words(outcome));
            }
        }
    }
    Ok(())
}

/// What the gateway's layers find out about a request, by hand.
fn classify(config: &Config, seed: &Seed, account: &str, raw_path: &str) -> Result<RequestClass, Failure> {
    let path = path::canonical(raw_path.as_bytes())?;
    let found = config.index.find(&http::Method::POST, &path);
    let endpoint = found.map_or(config.other(Access::Write), |found| found.endpoint());
    Ok(RequestClass {
        mode: Mode::Live,
        access: Access::Write,
        endpoint,
        route: RouteId(0),
        profile: config.profile(account),
        cost: config.policy.endpoint(endpoint).cost,
        account: seed.id(IdKind::Account, account.as_bytes()),
        connected: Id::NONE,
        key: Id::NONE,
        ip: Id::NONE,
        values: [Id::NONE; MAX_VALUES],
        facts: 0,
        payers: Payers::Account,
        lot: 0,
    })
}

fn name(config: &Config, limit: LimitId) -> &str {
    &config.policy.limit(limit).name
}

fn in_words(outcome: Outcome) -> String {
    match outcome {
        Outcome::Admitted { remaining } => format!("admits, {remaining} left"),
        Outcome::Rejected { .. } => "has no room".to_owned(),
    }
}

/// Starts a gateway from texts, sends it three payouts and ends it.
fn whole_gateway() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let upstream = listener.local_addr()?;
    runtime.spawn(mock::serve(listener, MockOptions::default(), std::future::pending()));

    let secret = keys::generate(KeyKind::Secret, Mode::Test)?;
    let keys =
        format!("[[keys]]\nid = \"key_1\"\nhash = \"{}\"\naccount = \"acct_1\"\nmode = \"test\"\n", secret.digest());
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\n[admin]\nlisten = \"off\"\n\
         [auth]\nkeys_file = \"keys.toml\"\n[upstreams.api]\nservers = [\"http://{upstream}\"]\n{LIMITS}"
    );
    let gateway = Gateway::start(Source::Text { config, keys })?;
    let address = *gateway.addresses().first().ok_or("the gateway listens nowhere")?;
    for _ in 0..3 {
        println!("  {}", status_and_reason(&payout(address, secret.expose())?));
    }
    gateway.handle().drain();
    gateway.join();
    Ok(())
}

fn payout(address: SocketAddr, secret: &str) -> Result<String, Failure> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = format!(
        "POST /v1/payouts HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {secret}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 8\r\n\r\namount=1"
    );
    socket.write_all(request.as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The lines of an answer's head that matter here.
fn status_and_reason(answer: &str) -> String {
    let told =
        |line: &&str| ["HTTP/", "stripe-rate-limited-reason", "retry-after"].iter().any(|it| line.starts_with(it));
    answer.lines().take_while(|line| !line.is_empty()).filter(told).collect::<Vec<_>>().join("  ")
}
