//! What looking into a body costs: `cargo bench --bench inspect` prints a table; dated runs are kept in `benches/runs`. Without
//! `--bench` (as `cargo test --all-targets` calls it) it does a small round only, so that it cannot rot.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;
use std::time::Instant;
use tollgate::body::{Body, Fact, Inspection, Source, Test, Wanted};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A subscription's update as an SDK sends it: 300 bytes.
const RAW: &str = "customer=cus_Nffrfeuf6Ty9&items[0][id]=si_Nkdf83hfd&items[0][price]=price_1Mowq&items[0][quantity]=3&\
    proration_behavior=always_invoice&metadata[order]=6735&metadata[source]=web&expand[0]=latest_invoice&\
    payment_settings[save_default_payment_method]=on_subscription&collection_method=charge_automatically&off_session=true";
/// A meter event of 300 bytes.
const JSON: &str = r#"{"event_name":"calls","payload":{"customer":"cus_Nffrfeuf6Ty9","value":"25","region":"eu-west-1"},
    "identifier":"identifier_123","timestamp":"2026-11-22T10:00:00.000Z","tags":["a","b","c",{"d":[1,2,3]}],"note":"some text that is
    of no interest to any limit but has to be read past all the same, up to three hundred bytes"}"#;

fn main() {
    let rounds = if std::env::args().any(|argument| argument == "--bench") { 200_000 } else { 100 };
    let escaped = RAW.replace('[', "%5B").replace(']', "%5D");
    let Some(inspection) = inspection() else { unreachable!("less is asked for than there is room") };
    for (name, body) in [
        ("a form of 300 bytes", Body::Form(RAW.as_bytes())),
        ("the same, brackets escaped", Body::Form(escaped.as_bytes())),
        ("JSON of 300 bytes", Body::Json(JSON.as_bytes())),
    ] {
        let mut times: Vec<f64> = (0..15).map(|_| round(&inspection, body, rounds)).collect();
        times.sort_by(f64::total_cmp);
        let region = Region::new(ALLOCATOR);
        black_box(inspection.read(body, ""));
        let allocations = region.change().allocations;
        println!("{name:<32} {:>8.0} ns {:>8.0} ns {allocations:>4} allocations", times[times.len() / 2], times[0]);
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn round(inspection: &Inspection, body: Body<'_>, rounds: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..rounds {
        black_box(inspection.read(black_box(body), black_box("")));
    }
    start.elapsed().as_nanos() as f64 / f64::from(rounds)
}

/// What the preset asks of a subscription's update, and a value or two besides.
fn inspection() -> Option<Inspection> {
    let test = |key: &str, wanted| Some(Test { key: key.parse().ok()?, wanted });
    let invoice = [
        test("proration_behavior", Wanted::Equals("always_invoice".into()))?,
        test("billing_cycle_anchor", Wanted::Equals("now".into()))?,
        test("subscription", Wanted::Present)?,
    ];
    let quantity = [test("items[*][quantity]", Wanted::Present)?, test("quantity", Wanted::Present)?];
    let facts =
        [(0, Fact { any: invoice.into(), if_unclear: true }), (1, Fact { any: quantity.into(), if_unclear: true })];
    let values = [
        (0, Source::Form("customer".parse().ok()?)),
        (1, Source::Json("event_name".parse().ok()?)),
        (2, Source::Json("payload.customer".parse().ok()?)),
    ];
    Inspection::new(&values, &facts)
}
