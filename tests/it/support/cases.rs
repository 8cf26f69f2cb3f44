//! The cases of `tests/it/cases/*.toml`: a policy, a timeline, and the verdicts that are expected. Whatever decides (the engine,
//! the gateway's stack, a replay) runs them and must agree.
//!
//! ```toml
//! about = "what the case shows"
//! policy = ''' … '''      # a configuration; the upstream and `passthrough` come with it
//!
//! [[timeline]]            # in the order of time
//! at = "1s"               # since the start
//! request = "POST /v1/payouts"
//! account = "acct_1"      # also: mode, connected, key, ip, headers, form (the body); see `Entry`
//! times = 15              # so many such requests, each with this verdict
//! hold = "a"              # it stays in flight until `end = "a"` or `cancel = "a"`; otherwise it ends at once
//! expect = "admit"        # or { limit = …, reason = …, retry_after = … }; without retry_after there must be none
//! shadow = ["name"]       # shadow limits that would have refused
//! candidate = ["name"]    # limits whose candidate would have refused
//! ```
//! Other entries have one of `end`, `cancel`, `sweep = true`, `reload = ''' … '''` (another configuration).

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tollgate::body::Body;
use tollgate::classification::{self, Asked, Classifier};
use tollgate::config::{self, Config};
use tollgate::engine::{Mode, Nanos, RequestClass, Seed};
use tollgate::keys::Principal;
use tollgate::path::canonical;

/// One file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) about: String,
    pub(crate) policy: String,
    pub(crate) timeline: Vec<Entry>,
}

/// One thing that happens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    at: String,
    pub(crate) request: Option<String>,
    account: Option<String>,
    mode: Option<String>,
    pub(crate) connected: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) ip: Option<String>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) form: String,
    pub(crate) times: Option<u32>,
    pub(crate) hold: Option<String>,
    pub(crate) expect: Option<Expected>,
    #[serde(default)]
    pub(crate) shadow: Vec<String>,
    #[serde(default)]
    pub(crate) candidate: Vec<String>,
    pub(crate) end: Option<String>,
    pub(crate) cancel: Option<String>,
    #[serde(default)]
    pub(crate) sweep: bool,
    pub(crate) reload: Option<String>,
}

/// What a request should get.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub(crate) enum Expected {
    /// `"admit"`.
    Word(Admit),
    /// The refusal.
    Reject(Refused),
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Admit {
    Admit,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refused {
    pub(crate) limit: String,
    pub(crate) reason: String,
    pub(crate) retry_after: Option<String>,
}

impl Entry {
    /// When it happens.
    pub(crate) fn at(&self) -> Nanos {
        Nanos(nanos(&self.at))
    }

    pub(crate) fn account(&self) -> &str {
        self.account.as_deref().unwrap_or("acct_1")
    }

    pub(crate) fn mode(&self) -> &str {
        self.mode.as_deref().unwrap_or("live")
    }
}

fn nanos(duration: &str) -> u64 {
    u64::try_from(humantime::parse_duration(duration).unwrap().as_nanos()).unwrap()
}

/// A duration as the cases write it.
pub(crate) fn written(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// All cases, by file.
pub(crate) fn cases() -> Vec<(PathBuf, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cases");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(&file).unwrap();
            let case = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            (file, case)
        })
        .collect()
}

/// The configuration of a case.
pub(crate) fn configuration(policy: &str, seed: &Seed) -> Config {
    let rest = "\n[auth]\nmode = 'passthrough'\n[upstreams.api]\nservers = ['http://127.0.0.1:9']\n";
    config::parse(&format!("{policy}{rest}"), Path::new("case.toml"), seed).unwrap_or_else(|errors| panic!("{errors}"))
}

/// What classification makes of an entry's request.
pub(crate) fn classified(entry: &Entry, config: &Config, seed: &Seed) -> RequestClass {
    let (method, target) = entry.request.as_deref().unwrap().split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = canonical(path.as_bytes()).unwrap();
    let headers = entry.headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let mode = if entry.mode() == "test" { Mode::Test } else { Mode::Live };
    let principal = Principal::supposed(seed, entry.key.as_deref().unwrap_or("key_1"), entry.account(), mode);
    let asked = Asked {
        method: &method.parse().unwrap(),
        host: "api.example.com",
        path: path.as_str(),
        headers: &headers,
        connected: Ok(entry.connected.as_deref()),
        client: classification::address_id(seed, entry.ip.as_deref().unwrap_or("192.0.2.1").parse().unwrap()),
    };
    let mut class = Classifier { config, seed: *seed, principal: &principal }.classify(&asked).class.unwrap();
    if let Some(inspection) = config.inspection(class.endpoint) {
        let body = if entry.form.is_empty() { Body::Empty } else { Body::Form(entry.form.as_bytes()) };
        classification::take(&mut class, &inspection.read(body, query), seed);
    }
    class
}
