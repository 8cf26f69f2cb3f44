//! Counts that outlive the process: the real binary, killed and started again.

use crate::support::running::{Folder, LIVE, Setup, post};
use crate::support::upstream::Upstream;
use crate::support::wait::{wait_for, wait_until};
use crate::support::wire::{Answer, Wire};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

const QUOTA: &str = "[[limits]]\nname = \"q\"\nstage = \"endpoint\"\nquota = \"40/h\"\nper = [\"account\"]\n";
const STATE: &str = "[state]\ndir = \"state\"\npersist_interval = \"100ms\"\n";

/// A gateway in a process of its own, killed when it is dropped.
struct Process {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    /// What it says.
    said: Arc<Mutex<String>>,
}

impl Process {
    #[track_caller]
    fn start(folder: &Folder) -> Process {
        let mut child = Process::spawn(folder);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut said, mut addresses) = (String::new(), Vec::new());
        while addresses.len() < 2 {
            let line = lines.next().unwrap_or_else(|| panic!("it ended: {said}")).unwrap();
            if line.contains("listening") {
                let plain: String = line.chars().filter(|char| !char.is_control()).collect();
                addresses
                    .push(plain.rsplit("127.0.0.1:").next().unwrap().trim_end_matches("[0m").parse::<u16>().unwrap());
            }
            said += &line;
        }
        // Somebody must read on, or the pipe fills.
        let said = Arc::new(Mutex::new(said));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| *heard.lock().unwrap() += &line));
        let [address, admin] = [0, 1].map(|nth| SocketAddr::from(([127, 0, 0, 1], addresses[nth])));
        Process { child, address, admin, said }
    }

    fn spawn(folder: &Folder) -> Child {
        Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["run", "--config"])
            .arg(folder.path("tollgate.toml"))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Posts until it is refused; answers how many were admitted.
    fn exhaust(&self) -> u32 {
        let mut wire = Wire::connect(self.address);
        (0..).find(|_| wire.ask(post("/v1/charges", LIVE)).status() != 200).unwrap()
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn metrics(&self) -> Answer {
        Wire::connect(self.admin).ask("GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    }

    fn writes(&self) -> f64 {
        let metrics = self.metrics();
        let line =
            metrics.text().lines().find(|line| line.starts_with("tollgate_state_writes_total{result=\"success\"}"));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// As an orchestrator does.
    fn drain(mut self) {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(told.success());
        assert!(self.child.wait().unwrap().success());
    }

    /// As `kill -9` does.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder(upstream: &Upstream, quota: &str) -> Folder {
    let folder = Folder::new();
    let setup = Setup::new(upstream.address()).with(quota).with(STATE);
    folder.put("tollgate.toml", &setup.toml());
    folder.put("keys.toml", &setup.keys);
    folder
}

#[test]
fn what_was_admitted_before_a_kill_is_still_counted_after_it() {
    let upstream = Upstream::fine();
    let folder = folder(&upstream, QUOTA);
    let first = Process::start(&folder);
    let mut wire = Wire::connect(first.address);
    for _ in 0..30 {
        assert_eq!(wire.ask(post("/v1/charges", LIVE)).status(), 200);
    }
    // Two writes later the thirtieth is in the file for certain: one may have begun before it.
    let before = first.writes();
    assert_eq!(wire.ask(post("/v1/charges", LIVE)).status(), 200);
    wait_until("a write after the last request", || first.writes() > before);
    // Killed under load: requests go on until the connection breaks.
    let address = first.address;
    let load = std::thread::spawn(move || {
        let mut wire = Wire::connect(address);
        let request = post("/v1/charges?late", LIVE);
        (0..4).filter(|_| wire.try_send(&request).is_ok() && wire.head().is_some()).count()
    });
    first.kill();
    load.join().unwrap();

    let second = Process::start(&folder);
    let left = second.exhaust();
    // At least the 30 that a write had followed are counted, and no more than have been sent.
    assert!((40 - 35..=40 - 30).contains(&left), "{left} left of 40");
    second.kill();
    let third = Process::start(&folder);
    assert!(third.exhaust() <= left);
}

#[test]
fn a_drain_keeps_everything_and_other_figures_count_on() {
    let upstream = Upstream::fine();
    let folder = folder(&upstream, QUOTA);
    let first = Process::start(&folder);
    assert_eq!(first.exhaust(), 40);
    first.drain();
    let more = Setup::new(upstream.address()).with(&QUOTA.replace("40/h", "45/2h")).with(STATE);
    folder.put("tollgate.toml", &more.toml());
    assert_eq!(Process::start(&folder).exhaust(), 5);
}

#[test]
fn a_damaged_store_stops_no_start() {
    let upstream = Upstream::fine();
    let folder = folder(&upstream, QUOTA);
    assert_eq!(Process::start(&folder).exhaust(), 40);
    let store = folder.path("state/windows.redb");
    let mut bytes = std::fs::read(&store).unwrap();
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    std::fs::write(&store, bytes).unwrap();
    let second = Process::start(&folder);
    assert!(second.said().contains("damaged and set aside"), "{}", second.said());
    assert!(second.metrics().text().contains("tollgate_state_damaged_total 1"));
    assert_eq!(second.exhaust(), 40, "the counts are gone, and it serves");
    assert!(folder.path("state/windows.redb.damaged-1").exists());
}

#[test]
fn every_change_of_an_override_is_one_line_in_the_log() {
    let upstream = Upstream::fine();
    let folder = folder(&upstream, QUOTA);
    let gateway = Process::start(&folder);
    let ask = |head: &str, body: &str| {
        let length = body.len();
        let head = format!("{head} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        Wire::connect(gateway.admin).ask(head + body)
    };
    let body = r#"{"account":"acct_a","limit":"q","quota":"77/h","ttl":"1h","reason":"a launch"}"#;
    let made: serde_json::Value = serde_json::from_slice(&ask("PUT /v1/overrides", body).body).unwrap();
    assert_eq!(gateway.exhaust(), 77);
    assert_eq!(ask(&format!("DELETE /v1/overrides/{}", made["id"].as_str().unwrap()), "").status(), 200);
    wait_until("both lines", || gateway.said().matches("tollgate::audit").count() == 2);
    let said = gateway.said();
    for piece in ["put", "delete", "127.0.0.1:", "acct_a", "77/h", "a launch"] {
        assert!(said.contains(piece), "{piece}: {said}");
    }
}

#[test]
fn a_directory_in_use_refuses_a_second_gateway() {
    let upstream = Upstream::fine();
    let folder = folder(&upstream, QUOTA);
    let first = Process::start(&folder);
    let second = Process::spawn(&folder).wait_with_output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another process uses this state directory"), "{said}");
    first.kill();
    wait_for("the lock of a killed process is free", || Some(Process::start(&folder))).kill();
}
