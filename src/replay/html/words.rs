//! Numbers, moments and names as the page has them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::borrow::Cow;
use std::fmt::{self, Display, Write};

/// Letters of a name that are shown; the page's width cuts most names before.
const SHOWN: usize = 80;
/// Letters of a name that can be had by pointing at it.
const TITLE: usize = 300;

/// Text within an element or a quoted attribute, whoever wrote it.
pub(super) struct Safe<T>(pub T);

impl<T: AsRef<str>> Display for Safe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.as_ref().chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(if acts(other) { '\u{fffd}' } else { other })?,
            }
        }
        Ok(())
    }
}

/// Letters that do something where they should be seen: control characters, and those that turn the direction of what follows.
fn acts(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A name in its own element, cut in its middle where it is long; whole, or nearly, to who points at it.
pub(super) struct Name<'n>(pub &'n str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, shown) = (cut(self.0, TITLE), cut(self.0, SHOWN));
        write!(f, "<bdi class=\"name\" title=\"{}\">{}</bdi>", Safe(title), Safe(shown))
    }
}

/// At most `most` letters: the first and the last ones.
pub(super) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    // Bytes are at least as many as letters.
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let letters = text.chars().count();
    if letters <= most {
        return Cow::Borrowed(text);
    }
    let tail = most / 3;
    let head: String = text.chars().take(most - tail - 1).collect();
    Cow::Owned(text.chars().skip(letters - tail).fold(head + "…", |mut cut, letter| {
        cut.push(letter);
        cut
    }))
}

/// A count with its thousands set apart.
pub(super) struct Count(pub u64);

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                f.write_char(',')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// A count and its noun.
pub(super) fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", Count(count), if count == 1 { "" } else { "s" })
}

/// A part of a whole, in percent.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0 %".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    match percent {
        _ if part == whole => "100 %".to_owned(),
        small if small < 0.001 => "below 0.001 %".to_owned(),
        small if small < 0.1 => format!("{small:.3} %"),
        middle if middle < 10.0 => format!("{middle:.2} %"),
        // Not all are refused: rounding must not say so.
        large => format!("{:.1} %", large.min(99.9)),
    }
}

/// A moment of the report.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Day and time of day in UTC, to the second.
pub(super) fn day_and_time(text: &str) -> String {
    moment(text).map_or_else(|| text.to_owned(), |at| written(at, "%-d %b %Y %H:%M:%S"))
}

/// Time of day with a day, without the year.
pub(super) fn short(text: &str) -> String {
    moment(text).map_or_else(|| text.to_owned(), |at| written(at, "%-d %b %H:%M:%S"))
}

/// A moment in UTC, as `strftime` has it.
pub(super) fn written(at: Timestamp, pattern: &str) -> String {
    at.to_zoned(TimeZone::UTC).strftime(pattern).to_string()
}

/// Seconds in words: "10 s", "5 min", "1 day".
pub(super) fn span(seconds: u64) -> String {
    let unit = |of: u64| seconds >= of && seconds.is_multiple_of(of);
    match seconds {
        _ if unit(604_800) => plural(seconds / 604_800, "week"),
        _ if unit(86_400) => plural(seconds / 86_400, "day"),
        _ if unit(3_600) => format!("{} h", seconds / 3_600),
        _ if unit(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
