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
//! account = "acct_1"      # also: mode, connected, key, ip, headers; see `Entry`
//! times = 15              # so many such requests, each with this verdict
//! hold = "a"              # it stays in flight until `end = "a"` or `cancel = "a"`; otherwise it ends at once
//! expect = "admit"        # or { limit = …, reason = …, retry_after = … }; without retry_after there must be none
//! shadow = ["name"]       # shadow limits that would have refused
//! candidate = ["name"]    # limits whose candidate would have refused
//! ```
//! Other entries have one of `end`, `cancel`, `sweep = true`, `reload = ''' … '''` (another configuration).

use http::Method;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tollgate::config::{self, Config, Extractor};
use tollgate::engine::class::MAX_VALUES;
use tollgate::engine::{Access, Id, IdKind, Mode, Nanos, Payers, RequestClass, Seed, lot};
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
    let (method, path) = entry.request.as_deref().unwrap().split_once(' ').unwrap();
    let method: Method = method.parse().unwrap();
    let path = canonical(path.as_bytes()).unwrap();
    let found = config.index.find(&method, &path);
    let unknown = config.other(if method.is_safe() { Access::Read } else { Access::Write });
    let id = found.map_or(unknown, |found| found.endpoint());
    let endpoint = &config.endpoints[id.0 as usize];
    let account = entry.account();
    let name = |kind, name: Option<&str>, default| seed.id(kind, name.unwrap_or(default).as_bytes());
    let mut values = [Id::NONE; MAX_VALUES];
    for (value, extractor) in values.iter_mut().zip(&config.policy.endpoint(id).extractors) {
        let text = match config.extractor_at(id, *extractor).unwrap() {
            Extractor::Path(name) => {
                let template = endpoint.template.as_ref().unwrap();
                let place = template.names().iter().position(|known| known == name).unwrap();
                found.as_ref().unwrap().param(place)
            }
            Extractor::Query(_) | Extractor::Form(_) | Extractor::Json(_) | Extractor::FirstOf(_) => None,
            Extractor::Header(name) => entry.headers.get(name.as_str()).map(|text| Cow::Borrowed(text.as_str())),
        };
        *value = text.map_or(Id::NONE, |text| seed.id(IdKind::Value, text.as_bytes()));
    }
    RequestClass {
        mode: if entry.mode() == "test" { Mode::Test } else { Mode::Live },
        access: endpoint.access,
        endpoint: id,
        route: config.route("api.example.com", path.as_str()).unwrap(),
        profile: config.profile(account),
        cost: config.policy.endpoint(id).cost,
        account: seed.id(IdKind::Account, account.as_bytes()),
        connected: entry.connected.as_deref().map_or(Id::NONE, |name| seed.id(IdKind::Account, name.as_bytes())),
        key: name(IdKind::Key, entry.key.as_deref(), "key_1"),
        ip: name(IdKind::Ip, entry.ip.as_deref(), "192.0.2.1"),
        values,
        facts: 0,
        payers: Payers::Account,
        lot: lot(account),
    }
}
