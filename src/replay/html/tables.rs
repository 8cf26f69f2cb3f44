//! The tables: by limit with the figures that would have done, by endpoint, and what changes between two configurations.
//!
//! On narrow screens a row becomes a card (see the style sheet): each cell then says by itself what it is.

use super::Side;
use super::colors::Colors;
use super::parts::mark;
use super::words::{Count, Name, Safe, counted, percent, short};
use crate::config::WrittenFigures;
use crate::replay::figures::line;
use crate::replay::report::{ChangeReport, CountReport, Difference, LimitReport, PeakReport};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};

/// Rows of lists that can be long; the JSON in the page has all.
const ROWS: usize = 100;

/// Opens a table.
fn open(page: &mut String, key: &str, columns: &[&str]) -> fmt::Result {
    write!(page, "<table data-table=\"{key}\">\n<thead><tr>")?;
    for (place, column) in columns.iter().enumerate() {
        write!(page, "<th scope=\"col\"{}>{column}</th>", if place == 0 { "" } else { " class=\"n\"" })?;
    }
    page.write_str("</tr></thead>\n<tbody>\n")
}

fn close(page: &mut String) -> fmt::Result {
    page.write_str("</tbody>\n</table>\n")
}

/// A cell, with the name of its column for narrow screens.
fn cell(page: &mut String, column: &str, value: impl Display) -> fmt::Result {
    write!(page, "<td data-of=\"{column}\">{value}</td>")
}

/// The columns of the table of limits, beyond the limit itself.
const OF_LIMITS: [&str; 6] =
    ["Figures", "Admitted", "Refused", "Accounts refused", "Busiest second", "Most refused in one second"];
const SUGGESTED: [&str; 2] = ["Would refuse nobody", "Would refuse 0.1 % of accounts"];

/// Every limit; of two configurations, the rows of one name together.
pub(super) fn limits(page: &mut String, sides: &[Side<'_>], colors: &Colors<'_>) -> fmt::Result {
    page.push_str("<section>\n<h2>Limits</h2>\n");
    let mut names: Vec<&str> = Vec::new();
    for limit in sides.iter().flat_map(|side| &side.report.limits) {
        if !names.contains(&&*limit.name) {
            names.push(&limit.name);
        }
    }
    if names.is_empty() {
        return page.write_str("<p class=\"empty\">There are no limits.</p>\n</section>\n");
    }
    let suggests = sides.iter().flat_map(|side| &side.report.limits).any(|limit| limit.suggested.is_some());
    let mut columns = vec!["Limit"];
    columns.extend(OF_LIMITS);
    columns.extend(SUGGESTED.iter().filter(|_| suggests));
    page.push_str("<div class=\"wide\">\n");
    open(page, "limits", &columns)?;
    for name in names {
        for (place, side) in sides.iter().enumerate() {
            match side.report.limits.iter().find(|limit| *limit.name == *name) {
                Some(limit) => row(page, side, limit, colors, suggests)?,
                None => writeln!(
                    page,
                    "<tr class=\"none\" data-side=\"{place}\"><th scope=\"row\">{} {}</th><td colspan=\"{}\">has no such limit</td></tr>",
                    mark(side),
                    Name(name),
                    columns.len() - 1
                )?,
            }
        }
    }
    close(page)?;
    page.push_str("</div>\n");
    if suggests {
        page.push_str(
            "<p class=\"faint\">What would refuse nobody, and what would refuse 0.1 % of accounts, is for the traffic as it came, with \
             nothing refused by any limit: the smallest figures that would have refused nobody, and the smallest that would have \
             refused at most one account of 1,000.</p>\n",
        );
    }
    page.write_str("</section>\n")
}

fn row(page: &mut String, side: &Side<'_>, limit: &LimitReport, colors: &Colors<'_>, suggests: bool) -> fmt::Result {
    let class = colors.class(&limit.name);
    let swatch = class.map(|class| format!("<i class=\"{class}\"></i>")).unwrap_or_default();
    write!(page, "<tr><th scope=\"row\">{} {swatch}{}<br><small>{}", mark(side), Name(&limit.name), limit.reason)?;
    if limit.enforced <= 0.0 {
        page.push_str(", not enforced");
    } else if limit.enforced < 1.0 {
        write!(page, ", enforced for {} % of accounts", limit.enforced * 100.0)?;
    }
    if let Some(first) = &limit.first {
        write!(page, "<br>first refused {}", Safe(short(first)))?;
    }
    page.push_str("</small></th>");
    let [figures, admitted, refused, accounts, busiest, worst] = OF_LIMITS;
    cell(page, figures, figure(Some(&limit.figures)))?;
    cell(page, admitted, Count(limit.admitted))?;
    let would = match limit.would_refuse {
        0 => String::new(),
        more => format!("<small>and {} not enforced</small>", Count(more)),
    };
    cell(page, refused, format_args!("<b>{}</b>{would}", Count(limit.refused)))?;
    cell(page, accounts, Count(limit.accounts))?;
    cell(page, busiest, peak(limit.peak.as_ref()))?;
    cell(page, worst, peak(limit.refused_peak.as_ref()))?;
    if suggests {
        let [nobody, few] = SUGGESTED;
        let found = limit.suggested.as_ref();
        cell(page, nobody, figure(found.and_then(|found| found.refuses_nobody.as_ref())))?;
        cell(page, few, figure(found.and_then(|found| found.refuses_one_in_1000.as_ref())))?;
    }
    page.push_str("</tr>\n");
    if let Some(candidate) = &limit.candidate {
        write!(
            page,
            "<tr class=\"candidate\"><th scope=\"row\"><small>candidate of {}</small></th>",
            Name(&limit.name)
        )?;
        cell(page, figures, figure(Some(&candidate.figures)))?;
        cell(page, admitted, Count(candidate.admitted))?;
        cell(
            page,
            "Would refuse",
            format_args!("<b>{}</b><small>would refuse</small>", Count(candidate.would_refuse)),
        )?;
        write!(page, "<td class=\"rest\" colspan=\"{}\"></td>", if suggests { 5 } else { 3 })?;
        page.push_str("</tr>\n");
    }
    Ok(())
}

/// Figures, the first one above the others.
fn figure(figures: Option<&WrittenFigures>) -> String {
    let Some(text) = figures.map(line) else { return "–".to_owned() };
    match text.split_once(", ") {
        Some((first, more)) => format!("{}<small>{}</small>", Safe(first), Safe(more)),
        None => Safe(text).to_string(),
    }
}

fn peak(peak: Option<&PeakReport>) -> String {
    let words = |peak: &PeakReport| format!("{}<small>{}</small>", Count(peak.requests), Safe(short(&peak.at)));
    peak.map_or_else(|| "–".to_owned(), words)
}

/// By endpoint, the most refused first.
pub(super) fn endpoints(page: &mut String, sides: &[Side<'_>]) -> fmt::Result {
    page.push_str("<section>\n<h2>Endpoints</h2>\n");
    let mut by_name: BTreeMap<&str, Vec<Option<&CountReport>>> = BTreeMap::new();
    for (place, side) in sides.iter().enumerate() {
        for row in &side.report.endpoints {
            if let Some(slot) = by_name.entry(&row.name).or_insert_with(|| vec![None; sides.len()]).get_mut(place) {
                *slot = Some(row);
            }
        }
    }
    if by_name.is_empty() {
        return page.write_str("<p class=\"empty\">No endpoint had a request.</p>\n</section>\n");
    }
    let sum = |rows: &[Option<&CountReport>], of: fn(&CountReport) -> u64| -> u64 {
        rows.iter().flatten().map(|row| of(row)).sum()
    };
    let mut rows: Vec<_> = by_name.into_iter().collect();
    rows.sort_by_key(|(_, rows)| std::cmp::Reverse((sum(rows, |row| row.refused), sum(rows, |row| row.admitted))));
    let mut columns = vec!["Endpoint".to_owned(), "Requests".to_owned()];
    for side in sides {
        let of = if side.mark.is_empty() { String::new() } else { format!(", {}", side.mark) };
        columns.extend([format!("Admitted{of}"), format!("Refused{of}"), format!("Share{of}")]);
    }
    open(page, "endpoints", &columns.iter().map(String::as_str).collect::<Vec<_>>())?;
    for (name, counts) in rows.iter().take(ROWS) {
        let whole = |row: &&CountReport| row.admitted + row.refused;
        let requests = counts.iter().flatten().map(whole).max().unwrap_or(0);
        write!(page, "<tr><th scope=\"row\">{}</th>", Name(name))?;
        let mut columns = columns.iter().skip(1);
        let mut next = |page: &mut String, value: String| cell(page, columns.next().map_or("", |name| name), value);
        next(page, Count(requests).to_string())?;
        for row in counts {
            let (admitted, refused) = row.map_or((0, 0), |row| (row.admitted, row.refused));
            next(page, Count(admitted).to_string())?;
            next(page, format!("<b>{}</b>", Count(refused)))?;
            next(page, percent(refused, admitted + refused))?;
        }
        page.push_str("</tr>\n");
    }
    close(page)?;
    more(page, rows.len(), "endpoint")?;
    page.write_str("</section>\n")
}

fn more(page: &mut String, rows: usize, noun: &str) -> fmt::Result {
    match rows.checked_sub(ROWS).filter(|&more| more > 0) {
        Some(more) => writeln!(
            page,
            "<p class=\"faint\">and {} in the JSON of this page.</p>",
            counted(more as u64, &format!("more {noun}"))
        ),
        None => Ok(()),
    }
}

/// What the second configuration does otherwise than the first.
pub(super) fn changes(page: &mut String, difference: &Difference) -> fmt::Result {
    let ChangeReport { newly_refused, newly_admitted, refused_elsewhere, .. } = &difference.all;
    writeln!(
        page,
        "<section>\n<h2>What changes from <span class=\"mark\">A</span> to <span class=\"mark\">B</span></h2>\n\
         <p class=\"sum\"><span><b>{}</b> newly refused</span> <span><b>{}</b> newly admitted</span> \
         <span><b>{}</b> refused by another limit</span> <span><b>{}</b> accounts concerned</span></p>",
        Count(*newly_refused),
        Count(*newly_admitted),
        Count(*refused_elsewhere),
        Count(difference.accounts_changed)
    )?;
    by_limit(page, difference)?;
    changed(page, "changed-endpoints", "Endpoint", &difference.endpoints)?;
    changed(page, "changed-accounts", "Account", &difference.accounts)?;
    page.write_str("</section>\n")
}

fn by_limit(page: &mut String, difference: &Difference) -> fmt::Result {
    let Difference { no_longer_refused_by, newly_refused_by, .. } = difference;
    if no_longer_refused_by.is_empty() && newly_refused_by.is_empty() {
        return page.write_str("<p class=\"empty\">Every request has the same verdict under both.</p>\n");
    }
    let mut rows: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for (place, list) in [newly_refused_by, no_longer_refused_by].into_iter().enumerate() {
        for (name, count) in list {
            if let Some(slot) = rows.entry(name).or_default().get_mut(place) {
                *slot = *count;
            }
        }
    }
    let mut rows: Vec<(&str, [u64; 2])> = rows.into_iter().collect();
    rows.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.iter().sum::<u64>()));
    open(page, "changed-limits", &["Limit", "Newly refused by it", "No longer refused by it"])?;
    for (name, [refused, admitted]) in rows {
        write!(page, "<tr><th scope=\"row\">{}</th>", Name(name))?;
        cell(page, "Newly refused by it", Count(refused))?;
        cell(page, "No longer refused by it", Count(admitted))?;
        page.push_str("</tr>\n");
    }
    close(page)
}

fn changed(page: &mut String, key: &str, of: &str, rows: &[ChangeReport]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    let columns = ["Newly refused", "Newly admitted", "Refused by another limit"];
    let all: Vec<&str> = std::iter::once(of).chain(columns).collect();
    open(page, key, &all)?;
    for row in rows.iter().take(ROWS) {
        write!(page, "<tr><th scope=\"row\">{}</th>", Name(&row.name))?;
        for (column, count) in columns.into_iter().zip([row.newly_refused, row.newly_admitted, row.refused_elsewhere]) {
            cell(page, column, Count(count))?;
        }
        page.push_str("</tr>\n");
    }
    close(page)?;
    more(page, rows.len(), &of.to_lowercase())
}
