//! `[store]`, and which limits count there.

use super::super::error::Finding;
use super::super::model::{Redis, RedisUrl, SecretSource, Store, StoreMode, Topology};
use super::super::raw::{Item, RawLimit, RawOnStoreFailure, RawStore, RawStoreKind, RawStoreMode, RawTopology};
use super::super::values::Located;
use super::settings::TIMEOUT;
use super::{Context, credentials, value};
use crate::engine::{Limiter, WithoutStore};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
/// Calls that take longer are no help to a request.
const COMMAND_TIMEOUT: std::ops::RangeInclusive<Duration> = MILLISECOND..=Duration::from_secs(10);
/// Shorter ones would run out between two heartbeats; longer ones keep what dead gateways held for too long.
const LEASE_TTL: std::ops::RangeInclusive<Duration> = SECOND..=Duration::from_secs(3600);
/// Nodes named at the start; a cluster tells of its others.
const MAX_URLS: usize = 100;
const PORT: u16 = 6379;
const URL: &str = r#""redis://HOST:PORT/DB", or "rediss://" with TLS"#;

/// The store, and what limits do without it that do not say it themselves.
pub(super) struct Compiled {
    pub(super) store: Store,
    pub(super) sharing: Sharing,
}

/// What limits have to know of the store.
#[derive(Clone, Copy)]
pub(super) struct Sharing {
    shared: bool,
    otherwise: WithoutStore,
}

pub(super) fn compile(context: &mut Context<'_>, raw: Option<Item<RawStore>>) -> Compiled {
    let item = raw.unwrap_or_default();
    let otherwise = item.raw.on_store_failure.as_ref().map_or(WithoutStore::Share, |given| without(given.value));
    let shared = value(&item.raw.kind, RawStoreKind::Local) == RawStoreKind::Redis;
    let redis = redis(context, &item, shared);
    let store = if shared { Store::Redis(Box::new(redis)) } else { Store::Local };
    Compiled { store, sharing: Sharing { shared, otherwise } }
}

/// The settings, which are held against their bounds even where they are not used.
fn redis(context: &mut Context<'_>, item: &Item<RawStore>, used: bool) -> Redis {
    let raw = &item.raw;
    let topology = topology(context, item);
    let urls = urls(context, item, &topology, used);
    let password = password(context, item, used);
    if used && raw.user.is_some() && password.is_none() && !item.damaged {
        let span = raw.user.as_ref().map_or(&item.span, |user| &user.span);
        let finding = Finding::error(item.at(span), "`user` without a password");
        context.tell(finding.expected("`password_file` or `password_env`"));
    }
    Redis {
        urls,
        topology,
        mode: match value(&raw.mode, RawStoreMode::Leased) {
            RawStoreMode::Leased => StoreMode::Leased,
            RawStoreMode::Exact => StoreMode::Exact,
        },
        prefix: name(context, item, raw.prefix.as_ref(), "a prefix").unwrap_or_else(|| "tollgate".to_owned()),
        user: raw.user.as_ref().map(|user| user.value.clone()),
        password,
        ca_file: raw.ca_file.as_ref().map(|file| context.file(&file.value)),
        connect_timeout: context.duration(item, raw.connect_timeout.as_ref(), SECOND, TIMEOUT),
        command_timeout: context.duration(item, raw.command_timeout.as_ref(), 50 * MILLISECOND, COMMAND_TIMEOUT),
        lease_ttl: context.duration(item, raw.lease_ttl.as_ref(), 15 * SECOND, LEASE_TTL),
        gateway_id: name(context, item, raw.gateway_id.as_ref(), "a gateway's name"),
    }
}

fn topology(context: &mut Context<'_>, item: &Item<RawStore>) -> Topology {
    let master = item.raw.master_name.as_ref();
    match (value(&item.raw.topology, RawTopology::Single), master) {
        (RawTopology::Sentinel, Some(name)) => return Topology::Sentinel(name.value.clone()),
        (RawTopology::Sentinel, None) => {
            let span = item.raw.topology.as_ref().map_or(&item.span, |topology| &topology.span);
            if !item.damaged {
                let finding = Finding::error(item.at(span), "sentinels are asked for a master by its name");
                context.tell(finding.expected(r#"master_name = "mymaster""#));
            }
            return Topology::Sentinel(String::new());
        }
        (_, Some(name)) => {
            let finding = Finding::error(item.at(&name.span), "`master_name` belongs to sentinels");
            context.tell(finding.expected(r#"topology = "sentinel", or no `master_name`"#));
        }
        (_, None) => {}
    }
    match value(&item.raw.topology, RawTopology::Single) {
        RawTopology::Cluster => Topology::Cluster,
        RawTopology::Single | RawTopology::Sentinel => Topology::Single,
    }
}

fn urls(context: &mut Context<'_>, item: &Item<RawStore>, topology: &Topology, used: bool) -> Vec<RedisUrl> {
    let Some(given) = &item.raw.urls else {
        if used && !item.damaged {
            context.tell(Finding::error(item.place(), "`[store]` lacks `urls`").expected(URL));
        }
        return Vec::new();
    };
    let written = &given.value.0;
    if written.is_empty() || written.len() > MAX_URLS {
        let expected = format!("1 to {MAX_URLS} of them");
        context.tell(Finding::error(item.at(&given.span), "not a number of servers").expected(expected));
    }
    if let (Topology::Single, [_, second, ..]) = (topology, &written[..]) {
        let finding = Finding::error(item.at(&second.span), "several servers that do not say how they belong together");
        context.tell(finding.expected(r#"topology = "sentinel" or "cluster""#));
    }
    let parsed = written.iter().filter_map(|url| {
        let parsed = parse(&url.value);
        let parsed = parsed.and_then(|parsed| match topology {
            Topology::Cluster if parsed.db != 0 => Err("a cluster has no databases"),
            _ => Ok(parsed),
        });
        parsed.map_err(|why| context.tell(Finding::error(item.at(&url.span), why).expected(URL))).ok()
    });
    parsed.collect()
}

/// A URL of Redis. It holds no secret: configurations are read by many.
fn parse(text: &str) -> Result<RedisUrl, &'static str> {
    const NO_URL: &str = "not the URL of a Redis server";
    let (tls, rest) = match text.split_once("://") {
        Some(("redis", rest)) => (false, rest),
        Some(("rediss", rest)) => (true, rest),
        _ => return Err(NO_URL),
    };
    let (authority, db) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err("a URL with a password: `user` with `password_file` or `password_env` keeps it apart");
    }
    let authority: http::uri::Authority = authority.parse().map_err(|_| NO_URL)?;
    let port = match authority.as_str().strip_prefix(authority.host()) {
        Some("") => PORT,
        _ => authority.port_u16().filter(|port| *port > 0).ok_or(NO_URL)?,
    };
    let db = if db.is_empty() { 0 } else { db.parse::<u16>().map_err(|_| NO_URL)?.into() };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() { Err(NO_URL) } else { Ok(RedisUrl { tls, host: host.to_owned(), port, db }) }
}

fn password(context: &mut Context<'_>, item: &Item<RawStore>, used: bool) -> Option<SecretSource> {
    match (&item.raw.password_file, &item.raw.password_env) {
        (Some(_), Some(second)) if used => {
            let finding = Finding::error(item.at(&second.span), "`password_file` and `password_env` both");
            context.tell(finding.expected("one of them"));
            None
        }
        (Some(file), _) => Some(SecretSource::File(context.file(&file.value))),
        (None, Some(name)) => credentials::variable(context, item, name),
        (None, None) => None,
    }
}

/// A word that stands in keys.
fn name(
    context: &mut Context<'_>,
    item: &Item<RawStore>,
    field: Option<&Located<String>>,
    what: &str,
) -> Option<String> {
    let Located { value, span } = field?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !(1..=64).contains(&value.len()) || !value.bytes().all(plain) {
        let finding = Finding::error(item.at(span), format!("not {what}"));
        context.tell(finding.expected("1 to 64 letters, digits, `-`, `_` and `.`").hint("it stands in keys in Redis"));
    }
    Some(value.clone())
}

fn without(raw: RawOnStoreFailure) -> WithoutStore {
    match raw {
        RawOnStoreFailure::LocalShare => WithoutStore::Share,
        RawOnStoreFailure::Open => WithoutStore::Open,
        RawOnStoreFailure::Closed => WithoutStore::Closed,
    }
}

/// Whether a limit is counted by all gateways together, and what it does without them.
pub(super) fn limit(
    context: &mut Context<'_>,
    item: &Item<RawLimit>,
    limiter: &Limiter,
    sharing: Sharing,
) -> Option<WithoutStore> {
    let raw = &item.raw;
    let own = raw.store.as_ref();
    let stays = own.is_some_and(|own| own.value == RawStoreKind::Local);
    let wanted = own.map_or(sharing.shared, |own| own.value == RawStoreKind::Redis);
    if let Some(own) = own.filter(|own| own.value == RawStoreKind::Redis) {
        if !sharing.shared {
            let finding = Finding::error(item.at(&own.span), "there is no Redis to count in");
            context.tell(finding.expected(r#"[store] kind = "redis", and its `urls`"#));
        } else if let Limiter::Allocation(_) = limiter {
            let finding = Finding::error(item.at(&own.span), "allocations are counted by each gateway for itself");
            context.tell(finding.hint("a `quota` can be counted in Redis"));
        }
    }
    if let (true, Some(given)) = (stays, &raw.on_store_failure) {
        let finding = Finding::error(item.at(&given.span), "`on_store_failure` of a limit that needs no store");
        context.tell(finding.hint("it belongs to limits that count in Redis"));
    }
    let shared = wanted && !matches!(limiter, Limiter::Allocation(_));
    shared.then(|| raw.on_store_failure.as_ref().map_or(sharing.otherwise, |given| without(given.value)))
}
