//! `tollgate run`: the gateway, until a signal ends it.

use crate::config::{self, Level, LogFormat};
use crate::gateway::ids::random_seed;
use crate::process::{Gateway, Handle, Source};
use clap::Args;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Arguments of `tollgate run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The configuration.
    #[arg(long, short, value_name = "FILE", env = "TOLLGATE_CONFIG")]
    config: PathBuf,
}

/// Runs the gateway.
///
/// # Errors
/// When it does not start.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    // Read once ahead for the log's level, so that starting is logged already.
    let (level, format) = match config::load(&args.config, &random_seed()) {
        Ok(config) => (config.log.level, config.log.format),
        Err(errors) => anyhow::bail!("the configuration is refused:\n{errors}"),
    };
    log_to_stderr(level, format);
    let gateway = Gateway::start(Source::File(args.config.clone()))?;
    for address in gateway.addresses() {
        tracing::info!(%address, "listening");
    }
    if let Some(address) = gateway.admin() {
        tracing::info!(%address, "admin listening");
    }
    steer(gateway)
}

/// Serves until SIGTERM or SIGINT, which drain; the second one stops at once. SIGHUP reloads.
///
/// # Errors
/// When signals cannot be listened for.
pub(super) fn steer(gateway: Gateway) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = gateway.handle();
    let (ended, mut end) = tokio::sync::oneshot::channel();
    let joiner = std::thread::Builder::new().name("joiner".to_owned()).spawn(move || {
        gateway.join();
        // Nobody listens any more when a second signal came first.
        let _ = ended.send(());
    })?;
    runtime.block_on(async {
        tokio::select! {
            result = obey_signals(&handle) => result,
            _ = &mut end => Ok(()),
        }
    })?;
    if joiner.join().is_err() {
        anyhow::bail!("the gateway ended with a panic");
    }
    tracing::info!("ended");
    Ok(ExitCode::SUCCESS)
}

async fn obey_signals(handle: &Handle) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut draining = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {
                let handle = handle.clone();
                // The result is logged and counted where it happens.
                let _ = tokio::task::spawn_blocking(move || handle.reload().is_ok()).await;
                continue;
            }
        }
        if draining {
            tracing::warn!("a second signal: stopping at once");
            handle.stop();
        } else {
            tracing::info!("draining: what is in flight may end");
            handle.drain();
            draining = true;
        }
    }
}

/// Sends diagnostics to standard error. The environment variable `TOLLGATE_LOG` overrides the level, also per module.
pub(super) fn log_to_stderr(level: Level, format: LogFormat) {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let filter = EnvFilter::try_from_env("TOLLGATE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_env_filter(filter);
    // Fails only when somebody has set a logger before, who then gets the events.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
