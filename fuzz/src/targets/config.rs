//! The configuration: any text is good, or wrong at places that it has.

use std::path::Path;
use tollgate::config::{self, Config, ConfigErrors, MAX_EXCERPT, MAX_MISTAKES, Mistake, Severity};
use tollgate::engine::Seed;

/// Longer inputs are slow and find nothing more.
const MAX_INPUT: usize = 4096;
/// Of inputs that may name a preset, one in so many is tried: its 648 operations take as long as a hundred other inputs, and are the
/// same every time.
const SHARE_OF_PRESETS: usize = 32;

/// A configuration file.
pub(super) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.len() > MAX_INPUT || (text.contains("stripe") && !sum(data).is_multiple_of(SHARE_OF_PRESETS)) {
        return;
    }
    match (parse(text), parse(text)) {
        (Ok(once), Ok(again)) => {
            assert_eq!(once.warnings, again.warnings);
            assert_eq!(endpoint_names(&once), endpoint_names(&again));
            assert!(once.warnings.iter().all(|mistake| mistake.severity == Severity::Warning));
            once.warnings.iter().for_each(|mistake| assert_placed(mistake, text));
            assert!(!once.upstreams.is_empty() && !once.routes.is_empty());
        }
        (Err(once), Err(again)) => {
            assert_eq!(once, again, "reading twice gives two answers");
            assert!((1..=MAX_MISTAKES).contains(&once.mistakes.len()));
            assert!(once.mistakes.iter().any(|mistake| mistake.severity == Severity::Error), "{once}");
            once.mistakes.iter().for_each(|mistake| assert_placed(mistake, text));
        }
        (once, again) => panic!("good once and bad once: {:?} {:?}", once.is_ok(), again.is_ok()),
    }
}

fn sum(data: &[u8]) -> usize {
    data.iter().map(|&byte| usize::from(byte)).sum()
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    config::parse(text, Path::new("fuzz.toml"), &Seed([1, 2]))
}

fn endpoint_names(config: &Config) -> Vec<&str> {
    config.endpoints.iter().map(|endpoint| &*endpoint.name).collect()
}

fn assert_placed(mistake: &Mistake, text: &str) {
    assert!(!mistake.message.is_empty());
    let shown = mistake.to_string();
    assert!(shown.contains(&mistake.message));
    if mistake.file != "fuzz.toml" {
        assert!(mistake.file.starts_with("preset "), "{shown}");
        return;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line = text.split('\n').nth(mistake.line.checked_sub(1).expect("a line")).unwrap_or_else(|| panic!("{shown}"));
    // One behind the last character is the end of the line.
    assert!((1..=line.chars().count() + 1).contains(&mistake.column), "{shown}");
    if let Some(excerpt) = &mistake.excerpt {
        let width = excerpt.text.chars().count();
        assert!(width <= MAX_EXCERPT && excerpt.width >= 1, "{shown}");
        assert!(excerpt.indent <= width && !excerpt.text.contains(char::is_control), "{shown}");
    }
}
