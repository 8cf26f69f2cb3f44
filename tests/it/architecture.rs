//! The house rules that no lint knows, held over every file of `src`.
//!
//! Modules stand on floors and import lower floors only. A new top-level module must be given its place here.

mod source;

use source::{File, files};

/// A top-level module's place.
struct Place {
    module: &'static str,
    floor: u8,
    /// Modules of the same floor that it may import. They do not import it.
    beside: &'static [&'static str],
}

const fn place(module: &'static str, floor: u8, beside: &'static [&'static str]) -> Place {
    Place { module, floor, beside }
}

/// From the ground up; see `ARCHITECTURE.md`.
const BUILDING: &[Place] = &[
    place("engine", 0, &[]),
    place("swar", 0, &[]),
    place("budget", 1, &[]),
    place("clock", 1, &[]),
    place("metrics", 1, &[]),
    place("fields", 1, &[]),
    place("files", 1, &[]),
    place("path", 1, &[]),
    place("body", 1, &[]),
    place("wire_fault", 1, &[]),
    place("frames", 1, &[]),
    place("endpoints", 1, &["path"]),
    place("config", 1, &["fields", "path", "endpoints", "body"]),
    place("board", 2, &[]),
    place("keys", 2, &[]),
    place("classification", 2, &["keys"]),
    place("locks", 2, &[]),
    place("state", 2, &[]),
    place("store", 2, &[]),
    place("tls", 2, &[]),
    place("upstream", 2, &["tls"]),
    place("explain", 3, &[]),
    place("gateway", 3, &["explain"]),
    place("replay", 3, &[]),
    place("server", 4, &[]),
    place("mock", 4, &["server"]),
    place("admin", 4, &["server"]),
    place("process", 4, &["server", "admin"]),
    place("cli", 5, &[]),
    place("lib", 6, &[]),
    place("main", 6, &["lib"]),
];

const LONGEST_FUNCTION: usize = 70;
const LONGEST_FILE: usize = 500;

fn find(module: &str) -> Option<&'static Place> {
    BUILDING.iter().find(|place| place.module == module)
}

fn floor_violations(file: &File) -> Vec<String> {
    let Some(own) = find(file.module()) else {
        return vec![format!("{}: give the module {:?} its floor in BUILDING", file.name, file.module())];
    };
    let allowed = |module: &str| {
        module == own.module
            || find(module).is_some_and(|other| other.floor < own.floor || own.beside.contains(&other.module))
    };
    file.imports()
        .into_iter()
        .filter(|(_, module)| !allowed(module))
        .map(|(line, module)| format!("{}:{line}: {} (floor {}) imports {module}", file.name, own.module, own.floor))
        .collect()
}

fn length_violations(file: &File) -> Vec<String> {
    let mut found: Vec<String> = file
        .functions()
        .into_iter()
        .filter(|function| function.lines > LONGEST_FUNCTION)
        .map(|function| format!("{}:{}: {} lines in one function", file.name, function.line, function.lines))
        .collect();
    let lines = file.text.lines().count();
    if lines > LONGEST_FILE {
        found.push(format!("{}: {lines} lines in one file", file.name));
    }
    found
}

fn word_violations(file: &File) -> Vec<String> {
    const ALWAYS: [&str; 3] = ["unsafe {", "unsafe fn", "unsafe impl"];
    const CLOCKS: [&str; 3] = ["Instant::now", "SystemTime::now", "Timestamp::now"];
    const OUTSIDE_TESTS: [&str; 6] = [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "dbg!("];
    let mut found = Vec::new();
    for line in file.code() {
        let mut forbid = |words: &[&str]| {
            for word in words.iter().filter(|word| line.text.contains(**word)) {
                found.push(format!("{}:{}: {word}", file.name, line.number));
            }
        };
        forbid(&ALWAYS);
        if file.module() != "clock" {
            forbid(&CLOCKS);
        }
        if !line.is_test {
            forbid(&OUTSIDE_TESTS);
        }
    }
    found
}

fn assert_none(check: impl Fn(&File) -> Vec<String>) {
    let files = files();
    assert!(files.len() > 10, "the sources are there");
    let found: Vec<String> = files.iter().flat_map(check).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_module_imports_lower_floors_only() {
    assert_none(floor_violations);
}

#[test]
fn functions_and_files_are_short() {
    assert_none(length_violations);
}

#[test]
fn words_that_have_no_place_here() {
    assert_none(word_violations);
}

#[test]
fn the_building_has_no_cycles() {
    for (at, own) in BUILDING.iter().enumerate() {
        for beside in own.beside {
            let other = BUILDING.iter().position(|place| place.module == *beside).unwrap();
            assert!(other < at && BUILDING[other].floor == own.floor, "{} beside {beside}", own.module);
        }
    }
}

#[test]
fn the_checks_find_what_they_look_for() {
    let file = |name: &str, text: &str| File { name: name.to_owned(), text: text.to_owned() };
    let floors = |name, text| floor_violations(&file(name, text)).len();
    assert_eq!(floors("engine/time.rs", "use crate::clock::X;\n"), 1);
    assert_eq!(floors("engine/time.rs", "use super::super::config;\n"), 1);
    assert_eq!(floors("engine.rs", "use super::config;\n"), 1);
    assert_eq!(floors("engine.rs", "mod tests {\n    use super::*;\n    use super::super::config;\n}\n"), 1);
    assert_eq!(floors("engine.rs", "fn f() -> crate::keys::Key {\n}\n"), 1);
    assert_eq!(floors("engine.rs", "// see crate::keys\nuse crate::engine::Nanos;\n"), 0);
    assert_eq!(floors("path.rs", "use crate::endpoints::Endpoints;\n"), 1);
    assert_eq!(floors("endpoints.rs", "use crate::path;\n"), 0);
    assert_eq!(floors("gateway/admit.rs", "use crate::{engine, server};\n"), 1);
    assert_eq!(floors("unheard_of.rs", ""), 1);

    let long = format!("fn long() {{\n{}}}\n", "    work();\n".repeat(LONGEST_FUNCTION));
    assert_eq!(length_violations(&file("engine.rs", &long)).len(), 1);
    assert_eq!(length_violations(&file("engine.rs", &"//\n".repeat(LONGEST_FILE + 1))).len(), 1);

    let words = |name, text| word_violations(&file(name, text)).len();
    assert_eq!(words("engine.rs", "fn f() {\n    x.unwrap();\n}\n"), 1);
    assert_eq!(words("engine.rs", "#[cfg(test)]\nmod tests {\n    x.unwrap();\n}\nfn f() {\n    y.unwrap();\n}\n"), 1);
    assert_eq!(words("engine/tests.rs", "fn f() {\n    x.unwrap();\n}\n"), 0);
    assert_eq!(words("engine.rs", "let now = Instant::now();\n"), 1);
    assert_eq!(words("clock.rs", "let now = Instant::now();\n"), 0);
}
