//! The report for people, as plain text.

use super::{ChangeReport, Comparison, CountReport, LimitReport, Report};
use crate::replay::figures::line;
use std::fmt::{self, Write};

/// Rows of lists that can be long.
const ROWS: usize = 20;

/// Displays a report.
#[derive(Clone, Copy, Debug)]
pub struct Text<'r>(pub &'r Comparison);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { trace, report, against, difference } = self.0;
        writeln!(
            f,
            "{} of {} ({})",
            plural(trace.requests, "request"),
            plural(trace.accounts, "account"),
            plural(trace.lines, "line"),
        )?;
        if let (Some(from), Some(to)) = (&trace.from, &trace.to) {
            writeln!(f, "from {from} to {to}")?;
        }
        if trace.elsewhere > 0 {
            writeln!(f, "{} never came to the limits and were left out", plural(trace.elsewhere, "request"))?;
        }
        for fault in &trace.faults {
            let places = fault.first.join(", ");
            writeln!(f, "warning: {} {}: {places}", plural(fault.count, "line"), told_of(fault.count, fault.message))?;
        }
        one(f, report)?;
        if let (Some(against), Some(difference)) = (against, difference) {
            writeln!(f, "\nAGAINST")?;
            one(f, against)?;
            writeln!(f, "\nDIFFERENCE")?;
            let ChangeReport { newly_refused, newly_admitted, refused_elsewhere, .. } = &difference.all;
            writeln!(
                f,
                "{newly_refused} newly refused, {newly_admitted} newly admitted, {refused_elsewhere} refused by another limit"
            )?;
            for (name, count) in &difference.newly_refused_by {
                writeln!(f, "  {count} newly refused by {name}")?;
            }
            for (name, count) in &difference.no_longer_refused_by {
                writeln!(f, "  {count} no longer refused by {name}")?;
            }
            changes(f, "endpoint", &difference.endpoints)?;
            changes(f, "account", &difference.accounts)?;
        }
        Ok(())
    }
}

fn one(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(
        f,
        "\n{} admitted, {} refused ({})",
        report.admitted,
        report.refused,
        share(report.refused, report.admitted)
    )?;
    if report.would_refuse > 0 {
        writeln!(f, "{} more would be refused by limits that are not enforced", report.would_refuse)?;
    }
    if let Some(peak) = &report.peak {
        writeln!(f, "busiest second: {} at {}", plural(peak.requests, "request"), peak.at)?;
    }
    let recorded = &report.recorded;
    if recorded.refused > 0 || recorded.newly_refused > 0 {
        writeln!(
            f,
            "recorded: {} refused; now {} more are and {} are not",
            recorded.refused, recorded.newly_refused, recorded.newly_admitted
        )?;
    }
    if report.cut_short > 0 {
        writeln!(f, "warning: {} ended early, since too many were in flight", plural(report.cut_short, "request"))?;
    }
    limits(f, &report.limits)?;
    counts(f, "endpoint", &report.endpoints)?;
    counts(f, "account", &report.accounts.top)
}

fn limits(f: &mut fmt::Formatter<'_>, limits: &[LimitReport]) -> fmt::Result {
    let mut rows = vec![
        ["limit", "figures", "admitted", "refused", "accounts", "refuses nobody", "refuses 0.1 %"].map(String::from),
    ];
    for limit in limits {
        let suggested = |figures: Option<&crate::config::WrittenFigures>| figures.map_or("-".to_owned(), line);
        let refused = match limit.would_refuse {
            0 => limit.refused.to_string(),
            more => format!("{} ({more})", limit.refused),
        };
        rows.push([
            limit.name.to_string(),
            line(&limit.figures),
            limit.admitted.to_string(),
            refused,
            limit.accounts.to_string(),
            suggested(limit.suggested.as_ref().and_then(|found| found.refuses_nobody.as_ref())),
            suggested(limit.suggested.as_ref().and_then(|found| found.refuses_one_in_1000.as_ref())),
        ]);
    }
    table(f, &rows)?;
    for limit in limits {
        if let Some(candidate) = &limit.candidate {
            let (name, figures) = (&limit.name, line(&candidate.figures));
            writeln!(f, "candidate of {name} ({figures}): would refuse {}", candidate.would_refuse)?;
        }
    }
    Ok(())
}

fn counts(f: &mut fmt::Formatter<'_>, of: &str, counts: &[CountReport]) -> fmt::Result {
    let mut rows = vec![[of, "admitted", "refused", "by"].map(String::from)];
    for count in counts.iter().take(ROWS) {
        let by: Vec<String> = count.by_limit.iter().map(|(name, count)| format!("{name} {count}")).collect();
        rows.push([count.name.to_string(), count.admitted.to_string(), count.refused.to_string(), by.join(", ")]);
    }
    table(f, &rows)?;
    more(f, counts.len())
}

fn changes(f: &mut fmt::Formatter<'_>, of: &str, changes: &[ChangeReport]) -> fmt::Result {
    let mut rows = vec![[of, "newly refused", "newly admitted", "by another limit"].map(String::from)];
    for change in changes.iter().take(ROWS) {
        let numbers =
            [change.newly_refused, change.newly_admitted, change.refused_elsewhere].map(|number| number.to_string());
        let [refused, admitted, elsewhere] = numbers;
        rows.push([change.name.to_string(), refused, admitted, elsewhere]);
    }
    table(f, &rows)?;
    more(f, changes.len())
}

fn more(f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    if count > ROWS { writeln!(f, "… and {} more in the JSON report", count - ROWS) } else { Ok(()) }
}

/// Columns as wide as their widest cell; nothing where there is a heading only.
fn table<const COLUMNS: usize>(f: &mut fmt::Formatter<'_>, rows: &[[String; COLUMNS]]) -> fmt::Result {
    if rows.len() < 2 {
        return Ok(());
    }
    writeln!(f)?;
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..COLUMNS).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // A name from a trace must not act upon a terminal.
            let cell: String = cell.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
            write!(text, "{cell:<width$}  ")?;
        }
        writeln!(f, "{}", text.trim_end())?;
    }
    Ok(())
}

fn share(part: u64, rest: u64) -> String {
    let percent = part as f64 * 100.0 / (part.saturating_add(rest)).max(1) as f64;
    format!("{percent:.3} %")
}

fn plural(count: u64, of: &str) -> String {
    format!("{count} {of}{}", if count == 1 { "" } else { "s" })
}

/// A sentence about one line, or about several.
fn told_of(count: u64, message: &str) -> String {
    let several = [("ends", "end"), ("is ", "are "), ("lacks", "lack"), ("has ", "have "), ("cannot", "cannot")];
    let plural = several.iter().find_map(|(one, many)| Some(format!("{many}{}", message.strip_prefix(one)?)));
    plural.filter(|_| count != 1).unwrap_or_else(|| message.to_owned())
}
