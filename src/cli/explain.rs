//! `tollgate explain`: how a request would be classified, every limit in order, and what would refuse first.

use crate::config::{self, AuthMode, Config};
use crate::engine::{Engine, Nanos, Seed};
use crate::explain::{self, Described, Explained, Explanation, Question, State, Written};
use crate::keys::{self, Keyring};
use anstyle::{AnsiColor, Style};
use std::io::Write;
use std::path::PathBuf;

/// Explain what a request would meet: its classification, every limit in order, and what would refuse first.
///
/// Takes nothing from a running gateway and asks none: for live state, see GET /v1/explain of the admin listener. Exits with 0
/// when the request can be explained, also where it would be refused, and with 2 when it or the configuration is not valid.
#[derive(Clone, Debug, clap::Args)]
pub struct Explain {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The account that the key belongs to.
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Live or test.
    #[arg(long, value_name = "MODE", value_parser = ["live", "test"])]
    mode: Option<String>,
    /// A key by its id, with what the keys file says of it.
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
    /// A header, as often as needed.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// A key of the form in the body, as often as needed.
    #[arg(long = "form", value_name = "KEY=VALUE")]
    form: Vec<String>,
    /// A body of JSON, in place of a form.
    #[arg(long, value_name = "JSON", conflicts_with = "form")]
    json_body: Option<String>,
    /// The account acted for (Stripe-Account).
    #[arg(long, value_name = "ACCOUNT")]
    connected: Option<String>,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The method.
    method: String,
    /// The path, with a query where that matters.
    path: String,
}

const STRONG: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default();

impl Explain {
    /// Prints the explanation to `out` (stdout), in color; who cannot show colors takes them out.
    ///
    /// # Errors
    /// The configuration or the request is not valid, or `out` cannot be written to.
    pub fn run(&self, out: &mut impl Write) -> anyhow::Result<()> {
        // Ids are made and used here only, so any seed will do; with a fixed one the output is the same each time.
        let seed = Seed([0, 0]);
        let config = config::load(&self.config, &seed)?;
        let (keyring, note) = keyring(&config, &seed);
        let question = Question::new(&self.written(), &config, keyring.as_ref(), &seed)?;
        // More than the requests of one account ever need.
        let engine = Engine::new(seed, 1_000);
        let mut explanation = explain::explain(&question, &config, &engine, Nanos::ZERO, usize::MAX);
        explanation.assumed.extend(note);
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&explanation)?)?;
            return Ok(());
        }
        Ok(write(&explanation, out)?)
    }

    fn written(&self) -> Written<'_> {
        Written {
            method: Some(&self.method),
            path: &self.path,
            account: self.account.as_deref(),
            mode: self.mode.as_deref(),
            key_id: self.key_id.as_deref(),
            connected_account: self.connected.as_deref(),
            ip: self.ip.as_deref(),
            headers: self.headers.iter().map(String::as_str).collect(),
            form: self.form.iter().map(String::as_str).collect(),
            json: self.json_body.as_deref(),
        }
    }
}

/// The keys, where they can be read; a configuration is often explained where its keys are not.
fn keyring(config: &Config, seed: &Seed) -> (Option<Keyring>, Option<String>) {
    let Some(path) = config.auth.keys_file.as_ref().filter(|_| config.auth.mode == AuthMode::Keys) else {
        return (None, None);
    };
    let read = keys::read(path).map_err(|error| error.to_string());
    let parsed = read.and_then(|text| Keyring::parse(&text, seed).map_err(|_| "it has mistakes".to_owned()));
    match parsed {
        Ok(mut keyring) => {
            let names: Vec<&str> = config.endpoints.iter().map(|endpoint| &*endpoint.name).collect();
            keyring.bind(&names);
            (Some(keyring), None)
        }
        Err(why) => (None, Some(format!("any key may be one: {}: {why}", path.display()))),
    }
}

fn write(explanation: &Explanation, out: &mut impl Write) -> std::io::Result<()> {
    write_request(&explanation.request, out)?;
    if !explanation.assumed.is_empty() {
        writeln!(out, "  {NOTE}assumed{NOTE:#}    {}", explanation.assumed.join("; "))?;
    }
    if let Some(refused) = &explanation.refused {
        return writeln!(out, "\n{BAD}Refused before any limit{BAD:#}: {refused}");
    }
    let mut stage = "";
    for limit in &explanation.limits {
        if limit.reason != stage {
            stage = limit.reason;
            writeln!(out, "\n{STRONG}{stage}{STRONG:#}")?;
        }
        write_limit(limit, out)?;
    }
    if explanation.limits.is_empty() {
        writeln!(out, "\nThere are no limits.")?;
    }
    if let Some(turn) = &explanation.turn {
        writeln!(out, "\n{STRONG}object lock{STRONG:#}\n  {}", turn.words)?;
    }
    write_first(explanation, out)
}

fn write_request(request: &Described, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{STRONG}{} {}{STRONG:#}", request.method, request.path)?;
    let mut line = |name: &str, value: &str| writeln!(out, "  {name:<10} {value}");
    line("route", request.route.as_deref().unwrap_or("none"))?;
    if let (Some(endpoint), Some(access)) = (&request.endpoint, request.access) {
        let cost = request.cost.filter(|cost| *cost != 1).map(|cost| format!(", costs {cost}")).unwrap_or_default();
        line("endpoint", &format!("{endpoint} ({access}, {}{cost})", request.mode))?;
    }
    let tier = request.tier.as_ref().map(|tier| format!(" (tier {tier})")).unwrap_or_default();
    line("account", &format!("{}{tier}", request.account))?;
    line("key", &request.key_id)?;
    if let Some(connected) = &request.connected_account {
        line("acts for", connected)?;
    }
    line("address", &request.client.to_string())?;
    for (name, value) in &request.values {
        line(name, value)?;
    }
    if !request.facts.is_empty() {
        line("says", &request.facts.join(", "))?;
    }
    Ok(())
}

fn write_limit(limit: &Explained, out: &mut impl Write) -> std::io::Result<()> {
    if let Some(why_not) = &limit.why_not {
        return writeln!(out, "  {FAINT}- {:<24} does not apply: {why_not}{FAINT:#}", limit.name);
    }
    let refuses = limit.state.as_ref().is_some_and(|state| !state.admits);
    let (mark, style) = match (refuses, limit.enforced) {
        (false, _) => ('✓', GOOD),
        (true, true) => ('✗', BAD),
        (true, false) => ('✗', NOTE),
    };
    let from = if limit.from == "limit" { String::new() } else { format!(" (from {})", limit.from) };
    let whom = limit.whom.as_deref().unwrap_or_default();
    writeln!(out, "  {style}{mark}{style:#} {STRONG}{:<24}{STRONG:#} {}{from}, {whom}", limit.name, limit.words)?;
    let mut more = |line: String| writeln!(out, "    {:<24} {line}", "");
    if let Some(state) = limit.state.as_ref().filter(|state| !state.admits) {
        more(format!("{BAD}no room{BAD:#} for this request, {}", when(state)))?;
    }
    if let Some(enforcement) = &limit.enforcement {
        more(format!("{NOTE}{enforcement}{NOTE:#}"))?;
    }
    if let Some(candidate) = &limit.candidate {
        more(format!("{NOTE}candidate{NOTE:#}: {}", candidate.words))?;
    }
    Ok(())
}

fn when(state: &State) -> String {
    match state.next_free_ms {
        Some(ms) => format!("the next passes in {}", humantime::format_duration(std::time::Duration::from_millis(ms))),
        None => "ever".to_owned(),
    }
}

fn write_first(explanation: &Explanation, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out)?;
    if let Some(limit) = &explanation.refuses_now {
        writeln!(out, "{BAD}Refused{BAD:#} by {STRONG}{limit}{STRONG:#}, even the first such request.")?;
    }
    match &explanation.first.at_once {
        Some(at_once) => writeln!(
            out,
            "At once: {} such request{} pass, the next is refused by {STRONG}{}{STRONG:#}.",
            at_once.admitted,
            if at_once.admitted == 1 { "" } else { "s" },
            at_once.limit,
        )?,
        None => writeln!(out, "At once: none of 10,000 such requests is refused.")?,
    }
    match &explanation.first.steady {
        Some(steady) => writeln!(
            out,
            "Steadily: above {} a second, {STRONG}{}{STRONG:#} ({}) refuses first.",
            rounded(steady.per_second),
            steady.limit,
            steady.words,
        ),
        None => writeln!(out, "Steadily: no rate and no quota refuses such requests."),
    }
}

/// Six digits are more than anybody reads.
fn rounded(number: f64) -> String {
    let places = if number >= 100.0 { 0 } else { 4 };
    let text = format!("{number:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
