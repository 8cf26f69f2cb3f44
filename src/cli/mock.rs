//! `tollgate mock`: the stand-in upstream on an address of its own.

use crate::mock::{LatencySource, MockOptions, Rate, serve};
use anyhow::Context;
use std::io::Write;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Run a stand-in for an API: Stripe-shaped answers, no state, latencies and failures to choose.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct MockArgs {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    pub listen: SocketAddr,
    /// How long answers take: `none`, `lognormal:MEDIAN,P99` such as `lognormal:20ms,200ms`, or an access log (any that `replay`
    /// reads) whose durations are drawn from.
    #[arg(long, value_name = "LATENCY", default_value = "none")]
    pub latency: LatencySource,
    /// The share of requests to answer with 500: `0.01`, or `1%`.
    #[arg(long, value_name = "SHARE", default_value = "0")]
    pub error_rate: Rate,
    /// The share of requests for one object to answer with 429 `lock_timeout`.
    #[arg(long, value_name = "SHARE", default_value = "0")]
    pub lock_timeout_rate: Rate,
    /// What ids, latencies and failures are drawn from: equal seeds give equal runs.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Serves until SIGINT or SIGTERM, on one thread.
///
/// # Errors
/// The recording cannot be read, the address cannot be listened on, or the runtime cannot start.
pub fn run(args: &MockArgs) -> anyhow::Result<()> {
    let options = MockOptions {
        latency: args.latency.load().context("--latency")?,
        error_rate: args.error_rate,
        lock_timeout_rate: args.lock_timeout_rate,
        seed: args.seed,
    };
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
        serve(listener, options, stop).await;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::Latency;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        mock: MockArgs,
    }

    #[test]
    fn flags_are_read() {
        let flags =
            "--listen 127.0.0.1:0 --latency lognormal:20ms,200ms --error-rate 0.5 --lock-timeout-rate 2% --seed 7";
        let mock = Cli::try_parse_from(["mock"].into_iter().chain(flags.split(' '))).unwrap().mock;
        assert_eq!((mock.listen.port(), mock.seed), (0, 7));
        assert_eq!(mock.latency, "lognormal:20ms,200ms".parse().unwrap());
        assert_eq!((mock.error_rate, mock.lock_timeout_rate), ("50%".parse().unwrap(), "0.02".parse().unwrap()));
        let defaults = Cli::try_parse_from(["mock"]).unwrap().mock;
        assert_eq!((defaults.listen.port(), defaults.seed), (9000, 0));
        assert_eq!(defaults.latency, LatencySource::Given(Latency::None));
        assert_eq!((defaults.error_rate, defaults.lock_timeout_rate), (Rate::default(), Rate::default()));
    }

    #[test]
    fn bad_flags_say_what_is_expected() {
        for (flag, value, expected) in [
            ("--latency", "lognormal:20ms", "lognormal:MEDIAN,P99"),
            ("--error-rate", "101%", "a share from 0 to 1"),
            ("--lock-timeout-rate", "-0.1", "a share from 0 to 1"),
        ] {
            let given = format!("{flag}={value}");
            let error = Cli::try_parse_from(["mock", &given]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let recording = Cli::try_parse_from(["mock", "--latency", "20ms"]).unwrap().mock;
        let error = run(&recording).unwrap_err();
        assert!(format!("{error:#}").contains("20ms cannot be read"), "{error:#}");
    }
}
