//! `tollgate demo`: the whole thing on one machine, with no file and no server.

use super::log::log_to_stderr;
use super::run::steer;
use crate::config::{Level, LogFormat};
use crate::engine::Mode;
use crate::keys::{KeyKind, Secret, generate};
use crate::mock::{self, MockOptions};
use crate::process::{Gateway, Source};
use crate::server::is_free;
use anyhow::Context;
use clap::Args;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::mpsc;

/// Arguments of `tollgate demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// How long the mock API takes to answer: `none`, `lognormal:MEDIAN,P99`, or an access log to draw from.
    #[arg(long, value_name = "LATENCY", default_value = "none")]
    latency: mock::LatencySource,
}

/// Where the demo would like to be.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
/// Where its admin listener would like to be.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);

/// Runs the mock API and the gateway until a signal ends them.
///
/// # Errors
/// When they do not start.
pub(super) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let _last_lines = log_to_stderr(Level::Warn, LogFormat::Text);
    let upstream = start_mock(MockOptions { latency: args.latency.load()?, ..MockOptions::default() })?;
    let live = generate(KeyKind::Secret, Mode::Live)?;
    let test = generate(KeyKind::Secret, Mode::Test)?;
    let config = format!(
        "presets = [\"stripe\"]\n[server]\nlisten = \"{}\"\n[admin]\nlisten = \"{}\"\n[auth]\nkeys_file = \"keys.toml\"\n\
         [upstreams.mock]\nservers = [\"http://{upstream}\"]\n",
        free_or_any(LISTEN),
        free_or_any(ADMIN),
    );
    let keys = [(&live, Mode::Live), (&test, Mode::Test)].map(|(secret, mode)| key_entry(secret, mode)).concat();
    let gateway = Gateway::start(Source::Text { config, keys })?;
    introduce(&gateway, upstream, &live, &test)?;
    steer(gateway)
}

/// The address itself, or its host with port 0 when it is taken.
fn free_or_any(address: SocketAddr) -> SocketAddr {
    if is_free(address) { address } else { SocketAddr::new(address.ip(), 0) }
}

fn key_entry(secret: &Secret<'_>, mode: Mode) -> String {
    format!(
        "[[keys]]\nid = \"key_demo_{mode}\"\nhash = \"{hash}\"\naccount = \"acct_demo\"\nmode = \"{mode}\"\n\
         connected_accounts = \"*\"\n",
        mode = mode.as_str(),
        hash = secret.digest(),
    )
}

fn introduce(gateway: &Gateway, upstream: SocketAddr, live: &Secret<'_>, test: &Secret<'_>) -> anyhow::Result<()> {
    let address = gateway.addresses().first().copied().unwrap_or(LISTEN);
    let admin = gateway.admin().unwrap_or(ADMIN);
    let (live, test) = (live.expose(), test.expose());
    writeln!(
        std::io::stdout(),
        "Tollgate listens on  http://{address}   (in front of a mock API on http://{upstream})\n\
         Metrics are on       http://{admin}/metrics\n\
         A live key           {live}\n\
         A test key           {test}\n\
         \n\
         Try it:\n  \
         curl -i http://{address}/v1/customers -u {test}: -d email=jenny@example.com\n\
         \n\
         Go past a limit (15 payouts a second):\n  \
         curl -s -o /dev/null -w '%{{http_code}} ' 'http://{address}/v1/payouts?n=[1-40]' -u {test}: -d amount=1\n\
         \n\
         Ctrl-C ends it."
    )
    .context("write to standard output")
}

/// The mock API on a free port, on a thread of its own that ends with the process.
fn start_mock(options: MockOptions) -> anyhow::Result<SocketAddr> {
    let (tell, told) = mpsc::channel();
    std::thread::Builder::new().name("mock".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(tell.send(Err(error))),
        };
        runtime.block_on(async {
            let bound = tokio::net::TcpListener::bind("127.0.0.1:0").await;
            match bound.and_then(|listener| Ok((listener.local_addr()?, listener))) {
                Ok((address, listener)) => {
                    // The receiver waits for this.
                    let _ = tell.send(Ok(address));
                    mock::serve(listener, options, std::future::pending()).await;
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        });
    })?;
    told.recv().context("the mock API ended at once")?.context("the mock API cannot listen")
}
