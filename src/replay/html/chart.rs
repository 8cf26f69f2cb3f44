//! Counts over time: what is drawn is an SVG in units of the data, stretched to whatever room there is; what is read stands
//! around it as text, which is not stretched.
//!
//! A path's numbers are the report's: x is the bucket, y the top of the scale less the count.

use super::scale::{Counts, brief, moments};
use super::words::{Safe, counted, moment, short, span};
use crate::replay::report::TimelineReport;
use std::fmt::{self, Write};

/// One plot.
pub(super) struct Chart<'c> {
    /// What it is, for who cannot see it.
    pub label: &'c str,
    /// What is counted, in the plural.
    pub of: &'c str,
    /// When the first bucket begins, and its seconds.
    pub timeline: &'c TimelineReport,
    /// Buckets, from the bottom up, by the class that has their color.
    pub series: &'c [(&'static str, Vec<u64>)],
    /// What is said of a bucket beyond its sum.
    pub detail: &'c dyn Fn(usize) -> String,
    /// The most that any plot of this scale shows.
    pub most: u64,
}

impl Chart<'_> {
    fn buckets(&self) -> usize {
        self.series.iter().map(|(_, counts)| counts.len()).max().unwrap_or(0)
    }

    pub(super) fn write(&self, page: &mut String) -> fmt::Result {
        let scale = Counts::up_to(self.most);
        let (buckets, top) = (self.buckets().max(1), scale.top);
        page.push_str("<div class=\"plot\">\n<div class=\"y\" aria-hidden=\"true\"><span style=\"bottom:0\">0</span>");
        for line in scale.lines() {
            let height = line as f64 * 100.0 / top as f64;
            write!(page, "<span style=\"bottom:{height:.2}%\">{}</span>", brief(line))?;
        }
        writeln!(
            page,
            "</div>\n<svg viewBox=\"0 0 {buckets} {top}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
            Safe(self.label)
        )?;
        page.push_str("<path class=\"grid\" d=\"");
        for line in scale.lines() {
            write!(page, "M0 {}H{buckets}", top - line)?;
        }
        page.push_str("\"/>\n");
        let mut below = vec![0; buckets];
        for (class, counts) in self.series {
            area(page, class, counts, &mut below, top)?;
        }
        self.hints(page, buckets, top)?;
        page.push_str("<path class=\"base\" d=\"");
        writeln!(page, "M0 {top}H{buckets}\"/>\n</svg>")?;
        self.moments(page, buckets)?;
        page.push_str("</div>\n");
        Ok(())
    }

    /// What a bucket says to who points at it.
    fn hints(&self, page: &mut String, buckets: usize, top: u64) -> fmt::Result {
        let from = self.timeline.from.as_deref().and_then(moment);
        let width = self.timeline.bucket_seconds;
        for bucket in 0..buckets {
            let sum: u64 = self.series.iter().filter_map(|(_, counts)| counts.get(bucket)).sum();
            let offset = i64::try_from(bucket as u64 * width).map(jiff::SignedDuration::from_secs);
            let Some(at) = from.zip(offset.ok()).and_then(|(from, offset)| from.checked_add(offset).ok()) else {
                break;
            };
            if sum > 0 {
                let text = format!(
                    "{}, {}: {}{}",
                    short(&at.to_string()),
                    span(width),
                    counted(sum, self.of),
                    (self.detail)(bucket)
                );
                write!(
                    page,
                    "<rect class=\"hint\" x=\"{bucket}\" width=\"1\" height=\"{top}\"><title>{}</title></rect>",
                    Safe(text)
                )?;
            }
        }
        Ok(())
    }

    fn moments(&self, page: &mut String, buckets: usize) -> fmt::Result {
        page.push_str("<div class=\"x\" aria-hidden=\"true\">");
        let seconds = self.timeline.bucket_seconds.saturating_mul(buckets as u64);
        if let Some(from) = self.timeline.from.as_deref().and_then(moment) {
            for mark in moments(from, seconds) {
                let (left, side) = (
                    mark.at * 100.0,
                    if mark.at < 0.03 {
                        " class=\"first\""
                    } else if mark.at > 0.97 {
                        " class=\"last\""
                    } else {
                        ""
                    },
                );
                let day = mark.day.map(|day| format!("<br>{day}")).unwrap_or_default();
                write!(page, "<span{side} style=\"left:{left:.2}%\">{}{day}</span>", mark.text)?;
            }
        }
        page.push_str("</div>\n");
        Ok(())
    }
}

/// Adds the steps of one series upon those below it.
fn area(page: &mut String, class: &str, counts: &[u64], below: &mut [u64], top: u64) -> fmt::Result {
    let upper: Vec<u64> =
        below.iter().enumerate().map(|(bucket, below)| below + counts.get(bucket).copied().unwrap_or(0)).collect();
    write!(page, "<path class=\"{class}\" d=\"M0 {top}")?;
    let mut known = top;
    for (bucket, &height) in upper.iter().enumerate() {
        let y = top.saturating_sub(height);
        if y != known {
            write!(page, "H{bucket}V{y}")?;
            known = y;
        }
    }
    write!(page, "H{}", upper.len())?;
    for (bucket, &height) in below.iter().enumerate().rev() {
        let y = top.saturating_sub(height);
        if y != known {
            write!(page, "H{}V{y}", bucket + 1)?;
            known = y;
        }
    }
    writeln!(page, "H0Z\"/>")?;
    below.copy_from_slice(&upper);
    Ok(())
}
