//! `GET /v1/upstreams`: every server of every upstream, and how it does.

use super::api::Reply;
use crate::engine::{Clock, Nanos};
use crate::gateway::Shared;
use crate::upstream::{Group, Server};
use serde::Serialize;

#[derive(Serialize)]
struct Listing {
    upstreams: Vec<UpstreamView>,
}

#[derive(Serialize)]
struct UpstreamView {
    name: String,
    in_flight: u32,
    /// Requests that wait for a connection.
    pending: u32,
    servers: Vec<ServerView>,
}

#[derive(Serialize)]
struct ServerView {
    url: String,
    address: String,
    /// "up", "unhealthy" or "ejected".
    state: &'static str,
    in_flight: u32,
    connections: u32,
    /// Failed requests in a row.
    failures: u32,
    /// Milliseconds until an ejected server gets requests again.
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected_for_ms: Option<u128>,
}

pub(super) fn list(shared: &Shared) -> Reply {
    let now = shared.time.now();
    Reply::ok(Listing { upstreams: shared.servers.current().iter().map(|group| upstream(group, now)).collect() })
}

fn upstream(group: &Group, now: Nanos) -> UpstreamView {
    UpstreamView {
        name: group.name().to_owned(),
        in_flight: group.in_flight(),
        pending: group.pending(),
        servers: group.servers().iter().map(|server| view(server, now)).collect(),
    }
}

fn view(server: &Server, now: Nanos) -> ServerView {
    let left = server.outlier.left(now);
    ServerView {
        url: server.url(),
        address: server.address.to_string(),
        state: server.state(now).as_str(),
        in_flight: server.in_flight(),
        connections: server.connections(),
        failures: server.outlier.failures(),
        ejected_for_ms: (!left.is_zero()).then_some(left.as_millis()),
    }
}
