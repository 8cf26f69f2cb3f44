//! Texts that configuration comes from, and places in them.

use super::error::Excerpt;
use std::ops::Range;

/// The widest excerpt of a source line, in characters: a line of a megabyte is not printed whole.
pub const MAX_EXCERPT: usize = 120;

/// Which text: the user's file, or a preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SourceId(usize);

impl SourceId {
    /// The user's own file.
    pub(super) const FILE: SourceId = SourceId(0);
}

/// A place in one of the texts, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) source: SourceId,
    pub(super) span: Range<usize>,
}

impl Place {
    /// For what is missing altogether.
    pub(super) fn start_of_file() -> Place {
        Place { source: SourceId::FILE, span: 0..0 }
    }

    /// Whether the two places have a byte in common, or meet.
    pub(super) fn touches(&self, other: &Place) -> bool {
        self.source == other.source && self.span.start <= other.span.end && other.span.start <= self.span.end
    }

    pub(super) fn order(&self) -> (SourceId, usize, usize) {
        (self.source, self.span.start, self.span.end)
    }
}

/// All texts of one configuration.
#[derive(Debug)]
pub(super) struct Sources {
    texts: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    name: String,
    text: String,
    /// Where each line starts.
    lines: Vec<usize>,
}

impl Sources {
    /// The user's file alone.
    pub(super) fn new(name: &str, text: &str) -> Sources {
        let mut sources = Sources { texts: Vec::new() };
        sources.add(name, text);
        sources
    }

    pub(super) fn add(&mut self, name: &str, text: &str) -> SourceId {
        let starts = memchr::memchr_iter(b'\n', text.as_bytes()).map(|newline| newline + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        self.texts.push(Source { name: name.to_owned(), text: text.to_owned(), lines });
        SourceId(self.texts.len() - 1)
    }

    pub(super) fn name(&self, place: &Place) -> &str {
        self.texts.get(place.source.0).map_or("?", |source| &source.name)
    }

    /// Line and column, both from 1; the column in characters.
    pub(super) fn position(&self, place: &Place) -> (usize, usize) {
        let Some((source, line, start)) = self.line_of(place) else { return (1, 1) };
        let before = source.text.get(start..source.clamp(place.span.start)).unwrap_or_default();
        (line + 1, before.chars().count() + 1)
    }

    /// The line with its place marked; nothing for an empty line.
    pub(super) fn excerpt(&self, place: &Place) -> Option<Excerpt> {
        let (source, line, start) = self.line_of(place)?;
        let end = source.lines.get(line + 1).map_or(source.text.len(), |next| next - 1);
        let whole = source.text.get(start..end)?.trim_end_matches('\r');
        let from = source.clamp(place.span.start).clamp(start, start + whole.len());
        let to = source.clamp(place.span.end).clamp(from, start + whole.len());
        let indent = source.text.get(start..from)?.chars().count();
        let width = source.text.get(from..to)?.chars().count();
        // A window of the line that holds the place.
        let skipped = if indent + width > MAX_EXCERPT { indent.saturating_sub(MAX_EXCERPT / 3) } else { 0 };
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let text: String = whole.chars().skip(skipped).take(MAX_EXCERPT).map(printable).collect();
        let room = MAX_EXCERPT.saturating_sub(indent - skipped).max(1);
        (!text.trim().is_empty()).then(|| Excerpt { text, indent: indent - skipped, width: width.clamp(1, room) })
    }

    fn line_of(&self, place: &Place) -> Option<(&Source, usize, usize)> {
        let source = self.texts.get(place.source.0)?;
        let at = source.clamp(place.span.start);
        let line = source.lines.partition_point(|&start| start <= at).checked_sub(1)?;
        Some((source, line, *source.lines.get(line)?))
    }
}

impl Source {
    /// The offset moved back onto a character of the text.
    fn clamp(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        (0..=end).rev().find(|&at| self.text.is_char_boundary(at)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, span: Range<usize>) -> ((usize, usize), Option<Excerpt>) {
        let place = Place { source: SourceId::FILE, span };
        let sources = Sources::new("f", text);
        (sources.position(&place), sources.excerpt(&place))
    }

    #[test]
    fn columns_count_characters_and_lines_end_either_way() {
        assert_eq!(at("a = 1\nβγ = 2\n", 11..12).0, (2, 4));
        assert_eq!(at("a = 1\r\nb = 2", 7..8).0, (2, 1));
        assert_eq!(at("", 0..0), ((1, 1), None));
        assert_eq!(at("a", 90..99).0, (1, 2));
        assert_eq!(at("é", 1..2).0, (1, 1));
    }

    #[test]
    fn a_long_line_is_shown_in_part_with_its_caret_inside() {
        let text = format!("key = \"{}\" # {}", "x".repeat(5_000), "y".repeat(5_000));
        for span in [0..3, 6..5_007, 6_000..6_001, 9_999..10_000] {
            let excerpt = at(&text, span).1.unwrap();
            assert!(excerpt.text.chars().count() <= MAX_EXCERPT);
            assert!(excerpt.indent + excerpt.width <= MAX_EXCERPT, "{excerpt:?}");
        }
    }
}
