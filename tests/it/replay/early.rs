//! Partitions that a replay forgets sooner than the gateway would: no verdict and no figure may show it.

use super::{Trace, config, line, traces};
use tollgate::engine::Nanos;
use tollgate::replay::{Comparison, Options};

/// 40,000 requests of 9,000 accounts within ten seconds, some of which come back at once and some after seconds.
fn trace() -> Trace {
    let mut random = 1_u64;
    let mut lines = String::new();
    for number in 0..40_000_u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = random >> 33;
        let account = if drawn.is_multiple_of(9) { drawn % 40 } else { drawn % 9_000 };
        let took_ms = (drawn % 700) as f64;
        lines += &line(Nanos(number * 250_000), took_ms, &format!("acct_{account}"), "GET /v1/charges", 200, "");
    }
    Trace::new(lines)
}

#[test]
fn sweeping_early_changes_nothing() {
    let trace = trace();
    let replayed = |max_partitions: usize| -> Comparison {
        let mut config = config(
            "[[limits]]\nname = 'rate'\nstage = 'global'\nrate = '2/s'\nburst = 3\n\
             [[limits]]\nname = 'quota'\nstage = 'global'\nquota = '30/m'\n\
             [[limits]]\nname = 'slots'\nstage = 'global'\nconcurrency = 4\n",
        );
        config.server.max_partitions = max_partitions;
        let options = Options { top: 50, figures: false };
        tollgate::replay::run(&traces(&[&trace.path], None), (&config, None), options, &mut ()).unwrap()
    };
    // With room for 28,000 nothing is forgotten any more before its time once 14,000 have been made; the 27,000 that there are at most
    // stay below the bound.
    let (early, patient) = (replayed(10_000_000), replayed(28_000));
    assert_eq!(early, patient);
    assert!(early.report.refused > 1_000, "{}", early.report.refused);
}
