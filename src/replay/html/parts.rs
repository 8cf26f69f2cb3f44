//! Everything on the page but its tables: the head, the figures at a glance, the plots over time, the bars of accounts.

use super::Side;
use super::chart::Chart;
use super::colors::{Colors, OTHERS};
use super::words::{Count, Name, Safe, counted, day_and_time, percent, short, span};
use crate::replay::report::{AccountsReport, CountReport, Report, TraceReport};
use std::fmt::{self, Write};

pub(super) fn title(trace: &TraceReport) -> String {
    format!("{} of {}", counted(trace.requests, "request"), counted(trace.accounts, "account"))
}

pub(super) fn head(page: &mut String, trace: &TraceReport, sides: &[Side<'_>]) -> fmt::Result {
    write!(page, "<header>\n<p class=\"kind\">Tollgate replay</p>\n<h1>{}</h1>\n<p>", title(trace))?;
    if let (Some(from), Some(to)) = (&trace.from, &trace.to) {
        write!(page, "{} to {} UTC. ", Safe(day_and_time(from)), Safe(day_and_time(to)))?;
    }
    match sides {
        [one] => write!(page, "Limits of {}.", Name(one.name))?,
        _ => {
            for side in sides {
                write!(page, "{} {} ", mark(side), Name(side.name))?;
            }
        }
    }
    write!(page, "</p>\n<p class=\"faint\">{} of ", counted(trace.lines, "line"))?;
    for (place, file) in trace.files.iter().take(6).enumerate() {
        write!(page, "{}{}", if place > 0 { ", " } else { "" }, Name(file))?;
    }
    if trace.files.len() > 6 {
        write!(page, " and {}", counted(trace.files.len() as u64 - 6, "more file"))?;
    }
    page.push('.');
    if trace.elsewhere > 0 {
        write!(page, " {} never came to the limits.", counted(trace.elsewhere, "request"))?;
    }
    page.push_str("</p>\n");
    if !trace.faults.is_empty() {
        page.push_str("<ul class=\"faults\">\n");
        for fault in &trace.faults {
            let places = fault.first.join(", ");
            let verb = counted(fault.count, "bad line");
            writeln!(page, "<li><b>{verb}</b>: {} <span class=\"faint\">{}</span></li>", fault.message, Safe(places))?;
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</header>\n");
    Ok(())
}

/// The letter of a configuration, where there are two.
pub(super) fn mark(side: &Side<'_>) -> String {
    if side.mark.is_empty() { String::new() } else { format!("<span class=\"mark\">{}</span>", side.mark) }
}

/// A figure at a glance: of each side the number, and what is said of it.
struct Tile {
    name: &'static str,
    key: &'static str,
    of: fn(&TraceReport, &Report) -> (u64, String),
}

const TILES: [Tile; 6] = [
    Tile { name: "Admitted", key: "admitted", of: |_, it| (it.admitted, percent(it.admitted, all(it))) },
    Tile { name: "Refused", key: "refused", of: |_, it| (it.refused, percent(it.refused, all(it))) },
    Tile {
        name: "Accounts with refusals",
        key: "accounts",
        of: |trace, it| (it.accounts.refused, percent(it.accounts.refused, trace.accounts)),
    },
    Tile {
        name: "Busiest second",
        key: "peak",
        of: |_, it| it.peak.as_ref().map_or((0, String::new()), |peak| (peak.requests, short(&peak.at))),
    },
    Tile {
        name: "Would be refused",
        key: "would_refuse",
        of: |_, it| (it.would_refuse, "by limits not enforced".to_owned()),
    },
    Tile {
        name: "Refused when recorded",
        key: "recorded",
        of: |_, it| {
            let recorded = &it.recorded;
            (
                recorded.refused,
                format!("now {} more, {} fewer", Count(recorded.newly_refused), Count(recorded.newly_admitted)),
            )
        },
    },
];

fn all(report: &Report) -> u64 {
    report.admitted + report.refused
}

pub(super) fn tiles(page: &mut String, trace: &TraceReport, sides: &[Side<'_>]) -> fmt::Result {
    page.push_str("<section class=\"tiles\">\n");
    for tile in TILES {
        write!(page, "<div class=\"tile\" data-tile=\"{}\"><h3>{}</h3>", tile.key, tile.name)?;
        for side in sides {
            let (number, words) = (tile.of)(trace, side.report);
            let mark = mark(side);
            write!(page, "<p>{mark}<b>{}</b> <span class=\"faint\">{}</span></p>", Count(number), Safe(words))?;
        }
        page.push_str("</div>\n");
    }
    page.push_str("</section>\n");
    for side in sides.iter().filter(|side| side.report.cut_short > 0) {
        let ended = counted(side.report.cut_short, "request");
        writeln!(page, "<p class=\"notice\">{} {ended} ended early, since too many were in flight.</p>", mark(side))?;
    }
    Ok(())
}

/// Requests, refusals and the busiest seconds over time, each with one scale for all sides.
pub(super) fn over_time(page: &mut String, sides: &[Side<'_>], colors: &Colors<'_>) -> fmt::Result {
    if sides.iter().all(|side| side.report.timeline.from.is_none()) {
        return page
            .write_str("<section><h2>Over time</h2><p class=\"empty\">No request came to the limits.</p></section>\n");
    }
    let width = sides.first().map_or(1, |side| side.report.timeline.bucket_seconds);
    let each = format!("in each {}", span(width));
    let requests = |side: &Side<'_>| {
        let timeline = &side.report.timeline;
        vec![("ca", timeline.admitted.clone()), ("cr", refused(side.report))]
    };
    let legend =
        "<p class=\"legend\"><span><i class=\"ca\"></i>admitted</span><span><i class=\"cr\"></i>refused</span></p>\n";
    let detail = |series: &Series, bucket: usize| {
        let of = |place: usize| series.get(place).and_then(|it| it.1.get(bucket)).copied().unwrap_or(0);
        format!(", {} refused", Count(of(1)))
    };
    plots(page, sides, ("requests", &format!("Requests {each}"), legend, "request"), &requests, &detail)?;
    let by_limit = |side: &Side<'_>| colors.series(&side.report.timeline.refused);
    let names = |series: &Series, bucket: usize| refusals(series, bucket, colors);
    let legend = legend_of(colors)?;
    if sides.iter().any(|side| side.report.refused > 0) {
        plots(page, sides, ("refusals", &format!("Refusals by limit {each}"), &legend, "refusal"), &by_limit, &names)?;
    } else {
        page.push_str(
            "<section><h2>Refusals by limit</h2><p class=\"empty\">No limit refused anything.</p></section>\n",
        );
    }
    if width > 1 {
        let busiest = |side: &Side<'_>| vec![("ca", side.report.timeline.busiest_second.clone())];
        let title = format!("Busiest second {each}");
        // What comes is the same, whatever is refused of it.
        plots(page, sides.get(..1).unwrap_or_default(), ("busiest", &title, "", "request"), &busiest, &|_, _| {
            " in one second".to_owned()
        })?;
    }
    Ok(())
}

type Series = Vec<(&'static str, Vec<u64>)>;

/// One plot of each side: what it is called and headed, its legend, and what it counts.
fn plots(
    page: &mut String,
    sides: &[Side<'_>],
    (key, title, legend, of): (&str, &str, &str, &str),
    series: &dyn Fn(&Side<'_>) -> Series,
    detail: &dyn Fn(&Series, usize) -> String,
) -> fmt::Result {
    let all: Vec<Series> = sides.iter().map(series).collect();
    let most = all.iter().map(most_of).max().unwrap_or(0);
    write!(page, "<section class=\"chart\" data-chart=\"{key}\">\n<h2>{title}</h2>\n{legend}")?;
    writeln!(page, "<div class=\"sides{}\">", if sides.len() == 1 { " one" } else { "" })?;
    for (side, series) in sides.iter().zip(&all) {
        page.push_str("<figure>\n");
        if sides.len() > 1 {
            writeln!(page, "<figcaption>{} {}</figcaption>", mark(side), Name(side.name))?;
        }
        let timeline = &side.report.timeline;
        Chart { label: title, of, timeline, series, detail: &|bucket| detail(series, bucket), most }.write(page)?;
        page.push_str("</figure>\n");
    }
    page.push_str("</div>\n</section>\n");
    Ok(())
}

/// The highest stack.
fn most_of(series: &Series) -> u64 {
    let buckets = series.iter().map(|(_, counts)| counts.len()).max().unwrap_or(0);
    let sum = |bucket: usize| -> u64 { series.iter().filter_map(|(_, counts)| counts.get(bucket)).sum() };
    (0..buckets).map(sum).max().unwrap_or(0)
}

/// All refusals, by bucket.
fn refused(report: &Report) -> Vec<u64> {
    let mut sums = vec![0; report.timeline.admitted.len()];
    for (_, counts) in &report.timeline.refused {
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    sums
}

/// What a bucket's refusals consist of.
fn refusals(series: &Series, bucket: usize, colors: &Colors<'_>) -> String {
    let (own, _) = colors.legend();
    let names: Vec<(&str, &str)> = own.collect();
    let name = |class: &str| names.iter().find(|(_, known)| *known == class).map_or("other limits", |(name, _)| name);
    let some = series.iter().filter_map(|(class, counts)| {
        let count = counts.get(bucket).copied().filter(|&count| count > 0)?;
        Some(format!("{} {}", name(class), Count(count)))
    });
    format!(" ({})", some.collect::<Vec<_>>().join(", "))
}

fn legend_of(colors: &Colors<'_>) -> Result<String, fmt::Error> {
    let (own, others) = colors.legend();
    let mut legend = String::from("<p class=\"legend\">");
    for (name, class) in own {
        write!(legend, "<span><i class=\"{class}\"></i>{}</span>", Name(name))?;
    }
    if others > 0 {
        write!(legend, "<span><i class=\"{OTHERS}\"></i>{}</span>", counted(others as u64, "other limit"))?;
    }
    legend.push_str("</p>\n");
    Ok(legend)
}

/// A bar for each account that was refused something, of each side.
pub(super) fn accounts(page: &mut String, sides: &[Side<'_>], colors: &Colors<'_>) -> fmt::Result {
    page.push_str("<section class=\"accounts\">\n<h2>Most refused accounts</h2>\n");
    let rows = |report: &Report| -> Vec<CountReport> {
        let AccountsReport { top, others, .. } = &report.accounts;
        top.iter().chain(others).filter(|row| row.refused > 0).cloned().collect()
    };
    let all: Vec<Vec<CountReport>> = sides.iter().map(|side| rows(side.report)).collect();
    let most = all.iter().flatten().map(|row| row.refused).max().unwrap_or(0);
    if most > 0 {
        page.push_str(&legend_of(colors)?);
    }
    page.push_str("<div class=\"sides\">\n");
    for (side, rows) in sides.iter().zip(&all) {
        page.push_str("<div>\n");
        if !side.mark.is_empty() {
            writeln!(page, "<p class=\"caption\">{} {}</p>", mark(side), Name(side.name))?;
        }
        if rows.is_empty() {
            page.push_str("<p class=\"empty\">No account had a request refused.</p>\n");
        } else {
            page.push_str("<ol class=\"bars\">\n");
            for row in rows {
                bar(page, row, most, colors)?;
            }
            page.push_str("</ol>\n");
        }
        let beyond = side.report.accounts.refused.saturating_sub(rows.len() as u64);
        if beyond > 0 {
            writeln!(page, "<p class=\"faint\">and {} with fewer refusals.</p>", counted(beyond, "account"))?;
        }
        page.push_str("</div>\n");
    }
    page.push_str("</div>\n</section>\n");
    Ok(())
}

fn bar(page: &mut String, row: &CountReport, most: u64, colors: &Colors<'_>) -> fmt::Result {
    let total = row.admitted + row.refused;
    write!(
        page,
        "<li>{}<svg viewBox=\"0 0 {most} 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
        Name(&row.name)
    )?;
    let mut left = 0;
    for (limit, count) in &row.by_limit {
        let class = colors.class(limit).unwrap_or(OTHERS);
        let title = format!("{}: {}", super::words::cut(limit, 80), counted(*count, "refusal"));
        write!(
            page,
            "<rect class=\"{class}\" x=\"{left}\" width=\"{count}\" height=\"1\"><title>{}</title></rect>",
            Safe(title)
        )?;
        left += count;
    }
    // Which limit refused is not told of all, where there are very many accounts.
    let untold = row.refused.saturating_sub(left);
    if untold > 0 {
        write!(page, "<rect class=\"{OTHERS}\" x=\"{left}\" width=\"{untold}\" height=\"1\"/>")?;
    }
    let share = percent(row.refused, total);
    writeln!(
        page,
        "</svg><span class=\"number\"><b>{}</b> of {} <span class=\"faint\">{share}</span></span></li>",
        Count(row.refused),
        Count(total)
    )
}

pub(super) fn foot(page: &mut String) -> fmt::Result {
    writeln!(
        page,
        "<footer><p>Made by <code>tollgate replay</code> {}. All times are UTC. The whole report is in this page as JSON, in the \
         element <code>#report</code>.</p></footer>",
        env!("CARGO_PKG_VERSION")
    )
}
