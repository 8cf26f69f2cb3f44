//! The access log: whatever a request says, its record is one line of JSON that says the same. What reads traces begins here.

use super::lines;
use crate::support::stub::{Stack, peer};
use http::{Method, Request};
use std::cell::RefCell;
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use tollgate::config;
use tollgate::engine::{Nanos, Seed};
use tollgate::gateway::Home;
use tollgate::gateway::access_log::{FIELD_BYTES, Line};
use tollgate::gateway::exchange::{Draft, Exchange};

const CONFIG: &str = "[auth]\nkeys_file = \"keys.toml\"\n[upstreams.api]\nservers = [\"http://127.0.0.1:9\"]\n";

/// The method, the request's id, the connected account, a fact and the path on a line each; then names and values by turns.
pub(super) fn run(data: &[u8]) {
    thread_local! { static HOME: RefCell<Option<Rc<Home>>> = const { RefCell::new(None) }; }
    let home = HOME.with(|home| Rc::clone(home.borrow_mut().get_or_insert_with(home_of_one_thread)));
    let text = String::from_utf8_lossy(data);
    let [method, id, connected, fact, path, values] = lines::<6>(text.as_bytes()).map(String::from_utf8_lossy);
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let Ok(request) = Request::builder().header("request-id", &*id).body(()) else { return };
    let mut exchange = Exchange::begin(&home, &peer("2001:db8::7"), &request.into_parts().0.into());
    let number = data.iter().fold(0_u64, |sum, &byte| sum.wrapping_mul(257).wrapping_add(byte.into()));
    exchange.status = 100 + (number % 500) as u16;
    let mut words = values.split('\n');
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        pairs.push((name.into(), value.into()));
    }
    let at = jiff::Timestamp::from_nanosecond(i128::from(number >> 1)).expect("a time");
    let (values, facts) = (pairs, vec![fact.as_ref().into()]);
    let connected = Some(connected.as_ref().into());
    let draft = Draft { at, method, path: path.as_ref().into(), principal: None, connected, values, facts };
    let line = Line { exchange: &exchange, draft: &draft, ended: Nanos(number >> 1) };
    assert_line(&line, &line.to_json().expect("a line"));
}

fn home_of_one_thread() -> Rc<Home> {
    let config = config::parse(CONFIG, Path::new("fuzz.toml"), &Seed([17, 42]));
    Stack::new(config.unwrap_or_else(|mistakes| panic!("{mistakes}")), "keys = []").home
}

fn assert_line(line: &Line<'_>, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let text = text.strip_suffix('\n').expect("a line end");
    // What breaks a line, or moves a terminal's cursor, for whoever prints the log.
    let breaks = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
    assert!(!text.contains(breaks), "{text:?}");
    let record: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let draft = line.draft;
    let said = |name: &str| record[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {text}")).to_owned();
    let cut = |whole: &str| whole[..whole.floor_char_boundary(FIELD_BYTES)].to_owned();
    assert_eq!((said("method"), said("path")), (cut(draft.method.as_str()), cut(&draft.path)));
    assert_eq!(said("connected_account"), cut(draft.connected.as_deref().unwrap_or_default()));
    assert_eq!(said("ts").parse::<jiff::Timestamp>().ok(), Some(draft.at));
    assert_eq!(said("client").parse::<IpAddr>().ok(), Some(line.exchange.client));
    assert_eq!(record["status"], line.exchange.status);
    assert!(record["duration_ms"].as_f64().is_some_and(|duration_ms| duration_ms.is_finite() && duration_ms >= 0.0));
    for (name, _) in &draft.values {
        // The last of equal names is what counts.
        let value = draft.values.iter().rev().find(|other| other.0 == *name).map(|other| cut(&other.1));
        assert_eq!(record["partition"][&**name].as_str(), value.as_deref(), "{name:?}");
    }
    assert!(record["facts"].as_array().is_some_and(|facts| facts.len() == draft.facts.len()));
}
