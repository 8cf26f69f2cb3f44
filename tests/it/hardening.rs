//! `docs/hardening.md` says which test shows each thing: every test that it names must be there, and every row of the catalogue must
//! have its line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rows of the catalogue's groups H1, H2, S, A, L, U, C, P and T.
const ROWS: [std::ops::RangeInclusive<u32>; 2] = [1..=127, 154..=173];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/hardening.md")).unwrap()
}

/// Every `path::name` in code marks.
fn named(text: &str) -> Vec<(&str, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect()
}

fn place(path: &str) -> PathBuf {
    match path {
        _ if path.starts_with("src/") => root().join(path),
        _ if path.ends_with(".py") => root().join("tests/clients").join(path),
        _ => root().join("tests/it").join(path),
    }
}

/// Whether the text of a file has a test of this name, and not only a function.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(nth, line)| {
        let is_mark = |line: &&&str| ["#[test]", "#[tokio::test"].iter().any(|mark| line.starts_with(mark));
        let is_marked = || lines[..nth].iter().rev().take(6).find(is_mark).is_some();
        line.starts_with(&format!("def {name}(")) && name.starts_with("test_")
            || line.trim_start_matches("async ").starts_with(&format!("fn {name}(")) && is_marked()
    })
}

#[test]
fn every_test_that_is_named_is_there() {
    let (page, mut texts) = (page(), BTreeMap::new());
    let named = named(&page);
    assert!(named.len() > 150, "{} names: is the page still read as it is written?", named.len());
    let missing: Vec<String> = named
        .into_iter()
        .filter(|(path, name)| {
            let text = texts.entry(*path).or_insert_with(|| fs::read_to_string(place(path)).unwrap_or_default());
            !has_test(text, name)
        })
        .map(|(path, name)| format!("{path}::{name}"))
        .collect();
    assert!(missing.is_empty(), "docs/hardening.md names tests that are not there:\n{}", missing.join("\n"));
}

/// The rows that the first cell of a table's line names: `7`, `1–6`.
fn rows(line: &str) -> Option<std::ops::RangeInclusive<u32>> {
    let cell = line.strip_prefix("| ")?.split(" |").next()?;
    let (first, last) = cell.split_once('–').unwrap_or((cell, cell));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

#[test]
fn every_row_has_its_line() {
    let page = page();
    let there: BTreeSet<u32> = page.lines().filter_map(rows).flatten().collect();
    let missing: Vec<u32> = ROWS.into_iter().flatten().filter(|row| !there.contains(row)).collect();
    assert!(missing.is_empty(), "docs/hardening.md says nothing of {missing:?}");
}

#[test]
fn the_checks_find_what_they_look_for() {
    assert_eq!(named("a `b.rs::c`, `d` `e.py::f`"), [("b.rs", "c"), ("e.py", "f")]);
    assert_eq!(
        (rows("| 1–6 | x |"), rows("| 7 | x |"), rows("| – | x |"), rows("7")),
        (Some(1..=6), Some(7..=7), None, None)
    );
    assert!(has_test("#[tokio::test(start_paused = true)]\nasync fn a() {", "a"));
    assert!(has_test("#[test]\nfn a() {", "a") && has_test("    def test_a(self):", "test_a"));
    assert!(!has_test("fn a() {", "a") && !has_test("#[test]\nfn ab() {", "a") && !has_test("def a():", "a"));
}
