//! A new configuration under a running gateway.

use crate::support::running::{Folder, LIVE, OTHER, Running, Setup, get, key, keys};
use crate::support::upstream::{Upstream, ok};
use crate::support::wait::wait_until;
use std::net::SocketAddr;
use tollgate::process::Source;

fn limits(payouts: &str, all: &str) -> String {
    format!(
        "[[limits]]\nname = \"all\"\nstage = \"global\"\n{all}\n\
         [[limits]]\nname = \"payouts\"\nstage = \"endpoint\"\n{payouts}\nwhen = {{ endpoint = \"charges.list\" }}\n"
    )
}

/// A gateway whose configuration and keys are files.
struct Filed {
    folder: Folder,
    upstream: SocketAddr,
    gateway: Option<Running>,
}

impl Filed {
    fn new(upstream: &Upstream, rest: &str) -> Filed {
        let mut filed = Filed { folder: Folder::new(), upstream: upstream.address(), gateway: None };
        filed.folder.put("keys.toml", &keys());
        filed.put(rest);
        filed.gateway = Some(Running::start(Source::File(filed.folder.path("tollgate.toml"))));
        filed
    }

    /// Changes the configuration's file and nothing else.
    fn put(&self, rest: &str) {
        self.folder.put("tollgate.toml", &Setup::new(self.upstream).with(rest).toml());
    }

    fn gateway(&self) -> &Running {
        self.gateway.as_ref().unwrap()
    }

    fn reloads(&self, result: &str) -> f64 {
        self.gateway().metrics().sum("tollgate_config_reloads_total", &[("result", result)])
    }
}

#[test]
fn a_reload_keeps_connections_and_what_was_spent() {
    let upstream = Upstream::fine();
    let filed = Filed::new(&upstream, &limits("rate = \"1/h\"\nburst = 3", "rate = \"1/h\"\nburst = 10"));
    let gateway = filed.gateway();
    let mut client = gateway.connect();
    let mut ask = || client.ask(get("/v1/charges", LIVE)).status();
    assert_eq!([ask(), ask()], [200, 200]);

    filed.put(&limits("rate = \"1/h\"\nburst = 5", "rate = \"1/h\"\nburst = 10"));
    gateway.handle().reload().unwrap();
    assert_eq!([ask(), ask(), ask(), ask()], [200, 200, 200, 429], "2 of 5 were spent before");

    filed.put(&limits("rate = \"1/h\"\nburst = 100", "rate = \"1/h\"\nburst = 10"));
    gateway.handle().reload().unwrap();
    let left = (0..50).take_while(|_| ask() == 200).count();
    assert_eq!(left, 5, "5 of 10 of the unchanged limit were spent before");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_limit_that_is_gone_holds_nobody() {
    let upstream = Upstream::fine();
    let filed = Filed::new(&upstream, &limits("rate = \"1/h\"\nburst = 1", "concurrency = 5"));
    let gateway = filed.gateway();
    let mut client = gateway.connect();
    let mut ask = || client.ask(get("/v1/charges", LIVE)).status();
    assert_eq!([ask(), ask()], [200, 429]);
    filed.put("");
    gateway.handle().reload().unwrap();
    assert_eq!([ask(), ask(), ask()], [200, 200, 200]);
    let metrics = gateway.metrics();
    assert!(!metrics.series.keys().any(|series| series.starts_with("tollgate_partitions")), "{}", metrics.text);
}

#[test]
fn a_changed_file_is_taken_by_itself_and_a_bad_one_is_not() {
    let upstream = Upstream::fine();
    let filed = Filed::new(&upstream, "");
    let gateway = filed.gateway();
    let mut client = gateway.connect();
    assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
    assert_eq!((filed.reloads("success"), filed.reloads("failure")), (1.0, 0.0));

    filed.put("[[limits]]\nname = \"bad\"\nrate = \"many\"\n");
    wait_until("the bad file is refused", || filed.reloads("failure") == 1.0);
    assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200, "the last good one goes on");

    filed.put("[[limits]]\nname = \"none\"\nstage = \"global\"\nrate = \"0/s\"\nburst = 1\n");
    wait_until("the good file is taken or told why not", || filed.reloads("success") + filed.reloads("failure") >= 3.0);
    filed.put("[[limits]]\nname = \"one\"\nstage = \"global\"\nrate = \"1/h\"\nburst = 1\n");
    wait_until("the good file is taken", || client.ask(get("/v1/charges", LIVE)).status() == 429);
    let metrics = gateway.metrics();
    assert!(metrics.sum("tollgate_config_last_success_timestamp_seconds", &[("result", "success")]) > 1.7e9);
}

#[test]
fn handle_reload_tells_every_mistake() {
    let upstream = Upstream::fine();
    let filed = Filed::new(&upstream, "");
    filed.put("[[limits]]\nname = \"a\"\nrate = \"many\"\nstage = \"nowhere\"\n[bogus]\n");
    let error = filed.gateway().handle().reload().unwrap_err().to_string();
    for mistake in ["many", "nowhere", "bogus"] {
        assert!(error.contains(mistake), "{mistake}: {error}");
    }
    filed.folder.put("tollgate.toml", "");
    assert!(filed.gateway().handle().reload().is_err());
    assert_eq!(filed.gateway().ask(get("/v1/charges", LIVE)).status(), 200);
}

#[test]
fn a_revoked_key_is_out_on_open_connections_too() {
    let upstream = Upstream::fine();
    let filed = Filed::new(&upstream, "");
    let mut client = filed.gateway().connect();
    assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
    let revoked =
        key("key_live", LIVE, "acct_a", "live", "revoked = true") + &key("key_o", OTHER, "acct_b", "live", "");
    filed.folder.put("keys.toml", &revoked);
    wait_until("the key is revoked", || client.ask(get("/v1/charges", LIVE)).status() == 401);
    assert_eq!(client.ask(get("/v1/charges", OTHER)).status(), 200);

    // An emptied file must not lock everybody out unnoticed.
    filed.folder.put("keys.toml", "");
    wait_until("the empty file is refused", || filed.reloads("failure") == 1.0);
    assert_eq!(client.ask(get("/v1/charges", OTHER)).status(), 200);
}

#[test]
fn an_account_that_changes_its_tier_has_the_new_figures() {
    let upstream = Upstream::fine();
    let limit = "[[limits]]\nname = \"all\"\nstage = \"global\"\nrate = \"1/h\"\nburst = 2\n\
                 [tiers.large.limits]\nall = { rate = \"1/h\", burst = 6 }\n";
    let filed = Filed::new(&upstream, &format!("{limit}[accounts.acct_b]\ntier = \"large\"\n"));
    let mut client = filed.gateway().connect();
    let mut ask = |secret: &str| (0..20).take_while(|_| client.ask(get("/v1/charges", secret)).status() == 200).count();
    assert_eq!((ask(LIVE), ask(OTHER)), (2, 6));
    filed.put(&format!("{limit}[accounts.acct_a]\ntier = \"large\"\n"));
    filed.gateway().handle().reload().unwrap();
    assert_eq!((ask(LIVE), ask(OTHER)), (4, 0), "what was spent stays spent");
}

#[test]
fn a_hundred_reloads_under_load_fail_nobody() {
    let upstream = Upstream::fine();
    let filed = Filed::new(&upstream, &limits("concurrency = 50", "rate = \"1000000/s\""));
    let gateway = filed.gateway();
    let address = gateway.address;
    let clients: Vec<_> = (0..2)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = crate::support::wire::Wire::connect(address);
                (0..300).all(|_| client.ask(get("/v1/charges", LIVE)).status() == 200)
            })
        })
        .collect();
    for round in 0..100 {
        filed.put(&limits(&format!("concurrency = {}", 50 + round % 2), "rate = \"1000000/s\""));
        gateway.handle().reload().unwrap();
    }
    assert!(clients.into_iter().all(|client| client.join().unwrap()));
    wait_until("nothing is left in flight", || gateway.metrics().in_flight() == 0.0);
}

const NOTHING: &str = "[[limits]]\nname = \"none\"\nstage = \"global\"\nrate = \"1/h\"\nburst = 1\n";

#[test]
fn a_change_before_the_watch_has_begun_is_seen_too() {
    let upstream = Upstream::fine();
    for _ in 0..5 {
        let filed = Filed::new(&upstream, "");
        filed.put(NOTHING);
        wait_until("the change is taken", || filed.gateway().ask(get("/v1/charges", LIVE)).status() == 429);
    }
}

#[test]
fn a_file_written_in_place_and_a_link_that_is_swapped_are_taken() {
    let upstream = Upstream::fine();
    let filed = Filed::new(&upstream, "");
    std::fs::write(filed.folder.path("tollgate.toml"), Setup::new(upstream.address()).with(NOTHING).toml()).unwrap();
    wait_until("the change is taken", || filed.gateway().ask(get("/v1/charges", LIVE)).status() == 429);

    // As orchestrators mount a folder: the files are links through one link that is swapped.
    let folder = Folder::new();
    for (version, rest) in [("one", ""), ("two", NOTHING)] {
        std::fs::create_dir(folder.path(version)).unwrap();
        std::fs::write(folder.path(version).join("tollgate.toml"), Setup::new(upstream.address()).with(rest).toml())
            .unwrap();
        std::fs::write(folder.path(version).join("keys.toml"), keys()).unwrap();
    }
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, folder.path(name)).unwrap();
    link("one", "..data");
    link("..data/tollgate.toml", "tollgate.toml");
    link("..data/keys.toml", "keys.toml");
    let gateway = Running::start(Source::File(folder.path("tollgate.toml")));
    assert_eq!(gateway.ask(get("/v1/charges", LIVE)).status(), 200);
    link("two", "..next");
    std::fs::rename(folder.path("..next"), folder.path("..data")).unwrap();
    wait_until("the change is taken", || gateway.ask(get("/v1/charges", LIVE)).status() == 429);
}

#[test]
fn an_access_log_beside_the_configuration_reloads_nothing() {
    let upstream = Upstream::fine();
    let filed = Filed::new(&upstream, "[log]\naccess = \"access.jsonl\"\n");
    let mut client = filed.gateway().connect();
    for _ in 0..50 {
        assert_eq!(client.ask(get("/v1/charges", LIVE)).status(), 200);
    }
    let lines = || std::fs::read_to_string(filed.folder.path("access.jsonl")).unwrap_or_default().lines().count();
    wait_until("the log is written", || lines() == 50);
    filed.put(&format!("[log]\naccess = \"access.jsonl\"\n{NOTHING}"));
    wait_until("the change is taken", || client.ask(get("/v1/charges", LIVE)).status() == 429);
    assert_eq!((filed.reloads("success"), filed.reloads("failure")), (2.0, 0.0));
}

#[test]
fn a_linked_file_that_is_edited_where_it_lies_is_taken() {
    let upstream = Upstream::fine();
    let filed = Filed::new(&upstream, &limits("rate = \"1/h\"", "rate = \"1/h\"\nburst = 9"));
    let elsewhere = Folder::new();
    let (link, real) = (filed.folder.path("tollgate.toml"), elsewhere.path("real.toml"));
    std::fs::rename(&link, &real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    filed.gateway().handle().reload().unwrap();
    let before = filed.reloads("success");
    elsewhere.put("real.toml", &Setup::new(filed.upstream).with(&limits("rate = \"2/h\"", "rate = \"2/h\"")).toml());
    wait_until("the edited file is taken", || filed.reloads("success") > before);
}

/// Row 96 of the catalogue of hostile inputs.
#[test]
fn what_a_key_began_before_it_was_revoked_ends_well() {
    let (go, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let upstream = Upstream::answering(move |_| {
        let _ = told.lock().unwrap().recv();
        ok("late")
    });
    let filed = Filed::new(&upstream, "");
    let mut begun = filed.gateway().connect();
    begun.send(get("/v1/charges", LIVE));
    wait_until("the upstream has it", || upstream.requests().len() == 1);
    filed.folder.put("keys.toml", &key("key_live", LIVE, "acct_a", "live", "revoked = true"));
    wait_until("the key is revoked", || filed.reloads("success") == 2.0);
    assert_eq!(filed.gateway().ask(get("/v1/charges", LIVE)).status(), 401);
    drop(go);
    assert_eq!(begun.answer().text(), "late");
    assert_eq!(begun.ask(get("/v1/charges", LIVE)).status(), 401, "the next one of the same connection");
}

/// Rows 154 and 157: what stands in the place of a file and would keep its reader waiting.
#[test]
fn what_is_no_file_holds_up_neither_requests_nor_the_next_reload() {
    let upstream = Upstream::fine();
    let filed = Filed::new(&upstream, "");
    let place = |name: &str| filed.folder.path(name);
    for (nth, name) in ["tollgate.toml", "keys.toml"].into_iter().enumerate() {
        let whole = std::fs::read_to_string(place(name)).unwrap();
        let before = filed.reloads("failure");
        let made = std::process::Command::new("mkfifo").arg(place("fifo")).status().unwrap();
        assert!(made.success());
        std::fs::rename(place("fifo"), place(name)).unwrap();
        wait_until("the FIFO is refused", || filed.reloads("failure") == before + 1.0);
        std::fs::remove_file(place(name)).unwrap();
        filed.gateway().handle().reload().unwrap_err();
        std::os::unix::fs::symlink(place(name), place(name)).unwrap();
        filed.gateway().handle().reload().unwrap_err();
        assert_eq!(filed.gateway().ask(get("/v1/charges", LIVE)).status(), 200, "the last good one goes on");
        filed.folder.put(name, &whole);
        filed.put(&limits("rate = \"1/h\"", &format!("rate = \"{}/h\"", nth + 7)));
        let before = filed.reloads("success");
        filed.gateway().handle().reload().unwrap();
        assert!(filed.reloads("success") > before);
    }
}
