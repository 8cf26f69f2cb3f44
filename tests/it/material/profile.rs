//! Optimized builds get the recorded profile where the compiler is the one that it was recorded with, and no other build does;
//! and what is built is what it was recorded with.

use super::{read, root};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write;
use std::process::Command;

const OPTIMIZED: [&str; 4] = ["--crate-name", "some", "-C", "opt-level=3"];

/// What the wrapper makes of a call of the compiler, which is a script that says its version and its arguments.
fn wrapped(version: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let compiler = folder.path().join("rustc");
    let script = format!("#!/bin/sh\n[ \"$1\" = --version ] && echo '{version}' || printf '%s\\n' \"$@\"\n");
    std::fs::write(folder.path().join("new"), script).unwrap();
    // A file that a child of another test may have inherited for writing cannot be run ("text file busy"); one made by a copy of
    // its own process can.
    let made =
        Command::new("install").arg(folder.path().join("new")).arg(&compiler).args(["-m", "755"]).status().unwrap();
    assert!(made.success());
    let mut command = Command::new(root().join("profile/rustc"));
    command.env_remove("TOLLGATE_PROFILE").env_remove("TOLLGATE_PROFILE_INTO");
    let out = command.arg(compiler).args(arguments).envs(variables.iter().copied()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn recorded_with() -> String {
    read("profile/compiler").trim().to_owned()
}

#[test]
fn an_optimized_build_takes_the_profile() {
    let seen = wrapped(&recorded_with(), &OPTIMIZED, &[]);
    assert_eq!(seen[..4], OPTIMIZED);
    let profile = seen[4].strip_prefix("-Cprofile-use=").unwrap();
    assert!(std::fs::metadata(profile).unwrap().len() > 100_000, "{profile}");
    // Code that has changed since the profile was recorded is nothing to warn of.
    assert_eq!(seen[5..], ["-Cllvm-args=-no-pgo-warn-mismatch"]);
}

#[test]
fn every_other_call_goes_through_as_it_came() {
    let own = recorded_with();
    let plain = ["--crate-name", "some", "-C", "opt-level=0", "a b", ""];
    assert_eq!(wrapped(&own, &plain, &[]), plain);
    assert_eq!(wrapped(&own, &OPTIMIZED, &[("TOLLGATE_PROFILE", "off")]), OPTIMIZED);
    // The names in a profile are those of one compiler, and an older one cannot even read it.
    assert_eq!(wrapped("rustc 1.91.0 (f8297e351 2025-10-28)", &OPTIMIZED, &[]), OPTIMIZED);
    // The compiler takes one of these only.
    for flag in ["-Cinstrument-coverage", "-Cprofile-generate=there", "-Cprofile-use=theirs"] {
        let with: Vec<&str> = OPTIMIZED.into_iter().chain([flag]).collect();
        assert_eq!(wrapped(&own, &with, &[]), with);
        assert_eq!(wrapped(&own, &with, &[("TOLLGATE_PROFILE_INTO", "there")]), with);
    }
}

#[test]
fn a_profile_is_recorded_by_optimized_builds_of_any_compiler() {
    let into = [("TOLLGATE_PROFILE_INTO", "/some where")];
    let seen = wrapped("rustc 2.0.0", &OPTIMIZED, &into);
    assert_eq!(seen[..4], OPTIMIZED);
    assert_eq!(seen[4..], ["-Cprofile-generate=/some where"]);
    assert_eq!(wrapped("rustc 2.0.0", &["--version"], &into), ["rustc 2.0.0"]);
}

#[test]
fn cargo_and_the_image_use_it() {
    let config: toml::Table = read(".cargo/config.toml").parse().unwrap();
    assert_eq!(config["build"]["rustc-wrapper"].as_str(), Some("profile/rustc"));
    // "rustc 1.95.0 (...)" is what `rust:1.95-bookworm` has.
    let version = recorded_with().split(' ').nth(1).unwrap().rsplit_once('.').unwrap().0.to_owned();
    assert!(read("Dockerfile").contains(&format!("FROM rust:{version}-bookworm AS builder")), "{version}");
    let context = read(".dockerignore");
    for needed in ["!.cargo", "!profile"] {
        assert!(context.lines().any(|line| line == needed), "{needed}");
    }
}

fn output(program: impl AsRef<OsStr>, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    let out = command.args(arguments).current_dir(root()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// What the profile was recorded with and is not built any more, and what is built without having been recorded: of two answers of
/// `profile/built-of`. Nothing where they are of different hosts, whose packages are others.
fn misfit(recorded: &str, built: &str) -> Option<String> {
    let host = |text: &str| text.lines().next().filter(|line| line.starts_with("host: ")).unwrap().to_owned();
    if host(recorded) != host(built) {
        eprintln!("not compared: the profile was recorded on another {}", host(recorded));
        return None;
    }
    let [recorded, built]: [BTreeSet<&str>; 2] = [recorded, built].map(|text| text.lines().collect());
    let mut told = String::new();
    for (what, one, other) in [("was recorded with", &recorded, &built), ("the build has", &built, &recorded)] {
        for line in one.difference(other) {
            writeln!(told, "  {what:17} {line}").unwrap();
        }
    }
    (!told.is_empty()).then_some(told)
}

#[test]
fn the_profile_was_recorded_with_what_is_built() {
    let built = output(root().join("profile/built-of"), &[]);
    if let Some(misfit) = misfit(&read("profile/recorded-for"), &built) {
        panic!(
            "the profile fits another build, so functions lose their part of it (docs/decisions/0118): run scripts/profile\n{misfit}"
        );
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let recorded = "host: a\nprofile.release: lto = \"fat\"\nbytes v1.12.2 std\nhttp v1.5.0 default,std\n";
    let change = |from, to| misfit(recorded, &recorded.replace(from, to));
    assert_eq!(change("", ""), None);
    let bumped = "  was recorded with bytes v1.12.2 std\n  the build has     bytes v1.12.3 std\n";
    assert_eq!(change("12.2", "12.3").unwrap(), bumped);
    let feature = "  was recorded with bytes v1.12.2 std\n  the build has     bytes v1.12.2 serde,std\n";
    assert_eq!(change("12.2 std", "12.2 serde,std").unwrap(), feature);
    assert_eq!(change("bytes v1.12.2 std\n", "").unwrap(), "  was recorded with bytes v1.12.2 std\n");
    assert_eq!(change("http", "h2 v0.4.20\nhttp").unwrap(), "  the build has     h2 v0.4.20\n");
    assert!(change("fat", "thin").unwrap().ends_with("  the build has     profile.release: lto = \"thin\"\n"));
    assert_eq!(change("host: a\n", "host: b\nlibc v1.0.0\n"), None);
}

#[test]
fn the_profile_can_be_read_and_has_what_every_request_goes_through() {
    let path = root().join("profile/tollgate.profdata");
    let profile = std::fs::read(&path).unwrap();
    assert!(profile.starts_with(b"\xfflprofi\x81"));
    // As crates are in names, which stand in it as they are.
    for name in ["8tollgate", "4http", "5tokio", "6rustls"] {
        assert!(memchr::memmem::find(&profile, name.as_bytes()).is_some(), "{name}");
    }
    // The compiler's own tool, where it is installed, reads all of it; another compiler's may be too old.
    let libraries = output("rustc", &["--print", "target-libdir"]);
    let tool = std::path::Path::new(libraries.trim()).with_file_name("bin").join("llvm-profdata");
    if output("rustc", &["--version"]).trim() == recorded_with() && tool.exists() {
        let told = output(tool, &["show", path.to_str().unwrap()]);
        let functions = told.lines().find_map(|line| line.strip_prefix("Total functions: ")).unwrap();
        assert!(functions.parse::<u32>().unwrap() > 1_000, "{told}");
    }
}
