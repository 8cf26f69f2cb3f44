//! A replay's speed and memory: a trace made on the spot, five limits, 100,000 accounts.
//!
//! `cargo bench --bench replay`, on one core with `taskset -c 0`. `REQUESTS` sets the trace's length. Two things are measured:
//! the pass that replays, and the whole with the search for figures; both in time on the processor, since a replay has one thread
//! and whoever else wants the core would be measured with it. Without `--bench` (as `cargo test --all-targets` calls it) it
//! does a small round only, so that it cannot rot.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot run has nothing better to do")]

#[path = "replay/trace.rs"]
mod trace;

use std::path::Path;
use std::time::Duration;
use tollgate::replay::{Options, SEED, Traces, input::Input};

const CONFIG: &str = include_str!("replay/tollgate.toml");

fn main() {
    let usual = if std::env::args().any(|arg| arg == "--bench") { 3_000_000 } else { 20_000 };
    let requests = std::env::var("REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let trace = Path::new(env!("CARGO_TARGET_TMPDIR")).join("replay-bench.jsonl");
    trace::write(&trace, requests).unwrap();
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
