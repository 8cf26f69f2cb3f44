//! The figures that a replay finds, held against replays with those figures.

use super::{Trace, config, line, replay};
use tollgate::engine::Nanos;
use tollgate::replay::figures::line as shown;

const SECOND_NS: u64 = 1_000_000_000;

/// 1,000 accounts with a request every half second; the first three are hungrier, each in its own way.
fn trace() -> Trace {
    let mut lines: Vec<(u64, String)> = Vec::new();
    let mut put = |at: u64, took_ms: f64, account: usize, path: &str| {
        lines.push((at, line(Nanos(at), took_ms, &format!("acct_{account}"), path, 200, "")));
    };
    for account in 0..1_000 {
        for number in 0..6 {
            put(number * SECOND_NS / 2 + account as u64 * 1_000, 10.0, account, "GET /v1/charges");
        }
    }
    for number in 0..37 {
        put(SECOND_NS + number, 250.0, 0, "GET /v1/charges");
        put(2 * SECOND_NS + number * 40_000_000, 90.0, 1, "POST /v1/charges");
    }
    for number in 0..11 {
        put(SECOND_NS + number * 7, 1_000.0, 2, "GET /v1/charges");
    }
    lines.sort_by_key(|(at, _)| *at);
    Trace::new(lines.into_iter().map(|(_, line)| line).collect::<String>())
}

fn limits(rate: u64, quota: u64, slots: u64) -> String {
    format!(
        "[[limits]]\nname = 'rate'\nstage = 'global'\nrate = '{rate}/s'\n\
         [[limits]]\nname = 'quota'\nstage = 'global'\nquota = '{quota}/m'\n\
         [[limits]]\nname = 'slots'\nstage = 'global'\nconcurrency = {slots}\n"
    )
}

/// Of each limit: refusals, accounts refused, and the two figures found.
fn outcome(trace: &Trace, policy: &str) -> Vec<(u64, u64, [u64; 2])> {
    let report = replay(trace, &config(policy)).report;
    let number = |figures: &tollgate::config::WrittenFigures| {
        let text = shown(figures);
        text.split(['/', ' ']).next().unwrap().parse().unwrap()
    };
    let of = |limit: &tollgate::replay::report::LimitReport| {
        let suggested = limit.suggested.as_ref().unwrap();
        let found = [&suggested.refuses_nobody, &suggested.refuses_one_in_1000];
        (limit.refused, limit.accounts, found.map(|figures| number(figures.as_ref().unwrap())))
    };
    report.limits.iter().map(of).collect()
}

#[test]
fn figures_refuse_nobody_and_one_less_refuses_somebody() {
    let trace = trace();
    let found = outcome(&trace, &limits(10, 20, 5));
    let [rate, quota, slots] = [0, 1, 2].map(|limit: usize| found[limit].2);
    assert_eq!((quota[0], slots[0]), (43, 38), "six requests of each, 37 more of one");
    assert!(rate[1] < rate[0] && quota[1] <= quota[0] && slots[1] < slots[0], "{found:?}");
    assert_eq!(slots[1], 12, "one account of 1,000 may be refused");
    let all = outcome(&trace, &limits(rate[0], quota[0], slots[0]));
    assert!(all.iter().all(|limit| limit.0 == 0), "together they refuse nobody: {all:?}");
    for (limit, policy) in [
        limits(rate[0] - 1, quota[0], slots[0]),
        limits(rate[0], quota[0] - 1, slots[0]),
        limits(rate[0], quota[0], slots[0] - 1),
    ]
    .iter()
    .enumerate()
    {
        let refused: Vec<u64> = outcome(&trace, policy).iter().map(|limit| limit.0).collect();
        assert!(refused[limit] > 0, "{policy}: {refused:?}");
    }
    // Whatever was configured, the figures found are the same.
    assert_eq!(
        outcome(&trace, &limits(100, 2_000, 700)).iter().map(|limit| limit.2).collect::<Vec<_>>(),
        [rate, quota, slots]
    );
    let one_in_1000 = outcome(&trace, &limits(rate[1], 1_000, 1_000));
    assert_eq!(one_in_1000[0].1, 1, "at most one of 1,000 accounts: {one_in_1000:?}");
    assert!(outcome(&trace, &limits(rate[1] - 1, 1_000, 1_000))[0].1 > 1);
}

#[test]
fn a_limit_that_is_not_enforced_and_one_that_earns_nothing_have_figures_too() {
    let policy = "[[limits]]\nname = 'shadow'\nstage = 'global'\nrate = '2/s'\nenforce = false\n\
                  [[limits]]\nname = 'nothing'\nstage = 'global'\nconcurrency = 0\n";
    let report = replay(&trace(), &config(policy)).report;
    assert_eq!(report.admitted, 0);
    let suggested: Vec<bool> =
        report.limits.iter().map(|limit| limit.suggested.as_ref().unwrap().refuses_nobody.is_some()).collect();
    assert_eq!(suggested, [true, true]);
}
