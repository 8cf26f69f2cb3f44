//! Traces with anything in them.

use super::{Trace, config, line, replay, traces};
use std::collections::BTreeMap;
use tollgate::engine::Nanos;
use tollgate::replay::{Options, ReplayError};

const LIMIT: &str = "[[limits]]\nname = 'all'\nstage = 'global'\nrate = '1/h'\nburst = 2\n";

fn good(second: u64) -> String {
    line(Nanos(second * 1_000_000_000), 5.0, "acct_1", "GET /v1/charges", 200, "")
}

/// A trace with one of everything, and the faults that are in it by kind.
fn hostile() -> (Vec<u8>, BTreeMap<&'static str, Vec<u64>>) {
    let mut bytes = Vec::new();
    let mut wanted: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
    let mut number = 0;
    let mut put = |kind: Option<&'static str>, line: &[u8]| {
        number += 1;
        wanted.entry(kind.unwrap_or("good")).or_default().push(number);
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
    };
    let text = good(1);
    let text = text.trim_end();
    put(None, text.as_bytes());
    put(Some("truncated"), &text.as_bytes()[..text.len() / 2]);
    put(Some("malformed"), b"what is this");
    put(Some("malformed"), b"]]]]");
    put(Some("field"), text.replace("200", "\"200\"").as_bytes());
    put(Some("field"), text.replace("\"acct_1\"", "{}").as_bytes());
    put(Some("field"), text.replace("\"method\"", "\"verb\"").as_bytes());
    put(Some("field"), text.replace("5.0", "-5").as_bytes());
    put(Some("time"), text.replace("2026", "0026").as_bytes());
    put(Some("time"), text.replace("Z\"", "\"").as_bytes());
    put(Some("path"), text.replace("/v1/charges", "/v1/%00").as_bytes());
    put(Some("path"), text.replace("/v1/charges", "/v1/a%2Fb").as_bytes());
    put(Some("binary"), b"\x00\x01\x02");
    put(Some("binary"), b"\xff\xfe{}");
    put(Some("long"), &vec![b'x'; 10 << 20]);
    put(Some("malformed"), "[".repeat(100_000).as_bytes());
    put(None, good(2).trim_end().as_bytes());
    put(None, good(3).trim_end().as_bytes());
    wanted.remove("good");
    (bytes, wanted)
}

#[test]
fn every_fault_is_counted_and_placed_and_none_ends_the_replay() {
    let (bytes, wanted) = hostile();
    let trace = Trace::new(bytes);
    let report = replay(&trace, &config(LIMIT));
    assert_eq!((report.trace.lines, report.trace.requests), (18, 3));
    assert_eq!((report.report.admitted, report.report.refused), (2, 1));
    let got: BTreeMap<&str, (u64, Vec<String>)> =
        report.trace.faults.iter().map(|fault| (fault.kind, (fault.count, fault.first.clone()))).collect();
    let name = trace.path.display();
    let wanted = wanted.into_iter().map(|(kind, lines)| {
        let places = lines.iter().take(5).map(|line| format!("{name}:{line}")).collect();
        (kind, (lines.len() as u64, places))
    });
    assert_eq!(got, wanted.collect());
}

#[test]
fn time_that_goes_back_is_told_and_replayed_at_the_present() {
    // More than can be held back, then one from the past.
    let mut text: String = (1_000..1_600).map(good).collect();
    text.push_str(&good(1));
    let report = replay(&Trace::new(text), &config(LIMIT));
    assert_eq!(report.trace.requests, 601);
    let unordered: String = (0..600).rev().map(|second| good(second % 100)).collect();
    let ordered: String = (0..100).flat_map(|second| (0..6).map(move |_| good(second))).collect();
    let (one, other) = (replay(&Trace::new(unordered), &config(LIMIT)), replay(&Trace::new(ordered), &config(LIMIT)));
    assert_eq!(one.report, other.report, "what is near is put in order");
    assert!(one.trace.faults.is_empty(), "{:?}", one.trace.faults);
}

#[test]
fn far_out_of_order_is_late() {
    let mut text: String = (0..6_000).map(|second| good(1_000 + second)).collect();
    text.push_str(&good(1));
    let (trace, empty) = (Trace::new(text), Trace::new(""));
    let late = |files: usize| {
        let mut paths = vec![trace.path.as_path()];
        paths.resize(files, &empty.path);
        let options = Options { top: 1, figures: false };
        let report = tollgate::replay::run(&traces(&paths, None), (&config(LIMIT), None), options, &mut ()).unwrap();
        assert_eq!(report.trace.requests, 6_001, "it is replayed all the same");
        report.trace.faults.iter().map(|fault| (fault.kind, fault.count)).collect::<Vec<_>>()
    };
    // Many files share what may be held back.
    assert_eq!((late(1), late(256)), (vec![], vec![("late", 1)]));
}

#[test]
fn a_trace_with_the_newest_first_is_replayed_from_its_beginning() {
    let lines: Vec<String> = (0..10_000).map(|second| good(1_000 + second / 4)).collect();
    let oldest_first = replay(&Trace::new(lines.concat()), &config(LIMIT));
    let newest_first = replay(&Trace::new(lines.into_iter().rev().collect::<String>()), &config(LIMIT));
    assert!(newest_first.report == oldest_first.report, "{}", newest_first.report.admitted);
    assert_eq!((newest_first.trace.from, newest_first.trace.faults), (oldest_first.trace.from, vec![]));
    assert!(oldest_first.report.refused > 0);
}

#[test]
fn strict_ends_at_the_first_fault_and_names_it() {
    let (bytes, _) = hostile();
    let trace = Trace::new(bytes);
    let mut traces = traces(&[&trace.path], None);
    traces.strict = true;
    let options = Options { top: 1, figures: false };
    let error = tollgate::replay::run(&traces, (&config(LIMIT), None), options, &mut ()).unwrap_err();
    assert!(matches!(error, ReplayError::Fault { .. }));
    assert_eq!(error.to_string(), format!("{}:2: the line ends in the middle", trace.path.display()));
}

#[test]
fn broken_compression_is_a_fault_of_its_own() {
    let text: String = (0..5_000).map(good).collect();
    let packed = zstd::encode_all(text.as_bytes(), 0).unwrap();
    for bytes in [&packed[..packed.len() / 2], b"\x1f\x8b\x08\x00\xff\xff\xff\xff\xff\xff\xff\xff", b"\x28\xb5\x2f\xfd"]
    {
        let report = replay(&Trace::new(bytes), &config(LIMIT));
        assert_eq!(report.trace.faults.len(), 1, "{:?}", report.trace.faults);
        assert_eq!((report.trace.faults[0].kind, report.trace.faults[0].count), ("unreadable", 1));
    }
    let nothing = replay(&Trace::new(""), &config(LIMIT));
    assert_eq!((nothing.trace.lines, nothing.report.admitted, nothing.trace.faults.len()), (0, 0, 0));
}

#[test]
fn endless_names_are_told_apart_and_kept_short() {
    let name = |end: char| format!("{}{end}", "n".repeat(100_000));
    let line_of = |end| line(Nanos(1_000_000_000), 5.0, &name(end), "GET /v1/charges", 200, "");
    let text = [line_of('a'), line_of('b'), line_of('a'), line_of('a')].concat();
    let report = replay(&Trace::new(text), &config(LIMIT));
    assert_eq!((report.trace.accounts, report.report.refused), (2, 1), "two of the first pass, one of the other");
    let rows = &report.report.accounts.top;
    assert!(rows.len() == 2 && rows.iter().all(|row| row.name.len() < 600 && row.name.ends_with('…')), "{rows:?}");
    assert_eq!((rows[0].refused, rows[1].refused), (1, 0));
}
