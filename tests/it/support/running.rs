//! A whole gateway in this process, from a configuration's text, and what it says of itself.

use super::wire::{Answer, Wire};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use tollgate::process::{Gateway, Handle, Source};

/// The account `acct_a`, live.
pub(crate) const LIVE: &str = "sk_live_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// The account `acct_a`, test.
pub(crate) const TEST: &str = "sk_test_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// The account `acct_b`, live.
pub(crate) const OTHER: &str = "sk_live_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
/// A key of `acct_a` that may list charges only, for itself and for `acct_child`.
pub(crate) const RESTRICTED: &str = "rk_live_cccccccccccccccccccccccccccccccccccccccc";
/// A key of `acct_a` that was revoked.
pub(crate) const REVOKED: &str = "sk_live_dddddddddddddddddddddddddddddddddddddddd";
/// A key of `acct_a` that has expired.
pub(crate) const EXPIRED: &str = "sk_live_eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";
/// A key that nobody issued.
pub(crate) const UNKNOWN: &str = "sk_live_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";

/// One `[[keys]]` entry.
pub(crate) fn key(id: &str, secret: &str, account: &str, mode: &str, more: &str) -> String {
    let digest = Sha256::digest(secret.as_bytes());
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[keys]]\nid = \"{id}\"\nhash = \"sha256:{hash}\"\naccount = \"{account}\"\nmode = \"{mode}\"\n{more}\n")
}

/// All keys above but the unknown one.
pub(crate) fn keys() -> String {
    let restricted = "kind = \"restricted\"\nallow = [\"charges.list\"]\nconnected_accounts = [\"acct_child\"]";
    [
        key("key_live", LIVE, "acct_a", "live", "connected_accounts = \"*\""),
        key("key_test", TEST, "acct_a", "test", "connected_accounts = \"*\""),
        key("key_other", OTHER, "acct_b", "live", ""),
        key("key_restricted", RESTRICTED, "acct_a", "live", restricted),
        key("key_revoked", REVOKED, "acct_a", "live", "revoked = true"),
        key("key_expired", EXPIRED, "acct_a", "live", "expires_at = 2020-01-01T00:00:00Z"),
    ]
    .concat()
}

/// Endpoints by name, as tests use them.
pub(crate) const ENDPOINTS: &str = r#"
[[endpoints]]
match = "GET /v1/charges"
name = "charges.list"
[[endpoints]]
match = "POST /v1/charges"
name = "charges.create"
[[endpoints]]
match = "POST /v1/payouts"
name = "payouts.create"
[[endpoints]]
match = "GET /v1/files/{file}"
name = "files.retrieve"
"#;

/// A configuration in the making: one worker, free ports, one upstream.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Lines of `[server]`.
    pub(crate) server: String,
    /// Lines of `[upstreams.api]`.
    pub(crate) upstream: String,
    /// Everything else.
    pub(crate) rest: String,
    pub(crate) keys: String,
    pub(crate) threads: usize,
}

impl Setup {
    /// The endpoints above in front of `upstream`, without limits.
    pub(crate) fn new(upstream: SocketAddr) -> Setup {
        Setup {
            server: String::new(),
            upstream: format!("servers = [\"http://{upstream}\"]\n"),
            rest: ENDPOINTS.to_owned(),
            keys: keys(),
            threads: 1,
        }
    }

    /// The same with more tables.
    pub(crate) fn with(mut self, rest: &str) -> Setup {
        self.rest.push_str(rest);
        self
    }

    /// The same with more lines of `[server]`.
    pub(crate) fn server(mut self, lines: &str) -> Setup {
        self.server.push_str(lines);
        self.server.push('\n');
        self
    }

    /// The same with more lines of `[upstreams.api]`.
    pub(crate) fn upstream(mut self, lines: &str) -> Setup {
        self.upstream.push_str(lines);
        self.upstream.push('\n');
        self
    }

    pub(crate) fn toml(&self) -> String {
        let Setup { server, upstream, rest, threads, .. } = self;
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nthreads = {threads}\n{server}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [auth]\nkeys_file = \"keys.toml\"\n[upstreams.api]\n{upstream}\n{rest}"
        )
    }

    #[track_caller]
    pub(crate) fn start(&self) -> Running {
        Running::start(Source::Text { config: self.toml(), keys: self.keys.clone() })
    }
}

/// A gateway that is stopped when it is dropped.
pub(crate) struct Running {
    gateway: Option<Gateway>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Running {
    #[track_caller]
    pub(crate) fn start(source: Source) -> Running {
        Running::of(Gateway::start(source).unwrap_or_else(|error| panic!("{error}")))
    }

    pub(crate) fn of(gateway: Gateway) -> Running {
        let (address, admin) = (gateway.addresses()[0], gateway.admin().unwrap());
        Running { gateway: Some(gateway), address, admin }
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    pub(crate) fn handle(&self) -> Handle {
        self.gateway().handle()
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Wire {
        Wire::connect(self.address)
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        self.connect().ask(request)
    }

    /// A page of the admin listener.
    #[track_caller]
    pub(crate) fn admin(&self, path: &str) -> Answer {
        Wire::connect(self.admin).ask(format!("GET {path} HTTP/1.1\r\nhost: admin\r\n\r\n"))
    }

    /// Each server of the upstream `api`, as the admin API shows it.
    #[track_caller]
    pub(crate) fn servers(&self) -> Vec<serde_json::Value> {
        let answer = Wire::connect(self.admin).ask("GET /v1/upstreams HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let shown: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
        assert_eq!(shown["upstreams"][0]["name"], "api", "{shown}");
        shown["upstreams"][0]["servers"].as_array().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn metrics(&self) -> Scrape {
        Scrape::parse(self.admin("/metrics").text())
    }

    /// Waits for its end, which something else must have asked for.
    pub(crate) fn join(mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.handle().stop();
            gateway.join();
        }
    }
}

/// A scrape: every series with its value.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) text: String,
    /// By `name{labels}` as printed.
    pub(crate) series: BTreeMap<String, f64>,
}

impl Scrape {
    fn parse(text: &str) -> Scrape {
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().unwrap()))
        });
        Scrape { series: series.collect(), text: text.to_owned() }
    }

    /// The sum of all series of this name with all of these labels; 0 where there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |series: &str| {
            let (own, rest) = series.split_once('{').unwrap_or((series, ""));
            let has = |label: &(&str, &str)| rest.contains(&format!("{}=\"{}\"", label.0, label.1));
            own == name && labels.iter().all(has)
        };
        self.series.iter().filter(|(series, _)| fits(series)).map(|(_, value)| value).sum()
    }

    /// Every exchange and every slot in flight.
    pub(crate) fn in_flight(&self) -> f64 {
        self.sum("tollgate_in_flight", &[])
    }
}

/// A folder that is gone when it is dropped, for tests that change files.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a whole file in place at once, as careful editors do.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let draft = self.path(&format!(".{name}.new"));
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, self.path(name)).unwrap();
    }
}

/// A request without a body.
pub(crate) fn get(path: &str, secret: &str) -> String {
    request("GET", path, secret, "")
}

/// A POST with a small form.
pub(crate) fn post(path: &str, secret: &str) -> String {
    request("POST", path, secret, "content-type: application/x-www-form-urlencoded\r\ncontent-length: 8\r\n")
        + "amount=1"
}

/// A request's head with further header lines.
pub(crate) fn request(method: &str, path: &str, secret: &str, lines: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: api.test\r\nauthorization: Bearer {secret}\r\n{lines}\r\n")
}
