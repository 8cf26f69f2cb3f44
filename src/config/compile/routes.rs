//! Routes: names, hosts and prefixes made comparable, upstreams found.

use super::super::error::Finding;
use super::super::model::{Credentials, RouteOptions};
use super::super::raw::{Item, RawRoute};
use super::super::router::{Route, Router};
use super::super::values::Located;
use super::Context;
use super::heads;
use super::upstreams::Upstreams;
use crate::engine::RouteId;
use std::collections::{HashMap, HashSet};

pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &[Item<RawRoute>],
    upstreams: &Upstreams,
) -> (Vec<Route>, Router) {
    if raw.is_empty() {
        return default(context, upstreams);
    }
    let (mut routes, mut router) = (Vec::<Route>::new(), Router::default());
    let mut names = HashSet::new();
    let mut used = HashSet::new();
    for item in raw {
        let mut route = route(context, item, upstreams);
        used.insert(route.upstream);
        name(context, item, &mut route, &mut names, routes.len());
        let id = RouteId(u32::try_from(routes.len()).unwrap_or(u32::MAX));
        if let Err(RouteId(same)) = router.add(&route, id)
            && !item.damaged
        {
            let same = routes.get(same as usize).map_or("this one itself", |route| &route.name);
            let finding = Finding::error(item.place(), format!("the route `{same}` has the same host and path prefix"));
            context.tell(finding.hint("no request would ever take this one"));
        }
        routes.push(route);
    }
    let damaged = context.damage.all || raw.iter().any(|item| item.damaged);
    for (nth, upstream) in upstreams.upstreams.iter().enumerate().filter(|(nth, _)| !damaged && !used.contains(nth)) {
        let message = format!("no route leads to the upstream `{}`", upstream.name);
        if let Some(place) = upstreams.places.get(nth) {
            context.tell(Finding::warning(place.clone(), message));
        }
    }
    (routes, router)
}

/// Without routes everything goes to the only upstream.
fn default(context: &mut Context<'_>, upstreams: &Upstreams) -> (Vec<Route>, Router) {
    if let (Some(second), false) = (upstreams.places.get(1), context.damage.touches("routes")) {
        let count = upstreams.upstreams.len();
        let finding = Finding::error(second.clone(), format!("there are {count} upstreams and no routes"));
        context.tell(finding.expected("[[routes]]\n              upstream = \"...\""));
    }
    let options = RouteOptions { credentials: credentials_of(upstreams, 0), ..RouteOptions::default() };
    let route = Route {
        name: "default".into(),
        hosts: Box::default(),
        path_prefix: "".into(),
        upstream: 0,
        upgrades: usual_upgrades(),
        options,
    };
    let mut router = Router::default();
    // Nothing is in the router yet that it could meet.
    let _ = router.add(&route, RouteId(0));
    (vec![route], router)
}

fn route(context: &mut Context<'_>, item: &Item<RawRoute>, upstreams: &Upstreams) -> Route {
    let upstream = upstream(context, item, upstreams);
    let path_prefix = item.raw.path_prefix.as_ref().map_or(Box::default(), |prefix| path_prefix(context, item, prefix));
    let mut hosts = Vec::new();
    let mut seen = HashSet::new();
    if let Some(given) = &item.raw.hosts {
        if given.value.0.is_empty() && !item.damaged {
            let finding = Finding::error(item.at(&given.span), "an empty list of hosts: no request has one of them");
            context.tell(finding.hint("leave `hosts` out for any host"));
        }
        for host in &given.value.0 {
            let Some(normal) = host_pattern(context, item, host) else { continue };
            if seen.insert(normal.clone()) {
                hosts.push(normal.into());
            } else {
                context.tell(Finding::error(item.at(&host.span), format!("the host `{}` twice", host.value)));
            }
        }
    }
    let mut options = heads::options(context, item, &path_prefix);
    if item.raw.credentials.is_none() {
        options.credentials = credentials_of(upstreams, upstream);
    }
    let upgrades = item.raw.upgrades.as_ref().map_or_else(usual_upgrades, |given| upgrades(context, item, given));
    Route { name: Box::default(), hosts: hosts.into(), path_prefix, upstream, upgrades, options }
}

fn credentials_of(upstreams: &Upstreams, place: usize) -> Credentials {
    upstreams.upstreams.get(place).map_or(Credentials::Keep, |upstream| upstream.credentials.clone())
}

fn usual_upgrades() -> Box<[Box<str>]> {
    ["websocket".into()].into()
}

fn upgrades(
    context: &mut Context<'_>,
    item: &Item<RawRoute>,
    given: &Located<Vec<Located<String>>>,
) -> Box<[Box<str>]> {
    let is_token = |name: &str| {
        (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._+/".contains(&byte))
    };
    for name in &given.value {
        if !is_token(&name.value) {
            let finding = Finding::error(item.at(&name.span), format!("`{}` is no name of a protocol", name.value));
            context.tell(finding.expected("a name as `Upgrade` has it, such as \"websocket\""));
        } else if name.value.eq_ignore_ascii_case("h2c") {
            let finding = Finding::error(item.at(&name.span), "HTTP/2 never begins by an upgrade here");
            context.tell(finding.hint("requests inside it would pass no limit"));
        }
    }
    given.value.iter().map(|name| name.value.to_ascii_lowercase().into()).collect()
}

fn upstream(context: &mut Context<'_>, item: &Item<RawRoute>, upstreams: &Upstreams) -> usize {
    let names = || upstreams.upstreams.iter().map(|upstream| &*upstream.name);
    match &item.raw.upstream {
        Some(given) => match names().position(|name| name == given.value) {
            Some(place) => return place,
            None if context.damage.touches("upstreams") => {}
            None => context.unknown("upstream", item.at(&given.span), &given.value, names(), ""),
        },
        None if upstreams.upstreams.len() > 1 && !item.damaged => {
            let finding = Finding::error(item.place(), "the route lacks `upstream`, and there are several");
            context.tell(finding.expected(names().take(8).collect::<Vec<_>>().join(", ")));
        }
        None => {}
    }
    0
}

/// Gives the route its name: its own, or one that is told apart from the others'.
fn name(context: &mut Context<'_>, item: &Item<RawRoute>, route: &mut Route, names: &mut HashSet<String>, nth: usize) {
    if let Some(given) = &item.raw.name {
        if !names.insert(given.value.clone()) {
            context.tell(Finding::error(item.at(&given.span), format!("a second route `{}`", given.value)));
        } else if given.value.is_empty() || given.value.len() > 64 {
            let finding = Finding::error(item.at(&given.span), "a route's name has 1 to 64 characters");
            context.tell(finding.hint("it is a label of metrics"));
        }
        route.name = given.value.as_str().into();
        return;
    }
    let upstream = item.raw.upstream.as_ref().map_or("default", |upstream| &upstream.value);
    let prefix = &*route.path_prefix;
    let candidates = [if prefix.is_empty() { upstream } else { prefix }.to_owned(), format!("route-{}", nth + 1)];
    let free =
        candidates.into_iter().find(|name| !names.contains(name)).unwrap_or_else(|| format!("route-{}-", nth + 1));
    names.insert(free.clone());
    route.name = free.into();
}

/// A prefix without its trailing slash.
fn path_prefix(context: &mut Context<'_>, item: &Item<RawRoute>, given: &Located<String>) -> Box<str> {
    let prefix = &*given.value;
    let mut segments = prefix.trim_start_matches('/').split('/').peekable();
    let mut empty_inside = false;
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        empty_inside |= (segment.is_empty() && !last) || segment == "." || segment == "..";
    }
    let plain =
        prefix.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'\\' | b'*' | b'{' | b'}'));
    if !prefix.starts_with('/') || prefix.starts_with("//") || empty_inside || !plain {
        let finding = Finding::error(item.at(&given.span), "not the beginning of a path")
            .expected("segments after a slash, such as \"/v1\"; no wildcard, no query, no dots for folders")
            .found(format!("{prefix:?}"));
        context.tell(finding);
    }
    prefix.trim_end_matches('/').into()
}

/// A host in lower case.
fn host_pattern(context: &mut Context<'_>, item: &Item<RawRoute>, given: &Located<String>) -> Option<String> {
    let host = given.value.strip_suffix('.').unwrap_or(&given.value).to_ascii_lowercase();
    let rest = host.strip_prefix("*.").unwrap_or(&host);
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let ipv6 = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_host = match ipv6 {
        Some(address) => rest.len() == host.len() && address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => rest.split('.').all(label),
    };
    if is_host {
        return Some(host);
    }
    let finding = Finding::error(item.at(&given.span), "not a host")
        .expected("a name such as \"api.example.com\" or \"*.example.com\", or an IP address; no port, no scheme")
        .found(format!("{:?}", given.value));
    context.tell(finding);
    None
}

/// Routes by name.
pub(super) fn by_name(routes: &[Route]) -> HashMap<&str, RouteId> {
    routes.iter().zip(0..).map(|(route, id)| (&*route.name, RouteId(id))).collect()
}
