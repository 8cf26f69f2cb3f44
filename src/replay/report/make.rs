//! From counts to a report: names, times, sorted lists.

use super::{
    AccountsReport, CandidateReport, ChangeReport, Comparison, CountReport, Difference, FaultReport, LimitReport,
    PeakReport, ReasonReport, RecordedReport, Report, Suggested, TimelineReport, TraceReport,
};
use crate::engine::{Enforce, LimitId, Stage};
use crate::replay::arrival::{AccountId, Accounts, MAX_ACCOUNTS};
use crate::replay::figures::written;
use crate::replay::input::Input;
use crate::replay::record::Fault;
use crate::replay::search::Found;
use crate::replay::simulation::{Change, Changes, Count, Simulation};
use crate::replay::tally::Peak;
use crate::replay::trace::{Tally, Traces};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Everything the report is made of.
pub(in crate::replay) fn make(
    traces: &Traces,
    tally: &Tally,
    accounts: &Accounts,
    simulations: &[Simulation<'_>],
    figures: &[Option<Vec<Found>>],
    changes: &Changes,
    top: usize,
) -> Option<Comparison> {
    let mut reports = simulations.iter().enumerate().map(|(number, simulation)| {
        let figures = figures.get(number).and_then(Option::as_deref);
        report(simulation, accounts, figures, top)
    });
    let first = reports.next()?;
    let against = reports.next();
    Some(Comparison {
        trace: trace(traces, tally, accounts, simulations),
        report: first,
        difference: against.is_some().then(|| difference(simulations, accounts, changes, top)),
        against,
    })
}

fn trace(traces: &Traces, tally: &Tally, accounts: &Accounts, simulations: &[Simulation<'_>]) -> TraceReport {
    let span = simulations.iter().filter_map(|simulation| simulation.span);
    let from = span.clone().map(|span| span.0).min();
    let to = span.map(|span| span.1).max();
    let faults = Fault::ALL.into_iter().zip(&tally.faults).filter(|(_, found)| found.count > 0);
    TraceReport {
        files: traces.inputs.iter().map(Input::name).collect(),
        lines: tally.lines,
        requests: tally.requests,
        elsewhere: tally.elsewhere,
        from: from.map(moment),
        to: to.map(moment),
        accounts: accounts.len() as u64,
        faults: faults
            .map(|(fault, found)| FaultReport {
                kind: fault.as_str(),
                message: fault.words(),
                count: found.count,
                first: found.first.iter().map(|&(input, line)| traces.place(input, line)).collect(),
            })
            .collect(),
    }
}

fn report(simulation: &Simulation<'_>, accounts: &Accounts, figures: Option<&[Found]>, top: usize) -> Report {
    let limits: Vec<LimitReport> = limits(simulation, figures);
    let reasons = Stage::ALL.into_iter().map(|stage| ReasonReport {
        reason: stage.reason(),
        refused: limits.iter().filter(|limit| limit.reason == stage.reason()).map(|limit| limit.refused).sum(),
    });
    Report {
        admitted: simulation.all.admitted,
        refused: simulation.all.refused,
        would_refuse: simulation.all.would_refuse,
        peak: peak(&simulation.peak),
        recorded: RecordedReport {
            refused: simulation.recorded.refused,
            newly_refused: simulation.recorded.newly_refused,
            newly_admitted: simulation.recorded.newly_admitted,
        },
        cut_short: simulation.cut_short(),
        reasons: reasons.filter(|reason| reason.refused > 0).collect(),
        limits,
        endpoints: endpoints(simulation),
        accounts: top_accounts(simulation, accounts, top),
        timeline: timeline(simulation),
    }
}

fn limits(simulation: &Simulation<'_>, figures: Option<&[Found]>) -> Vec<LimitReport> {
    let all = simulation.config.policy.limits().zip(&simulation.limits);
    all.map(|((id, limit), tally)| {
        let found = figures.and_then(|figures| figures.get(id.index()));
        LimitReport {
            name: limit.name.clone(),
            reason: limit.stage.reason(),
            figures: written(&limit.limiter),
            enforced: share(limit.enforce),
            admitted: tally.admitted,
            refused: tally.refused,
            would_refuse: tally.would_refuse,
            candidate: limit.candidate.map(|candidate| CandidateReport {
                figures: written(&candidate),
                admitted: tally.tried_admitted,
                would_refuse: tally.tried_refused,
            }),
            accounts: tally.accounts.count(),
            peak: peak(&tally.asked_peak),
            refused_peak: peak(&tally.refused_peak),
            first: tally.first.map(moment),
            suggested: found.map(|found| Suggested {
                refuses_nobody: found.nobody.as_ref().map(written),
                refuses_one_in_1000: found.few.as_ref().map(written),
            }),
        }
    })
    .collect()
}

/// The share of accounts that a limit is enforced for.
fn share(enforce: Enforce) -> f64 {
    match enforce {
        Enforce::Always => 1.0,
        Enforce::Never => 0.0,
        Enforce::Share(share) => share.fraction(),
    }
}

fn endpoints(simulation: &Simulation<'_>) -> Vec<CountReport> {
    let endpoints = simulation.config.endpoints.iter().zip(&simulation.endpoints);
    let mut rows: Vec<CountReport> = endpoints
        .filter(|(_, count)| **count != Count::default())
        .map(|(endpoint, count)| row(endpoint.name.clone(), count))
        .collect();
    rows.sort_by(|one, other| order(one).cmp(&order(other)));
    rows
}

fn row(name: Box<str>, count: &Count) -> CountReport {
    let Count { admitted, refused, would_refuse } = *count;
    CountReport { name, admitted, refused, would_refuse, by_limit: Vec::new() }
}

/// The most refused first, then the busiest, then by name.
fn order(row: &CountReport) -> (Reverse<u64>, Reverse<u64>, &str) {
    (Reverse(row.refused), Reverse(row.admitted), &row.name)
}

fn top_accounts(simulation: &Simulation<'_>, accounts: &Accounts, top: usize) -> AccountsReport {
    let name = |place: u32| accounts.get(AccountId(place)).map(|account| &*account.name).unwrap_or_default();
    let known = simulation.accounts.get(..accounts.len()).unwrap_or(&simulation.accounts);
    let order = |place: &u32| {
        let count = known.get(*place as usize).copied().unwrap_or_default();
        // Names that were cut may be the same.
        (Reverse(count.refused), Reverse(count.admitted), name(*place), *place)
    };
    let seen = |place: &u32| known.get(*place as usize).is_some_and(|count| *count != Count::default());
    let mut places: Vec<u32> = (0..known.len()).filter_map(|place| u32::try_from(place).ok()).filter(seen).collect();
    if top > 0 && top < places.len() {
        places.select_nth_unstable_by(top - 1, |one, other| order(one).cmp(&order(other)));
    }
    places.truncate(top);
    places.sort_by(|one, other| order(one).cmp(&order(other)));
    let top = places.into_iter().filter_map(|place| {
        let mut row = row(name(place).into(), known.get(place as usize)?);
        row.by_limit = by_limit(simulation, AccountId(place));
        Some(row)
    });
    let others = simulation.accounts.get(MAX_ACCOUNTS).map(|count| {
        let mut others = row("(others)".into(), count);
        others.by_limit = by_limit(simulation, AccountId::BEYOND);
        others
    });
    let refused = known.iter().filter(|count| count.refused > 0).count() as u64;
    AccountsReport { refused, top: top.collect(), others }
}

/// An account's refusals, the most first.
fn by_limit(simulation: &Simulation<'_>, account: AccountId) -> Vec<(Box<str>, u64)> {
    let limits = simulation.config.policy.limits();
    let of = |(id, limit): (LimitId, &crate::engine::Limit)| {
        Some((limit.name.clone(), *simulation.by_account.get(&(account, id))?))
    };
    most_first(limits.filter_map(of).collect())
}

fn most_first(mut rows: Vec<(Box<str>, u64)>) -> Vec<(Box<str>, u64)> {
    rows.sort_by(|one, other| (Reverse(one.1), &one.0).cmp(&(Reverse(other.1), &other.0)));
    rows
}

fn timeline(simulation: &Simulation<'_>) -> TimelineReport {
    let timeline = &simulation.timeline;
    let refused = simulation.config.policy.limits().filter_map(|(id, limit)| {
        let of = |bucket: &crate::replay::tally::Bucket| bucket.refused.get(id.index()).copied().unwrap_or(0);
        let counts: Vec<u64> = timeline.buckets.iter().map(of).collect();
        counts.iter().any(|&count| count > 0).then(|| (limit.name.clone(), counts))
    });
    TimelineReport {
        from: (!timeline.buckets.is_empty()).then(|| second(timeline.from)),
        bucket_seconds: timeline.width,
        busiest_second: timeline.buckets.iter().map(|bucket| bucket.busiest).collect(),
        admitted: timeline.buckets.iter().map(|bucket| bucket.admitted).collect(),
        refused: refused.collect(),
    }
}

fn difference(simulations: &[Simulation<'_>], accounts: &Accounts, changes: &Changes, top: usize) -> Difference {
    let by_limit = |number: usize| {
        let limits = simulations.get(number).map(|simulation| simulation.config.policy.limits());
        let rows = limits.into_iter().flatten();
        most_first(
            rows.filter_map(|(id, limit)| Some((limit.name.clone(), *changes.limits.get(&(number, id))?))).collect(),
        )
    };
    let endpoints: BTreeMap<&str, Change> = changes.endpoints.iter().map(|(name, &change)| (&**name, change)).collect();
    let name = |account: AccountId| accounts.get(account).map_or("(others)", |account| &*account.name);
    let by_account: BTreeMap<(&str, AccountId), Change> =
        changes.accounts.iter().map(|(&account, &change)| ((name(account), account), change)).collect();
    let accounts_changed = by_account.len() as u64;
    let by_account = by_account.into_iter().map(|((name, _), change)| (name, change));
    Difference {
        all: change("", &changes.all),
        no_longer_refused_by: by_limit(0),
        newly_refused_by: by_limit(1),
        endpoints: most_changed(endpoints.into_iter(), usize::MAX),
        accounts_changed,
        accounts: most_changed(by_account, top),
    }
}

fn change(name: &str, change: &Change) -> ChangeReport {
    ChangeReport {
        name: name.into(),
        newly_refused: change.newly_refused,
        newly_admitted: change.newly_admitted,
        refused_elsewhere: change.elsewhere,
    }
}

/// The most changed first; among equals, the order they come in.
fn most_changed<'n>(rows: impl Iterator<Item = (&'n str, Change)>, top: usize) -> Vec<ChangeReport> {
    let mut rows: Vec<(&str, Change)> = rows.collect();
    rows.sort_by_key(|(_, change)| Reverse(change.newly_refused + change.newly_admitted + change.elsewhere));
    rows.into_iter().take(top).map(|(name, own)| change(name, &own)).collect()
}

fn peak(peak: &Peak) -> Option<PeakReport> {
    (peak.most > 0).then(|| PeakReport { at: second(peak.at), requests: peak.most })
}

fn second(second: u64) -> String {
    let at = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    at.map(|at| at.to_string()).unwrap_or_default()
}

/// A moment with its nanoseconds.
fn moment(nanoseconds: u64) -> String {
    let at = jiff::Timestamp::from_nanosecond(i128::from(nanoseconds));
    at.map(|at| at.to_string()).unwrap_or_default()
}
