//! `tollgate replay`: recorded traffic through the engine.

use crate::config;
use crate::replay::format::{self, Mapping};
use crate::replay::html::Page;
use crate::replay::input::Input;
use crate::replay::report::text::Text;
use crate::replay::{self, Options, SEED, Traces, Watch};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Replay recorded traffic: what would have been refused, by which limit, for which account, when.
///
/// Reads the gateway's access log, combined logs of nginx and Apache, and JSON logs of Envoy and Caddy; plain, .gz or .zst.
/// Several traces are merged by time.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Another configuration, to see what changes from the first to it.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// A TOML file with [replay.format]: where the fields of the traces are. Default: that of the configuration, for traces that
    /// are not the gateway's own log.
    #[arg(long, value_name = "FILE")]
    format: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Write the report to OUT as one page of HTML with plots, which needs nothing else; besides what is printed.
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
    /// End at the first bad line, with exit code 2.
    #[arg(long)]
    strict: bool,
    /// Accounts to list.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Read the traces once only, and suggest no figures.
    #[arg(long)]
    once: bool,
    /// Traces; "-" is standard input.
    #[arg(value_name = "TRACE", required = true)]
    traces: Vec<PathBuf>,
}

pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let config = config::load(&args.config, &SEED)?;
    let against = args.against.as_deref().map(|path| config::load(path, &SEED)).transpose()?;
    let inputs =
        args.traces.iter().map(|path| Input::new(path).with_context(|| format!("{}: cannot be read", path.display())));
    let traces = Traces {
        inputs: inputs.collect::<anyhow::Result<_>>()?,
        mapping: mapping(args)?.or_else(|| config.trace_format.clone()),
        // One configuration is for foreign traces and for the gateway's own; a file named for these traces is for these.
        own_too: args.format.is_none(),
        strict: args.strict,
    };
    let options = Options { top: args.top, figures: !args.once };
    // A replay may take long: whether there is a place for its page is known before.
    let page = args.html.as_deref().map(PageFile::new).transpose()?;
    let comparison = replay::run(&traces, (&config, against.as_ref()), options, &mut Bar::new())?;
    if let Some(page) = page {
        let name = |path: &Path| path.display().to_string();
        let names = [name(&args.config), args.against.as_deref().map(name).unwrap_or_default()];
        let [first, other] = &names;
        page.put(&Page { report: &comparison, names: [first, other] }.to_html()?)?;
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        out.write_all(comparison.to_json()?.as_bytes())?;
    } else {
        write!(out, "{}", Text(&comparison))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn mapping(args: &ReplayArgs) -> anyhow::Result<Option<Mapping>> {
    let Some(path) = &args.format else { return Ok(None) };
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    format::mapping(&text).map(Some).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

/// A file that is there when it is whole.
struct PageFile<'p> {
    path: &'p Path,
    file: tempfile::NamedTempFile,
}

impl PageFile<'_> {
    fn new(path: &Path) -> anyhow::Result<PageFile<'_>> {
        let told = || format!("{}: cannot be written", path.display());
        anyhow::ensure!(!path.is_dir(), "{}: it is a folder", told());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        anyhow::ensure!(folder.is_dir(), "{}: there is no folder {}", told(), folder.display());
        // As any file that is made: readable as the umask has it.
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.prefix(".tollgate-replay").tempfile_in(folder).with_context(told)?;
        Ok(PageFile { path, file })
    }

    fn put(mut self, page: &str) -> anyhow::Result<()> {
        let told = || format!("{}: cannot be written", self.path.display());
        self.file.write_all(page.as_bytes()).with_context(told)?;
        self.file.persist(self.path).with_context(told)?;
        Ok(())
    }
}

/// A bar on standard error, where that is a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Bar {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        Bar(ProgressBar::with_draw_target(None, target))
    }
}

impl Watch for Bar {
    fn begins(&mut self, pass: &str, bytes: u64) {
        let template = "{prefix} {wide_bar} {percent}% {msg} {bytes_per_sec} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
        self.0.set_prefix(pass.to_owned());
        self.0.set_length(bytes);
        self.0.reset();
    }

    fn reached(&mut self, bytes: u64, lines: u64) {
        self.0.set_message(format!("{lines} lines"));
        self.0.set_position(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
