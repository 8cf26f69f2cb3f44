//! What is wrong with a configuration, said so that it can be put right: the place, what was expected, what was found, a hint.

use super::source::{Place, Sources};
use std::fmt;

/// How many mistakes are kept. A file with more is wrong as a whole; their number is still counted.
pub const MAX_MISTAKES: usize = 200;

/// Whether a mistake keeps the configuration from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration works, but surely not as meant.
    Warning,
}

impl Severity {
    /// The word printed before the message.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One mistake. `Display` prints `file:line:column: error: message`, the line with a caret, and what else is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file as it was named on the command line, or `preset NAME`.
    pub file: String,
    /// From 1; 0 when the mistake has no place in the file (it cannot be read at all).
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// What stands there.
    pub found: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line with a caret under the place, at most [`MAX_EXCERPT`](super::source::MAX_EXCERPT) characters wide.
    pub excerpt: Option<Excerpt>,
}

/// A piece of a source line around a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The text, tabs and control characters replaced by spaces.
    pub text: String,
    /// Characters before the caret.
    pub indent: usize,
    /// Characters the caret covers, at least 1.
    pub width: usize,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (severity, message) = (self.severity.as_str(), &self.message);
        match self.line {
            0 => write!(f, "{}: {severity}: {message}", self.file)?,
            _ => write!(f, "{}:{}:{}: {severity}: {message}", self.file, self.line, self.column)?,
        }
        if let Some(excerpt) = &self.excerpt {
            let carets = "^".repeat(excerpt.width);
            write!(f, "\n    | {}\n    | {:indent$}{carets}", excerpt.text, "", indent = excerpt.indent)?;
        }
        let notes = [("expected", &self.expected), ("found", &self.found), ("hint", &self.hint)];
        for (label, text) in notes.into_iter().filter_map(|(label, text)| Some((label, text.as_ref()?))) {
            write!(f, "\n    {label}: {text}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a configuration, in the order of the files; warnings are among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The mistakes, at most [`MAX_MISTAKES`], at least one of them an error.
    pub mistakes: Vec<Mistake>,
    /// How many more there are.
    pub omitted: usize,
}

impl ConfigErrors {
    /// A file that cannot be read at all.
    #[must_use]
    pub fn unreadable(file: &std::path::Path, message: String, hint: Option<&str>) -> ConfigErrors {
        let mistake = Mistake {
            file: file.display().to_string(),
            line: 0,
            column: 0,
            severity: Severity::Error,
            message,
            expected: None,
            found: None,
            hint: hint.map(str::to_owned),
            excerpt: None,
        };
        ConfigErrors { mistakes: vec![mistake], omitted: 0 }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, mistake) in self.mistakes.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A mistake on its way into a [`Report`], built up by its finder.
#[derive(Debug)]
pub(super) struct Finding {
    place: Place,
    severity: Severity,
    message: String,
    expected: Option<String>,
    found: Option<String>,
    hint: Option<String>,
}

impl Finding {
    pub(super) fn error(place: Place, message: impl Into<String>) -> Finding {
        let message = message.into();
        Finding { place, severity: Severity::Error, message, expected: None, found: None, hint: None }
    }

    pub(super) fn warning(place: Place, message: impl Into<String>) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::error(place, message) }
    }

    pub(super) fn expected(self, text: impl Into<String>) -> Finding {
        Finding { expected: Some(text.into()), ..self }
    }

    pub(super) fn found(self, text: impl Into<String>) -> Finding {
        Finding { found: Some(text.into()), ..self }
    }

    pub(super) fn hint(self, text: impl Into<String>) -> Finding {
        Finding { hint: Some(text.into()), ..self }
    }
}

/// Collects mistakes from every pass.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
    errors: usize,
    omitted: usize,
    /// Where the syntax is broken: what the parser puts there instead is not the user's.
    broken: Vec<Place>,
}

impl Report {
    /// A mistake in the syntax. Whatever else is wrong right there follows from it, and is not told.
    pub(super) fn add_syntax(&mut self, finding: Finding) {
        let place = finding.place.clone();
        self.add(finding);
        if !self.is_full() {
            self.broken.push(place);
        }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if self.broken.iter().any(|broken| broken.touches(&finding.place)) {
            return;
        }
        self.errors += usize::from(finding.severity == Severity::Error);
        // Warnings give way: a full list of them must not hide the error that refuses the file.
        if self.findings.len() >= MAX_MISTAKES {
            self.omitted += 1;
            let warning = self.findings.iter().position(|known| known.severity == Severity::Warning);
            match warning {
                Some(warning) if finding.severity == Severity::Error => self.findings[warning] = finding,
                _ => {}
            }
        } else {
            self.findings.push(finding);
        }
    }

    /// Whether further mistakes are only counted: finders need not search for hints then.
    pub(super) fn is_full(&self) -> bool {
        self.findings.len() >= MAX_MISTAKES
    }

    /// How many errors there are so far.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// The name among `known` that `word` was probably meant to be, as a hint. Nothing once the report is full.
    pub(super) fn nearest<'a>(&self, word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
        if self.is_full() { None } else { nearest(word, known) }
    }

    /// All mistakes with their places resolved, by place: the user's file first, then the presets.
    pub(super) fn finish(mut self, sources: &Sources) -> ConfigErrors {
        self.findings.sort_by_key(|finding| finding.place.order());
        let mistakes = self.findings.into_iter().map(|finding| resolve(finding, sources)).collect();
        ConfigErrors { mistakes, omitted: self.omitted }
    }
}

fn resolve(finding: Finding, sources: &Sources) -> Mistake {
    let (line, column) = sources.position(&finding.place);
    Mistake {
        file: sources.name(&finding.place).to_owned(),
        line,
        column,
        severity: finding.severity,
        message: finding.message,
        expected: finding.expected,
        found: finding.found,
        hint: finding.hint,
        excerpt: sources.excerpt(&finding.place),
    }
}

/// ``did you mean `name`?`` for the known name that is nearest to `word`.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    nearest_name(word, known).map(|name| format!("did you mean `{name}`?"))
}

/// The known name that is nearest to `word`, when one is near enough to be a slip.
pub(super) fn nearest_name<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Two slips in a short word already make another word.
    let most = (word.chars().count() / 3).clamp(1, 4);
    let lower = word.to_lowercase();
    known
        .map(|name| (strsim::osa_distance(&lower, &name.to_lowercase()), name))
        .min_by_key(|&(distance, _)| distance)
        .filter(|&(distance, _)| distance <= most)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_a_slip_away() {
        let known = || ["burst", "rate", "concurrency", "payouts.create"].into_iter();
        assert_eq!(nearest("brust", known()).as_deref(), Some("did you mean `burst`?"));
        assert_eq!(nearest("Rate", known()).as_deref(), Some("did you mean `rate`?"));
        assert_eq!(nearest("payout.create", known()).as_deref(), Some("did you mean `payouts.create`?"));
        assert_eq!(nearest("timeout", known()), None);
        assert_eq!(nearest("x", std::iter::empty()), None);
    }

    #[test]
    fn a_full_report_counts_on_and_keeps_errors() {
        let mut report = Report::default();
        for _ in 0..MAX_MISTAKES {
            report.add(Finding::warning(Place::start_of_file(), "w"));
        }
        report.add(Finding::error(Place::start_of_file(), "e"));
        assert_eq!(report.errors(), 1);
        let errors = report.finish(&Sources::new("f", ""));
        assert_eq!((errors.mistakes.len(), errors.omitted), (MAX_MISTAKES, 1));
        assert!(errors.mistakes.iter().any(|mistake| mistake.severity == Severity::Error));
    }

    #[test]
    fn a_mistake_prints_its_place_its_line_and_its_notes() {
        let mut report = Report::default();
        let place = Place { source: super::super::source::SourceId::FILE, span: 8..11 };
        report.add(Finding::error(place, "bad").expected("good").found("evil").hint("be good"));
        let printed = report.finish(&Sources::new("a.toml", "x = 1\r\nyé = 2")).to_string();
        let wanted =
            "a.toml:2:2: error: bad\n    | yé = 2\n    |  ^^\n    expected: good\n    found: evil\n    hint: be good";
        assert_eq!(printed, wanted);
    }
}
