//! `tollgate health`: asks a running gateway's admin listener. For container images that have no other client.

use clap::Args;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `tollgate health`.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// The admin listener.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// Ask whether it takes traffic, not only whether it lives.
    #[arg(long)]
    ready: bool,
}

/// Time for each of connecting, asking and the answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Exits with 0 when the answer is 200.
///
/// # Errors
/// When there is no answer.
pub(super) fn run(args: &HealthArgs) -> anyhow::Result<ExitCode> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let mut socket = TcpStream::connect_timeout(&args.admin, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", args.admin)?;
    let mut answer = Vec::new();
    socket.take(64 * 1024).read_to_end(&mut answer)?;
    let healthy = answer.starts_with(b"HTTP/1.1 200 ");
    let status = String::from_utf8_lossy(&answer);
    writeln!(std::io::stderr(), "{}", status.lines().next().unwrap_or("no answer"))?;
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
