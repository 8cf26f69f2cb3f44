//! The built gateway as a process of its own: sockets it is given, signals, descriptors, and who reads what it says.

use crate::support::running::{Folder, LIVE, get, keys, request};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::{PATIENCE, wait_until};
use crate::support::wire::Wire;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A folder with a configuration and keys.
fn folder(listen: SocketAddr, admin: SocketAddr, upstream: SocketAddr, server: &str, rest: &str) -> Folder {
    let folder = Folder::new();
    folder.put("keys.toml", &keys());
    let config = format!(
        "[server]\nlisten = \"{listen}\"\nthreads = 2\n{server}\n[admin]\nlisten = \"{admin}\"\n[auth]\n\
         keys_file = \"keys.toml\"\n[upstreams.api]\nservers = [\"http://{upstream}\"]\n{rest}"
    );
    folder.put("tollgate.toml", &config);
    folder
}

/// An address that nobody listens on, for now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A process that is killed when it is dropped.
struct Process(Child);

impl Process {
    fn spawn(command: &mut Command) -> Process {
        Process(command.stdout(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let told = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(told.success());
    }

    /// Waits for its end; whether it was a good one.
    fn ends_well(mut self) -> bool {
        wait_until("it ends", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(folder: &Folder) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(["run", "--config"]).arg(folder.path("tollgate.toml"));
    command
}

/// The same as systemd starts it: `socket` becomes descriptor 3. The shell keeps its process id when it becomes the gateway.
fn run_with_socket(folder: &Folder, socket: &TcpListener, notify: &std::path::Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_tollgate"))
        .args(["run", "--config"])
        .arg(folder.path("tollgate.toml"))
        .env("NOTIFY_SOCKET", notify)
        .stdin(OwnedFd::from(socket.try_clone().unwrap()))
        .stderr(Stdio::null());
    command
}

fn is_up(admin: SocketAddr) -> bool {
    std::net::TcpStream::connect(admin).is_ok()
}

fn ready(admin: SocketAddr) {
    wait_until("it is ready", || is_up(admin));
    let answer = Wire::connect(admin).ask("GET /readyz HTTP/1.1\r\nhost: admin\r\n\r\n");
    assert_eq!(answer.status(), 200);
}

fn next(notify: &UnixDatagram) -> String {
    let mut text = [0; 256];
    let length = notify.recv(&mut text).unwrap();
    String::from_utf8(text[..length].to_vec()).unwrap()
}

/// What clients that keep asking have met.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    answered: AtomicUsize,
    failed: AtomicUsize,
}

impl Load {
    /// Asks on one connection for as long as answers say it stays, then on another: as any HTTP client does.
    fn client(&self, address: SocketAddr) {
        while !self.over.load(Ordering::Relaxed) {
            let mut wire = Wire::connect(address);
            while !self.over.load(Ordering::Relaxed) {
                let sent = wire.try_send(get("/v1/charges", LIVE));
                let Some(head) = sent.ok().and_then(|()| wire.head()) else {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    break;
                };
                let whole = wire.response_body(&head).is_ok() && head.status() == 200;
                let counter = if whole { &self.answered } else { &self.failed };
                counter.fetch_add(1, Ordering::Relaxed);
                if head.value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_restart_under_load_fails_no_request() {
    const RESTARTS: usize = 3;
    let upstream = Upstream::fine();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, admin) = (socket.local_addr().unwrap(), free());
    let folder = folder(address, admin, upstream.address(), "", "");
    let path = folder.path("notify");
    let notify = UnixDatagram::bind(&path).unwrap();
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let load = Load::default();
    let mut gateway = Process::spawn(&mut run_with_socket(&folder, &socket, &path));
    assert_eq!(next(&notify), "READY=1");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| load.client(address));
        }
        for _ in 0..RESTARTS {
            let before = load.answered.load(Ordering::Relaxed);
            wait_until("requests are served", || load.answered.load(Ordering::Relaxed) > before + 200);
            gateway.signal("-HUP");
            assert!(next(&notify).starts_with("RELOADING=1\nMONOTONIC_USEC="));
            assert_eq!(next(&notify), "READY=1");
            gateway.signal("-TERM");
            assert_eq!(next(&notify), "STOPPING=1");
            let old = std::mem::replace(&mut gateway, Process::spawn(&mut Command::new("true")));
            assert!(old.ends_well());
            gateway = Process::spawn(&mut run_with_socket(&folder, &socket, &path));
            assert_eq!(next(&notify), "READY=1");
        }
        let before = load.answered.load(Ordering::Relaxed);
        wait_until("requests are served", || load.answered.load(Ordering::Relaxed) > before + 200);
        load.over.store(true, Ordering::Relaxed);
    });
    assert_eq!(load.failed.load(Ordering::Relaxed), 0, "of {}", load.answered.load(Ordering::Relaxed));
    gateway.signal("-TERM");
    assert!(gateway.ends_well());
}

#[test]
fn a_socket_that_nobody_asked_for_is_a_mistake() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = folder(free(), free(), free(), "", "");
    let mut command = run_with_socket(&folder, &socket, &folder.path("nowhere"));
    let output = command.stderr(Stdio::piped()).stdout(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let address = socket.local_addr().unwrap();
    assert!(said.contains(&format!("a socket on {address} was passed")), "{said}");
}

#[test]
fn whoever_does_not_read_the_diagnostics_keeps_nobody_waiting() {
    let upstream = Upstream::fine();
    let (address, admin) = (free(), free());
    let folder = folder(address, admin, upstream.address(), "", "[log]\nlevel = \"trace\"\naccess = \"-\"\n");
    for closed in [false, true] {
        let mut process = Process(run(&folder).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        ready(admin);
        if closed {
            // Whatever it writes from now on is answered with EPIPE.
            drop((process.0.stdout.take(), process.0.stderr.take()));
        }
        // Far more than a pipe holds, in both.
        let mut client = Wire::connect(address);
        for _ in 0..2_000 {
            assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
        }
        process.signal("-TERM");
        assert!(process.ends_well());
    }
}

#[test]
fn out_of_descriptors_it_goes_on_and_recovers() {
    let upstream = Upstream::fine();
    let (address, admin) = (free(), free());
    let folder = folder(address, admin, upstream.address(), "", "");
    let mut process = Process(run(&folder).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    ready(admin);
    let mut client = Wire::connect(address);
    assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
    let mut scraper = Wire::connect(admin);
    let mut errors = || {
        let page = scraper.ask("GET /metrics HTTP/1.1\r\nhost: admin\r\n\r\n");
        let count = page.text().lines().filter(|line| line.starts_with("tollgate_accept_errors_total")).count();
        count > 0
    };
    assert!(!errors());
    // So few that no more connections can be accepted, though those that are open stay.
    let set = |limit: &str| {
        let pid = process.0.id().to_string();
        assert!(Command::new("prlimit").args(["--pid", &pid, limit]).status().unwrap().success());
    };
    set("--nofile=8:");
    let mut waiting: Vec<Wire> = (0..4).map(|_| Wire::connect(address)).collect();
    wait_until("accepting fails", &mut errors);
    assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200, "who is inside is served");
    set("--nofile=1024:");
    for client in &mut waiting {
        assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
    }
    let mut stderr = process.0.stderr.take().unwrap();
    process.signal("-TERM");
    assert!(process.ends_well());
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    let warnings = said.lines().filter(|line| line.contains("connections cannot be accepted")).count();
    assert!((1..=60).contains(&warnings), "one a second at most, not one each time: {warnings}");
}

#[test]
fn a_process_that_was_stopped_admits_no_more_than_a_burst() {
    let upstream = Upstream::fine();
    let (address, admin) = (free(), free());
    let rest = "[[limits]]\nname = \"l\"\nstage = \"global\"\nrate = \"10/s\"\nburst = 3\n";
    let folder = folder(address, admin, upstream.address(), "", rest);
    let process = Process::spawn(run(&folder).stderr(Stdio::null()));
    ready(admin);
    process.signal("-STOP");
    let status = || std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    wait_until("all of it has stopped", || status().contains("\nState:\tT"));
    // Requests wait in the kernel meanwhile, and time that would refill far more than the burst goes by.
    let mut clients: Vec<Wire> = (0..30).map(|_| Wire::connect(address)).collect();
    clients.iter_mut().for_each(|client| client.send(get("/v1/charges", LIVE)));
    std::thread::sleep(std::time::Duration::from_secs(2));
    let clock = crate::support::RealClock::start();
    process.signal("-CONT");
    let admitted = clients.iter_mut().filter_map(|client| (client.answer().status() == 200).then_some(())).count();
    let elapsed = tollgate::engine::Clock::now(&clock).0;
    let most = 3 + 1 + usize::try_from(elapsed / 100_000_000).unwrap();
    assert!((3..=most.min(29)).contains(&admitted), "{admitted} of at most {most}");
}

/// Bytes of the process that are in memory.
fn resident_bytes(process: &Process) -> usize {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", process.0.id())).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn thousands_of_hostile_connections_stay_within_the_memory_there_is_for_them() {
    const MOST_BYTES: usize = 24 << 20;
    const HOSTILE: usize = 3_000;
    // What the allocator keeps beside what is asked for, and tasks, which are large in builds that are not optimized.
    const SLACK_BYTES: usize = 40 << 20;
    let upstream = Upstream::answering(|_| ok(&"x".repeat(8 << 20)));
    let (address, admin) = (free(), free());
    let by_form = "[[limits]]\nname = \"l\"\nstage = \"resource\"\nrate = \"100/s\"\nper = [\"form.a\"]\n";
    let folder = folder(address, admin, upstream.address(), "max_buffer_memory = \"24MiB\"", by_form);
    let process = Process::spawn(run(&folder).stderr(Stdio::null()));
    ready(admin);
    assert_eq!(Wire::connect(address).ask(get("/v1/charges", LIVE)).status(), 200);
    let before = resident_bytes(&process);
    let form = "content-type: application/x-www-form-urlencoded\r\ncontent-length: 60000\r\n";
    let halves = [
        format!("GET /v1/charges HTTP/1.1\r\nhost: api.test\r\nx: {}", "x".repeat(25_000)),
        request("POST", "/v1/charges", LIVE, form) + &"a=".repeat(10_000),
        // Whole, but nobody reads the answer.
        get("/v1/charges", LIVE),
    ];
    let mut hostile = Vec::new();
    let mut most = before;
    for nth in 0..HOSTILE {
        // Further ones wait in the kernel's queue: what they send is the kernel's to keep.
        let mut client = Wire::connect(address);
        client.set_write_patience(std::time::Duration::from_millis(20));
        let half = if nth % 50 == 2 { &halves[2] } else { &halves[nth % 2] };
        let _ = client.try_send(half);
        hostile.push(client);
        if nth % 50 == 0 {
            most = most.max(resident_bytes(&process));
        }
    }
    assert_eq!(Wire::connect(address).ask(get("/v1/charges", LIVE)).status(), 200, "good clients are served");
    most = most.max(resident_bytes(&process));
    assert!(most - before <= MOST_BYTES + SLACK_BYTES, "{} KiB more", (most - before) >> 10);
    drop(hostile);
    process.signal("-TERM");
    assert!(process.ends_well());
}

#[test]
fn it_needs_no_folder_to_write_to() {
    let upstream = Upstream::fine();
    let (address, admin) = (free(), free());
    let folder = folder(address, admin, upstream.address(), "", "");
    let nowhere = folder.path("nowhere");
    let mut command = run(&folder);
    command.env("TMPDIR", &nowhere).env("HOME", &nowhere).current_dir("/").stderr(Stdio::null());
    let process = Process::spawn(&mut command);
    ready(admin);
    assert_eq!(Wire::connect(address).ask(get("/v1/charges", LIVE)).status(), 200);
    process.signal("-TERM");
    assert!(process.ends_well());
}
