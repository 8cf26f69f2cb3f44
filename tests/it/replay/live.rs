//! A live run under load, recorded and replayed.

use super::{Trace, config, replay};
use crate::support::running::{Folder, LIVE, OTHER, Running, Setup, TEST, get, keys, post};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::wait_for;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tollgate::process::Source;

const LIMITS: &str = "[[limits]]\nname = 'all'\nstage = 'global'\nrate = '150/s'\nburst = 40\n\
    [[limits]]\nname = 'slots'\nstage = 'global'\nconcurrency = 2\n\
    [[limits]]\nname = 'creating'\nstage = 'endpoint'\nrate = '20/s'\nwhen = { endpoint = 'charges.create' }\n";

/// Requests of each client.
const REQUESTS: usize = 500;

#[test]
fn a_recorded_run_replays_to_the_same_verdicts() {
    let upstream = Upstream::answering(|_| {
        // So long is a request in flight.
        std::thread::sleep(Duration::from_millis(2));
        ok("ok")
    });
    let folder = Folder::new();
    folder.put("keys.toml", &keys());
    let setup = |more: &str| {
        let log = format!("[log]\naccess = \"access.jsonl\"\n{LIMITS}{more}");
        folder.put("tollgate.toml", &Setup::new(upstream.address()).with(&log).toml());
    };
    setup("");
    let gateway = Running::start(Source::File(folder.path("tollgate.toml")));
    let (sent, reloaded) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|threads| {
        for secret in [LIVE, LIVE, LIVE, LIVE, OTHER, OTHER, TEST] {
            let (gateway, sent, reloaded) = (&gateway, &sent, &reloaded);
            threads.spawn(move || {
                let mut client = gateway.connect();
                for number in 0..REQUESTS {
                    // Some of it is to come after the reload, all at once if that took long.
                    if number == REQUESTS * 3 / 4 {
                        wait_for("the reload", || reloaded.load(Relaxed).then_some(()));
                    }
                    let paths = [get("/v1/charges", secret), get("/v1/files/f_1", secret), post("/v1/charges", secret)];
                    let status = client.ask(&paths[number % 3]).status();
                    assert!(matches!(status, 200 | 429), "{status}");
                    sent.fetch_add(1, Relaxed);
                }
            });
        }
        // In the middle of it all: limits that are there keep what they have counted.
        wait_for("half of it is done", || (sent.load(Relaxed) >= 7 * REQUESTS / 2).then_some(()));
        setup("[[limits]]\nname = 'later'\nstage = 'endpoint'\nconcurrency = 10000\n");
        gateway.handle().reload().unwrap();
        reloaded.store(true, Relaxed);
    });
    let lines = 7 * REQUESTS;
    let log = wait_for("all is written", || {
        let text = std::fs::read_to_string(folder.path("access.jsonl")).unwrap_or_default();
        (text.lines().count() == lines).then_some(text)
    });
    drop(gateway);
    let report = replay(&Trace::new(&log), &config(&format!("{}{LIMITS}", crate::support::running::ENDPOINTS)));
    assert_eq!(report.trace.requests, lines as u64);
    assert!(report.trace.faults.is_empty(), "{:?}", report.trace.faults);
    let recorded = report.report.recorded;
    let few = lines as u64 / 1_000;
    for limit in ["all", "slots", "creating"] {
        let count = log.matches(&format!("\"limit\":\"{limit}\"")).count() as u64;
        assert!(count > 0, "{limit} refused something, or the run shows nothing");
        let replayed = report.report.limits.iter().find(|known| &*known.name == limit).unwrap().refused;
        assert!(replayed.abs_diff(count) <= few, "{limit} refused {count}, and {replayed} in the replay");
    }
    let other = recorded.newly_refused + recorded.newly_admitted;
    assert!(other <= few, "{other} of {lines} differ: {recorded:?}");
}
