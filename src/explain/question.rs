//! A request that nobody sends: put together from what somebody wants to know.

use crate::config::Config;
use crate::engine::{Mode, Seed};
use crate::keys::{Keyring, Principal};
use crate::path;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use std::net::{IpAddr, Ipv4Addr};

/// Headers, and keys of a form, that may be given.
pub const MAX_GIVEN: usize = 100;

/// What is wrong with a question.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadQuestion(pub String);

/// A question as it is asked; what is left out is assumed.
#[derive(Clone, Debug, Default)]
pub struct Written<'a> {
    /// Default GET.
    pub method: Option<&'a str>,
    /// The path, with a query if there is one.
    pub path: &'a str,
    /// Default the key's account, or a made-up one.
    pub account: Option<&'a str>,
    /// "live" or "test". Default the key's, or live.
    pub mode: Option<&'a str>,
    /// A key by its id. Default one that may do everything.
    pub key_id: Option<&'a str>,
    /// The account acted for.
    pub connected_account: Option<&'a str>,
    /// The client's address.
    pub ip: Option<&'a str>,
    /// Headers as `Name: value`.
    pub headers: Vec<&'a str>,
    /// Keys of the form in the body as `key=value`.
    pub form: Vec<&'a str>,
    /// A body of JSON, in place of a form.
    pub json: Option<&'a str>,
}

/// A question that can be answered.
#[derive(Clone, Debug)]
pub struct Question {
    pub(super) method: Method,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) client: IpAddr,
    pub(super) form: String,
    pub(super) json: String,
    pub(super) principal: Principal,
    pub(super) assumed: Vec<String>,
}

/// Documentation's own address (RFC 5737).
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

impl Question {
    /// Reads a question. `keys` are those there are, if they are known; `seed` is that of `config`.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub fn new(
        written: &Written<'_>,
        config: &Config,
        keys: Option<&Keyring>,
        seed: &Seed,
    ) -> Result<Question, BadQuestion> {
        let mut assumed = Vec::new();
        let method = written.method.unwrap_or("GET");
        let method: Method = method.parse().map_err(|_| bad(format!("`{}` is no method", method.escape_debug())))?;
        let (path, query) = written.path.split_once('?').unwrap_or((written.path, ""));
        let path = path::canonical(path.as_bytes()).map_err(|error| bad(format!("{error}")))?;
        let mut headers = headers(&written.headers)?;
        if let Some(connected) = written.connected_account {
            let value = HeaderValue::try_from(connected).map_err(|_| bad("the connected account is no account"))?;
            headers.insert(crate::fields::STRIPE_ACCOUNT, value);
        }
        let host = host(config, &headers, &mut assumed);
        let client = match written.ip {
            Some(ip) => ip.parse().map_err(|_| bad("`ip` is no address"))?,
            None => NOBODY,
        };
        let principal = principal(written, keys, seed, &mut assumed)?;
        Ok(Question {
            method,
            host,
            path: path.as_str().to_owned(),
            query: query.to_owned(),
            headers,
            client,
            form: form(&written.form)?,
            json: json(written)?,
            principal,
            assumed,
        })
    }
}

fn bad(why: impl Into<String>) -> BadQuestion {
    BadQuestion(why.into())
}

fn headers(written: &[&str]) -> Result<HeaderMap, BadQuestion> {
    if written.len() > MAX_GIVEN {
        return Err(bad(format!("more than {MAX_GIVEN} headers")));
    }
    let mut headers = HeaderMap::new();
    for line in written {
        let split = line.split_once(':');
        let (name, value) = split.ok_or_else(|| bad("a header is written `Name: value`"))?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| bad("that is no header's name"))?;
        let value = HeaderValue::try_from(value.trim()).map_err(|_| bad(format!("that is no value for `{name}`")))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The host that is asked for; without one, the first that a route names.
fn host(config: &Config, headers: &HeaderMap, assumed: &mut Vec<String>) -> String {
    if let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
        let authority = host.parse::<Uri>().ok();
        return authority.and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_else(|| host.to_owned());
    }
    if config.route("", "/").is_some() {
        return String::new();
    }
    let named = config.routes.iter().flat_map(|route| route.hosts.iter()).find(|host| !host.contains('*'));
    let host = named.map(ToString::to_string).unwrap_or_default();
    if !host.is_empty() {
        assumed.push(format!("host {host}"));
    }
    host
}

fn form(written: &[&str]) -> Result<String, BadQuestion> {
    if written.len() > MAX_GIVEN {
        return Err(bad(format!("more than {MAX_GIVEN} keys of a form")));
    }
    let mut form = String::new();
    for pair in written {
        let (key, value) = pair.split_once('=').ok_or_else(|| bad("a form is written `key=value`"))?;
        if !form.is_empty() {
            form.push('&');
        }
        encode(key, &mut form);
        form.push('=');
        encode(value, &mut form);
    }
    Ok(form)
}

fn json(written: &Written<'_>) -> Result<String, BadQuestion> {
    let Some(text) = written.json else { return Ok(String::new()) };
    if !written.form.is_empty() {
        return Err(bad("a body is a form or JSON, not both"));
    }
    let read: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
    read.map_err(|error| bad(format!("the body is not JSON: {error}")))?;
    Ok(text.to_owned())
}

fn encode(text: &str, form: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~[]".contains(&byte) {
            form.push(char::from(byte));
        } else {
            form.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Whom the request is said to come from.
fn principal(
    written: &Written<'_>,
    keys: Option<&Keyring>,
    seed: &Seed,
    assumed: &mut Vec<String>,
) -> Result<Principal, BadQuestion> {
    let mode = match written.mode {
        None => None,
        Some("live") => Some(Mode::Live),
        Some("test") => Some(Mode::Test),
        Some(_) => return Err(bad("a mode is live or test")),
    };
    let by_id = |id: &str| keys.and_then(|keys| keys.principals().find(|principal| *principal.id == *id));
    if let Some(known) = written.key_id.and_then(by_id) {
        if written.account.is_some_and(|account| *account != *known.account) {
            return Err(bad(format!("the key {} belongs to the account {}", known.id, known.account)));
        }
        if mode.is_some_and(|mode| mode != known.mode) {
            return Err(bad(format!("the key {} is a {} key", known.id, known.mode.as_str())));
        }
        return Ok(known.clone());
    }
    let mut names = [written.account, written.key_id].into_iter().flatten();
    if let Some(name) = names.find(|name| !Principal::is_name(name)) {
        return Err(bad(format!("`{}` can be no account's and no key's id", name.escape_debug())));
    }
    let id = written.key_id.unwrap_or("key_supposed");
    let account = written.account.unwrap_or("acct_supposed");
    match (written.key_id, keys) {
        (Some(id), Some(_)) => assumed.push(format!("key {id} (nobody has it), which may do everything")),
        _ => assumed.push("a key that may do everything".to_owned()),
    }
    if written.account.is_none() {
        assumed.push(format!("account {account}"));
    }
    if mode.is_none() {
        assumed.push("mode live".to_owned());
    }
    Ok(Principal::supposed(seed, id, account, mode.unwrap_or(Mode::Live)))
}
