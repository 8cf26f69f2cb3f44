//! `tollgate keys new`, `list`, `revoke`.
//!
//! The secret of a new key goes to standard output, once and alone, so that it can be piped; everything meant for people goes
//! to standard error.

use crate::engine::Mode;
use crate::keys::edit::NewKey;
use crate::keys::{self, Allow, ConnectedAccounts, KeyKind, KeyState, Principal};
pub use place::Place;

use anyhow::{Context as _, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Arguments of `tollgate keys`.
#[derive(Args, Clone, Debug)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// Make a key. Its secret is printed once; the file keeps its hash
    New(NewArgs),
    /// Show all keys; no secret is known
    List(ListArgs),
    /// Revoke a key for good
    Revoke(RevokeArgs),
}

/// Where the keys are.
#[derive(Args, Clone, Debug)]
struct FileArgs {
    /// The keys file
    #[arg(long, value_name = "FILE", default_value = "keys.toml", conflicts_with = "config")]
    file: PathBuf,
    /// Take the keys file, or the Redis, that this configuration names under `[auth]`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
struct NewArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The account that the key belongs to
    #[arg(long, value_name = "ACCOUNT")]
    account: String,
    /// Live or test
    #[arg(long, default_value = "live", value_parser = mode_parser())]
    mode: Mode,
    /// What sort of key
    #[arg(long, default_value = "secret", value_parser = kind_parser())]
    kind: KeyKind,
    /// An endpoint the key may use, by name or glob ("payouts.*"); may be given again
    #[arg(long, value_name = "GLOB")]
    allow: Vec<String>,
    /// An account the key may act for, or '*' for any; may be given again
    #[arg(long, value_name = "ACCOUNT", value_delimiter = ',')]
    connected_accounts: Vec<String>,
    /// When the key ends, such as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,
    /// The key's id, by which logs name it; made up if left out
    #[arg(long)]
    id: Option<String>,
}

#[derive(Args, Clone, Debug)]
struct ListArgs {
    #[command(flatten)]
    file: FileArgs,
    /// One JSON array instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
struct RevokeArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The key's id
    id: String,
}

fn mode_parser() -> impl TypedValueParser<Value = Mode> {
    PossibleValuesParser::new(Mode::ALL.map(Mode::as_str))
        .map(|word| if word == Mode::Test.as_str() { Mode::Test } else { Mode::Live })
}

fn kind_parser() -> impl TypedValueParser<Value = KeyKind> {
    PossibleValuesParser::new(KeyKind::ALL.map(KeyKind::as_str))
        .map(|word| KeyKind::ALL.into_iter().find(|kind| kind.as_str() == word).unwrap_or(KeyKind::Restricted))
}

impl FileArgs {
    fn resolve(&self, from_config: impl FnOnce(&Path) -> anyhow::Result<Place>) -> anyhow::Result<Place> {
        match &self.config {
            Some(config) => from_config(config),
            None => Ok(Place::File(self.file.clone())),
        }
    }
}

/// Runs the command at `now`. `from_config` finds where a configuration has its keys. `output` gets what a program reads,
/// `notes` what people do.
///
/// # Errors
/// Why it was not done, in words for people.
pub fn run(
    args: &KeysArgs,
    now: Timestamp,
    from_config: impl FnOnce(&Path) -> anyhow::Result<Place>,
    output: &mut impl Write,
    notes: &mut impl Write,
) -> anyhow::Result<()> {
    match &args.command {
        Command::New(args) => new(args, &args.file.resolve(from_config)?, now, output, notes),
        Command::List(args) => list(args, &args.file.resolve(from_config)?, now, output, notes),
        Command::Revoke(args) => revoke(args, &args.file.resolve(from_config)?, notes),
    }
}

fn new(
    args: &NewArgs,
    place: &Place,
    now: Timestamp,
    output: &mut impl Write,
    notes: &mut impl Write,
) -> anyhow::Result<()> {
    if args.kind != KeyKind::Secret && args.allow.is_empty() {
        bail!("a {} key may do only what --allow says; give at least one endpoint or glob", args.kind.as_str());
    }
    if args.connected_accounts.len() > 1 && args.connected_accounts.iter().any(|account| account == "*") {
        bail!("--connected-accounts '*' stands for any account; give it alone");
    }
    if args.expires_at.is_some_and(|end| end <= now) {
        bail!("--expires-at lies in the past");
    }
    let secret = keys::generate(args.kind, args.mode)?;
    let id = match &args.id {
        Some(id) => id.clone(),
        None => keys::new_id()?,
    };
    let key = NewKey {
        id: &id,
        digest: secret.digest(),
        account: &args.account,
        mode: args.mode,
        kind: args.kind,
        allow: &args.allow,
        connected_accounts: &args.connected_accounts,
        expires_at: args.expires_at,
        created_at: now,
    };
    place.add(&key).with_context(|| format!("{place}: no key was made"))?;
    // Only once the place holds its hash: a secret that was shown works.
    writeln!(output, "{}", secret.expose())
        .and_then(|()| output.flush())
        .with_context(|| format!("the secret could not be printed; revoke the key {id} and make another"))?;
    writeln!(notes, "Made the {} {} key {id} of {}.", args.mode.as_str(), args.kind.as_str(), args.account)?;
    writeln!(notes, "Its secret is shown this once; {place} keeps its hash only.")?;
    Ok(())
}

fn revoke(args: &RevokeArgs, place: &Place, notes: &mut impl Write) -> anyhow::Result<()> {
    let was_good = place.revoke(&args.id).with_context(|| format!("{place}: nothing was revoked"))?;
    if was_good {
        writeln!(notes, "Revoked {}. {}", args.id, place.when_seen())?;
    } else {
        writeln!(notes, "{} had been revoked already.", args.id)?;
    }
    Ok(())
}

fn list(
    args: &ListArgs,
    place: &Place,
    now: Timestamp,
    output: &mut impl Write,
    notes: &mut impl Write,
) -> anyhow::Result<()> {
    let principals = place.list().with_context(|| place.to_string())?;
    if args.json {
        let keys: Vec<_> = principals.iter().map(|principal| as_json(principal, now)).collect();
        serde_json::to_writer_pretty(&mut *output, &keys)?;
        writeln!(output)?;
    } else if principals.is_empty() {
        writeln!(notes, "There are no keys. \"tollgate keys new --account ACCOUNT\" makes one.")?;
    } else {
        write_table(output, &principals, now)?;
    }
    Ok(())
}

fn state(principal: &Principal, now: Timestamp) -> &'static str {
    match principal.state(now) {
        KeyState::Active => "active",
        KeyState::Expired => "expired",
        KeyState::Revoked => "revoked",
    }
}

/// One key with the words of the keys file.
fn as_json(principal: &Principal, now: Timestamp) -> serde_json::Value {
    let allow = match &principal.allow {
        Allow::Everything => json!(null),
        Allow::Only { globs, .. } => json!(globs),
    };
    let connected_accounts = match &principal.connected_accounts {
        ConnectedAccounts::None => json!([]),
        ConnectedAccounts::Any => json!("*"),
        ConnectedAccounts::Only(accounts) => {
            let mut accounts: Vec<_> = accounts.iter().collect();
            accounts.sort_unstable();
            json!(accounts)
        }
    };
    json!({
        "id": principal.id,
        "account": principal.account,
        "mode": principal.mode.as_str(),
        "kind": principal.kind.as_str(),
        "state": state(principal, now),
        "allow": allow,
        "connected_accounts": connected_accounts,
        "expires_at": principal.expires_at.map(|end| end.to_string()),
        "revoked": principal.revoked,
    })
}

fn write_table(output: &mut impl Write, principals: &[Principal], now: Timestamp) -> std::io::Result<()> {
    let mut rows = vec![["ID", "ACCOUNT", "MODE", "KIND", "STATE", "EXPIRES"].map(str::to_owned)];
    rows.extend(principals.iter().map(|principal| {
        [
            principal.id.to_string(),
            principal.account.to_string(),
            principal.mode.as_str().to_owned(),
            principal.kind.as_str().to_owned(),
            state(principal, now).to_owned(),
            principal.expires_at.map_or_else(|| "never".to_owned(), |end| end.to_string()),
        ]
    }));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(output, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

mod place;
#[cfg(test)]
mod tests;
