//! `tollgate run`: the gateway, until a signal ends it.

use super::log::log_to_stderr;
use crate::config;
use crate::gateway::ids::random_seed;
use crate::process::{Gateway, Handle, Source, Surroundings};
use crate::server;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

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
    let _last_lines = log_to_stderr(level, format);
    server::raise_limit();
    let gateway = Gateway::start_in(Source::File(args.config.clone()), Surroundings::from_env()?)?;
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
