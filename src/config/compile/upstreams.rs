//! Upstreams and their servers.

use super::super::error::Finding;
use super::super::model::{Balance, Protocol, Scheme, Upstream, UpstreamBounds, UpstreamServer};
use super::super::raw::{Item, Named, RawBalance, RawProtocol, RawUpstream};
use super::super::source::Place;
use super::super::values::Located;
use super::settings::TIMEOUT;
use super::{Context, credentials, resilience, tls, value};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// All upstreams in the order of the file, with the places of their names.
pub(super) struct Upstreams {
    pub(super) upstreams: Vec<Upstream>,
    pub(super) places: Vec<Place>,
}

/// `own` are the addresses that the gateway itself listens on.
pub(super) fn compile(context: &mut Context<'_>, raw: Named<RawUpstream>, own: &[SocketAddr]) -> Upstreams {
    let mut compiled = Upstreams { upstreams: Vec::new(), places: Vec::new() };
    if raw.0.is_empty() && !context.damage.touches("upstreams") {
        let finding = Finding::error(Place::start_of_file(), "there is no upstream to forward to");
        context.tell(finding.expected("[upstreams.api]\n              servers = [\"http://127.0.0.1:9000\"]"));
    }
    for (name, item) in &raw.0 {
        compiled.places.push(item.at(&name.span));
        compiled.upstreams.push(upstream(context, name, item, own));
    }
    compiled
}

fn upstream(
    context: &mut Context<'_>,
    name: &Located<String>,
    item: &Item<RawUpstream>,
    own: &[SocketAddr],
) -> Upstream {
    let raw = &item.raw;
    let seconds = Duration::from_secs;
    let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Upstream {
        name: name.value.as_str().into(),
        servers: servers(context, name, item, own),
        connect_timeout: context.duration(item, raw.connect_timeout.as_ref(), seconds(2), TIMEOUT),
        response_timeout: context.duration(item, raw.response_timeout.as_ref(), seconds(80), TIMEOUT),
        body_timeout: context.duration(item, raw.body_timeout.as_ref(), seconds(30), TIMEOUT),
        idle_timeout: context.duration(item, raw.idle_timeout.as_ref(), seconds(4), TIMEOUT),
        max_idle: context.number(item, raw.max_idle.as_ref(), 256, 0..=65_536),
        request_timeout: context.duration(item, raw.request_timeout.as_ref(), seconds(15 * 60), TIMEOUT),
        balance: match value(&raw.balance, RawBalance::LeastLoaded) {
            RawBalance::LeastLoaded => Balance::LeastLoaded,
            RawBalance::RoundRobin => Balance::RoundRobin,
        },
        resolve_interval: context.duration(
            item,
            raw.resolve_interval.as_ref(),
            seconds(30),
            seconds(1)..=seconds(24 * 3600),
        ),
        bounds: UpstreamBounds {
            max_connections: narrow(context.number(item, raw.max_connections.as_ref(), 1_024, 1..=1_000_000)),
            max_pending: narrow(context.number(item, raw.max_pending.as_ref(), 1_024, 0..=1_000_000)),
            max_in_flight: narrow(context.number(item, raw.max_in_flight.as_ref(), 16_384, 1..=1_000_000)),
        },
        health: raw.health.as_ref().and_then(|health| resilience::health(context, item, health)),
        ejection: resilience::ejection(context, item),
        retries: resilience::retries(context, item),
        protocol: match value(&raw.protocol, RawProtocol::Auto) {
            RawProtocol::Http1 => Protocol::Http1,
            RawProtocol::Http2 => Protocol::Http2,
            RawProtocol::Auto => Protocol::Auto,
        },
        ca: raw.ca.as_ref().map(|path| context.file(&path.value)),
        credentials: credentials::compile(context, item, raw.credentials.as_ref()).unwrap_or_default(),
        client_certificate: raw.client_certificate.as_ref().and_then(|given| {
            let pair = &given.value;
            let place = item.at(&given.span);
            tls::pair(
                context,
                "client_certificate",
                (!item.damaged).then_some(place),
                &pair.certificate,
                &pair.private_key,
            )
        }),
        server_name: raw.server_name.as_ref().and_then(|name| tls::server_name(context, item, name)),
    }
}

fn servers(
    context: &mut Context<'_>,
    name: &Located<String>,
    item: &Item<RawUpstream>,
    own: &[SocketAddr],
) -> Box<[UpstreamServer]> {
    let given = item.raw.servers.as_ref().map_or(&[][..], |given| &given.value.0);
    if given.is_empty() && !item.damaged {
        let place = item.raw.servers.as_ref().map_or(&name.span, |given| &given.span);
        let finding = Finding::error(item.at(place), format!("the upstream `{}` has no server", name.value));
        context.tell(finding.expected(r#"servers = ["http://127.0.0.1:9000"]"#));
    }
    let mut servers: Vec<UpstreamServer> = Vec::new();
    for url in given {
        match server(&url.value) {
            Ok(server) if servers.contains(&server) => {
                context.tell(Finding::error(item.at(&url.span), "the same server twice"));
            }
            Ok(server) if is_own(&server, own) => {
                let finding = Finding::error(item.at(&url.span), "the gateway itself listens there");
                context.tell(finding.hint("requests would come back to it, or reach its admin listener"));
            }
            Ok(server) => servers.push(server),
            Err((message, hint)) => {
                let finding = Finding::error(item.at(&url.span), message)
                    .expected(r#""http://host:port" or "https://host:port""#);
                context.tell(finding.found(format!("{:?}", url.value)).hint(hint));
            }
        }
    }
    servers.into()
}

/// Whether a server is one of the gateway's own listeners, as far as its name tells.
fn is_own(server: &UpstreamServer, own: &[SocketAddr]) -> bool {
    let address =
        if &*server.host == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { server.host.parse().ok() };
    let Some(address): Option<IpAddr> = address else { return false };
    let reaches = |listener: IpAddr| listener == address || listener.is_unspecified() && address.is_loopback();
    own.iter().any(|listener| listener.port() == server.port && reaches(listener.ip()))
}

fn server(url: &str) -> Result<UpstreamServer, (&'static str, &'static str)> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        _ => return Err(("not the URL of an HTTP server", "begin with http:// or https://")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err(("a server's URL has no path", "requests keep their own path; leave it out here"));
    }
    if rest.contains('@') {
        return Err(("a server's URL has no user name or password", "requests keep their own `Authorization`"));
    }
    let bad = ("not a host and a port", "an IPv6 address stands in brackets: http://[::1]:9000");
    let authority: http::uri::Authority = rest.parse().map_err(|_| bad)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let default = if scheme == Scheme::Http { 80 } else { 443 };
    let port = match authority.as_str().rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((_, port)) => port.parse().map_err(|_| ("not a port", "a port is a number from 1 to 65535"))?,
        None => default,
    };
    if host.is_empty() || port == 0 {
        return Err(bad);
    }
    Ok(UpstreamServer { scheme, host: host.into(), port, authority: authority.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_urls() {
        let of = |url| {
            server(url).map(|server| (server.scheme, server.host.to_string(), server.port)).map_err(|error| error.0)
        };
        assert_eq!(of("http://10.0.0.1:9000"), Ok((Scheme::Http, "10.0.0.1".to_owned(), 9000)));
        assert_eq!(of("https://api.example.com/"), Ok((Scheme::Https, "api.example.com".to_owned(), 443)));
        assert_eq!(of("http://[::1]"), Ok((Scheme::Http, "::1".to_owned(), 80)));
        assert_eq!(of("http://[::1]:81"), Ok((Scheme::Http, "::1".to_owned(), 81)));
        for bad in [
            "10.0.0.1:80",
            "ftp://a",
            "http://",
            "http://a/b",
            "http://u:p@a",
            "http://a:0",
            "http://a:99999",
            "http://a:",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
