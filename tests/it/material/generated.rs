//! Files that are made from the program.

use super::{files_below, read, root};
use clap::CommandFactory;
use std::collections::BTreeMap;
use std::fs;
use tollgate::cli::Cli;

/// The file says `expected`; or is made to, where that was asked for.
fn held(name: &str, expected: &str) {
    if std::env::var_os("TOLLGATE_WRITE").is_some() {
        fs::create_dir_all(root().join(name).parent().unwrap()).unwrap();
        fs::write(root().join(name), expected).unwrap();
    }
    let hint = "TOLLGATE_WRITE=1 cargo test --test it material";
    assert!(read(name) == expected, "{name} is not what the program makes; write it anew: {hint}");
}

#[test]
fn the_schema_is_the_programs() {
    held("config/tollgate.schema.json", &format!("{:#}\n", tollgate::config::json_schema()));
}

/// The page of each command, by its file's name.
fn pages() -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), folder.path()).unwrap();
    let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| (format!("docs/man/{}", path.file_name().unwrap().display()), fs::read_to_string(path).unwrap()))
        .collect()
}

#[test]
fn the_man_pages_are_the_programs() {
    let pages = pages();
    for (name, page) in &pages {
        held(name, page);
    }
    assert_eq!(files_below("docs/man"), pages.keys().cloned().collect::<Vec<_>>());
    let commands = ["tollgate", "tollgate-run", "tollgate-mock", "tollgate-keys-new", "tollgate-replay"];
    assert!(commands.iter().all(|command| pages.contains_key(&format!("docs/man/{command}.1"))), "{pages:?}");
}

#[test]
fn completions_know_every_command() {
    use clap_complete::Shell;
    let names: Vec<String> = Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    assert!(names.len() > 8);
    for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "tollgate", &mut script);
        let script = String::from_utf8(script).unwrap();
        let missing: Vec<&String> = names.iter().filter(|name| !script.contains(*name)).collect();
        assert!(missing.is_empty() && script.contains("lock-timeout-rate"), "{shell}: {missing:?}");
    }
}
