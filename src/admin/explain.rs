//! `GET /v1/explain`: what a request would meet right now. Takes nothing.

use super::api::Reply;
use crate::engine::Clock;
use crate::explain::{Question, Written, explain};
use crate::gateway::{Authority, Shared};
use crate::path;
use http::StatusCode;

/// Limits that do not apply and are told of all the same.
const MOST_OTHERS: usize = 200;
/// What may be asked.
const KEYS: &str =
    "method, path, account, mode, key_id, connected_account, ip, json_body, header=NAME:VALUE, form=KEY=VALUE";

/// Answers a question written as a query; `header` and `form` may come several times.
pub(super) fn answer(shared: &Shared, query: &str) -> Reply {
    let pairs: Vec<(String, String)> = query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect();
    let written = match written(&pairs) {
        Ok(written) => written,
        Err(why) => return Reply::refuse(StatusCode::BAD_REQUEST, &why),
    };
    let snapshot = shared.current();
    let keys = match &*snapshot.authority {
        Authority::Keys(keyring) => Some(keyring),
        Authority::Passthrough(_) | Authority::Waiting => None,
    };
    match Question::new(&written, &snapshot.config, keys, &shared.engine.seed()) {
        Ok(question) => Reply::ok(explain(&question, &snapshot.config, &shared.engine, shared.time.now(), MOST_OTHERS)),
        Err(bad) => Reply::refuse(StatusCode::BAD_REQUEST, &bad.to_string()),
    }
}

fn pair(pair: &str) -> (String, String) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    (decoded(key), decoded(value))
}

fn decoded(text: &str) -> String {
    let bytes: Vec<u8> = path::decoded(&text.replace('+', " ")).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn written(pairs: &[(String, String)]) -> Result<Written<'_>, String> {
    let mut written = Written::default();
    for (key, value) in pairs {
        let value = value.as_str();
        let place = match key.as_str() {
            "header" => {
                written.headers.push(value);
                continue;
            }
            "form" => {
                written.form.push(value);
                continue;
            }
            "path" if written.path.is_empty() => {
                written.path = value;
                continue;
            }
            "method" => &mut written.method,
            "account" => &mut written.account,
            "mode" => &mut written.mode,
            "key_id" => &mut written.key_id,
            "connected_account" => &mut written.connected_account,
            "ip" => &mut written.ip,
            "json_body" => &mut written.json,
            _ => return Err(format!("there are {KEYS}, each but the last two once")),
        };
        if place.replace(value).is_some() {
            return Err(format!("`{key}` is given twice"));
        }
    }
    if written.path.is_empty() {
        return Err(format!("`path` is missing; there are {KEYS}"));
    }
    Ok(written)
}
