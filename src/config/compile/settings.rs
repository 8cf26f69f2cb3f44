//! The single tables: server, admin, auth, responses, log.

use super::super::error::Finding;
use super::super::model::{
    AccessLog, Admin, Auth, AuthMode, Charge, Connect, Forwarded, Http2, KeysStore, Level, Log, LogFormat, Responses,
    Server, ShouldRetry, State, Store, Via,
};
use super::super::raw::{
    Item, RawAdmin, RawAuth, RawAuthMode, RawCharge, RawConnect, RawForwarded, RawKeysStore, RawLevel, RawLog,
    RawLogFormat, RawProxyProtocol, RawResponses, RawServer, RawShouldRetry, RawState,
};
use super::super::source::Place;
use super::super::values::{Dur, Located, Size};
use super::{Context, tls, value};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
/// The longest time-out: longer ones are meant as "none", and nothing waits for ever here.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What time-outs may be: at 0 every request would fail.
pub(super) const TIMEOUT: RangeInclusive<Duration> = MILLISECOND..=DAY;

/// Open connections when none are given: what a process may usually open files for, with room for upstreams.
const MAX_CONNECTIONS: u32 = 65_536;
/// Open connections of one address when none are given: more than any one client needs, an eighth of all there may be.
const MAX_CONNECTIONS_PER_ADDRESS: u32 = 8_192;
/// Bytes a second below which a client is not slow but hostile.
const MIN_RATE: u64 = 240;
/// What a rate in bytes a second may be, and a size that may also be none.
const RATE: RangeInclusive<u64> = 0..=1 << 30;
const ANY_SIZE: RangeInclusive<u64> = 0..=1 << 40;

impl Context<'_> {
    pub(super) fn duration<T>(
        &mut self,
        item: &Item<T>,
        field: Option<&Located<Dur>>,
        default: Duration,
        bounds: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(Located { value: Dur(given), span }) = field else { return default };
        if !bounds.contains(given) {
            let [least, most] = [bounds.start(), bounds.end()].map(|&bound| humantime::format_duration(bound));
            let finding = Finding::error(item.at(span), "a duration out of range")
                .expected(format!("{least} to {most}"))
                .found(humantime::format_duration(*given).to_string());
            self.tell(finding);
        }
        *given
    }

    pub(super) fn size<T>(
        &mut self,
        item: &Item<T>,
        field: Option<&Located<Size>>,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> usize {
        let given = field.map_or(default, |located| located.value.0);
        if let Some(located) = field.filter(|located| !bounds.contains(&located.value.0)) {
            let show = |bytes: u64| bytesize::ByteSize(bytes).display().iec().to_string();
            let finding = Finding::error(item.at(&located.span), "a size out of range")
                .expected(format!("{} to {}", show(*bounds.start()), show(*bounds.end())))
                .found(show(given));
            self.tell(finding);
        }
        usize::try_from(given).unwrap_or(usize::MAX)
    }

    pub(super) fn number<T>(
        &mut self,
        item: &Item<T>,
        field: Option<&Located<u32>>,
        default: u32,
        bounds: RangeInclusive<u32>,
    ) -> usize {
        let given = field.map_or(default, |located| located.value);
        if let Some(located) = field.filter(|located| !bounds.contains(&located.value)) {
            let finding = Finding::error(item.at(&located.span), "a number out of range")
                .expected(format!("{} to {}", bounds.start(), bounds.end()))
                .found(given.to_string());
            self.tell(finding);
        }
        given as usize
    }
}

pub(super) fn server(context: &mut Context<'_>, raw: Option<Item<RawServer>>) -> Server {
    let item = raw.unwrap_or_default();
    let raw = &item.raw;
    let seconds = |count: u32| SECOND * count;
    let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let connections = context.number(&item, raw.max_connections.as_ref(), 0, 0..=u32::MAX);
    Server {
        listen: listen(context, &item),
        tls: raw.tls.as_ref().and_then(|raw| tls::server(context, &item, raw)),
        threads: context.number(&item, raw.threads.as_ref(), 0, 0..=1024),
        max_connections: if connections == 0 { MAX_CONNECTIONS as usize } else { connections },
        max_connections_per_address: context.number(
            &item,
            raw.max_connections_per_address.as_ref(),
            MAX_CONNECTIONS_PER_ADDRESS,
            0..=u32::MAX,
        ),
        max_buffer_memory: buffer_memory(context, &item),
        proxy_protocol: proxy_protocol(context, &item),
        header_timeout: context.duration(&item, raw.header_timeout.as_ref(), seconds(30), TIMEOUT),
        handshake_timeout: context.duration(&item, raw.handshake_timeout.as_ref(), seconds(10), TIMEOUT),
        max_handshakes: context.number(&item, raw.max_handshakes.as_ref(), 1_024, 1..=1_000_000),
        idle_timeout: context.duration(&item, raw.idle_timeout.as_ref(), seconds(75), TIMEOUT),
        body_timeout: context.duration(&item, raw.body_timeout.as_ref(), seconds(30), TIMEOUT),
        min_body_rate: context.size(&item, raw.min_body_rate.as_ref(), MIN_RATE, RATE),
        max_body_bytes: context.size(&item, raw.max_body_bytes.as_ref(), 64 << 20, ANY_SIZE),
        write_timeout: context.duration(&item, raw.write_timeout.as_ref(), seconds(30), TIMEOUT),
        min_write_rate: context.size(&item, raw.min_write_rate.as_ref(), MIN_RATE, RATE),
        tunnel_idle_timeout: context.duration(&item, raw.tunnel_idle_timeout.as_ref(), seconds(3_600), TIMEOUT),
        max_header_bytes: context.size(&item, raw.max_header_bytes.as_ref(), 32 << 10, 8 << 10..=1 << 20),
        max_headers: context.number(&item, raw.max_headers.as_ref(), 100, 8..=1000),
        max_uri_bytes: context.size(&item, raw.max_uri_bytes.as_ref(), 8 << 10, 256..=64 << 10),
        http2: http2(context, &item),
        drain_delay: context.duration(&item, raw.drain_delay.as_ref(), Duration::ZERO, Duration::ZERO..=seconds(3600)),
        drain_timeout: context.duration(&item, raw.drain_timeout.as_ref(), seconds(30), Duration::ZERO..=DAY),
        trusted_proxies: raw.trusted_proxies.iter().flatten().map(|network| network.value.0).collect(),
        forwarded: match value(&raw.forwarded, RawForwarded::Off) {
            RawForwarded::Off => Forwarded::Off,
            RawForwarded::Append => Forwarded::Append,
        },
        via: via(context, &item),
        lock_queue_max: narrow(context.number(&item, raw.lock_queue_max.as_ref(), 64, 0..=65_536)),
        lock_waiters_max: narrow(context.number(&item, raw.lock_waiters_max.as_ref(), 10_000, 0..=1_000_000)),
        max_partitions: context.number(&item, raw.max_partitions.as_ref(), 10_000_000, 1..=1_000_000_000),
        sweep_interval: context.duration(
            &item,
            raw.sweep_interval.as_ref(),
            seconds(10),
            100 * MILLISECOND..=seconds(3600),
        ),
        inspect_body_max: context.size(&item, raw.inspect_body_max.as_ref(), 64 << 10, 0..=16 << 20),
    }
}

fn http2(context: &mut Context<'_>, item: &Item<RawServer>) -> Option<Http2> {
    let raw = &item.raw;
    let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    // What HTTP/2 begins with is as small as a window may be.
    let windows = 64 << 10..=16 << 20;
    let bounds = Http2 {
        max_streams: narrow(context.number(item, raw.http2_max_streams.as_ref(), 100, 1..=10_000)),
        stream_window: narrow(context.size(item, raw.http2_stream_window.as_ref(), 64 << 10, windows.clone())),
        connection_window: narrow(context.size(item, raw.http2_connection_window.as_ref(), 1 << 20, windows)),
        send_buffer: context.size(item, raw.http2_send_buffer.as_ref(), 64 << 10, 16 << 10..=16 << 20),
    };
    raw.http2.as_ref().is_none_or(|given| given.value).then_some(bounds)
}

/// The gateway's name in `Via`: a token or a host and a port.
fn via(context: &mut Context<'_>, item: &Item<RawServer>) -> Via {
    let max = context.number(item, item.raw.max_via.as_ref(), 3, 1..=100);
    let name = item.raw.via.as_ref().map_or("tollgate", |name| &name.value);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:[]".contains(&byte);
    let fit = (1..=64).contains(&name.len()) && name.bytes().all(plain);
    if let Some(given) = item.raw.via.as_ref().filter(|_| !fit) {
        let finding = Finding::error(item.at(&given.span), "not a name for `Via`");
        context.tell(finding.expected("1 to 64 letters, digits, dashes and dots, such as \"edge-eu-1\""));
    }
    Via::new(if fit { name } else { "tollgate" }, max)
}

/// Less than 1 MiB would not take the heads of a handful of connections.
fn buffer_memory(context: &mut Context<'_>, item: &Item<RawServer>) -> usize {
    let given = item.raw.max_buffer_memory.as_ref();
    let least = if given.is_none_or(|given| given.value.0 == 0) { 0 } else { 1 << 20 };
    context.size(item, given, 0, least..=1 << 44)
}

fn proxy_protocol(context: &mut Context<'_>, item: &Item<RawServer>) -> bool {
    let required = value(&item.raw.proxy_protocol, RawProxyProtocol::Off) == RawProxyProtocol::Required;
    let nobody = item.raw.trusted_proxies.as_ref().is_none_or(Vec::is_empty);
    if let (true, true, Some(given)) = (required, nobody, &item.raw.proxy_protocol) {
        let finding =
            Finding::warning(item.at(&given.span), "whoever connects can name any address, and count as that client");
        context.tell(finding.hint(r#"list the proxies that may: trusted_proxies = ["10.0.0.0/8"]"#));
    }
    required
}

fn listen(context: &mut Context<'_>, item: &Item<RawServer>) -> Vec<SocketAddr> {
    let Some(given) = &item.raw.listen else { return vec![SocketAddr::from(([127, 0, 0, 1], 8080))] };
    if given.value.0.is_empty() && !item.damaged {
        context.tell(Finding::error(item.at(&given.span), "no address to listen on"));
    }
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in &given.value.0 {
        let known = addresses.iter().find(|&&known| clash(known, address.value.0));
        if let Some(known) = known {
            let message = format!("the address meets `{known}`, which is listened on already");
            context.tell(Finding::error(item.at(&address.span), message));
        }
        addresses.push(address.value.0);
    }
    addresses
}

/// Whether two addresses cannot both be listened on. One that stands for all addresses meets every other of its kind.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let all = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || (all && a.is_ipv4() == b.is_ipv4()))
}

pub(super) fn admin(context: &mut Context<'_>, raw: Option<Item<RawAdmin>>, server: &Server) -> Admin {
    let item = raw.unwrap_or_default();
    let Some(given) = &item.raw.listen else {
        return Admin { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9090))) };
    };
    let place = item.at(&given.span);
    if let Some(address) = given.value.0 {
        if let Some(public) = server.listen.iter().find(|&&public| clash(public, address)) {
            let finding = Finding::error(place, format!("the admin would be on the public listener `{public}`"));
            context.tell(finding.hint("give it a port of its own, on a loopback address"));
        } else if !address.ip().is_loopback() {
            let finding = Finding::warning(place, "the admin can be reached from other machines, and asks for no key");
            context.tell(
                finding.hint(format!(r#"listen on "127.0.0.1:{}" unless the network is closed"#, address.port())),
            );
        }
    }
    Admin { listen: given.value.0 }
}

pub(super) fn auth(context: &mut Context<'_>, raw: Option<Item<RawAuth>>, store: &Store) -> Auth {
    let item = raw.unwrap_or_default();
    let mode = match value(&item.raw.mode, RawAuthMode::Keys) {
        RawAuthMode::Keys => AuthMode::Keys,
        RawAuthMode::Passthrough => AuthMode::Passthrough,
    };
    let keys_file = item.raw.keys_file.as_ref();
    let keys_store = keys_store(context, &item, mode, store);
    match (mode, keys_file) {
        (AuthMode::Keys, Some(file)) if keys_store == KeysStore::Redis => {
            let finding = Finding::warning(item.at(&file.span), "`keys_file` is not used with store = \"redis\"");
            context.tell(finding.hint("leave one of the two out"));
        }
        (AuthMode::Keys, None) if keys_store == KeysStore::File && !item.damaged && !context.damage.touches("auth") => {
            let finding = Finding::error(item.place(), "`auth` lacks `keys_file`, the file of known keys");
            let hint = r#"`tollgate keys new` makes one; mode = "passthrough" asks for none"#;
            context.tell(finding.expected(r#"keys_file = "keys.toml""#).hint(hint));
        }
        (AuthMode::Passthrough, Some(file)) => {
            let finding = Finding::warning(item.at(&file.span), "`keys_file` is not used in the mode \"passthrough\"");
            context.tell(finding.hint("leave one of the two out"));
        }
        _ => {}
    }
    let realm = value(&item.raw.realm, "Stripe".to_owned());
    if let Some(given) = item.raw.realm.as_ref().filter(|given| !is_quotable(&given.value)) {
        let finding = Finding::error(item.at(&given.span), "a realm that no header can carry");
        context.tell(finding.expected("printable ASCII without quotes and backslashes"));
    }
    let from_file = mode == AuthMode::Keys && keys_store == KeysStore::File;
    let keys_file = keys_file.filter(|_| from_file).map(|file| context.file(&file.value));
    Auth { mode, store: keys_store, keys_file, realm }
}

fn keys_store(context: &mut Context<'_>, item: &Item<RawAuth>, mode: AuthMode, store: &Store) -> KeysStore {
    let Some(given) = item.raw.store.as_ref().filter(|given| given.value == RawKeysStore::Redis) else {
        return KeysStore::File;
    };
    if mode == AuthMode::Passthrough {
        let finding = Finding::warning(item.at(&given.span), "`store` is not used in the mode \"passthrough\"");
        context.tell(finding.hint("leave one of the two out"));
        return KeysStore::File;
    }
    if store.redis().is_none() && !context.damage.touches("store") {
        let finding = Finding::error(item.at(&given.span), "keys cannot be in Redis while `[store]` names none");
        context.tell(finding.expected(r#"[store] with kind = "redis" and urls"#));
    }
    KeysStore::Redis
}

/// Whether a header can carry the text between quotes as it is.
fn is_quotable(text: &str) -> bool {
    text.len() <= 200 && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
}

pub(super) fn connect(raw: Option<Item<RawConnect>>) -> Connect {
    let raw = raw.unwrap_or_default().raw;
    let charge = match value(&raw.charge, RawCharge::Platform) {
        RawCharge::Platform => Charge::Platform,
        RawCharge::Connected => Charge::Connected,
        RawCharge::Both => Charge::Both,
    };
    Connect { charge }
}

/// Headers that the gateway or HTTP itself gives a meaning.
const TAKEN: [&str; 12] = [
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
    "trailer",
    "upgrade",
    "keep-alive",
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
    "request-id",
    "date",
];

/// Tells of a link that goes nowhere.
pub(super) fn check_doc_url(context: &mut Context<'_>, place: Place, url: &str) {
    if url.parse::<http::Uri>().ok().and_then(|uri| uri.scheme().cloned()).is_none() {
        context.tell(Finding::error(place, "not a URL").expected("https://..."));
    }
}

pub(super) fn responses(context: &mut Context<'_>, raw: Option<Item<RawResponses>>) -> Responses {
    let item = raw.unwrap_or_default();
    let mut reason_header = http::HeaderName::from_static("stripe-rate-limited-reason");
    if let Some(given) = &item.raw.reason_header {
        let place = item.at(&given.span);
        match http::HeaderName::try_from(&given.value) {
            Ok(name) if TAKEN.contains(&name.as_str()) => {
                context.tell(Finding::error(place, format!("the header `{}` has another use", given.value)));
            }
            Ok(name) => reason_header = name,
            Err(_) => context.tell(Finding::error(place, "not a header's name").expected("letters, digits and dashes")),
        }
    }
    let doc_url = value(&item.raw.doc_url, "https://stripe.com/docs/error-codes/rate-limit".to_owned());
    if let Some(given) = &item.raw.doc_url {
        check_doc_url(context, item.at(&given.span), &given.value);
    }
    Responses {
        reason_header,
        retry_after: value(&item.raw.retry_after, true),
        ratelimit_headers: value(&item.raw.ratelimit_headers, true),
        should_retry: match value(&item.raw.should_retry, RawShouldRetry::Absent) {
            RawShouldRetry::Absent => ShouldRetry::Absent,
            RawShouldRetry::True => ShouldRetry::True,
            RawShouldRetry::False => ShouldRetry::False,
        },
        doc_url,
    }
}

pub(super) fn log(context: &mut Context<'_>, raw: Option<Item<RawLog>>) -> Log {
    let raw = raw.unwrap_or_default().raw;
    let access = raw.access.map(|path| match path.value.as_str() {
        "-" => AccessLog::Stdout,
        // Written to, so it is no file to watch.
        file => AccessLog::File(context.folder.join(file)),
    });
    let level = match value(&raw.level, RawLevel::Info) {
        RawLevel::Error => Level::Error,
        RawLevel::Warn => Level::Warn,
        RawLevel::Info => Level::Info,
        RawLevel::Debug => Level::Debug,
        RawLevel::Trace => Level::Trace,
    };
    let format = match value(&raw.format, RawLogFormat::Text) {
        RawLogFormat::Text => LogFormat::Text,
        RawLogFormat::Json => LogFormat::Json,
    };
    Log { access, level, format }
}

pub(super) fn state(context: &mut Context<'_>, raw: Option<Item<RawState>>) -> State {
    let item = raw.unwrap_or_default();
    let interval = 100 * MILLISECOND..=3600 * SECOND;
    State {
        // Written to, so it is no file to watch.
        dir: item.raw.dir.as_ref().map(|dir| context.folder.join(&dir.value)),
        persist_interval: context.duration(&item, item.raw.persist_interval.as_ref(), SECOND, interval),
        persist_min_window: context.duration(
            &item,
            item.raw.persist_min_window.as_ref(),
            60 * SECOND,
            SECOND..=366 * DAY,
        ),
    }
}
