//! FLOOR 5: the commands.
//!
//! Every command returns an exit code: 0 done, 1 warnings where they were asked to matter, 2 not done. What a program reads
//! goes to standard output, what people read to standard error.

pub mod check;
mod demo;
pub mod explain;
mod health;
pub mod keys;
mod log;
pub mod mock;
mod replay;
mod run;
pub mod schema;

use crate::config::KeysStore;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::io::Write;
use std::process::ExitCode;

/// An HTTP reverse-proxy gateway that enforces Stripe-style API limits.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole thing on one machine with no file: a mock API, the gateway in front of it, a key, a line to try.
    Demo(demo::DemoArgs),
    /// Run the gateway.
    Run(run::RunArgs),
    /// Check a configuration: every mistake at once, with file, line, column and a hint.
    Check(check::Check),
    /// Explain what a request would meet: its classification and every limit, in order.
    Explain(explain::Explain),
    /// Make, list and revoke API keys.
    Keys(keys::KeysArgs),
    /// Replay recorded traffic: what would have been refused, by which limit, for which account, when.
    Replay(replay::ReplayArgs),
    /// Run a stand-in upstream with Stripe-shaped answers.
    Mock(mock::MockArgs),
    /// Ask a running gateway whether it is healthy; for container health checks.
    Health(health::HealthArgs),
    /// Print the JSON Schema of the configuration.
    Schema(schema::Schema),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// Runs what the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    match run_command(Cli::parse().command) {
        Ok(code) => code,
        // Whoever read the output has had enough, as `head` has.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(std::io::stderr(), "tollgate: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run_command(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Check(args) => Ok(args.run(&mut std::io::stderr().lock())?.into()),
        Command::Explain(args) => {
            args.run(&mut anstream::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Keys(args) => {
            let now = crate::clock::Time::system().wall();
            keys::run(&args, now, keys_of, &mut std::io::stdout().lock(), &mut std::io::stderr().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Replay(args) => replay::run(&args),
        Command::Mock(args) => mock::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Health(args) => health::run(&args),
        Command::Schema(args) => {
            args.run(&mut std::io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            // It panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tollgate", &mut script);
            std::io::stdout().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Where a configuration has its keys.
fn keys_of(config: &std::path::Path) -> anyhow::Result<keys::Place> {
    let loaded = crate::config::load(config, &crate::gateway::ids::random_seed())?;
    if let (KeysStore::Redis, Some(settings)) = (loaded.auth.store, loaded.store.redis()) {
        return Ok(keys::Place::Store(Box::new(settings.clone())));
    }
    let missing = || anyhow::anyhow!("{} names no [auth] keys_file", config.display());
    let file = loaded.auth.keys_file.ok_or_else(missing)?;
    Ok(keys::Place::File(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
