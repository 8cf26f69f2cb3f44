//! Upstreams for tests.

use super::connect::Target;
use super::group::Group;
use super::server::Server;
use crate::config::{Config, Upstream};
use crate::engine::Seed;
use crate::metrics::Metrics;
use std::path::Path;
use std::sync::Arc;

/// The upstream `api` with these servers and defaults for all else.
pub(super) fn upstream(urls: &[&str]) -> Upstream {
    let text = format!("[auth]\nmode = \"passthrough\"\n[upstreams.api]\nservers = {urls:?}\n");
    let Config { upstreams, .. } = crate::config::parse(&text, Path::new("t.toml"), &Seed([1, 2])).unwrap();
    upstreams[0].clone()
}

/// The same as it runs.
pub(super) fn group(urls: &[&str]) -> Arc<Group> {
    Group::new(&upstream(urls), &Arc::default(), None, &Arc::default(), &Metrics::new().unwrap().upstreams)
}

/// So many servers of one upstream.
pub(super) fn servers(count: usize) -> Box<[Arc<Server>]> {
    let urls: Vec<String> = (0..count).map(|nth| format!("http://10.0.0.1:{}", nth + 1)).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    group(&urls).servers()
}

/// What a URL is connected to by.
pub(super) fn target(url: &str) -> Target {
    let upstream = upstream(&[url]);
    Target::new(&upstream.servers[0], &Arc::default())
}
