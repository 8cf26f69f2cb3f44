//! `tollgate mock`: the stand-in upstream on an address of its own.

use crate::mock::{Latency, MockOptions, serve};
use anyhow::Context;
use std::io::Write;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Runs a stand-in for an API: Stripe-shaped answers, no state, a latency to choose.
#[derive(Clone, Copy, Debug, PartialEq, clap::Args)]
pub struct MockArgs {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    pub listen: SocketAddr,
    /// How long answers take: `none`, or `lognormal:MEDIAN,P99` such as `lognormal:20ms,200ms`.
    #[arg(long, value_name = "LATENCY", default_value = "none")]
    pub latency: Latency,
    /// What ids and latencies are drawn from: equal seeds give equal runs.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Serves until SIGINT or SIGTERM, on one thread.
///
/// # Errors
/// The address cannot be listened on, or the runtime cannot start.
pub fn run(args: &MockArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listen on {}", args.listen))?;
        let address = listener.local_addr().context("read the address listened on")?;
        writeln!(std::io::stdout(), "The mock API listens on http://{address}").context("write to stdout")?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serve(listener, MockOptions { latency: args.latency, seed: args.seed }, stop).await;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        mock: MockArgs,
    }

    #[test]
    fn flags_are_read() {
        let parsed = Cli::try_parse_from([
            "mock",
            "--listen",
            "127.0.0.1:0",
            "--latency",
            "lognormal:20ms,200ms",
            "--seed",
            "7",
        ]);
        let mock = parsed.unwrap().mock;
        assert_eq!((mock.listen.port(), mock.seed), (0, 7));
        assert_eq!(mock.latency, "lognormal:20ms,200ms".parse().unwrap());
        let defaults = Cli::try_parse_from(["mock"]).unwrap().mock;
        assert_eq!((defaults.listen.port(), defaults.latency, defaults.seed), (9000, Latency::None, 0));
    }

    #[test]
    fn a_bad_latency_says_what_is_expected() {
        let error = Cli::try_parse_from(["mock", "--latency", "20ms"]).unwrap_err().to_string();
        assert!(error.contains("lognormal:MEDIAN,P99"), "{error}");
    }
}
