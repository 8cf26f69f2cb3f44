//! A replay's speed and memory: a trace made on the spot, five limits, 100,000 accounts.
//!
//! `cargo bench --bench replay`, on one core with `taskset -c 0`. `REQUESTS` sets the trace's length. Two things are measured:
//! the pass that replays, and the whole with the search for figures; both in time on the processor, since a replay has one thread
//! and whoever else wants the core would be measured with it. Without `--bench` (as `cargo test --all-targets` calls it) it
//! does a small round only, so that it cannot rot.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot run has nothing better to do")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tollgate::replay::{Options, SEED, Traces, input::Input};

const ACCOUNTS: u64 = 100_000;
const CONFIG: &str = r#"
[auth]
mode = "passthrough"
[upstreams.api]
servers = ["http://127.0.0.1:9"]
[[endpoints]]
match = "POST /v1/payment_intents/{id}/confirm"
name = "payment_intents.confirm"
[[endpoints]]
match = "GET /v1/charges"
name = "charges.list"
[[endpoints]]
match = "POST /v1/charges"
name = "charges.create"
[[limits]]
name = "global-rate"
stage = "global"
rate = "100/s"
[[limits]]
name = "global-concurrency"
stage = "global"
concurrency = 50
[[limits]]
name = "endpoint-rate"
stage = "endpoint"
rate = "25/s"
[[limits]]
name = "endpoint-concurrency"
stage = "endpoint"
concurrency = 20
[[limits]]
name = "minute"
stage = "global"
rate = "1000/m"
burst = 1000
"#;

fn main() {
    let usual = if std::env::args().any(|arg| arg == "--bench") { 3_000_000 } else { 20_000 };
    let requests = std::env::var("REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let trace = make(folder, requests);
    let config =
        tollgate::config::parse(CONFIG, Path::new("bench.toml"), &SEED).unwrap_or_else(|errors| panic!("{errors}"));
    for figures in [false, true] {
        let traces = Traces { inputs: vec![Input::new(&trace).unwrap()], mapping: None, own_too: false, strict: true };
        let begun = processor_ns();
        let options = Options { top: 20, figures };
        let report = tollgate::replay::run(&traces, (&config, None), options, &mut ()).unwrap();
        let took = Duration::from_nanos(processor_ns() - begun);
        assert_eq!(report.trace.requests, requests);
        let rate = requests as f64 / took.as_secs_f64();
        let what = if figures { "with figures" } else { "one pass" };
        println!(
            "{what}: {requests} requests in {:.2} s of one core: {rate:.0} a second, {} refused, {} MB at most",
            took.as_secs_f64(),
            report.report.refused,
            resident_most_kb() / 1_000,
        );
    }
    std::fs::remove_file(trace).unwrap();
}

/// A trace as the gateway writes it: 5,000 requests a second, written when they end.
fn make(folder: &Path, requests: u64) -> PathBuf {
    let path = folder.join("replay-bench.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    let start = jiff::Timestamp::from_second(1_795_341_600).unwrap();
    let (mut state, mut line) = (1_u64, String::new());
    for number in 0..requests {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = state >> 33;
        let account = if random.is_multiple_of(20) { random % 50 } else { random * 7_919 % ACCOUNTS };
        let took_us = 20_000 + random % 200_000;
        let at = start + Duration::from_micros(number * 200 + 300_000 - took_us);
        let (endpoint, method, path) = match random % 3 {
            0 => ("charges.list", "GET", "/v1/charges".to_owned()),
            1 => ("charges.create", "POST", "/v1/charges".to_owned()),
            _ => ("payment_intents.confirm", "POST", format!("/v1/payment_intents/pi_{random:024x}/confirm")),
        };
        let access = if method == "GET" { "read" } else { "write" };
        line.clear();
        writeln!(
            line,
            "{{\"ts\":\"{at:.9}\",\"duration_ms\":{}.{:03},\"request_id\":\"req_{number:016x}\",\"client\":\"192.0.2.1\",\
             \"account\":\"acct_{account:016x}\",\"key_id\":\"key_{account:016x}\",\"mode\":\"live\",\"access\":\"{access}\",\
             \"route\":\"default\",\"endpoint\":\"{endpoint}\",\"method\":\"{method}\",\"path\":\"{path}\",\"status\":200}}",
            took_us / 1_000,
            took_us % 1_000,
        )
        .unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
    path
}

/// Time that this process had of the processor.
fn processor_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

/// The most memory that this process has had, in kB.
fn resident_most_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
