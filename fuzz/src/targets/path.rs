//! The canonical path and the endpoint it leads to: no spelling of a path dodges.

use http::Method;
use http::uri::PathAndQuery;
use std::path::Path;
use std::sync::OnceLock;
use tollgate::config::{self, Config};
use tollgate::engine::{EndpointId, Seed};
use tollgate::path::{CanonicalPath, MAX_BYTES, canonical};

/// Stripe's endpoints, and some with shapes that those do not have.
const CONFIG: &str = r#"
presets = ["stripe"]
[auth]
mode = "passthrough"
[upstreams.api]
servers = ["http://127.0.0.1:9"]
[[endpoints]]
match = "GET /a/b"
[[endpoints]]
match = "GET /a/{x}/c"
[[endpoints]]
match = "GET /{y}/b/d"
[[endpoints]]
match = "HEAD /a/b"
[[endpoints]]
match = "GET /A/b"
[[endpoints]]
match = "POST /"
"#;

/// A letter for the method, then the path as a client sends it.
pub(super) fn run(data: &[u8]) {
    let Some((&letter, raw)) = data.split_first() else { return };
    let method = [Method::GET, Method::POST, Method::HEAD, Method::DELETE][usize::from(letter) % 4].clone();
    let Ok(path) = canonical(raw) else { return };
    assert_form(&path);
    let endpoint = find(&method, &path);
    let again = canonical(path.as_str().as_bytes()).expect("a canonical path is one");
    assert_eq!(again.as_str(), path.as_str(), "the form is a fixed point");
    assert_eq!(find(&method, &again), endpoint);
    for (disguise, same_path) in disguises(path.as_str()) {
        if disguise.len() > MAX_BYTES {
            continue;
        }
        let seen = canonical(disguise.as_bytes()).unwrap_or_else(|error| panic!("{disguise:?}: {error}"));
        assert_eq!(find(&method, &seen), endpoint, "{:?} as {disguise:?}", path.as_str());
        assert!(!same_path || seen == path, "{:?} as {disguise:?} became {:?}", path.as_str(), seen.as_str());
    }
}

fn assert_form(path: &CanonicalPath<'_>) {
    let text = path.as_str();
    assert!(text.starts_with('/') && text.is_ascii() && text.len() <= MAX_BYTES, "{text:?}");
    assert!(!text.contains("//") && !text.contains(['\\', '#', '?']), "{text:?}");
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
    let is_dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    assert!(!text.split('/').any(|segment| is_dots(segment) || segment.starts_with(';')), "{text:?}");
    let lower = text.to_ascii_lowercase();
    assert!(!["%2f", "%5c", "%00", "%2e", "%7f"].iter().any(|escape| lower.contains(escape)), "{text:?}");
    assert!(PathAndQuery::try_from(text).is_ok_and(|parsed| parsed.path() == text), "{text:?}");
}

/// The same path in other spellings, and whether their canonical form must be the same too.
fn disguises(path: &str) -> Vec<(String, bool)> {
    let escape = |byte: u8| {
        if byte.is_ascii_alphanumeric() { format!("%{byte:02x}") } else { char::from(byte).to_string() }
    };
    let mut every = String::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            // An escape stays one: its digits are no letters.
            every.extend(['%']);
            every.extend(rest.by_ref().take(2).map(|digit| char::from(digit.to_ascii_lowercase())));
        } else {
            every += &escape(byte);
        }
    }
    vec![
        (every, true),
        (path.replace('/', "//"), true),
        (path.replace('/', "/./"), true),
        (path.replace('/', "/%2e/"), true),
        (format!("/x/..{path}"), true),
        (format!("/../%2E%2e{path}"), true),
        (format!("/x;y/..;z{path}"), true),
        (path.replace('/', "/;a=b/"), true),
        (format!("{path}/"), path.ends_with('/')),
        (format!("{};p=1", path.trim_end_matches('/')).replacen(';', "/;", usize::from(path == "/")), false),
    ]
}

fn find(method: &Method, path: &CanonicalPath<'_>) -> Option<EndpointId> {
    static CONFIGURED: OnceLock<Config> = OnceLock::new();
    let parse =
        || config::parse(CONFIG, Path::new("fuzz.toml"), &Seed([1, 2])).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    CONFIGURED.get_or_init(parse).index.find(method, path).map(|found| found.endpoint())
}
