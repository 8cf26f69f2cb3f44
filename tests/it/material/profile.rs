//! Optimized builds get the recorded profile where the compiler is the one that it was recorded with, and no other build does.

use super::{read, root};
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
