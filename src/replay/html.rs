//! The report as one page of HTML with plots, which needs nothing else: no script, no font, no network.
//!
//! In the order of reading: [`Page`] puts the page together from its `parts` and its `tables`, `chart` draws counts over time,
//! `scale` chooses what stands at the axes, `colors` who has which color, and `words` writes numbers, moments and names.
//!
//! Invariants:
//! - Nothing of a trace becomes markup: what was recorded goes through `words::Safe`, or into the JSON with `<`, `>` and `&` as escapes.
//! - Every number on the page is one of the report's, which the page has with it as `<script type="application/json">`.
//! - The same report gives the same bytes.

mod chart;
mod colors;
mod parts;
mod scale;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use super::report::{Comparison, Report};
use colors::Colors;
use std::fmt::{self, Write};
use words::Safe;

const STYLE: &str = include_str!("html/page.css");

/// Nothing may be loaded or run, whatever should ever get past the escapes.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// A page to be written.
#[derive(Clone, Copy, Debug)]
pub struct Page<'r> {
    /// The report.
    pub report: &'r Comparison,
    /// What the configurations are called: that of the report, and that of `against`.
    pub names: [&'r str; 2],
}

/// One configuration of the one or two.
#[derive(Clone, Copy, Debug)]
struct Side<'r> {
    /// "A" or "B" where there are two.
    mark: &'static str,
    name: &'r str,
    report: &'r Report,
}

impl Page<'_> {
    /// The page.
    ///
    /// # Errors
    /// The report cannot be written as JSON, which no report is known for.
    pub fn to_html(&self) -> serde_json::Result<String> {
        let data = embedded(&serde_json::to_string(self.report)?);
        let mut page = String::with_capacity(data.len() * 2 + 64 * 1024);
        // Writing to a string cannot fail.
        let _ = self.write(&data, &mut page);
        Ok(page)
    }

    fn sides(&self) -> Vec<Side<'_>> {
        let [first, other] = self.names;
        let side = |mark, name, report| Side { mark, name, report };
        match &self.report.against {
            None => vec![side("", first, &self.report.report)],
            Some(against) => vec![side("A", first, &self.report.report), side("B", other, against)],
        }
    }

    fn write(&self, data: &str, page: &mut String) -> fmt::Result {
        let sides = self.sides();
        let colors = Colors::of(&sides);
        let title = parts::title(&self.report.trace);
        writeln!(
            page,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
             <title>Tollgate replay: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body{}>",
            Safe(&title),
            if sides.len() > 1 { " class=\"two\"" } else { "" },
        )?;
        parts::head(page, &self.report.trace, &sides)?;
        page.push_str("<main>\n");
        parts::tiles(page, &self.report.trace, &sides)?;
        if let Some(difference) = &self.report.difference {
            tables::changes(page, difference)?;
        }
        parts::over_time(page, &sides, &colors)?;
        tables::limits(page, &sides, &colors)?;
        parts::accounts(page, &sides, &colors)?;
        tables::endpoints(page, &sides)?;
        page.push_str("</main>\n");
        parts::foot(page)?;
        writeln!(page, "<script type=\"application/json\" id=\"report\">{data}</script>\n</body>\n</html>")
    }
}

/// JSON as it may stand within a `script` element: nothing in it can end the element or begin a comment.
fn embedded(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{7f}'..='\u{9f}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            other => text.push(other),
        }
    }
    text
}
