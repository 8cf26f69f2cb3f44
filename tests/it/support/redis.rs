//! Redis as a real process: started, killed, paused, restarted and asked by tests.
//!
//! Every server has a folder of its own, keeps nothing on disk, listens on loopback and is ended by its own id when it is dropped.
//! Each listens on a plain port, those with TLS or users too, so that a test can always ask it what it holds ([`Redis::command`]).

mod cluster;
mod replies;
mod sentinel;
#[cfg(test)]
mod tests;

pub(crate) use cluster::Cluster;
pub(crate) use replies::Reply;
pub(crate) use sentinel::{MASTER_NAME, Sentinel};

use super::running::Folder;
use super::secure::Authority;
use super::wait::{wait_for, wait_until};
use replies::Client;
use rustix::process::{Pid, Signal, kill_process};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

/// Ports tried before a start fails: another process may take one between the choice and the start.
const TRIES: usize = 20;

/// The harness's own user on servers that ask for one.
const OBSERVER: &str = "observer";

/// What a server is started with.
#[derive(Clone, Default)]
pub(crate) struct Options {
    lines: Vec<String>,
    users: bool,
    tls: Option<Certificates>,
    bus: bool,
    sentinel: bool,
}

#[derive(Clone)]
struct Certificates {
    authority: String,
    certificate: String,
    key: String,
}

impl Options {
    /// The same with a further line of `redis.conf`.
    pub(crate) fn line(mut self, line: &str) -> Options {
        self.lines.push(line.to_owned());
        self
    }

    /// Nobody comes in but this user with this password, who may do what `rules` say.
    pub(crate) fn user(self, name: &str, password: &str, rules: &str) -> Options {
        let mut options = self.line(&format!("user {name} on >{password} {rules}"));
        options.users = true;
        options
    }

    /// A second port that speaks TLS, with a certificate of this authority for `localhost` and `127.0.0.1`.
    pub(crate) fn tls(mut self, authority: &Authority) -> Options {
        let pair = authority.issue(&["localhost", "127.0.0.1"]);
        self.tls =
            Some(Certificates { authority: authority.pem.clone(), certificate: pair.certificate, key: pair.key });
        self
    }

    /// At most so much memory; at the bound writes fail with `OOM`.
    pub(crate) fn max_memory(self, amount: &str) -> Options {
        self.line(&format!("maxmemory {amount}")).line("maxmemory-policy noeviction")
    }

    /// A replica of another server.
    pub(crate) fn replica_of(self, primary: SocketAddr) -> Options {
        self.line(&format!("replicaof {} {}", primary.ip(), primary.port()))
    }

    pub(crate) fn start(self) -> Redis {
        Redis::start_with(self)
    }
}

/// A running server.
pub(crate) struct Redis {
    child: Option<Child>,
    folder: Folder,
    options: Options,
    ports: Ports,
}

#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    tls: u16,
    bus: u16,
}

impl Redis {
    /// A server of its own that asks nobody who they are.
    pub(crate) fn start() -> Redis {
        Redis::start_with(Options::default())
    }

    fn start_with(options: Options) -> Redis {
        for _ in 0..TRIES {
            let ports = Ports::free();
            let mut redis = Redis { child: None, folder: Folder::new(), options: options.clone(), ports };
            redis.write_files();
            if redis.spawn() {
                return redis;
            }
        }
        panic!("redis-server did not start on any of {TRIES} ports");
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.plain))
    }

    /// `redis://…`, as `[store] urls` has it.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// `rediss://…`, for servers started with [`Options::tls`].
    pub(crate) fn tls_url(&self) -> String {
        assert!(self.options.tls.is_some(), "this server was started without TLS");
        format!("rediss://127.0.0.1:{}", self.ports.tls)
    }

    /// Ends it at once, without a word to its clients beyond what the kernel says.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it anew on the same ports, empty, and waits until it answers.
    pub(crate) fn restart(&mut self) {
        self.kill9();
        // The port is this server's own, so whoever holds it is about to leave.
        wait_until("redis-server starts again", || self.spawn());
    }

    /// Stops it where it stands: it keeps its connections and answers nobody.
    pub(crate) fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    /// Lets it go on after [`pause`](Redis::pause).
    pub(crate) fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// The answer to one command, on a connection of its own.
    #[track_caller]
    pub(crate) fn command(&self, words: &[&str]) -> Reply {
        self.try_command(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The same, or why there is none.
    pub(crate) fn try_command(&self, words: &[&str]) -> std::io::Result<Reply> {
        let mut client = Client::connect(self.address())?;
        if self.options.users {
            client.ask(&["AUTH", OBSERVER, OBSERVER])?;
        }
        client.ask(words)
    }

    /// Commands it has taken since it began, this one included.
    #[track_caller]
    pub(crate) fn commands_processed(&self) -> u64 {
        self.info("stats", "total_commands_processed").parse().unwrap()
    }

    /// One line of `INFO`.
    #[track_caller]
    pub(crate) fn info(&self, section: &str, name: &str) -> String {
        find_line(&self.command(&["INFO", section]), name).unwrap_or_else(|| panic!("INFO has no {name}"))
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("the server was killed"))
    }

    /// Whether it runs and answers; `false` when it ended at once, as on a port that is taken.
    fn spawn(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.arg(self.folder.path("redis.conf"));
        if self.options.sentinel {
            command.arg("--sentinel");
        }
        let log = std::fs::File::create(self.folder.path("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("redis-server is missing: install Debian's package of that name"));
        wait_for("redis-server answers or ends", || self.has_started())
    }

    /// `None` while nobody can tell.
    fn has_started(&mut self) -> Option<bool> {
        let child = self.child.as_mut()?;
        if child.try_wait().unwrap().is_some() {
            self.child = None;
            return Some(false);
        }
        let id = child.id().to_string();
        let reply = self.try_command(&["INFO", "server"]).ok()?;
        // Somebody else may listen there, while this one is about to find out.
        (find_line(&reply, "process_id")? == id).then_some(true)
    }

    fn write_files(&self) {
        let Ports { plain, tls, bus } = self.ports;
        let mut lines = vec![format!("port {plain}"), "bind 127.0.0.1".to_owned(), "protected-mode no".to_owned()];
        lines.push(format!("dir {}", self.folder.path("").display()));
        if !self.options.sentinel {
            lines.extend(["save \"\"", "appendonly no", "enable-debug-command yes"].map(str::to_owned));
        }
        if self.options.bus {
            lines.extend(["cluster-enabled yes".to_owned(), format!("cluster-port {bus}")]);
        }
        if self.options.users {
            lines.extend(["user default off".to_owned(), format!("user {OBSERVER} on >{OBSERVER} ~* &* +@all")]);
        }
        if let Some(Certificates { authority, certificate, key }) = &self.options.tls {
            for (name, text) in [("ca.pem", authority), ("own.pem", certificate), ("own-key.pem", key)] {
                self.folder.put(name, text);
            }
            lines.push(format!("tls-port {tls}"));
            lines.extend(["tls-ca-cert-file ca.pem", "tls-cert-file own.pem"].map(str::to_owned));
            lines.extend(["tls-key-file own-key.pem", "tls-auth-clients no"].map(str::to_owned));
        }
        lines.extend(self.options.lines.iter().cloned());
        self.folder.put("redis.conf", &(lines.join("\n") + "\n"));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill9();
    }
}

impl Ports {
    /// Three ports that nobody has at the moment.
    fn free() -> Ports {
        let held = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let [plain, tls, bus] = held.map(|listener| listener.local_addr().unwrap().port());
        Ports { plain, tls, bus }
    }
}

/// The value of `name:value` in an answer of lines.
fn find_line(reply: &Reply, name: &str) -> Option<String> {
    let text = reply.text()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
}
