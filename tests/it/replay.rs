//! Recorded traffic through the engine: the cases, hostile traces, other formats, the built command, and a live run replayed.

mod cases;
mod command;
mod early;
mod figures;
mod hostile;
mod live;
mod partitions;

use crate::support::cases::configuration;
use std::path::{Path, PathBuf};
use tollgate::config::Config;
use tollgate::engine::Nanos;
use tollgate::replay::arrival::Classes;
use tollgate::replay::format::Mapping;
use tollgate::replay::input::Input;
use tollgate::replay::simulation::{Simulation, Verdict};
use tollgate::replay::{Comparison, Options, SEED, Traces};

/// The moment at which every trace here begins.
const START: i64 = 1_795_341_600;

/// A moment after the start, as the log writes it.
fn moment(after: Nanos) -> String {
    let at = jiff::Timestamp::from_second(START).unwrap() + std::time::Duration::from_nanos(after.0);
    format!("{at:.9}")
}

/// A line of the gateway's log. `more` begins with a comma where there is more.
fn line(after: Nanos, took_ms: f64, account: &str, request: &str, status: u16, more: &str) -> String {
    let (method, path) = request.split_once(' ').unwrap();
    format!(
        "{{\"ts\":\"{}\",\"duration_ms\":{took_ms:?},\"request_id\":\"req_1\",\"client\":\"192.0.2.1\",\"account\":\"{account}\",\
         \"key_id\":\"key_1\",\"mode\":\"live\",\"access\":\"read\",\"route\":\"default\",\"endpoint\":\"e\",\
         \"method\":\"{method}\",\"path\":\"{path}\",\"status\":{status}{more}}}\n",
        moment(after)
    )
}

/// A configuration of these limits, for replays.
fn config(policy: &str) -> Config {
    configuration(policy, &SEED)
}

/// A file of its own with these bytes.
struct Trace {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Trace {
    fn new(bytes: impl AsRef<[u8]>) -> Trace {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.jsonl");
        std::fs::write(&path, bytes).unwrap();
        Trace { _folder: folder, path }
    }
}

fn traces(paths: &[&Path], mapping: Option<Mapping>) -> Traces {
    Traces {
        inputs: paths.iter().map(|path| Input::new(path).unwrap()).collect(),
        mapping,
        own_too: false,
        strict: false,
    }
}

fn replay(trace: &Trace, config: &Config) -> Comparison {
    let options = Options { top: 20, figures: true };
    tollgate::replay::run(&traces(&[&trace.path], None), (config, None), options, &mut ()).unwrap()
}

/// The verdict on each request: the limit that refused it. The traces follow each other, each under its own configuration, as
/// where a gateway was reloaded between them.
fn verdicts(parts: &[(&Trace, &Config)]) -> Vec<Option<String>> {
    let mut simulation = Simulation::new(0, parts[0].1);
    let mut verdicts = Vec::new();
    for (trace, config) in parts {
        simulation.reload(config);
        let mut classes = Classes::new(SEED, &[config]);
        let each = |at, arrival: &_, accounts: &_| {
            verdicts.push(match simulation.arrive(at, arrival, accounts) {
                Some(Verdict::Refused(limit)) => Some(config.policy.limit(limit).name.to_string()),
                Some(Verdict::Admitted) => None,
                None => panic!("it has no class"),
            });
        };
        traces(&[&trace.path], None).pass("test", &mut classes, &mut (), each).unwrap();
    }
    verdicts
}
