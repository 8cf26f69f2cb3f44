//! The sources as text. It relies on `cargo fmt`: a block ends where a closing brace stands as deep as its first line.

use std::fs;
use std::path::Path;

/// One file of `src`.
pub(super) struct File {
    /// Relative to `src`, with `/`.
    pub(super) name: String,
    pub(super) text: String,
}

/// A line that is not a comment.
pub(super) struct Line<'a> {
    pub(super) number: usize,
    pub(super) text: &'a str,
    /// Inside `#[cfg(test)]`, or in a file of tests.
    pub(super) is_test: bool,
    /// How many inline modules it stands in.
    depth: usize,
}

/// A function's place and length.
pub(super) struct Function {
    pub(super) line: usize,
    pub(super) lines: usize,
}

/// All files of `src`.
pub(super) fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                files.push(File { name, text: fs::read_to_string(path).unwrap() });
            }
        }
    }
    files
}

impl File {
    fn modules(&self) -> Vec<&str> {
        self.name.trim_end_matches(".rs").split('/').filter(|&part| part != "mod").collect()
    }

    /// The top-level module that the file belongs to.
    pub(super) fn module(&self) -> &str {
        self.name.split(['/', '.']).next().unwrap_or_default()
    }

    /// All lines of code.
    pub(super) fn code(&self) -> Vec<Line<'_>> {
        let test_file = self.modules().contains(&"tests");
        // Inline modules around the line: how deep each is indented, and whether it is a test.
        let mut around: Vec<(usize, bool)> = Vec::new();
        let (mut code, mut after_cfg_test) = (Vec::new(), false);
        for (number, text) in (1..).zip(self.text.lines()) {
            let trimmed = text.trim_start();
            if trimmed.starts_with("//") {
                continue;
            }
            let indent = text.len() - trimmed.len();
            if trimmed == "}" && around.last().is_some_and(|module| module.0 == indent) {
                around.pop();
            }
            let is_test = test_file || around.iter().any(|module| module.1);
            code.push(Line { number, text: without_comment(trimmed), is_test, depth: around.len() });
            if trimmed.ends_with('{') && words(trimmed).any(|word| word == "mod") {
                around.push((indent, after_cfg_test));
            }
            after_cfg_test = trimmed == "#[cfg(test)]";
        }
        code
    }

    /// The top-level modules that the file names, with the lines where it does.
    pub(super) fn imports(&self) -> Vec<(usize, String)> {
        let depth = match self.name.as_str() {
            "lib.rs" | "main.rs" => 0,
            _ => self.modules().len(),
        };
        let mut imports = Vec::new();
        for line in self.code() {
            let at_root = line.text.match_indices("crate::").map(|found| found.0 + "crate::".len());
            let climb = "super::".repeat(depth + line.depth);
            let climbed = line.text.match_indices(&climb).map(|found| found.0 + climb.len()).filter(|_| depth > 0);
            for start in at_root.chain(climbed) {
                let named = modules_at(&line.text[start..]);
                imports.extend(named.into_iter().map(|module| (line.number, module)));
            }
        }
        imports
    }

    /// All functions with a body of several lines.
    pub(super) fn functions(&self) -> Vec<Function> {
        let lines: Vec<&str> = self.text.lines().collect();
        (0..lines.len())
            .filter_map(|start| {
                let rest = &lines[start..];
                let trimmed = rest[0].trim_start();
                if !starts_item(trimmed) || !trimmed.contains("fn ") {
                    return None;
                }
                let signature_end = rest.iter().find(|line| line.ends_with(['{', '}', ';']))?;
                let indent = &rest[0][..rest[0].len() - trimmed.len()];
                let last = rest.iter().position(|line| line.strip_prefix(indent) == Some("}"))?;
                signature_end.ends_with('{').then_some(Function { line: start + 1, lines: last + 1 })
            })
            .collect()
    }
}

fn starts_item(trimmed: &str) -> bool {
    words(trimmed).next().is_some_and(|word| ["fn", "pub", "const", "async"].contains(&word))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| !char.is_alphanumeric() && char != '_').filter(|word| !word.is_empty())
}

fn without_comment(text: &str) -> &str {
    text.find(" // ").map_or(text, |at| &text[..at])
}

/// The modules named right after `crate::`: one, or a list in braces. What is not a module's name (a type, a macro, `*`) is
/// an import of the crate's root.
fn modules_at(rest: &str) -> Vec<String> {
    let listed = rest.strip_prefix('{').map_or_else(
        || vec![rest],
        |list| list.split('}').next().unwrap_or_default().split(',').map(str::trim).collect(),
    );
    listed
        .into_iter()
        .map(|item| item.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect())
        .filter(|name: &String| name.starts_with(|first: char| first.is_lowercase()))
        .collect()
}
