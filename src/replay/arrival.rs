//! What a replay keeps of a request between its line and its turn: no strings.

use super::recent::Recent;
use super::record::Record;
use crate::body::Findings;
use crate::classification::{self, Asked, Classifier, Unfit};
use crate::config::Config;
use crate::engine::class::{IdHasher, MAX_VALUES};
use crate::engine::{EndpointId, Id, IdKind, Mode, Part, Payers, ProfileId, RequestClass, RouteId, Seed, lot};
use crate::keys::Principal;
use crate::path;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Configurations that one replay may hold side by side.
pub const MAX_CONFIGS: usize = 2;
/// Accounts that are counted each on its own, at about 100 bytes an account. All others are counted together.
pub const MAX_ACCOUNTS: usize = 1_000_000;
/// Of longer account names the beginning is kept; they are told apart all the same.
pub const MAX_NAME_BYTES: usize = 512;

/// An account's place among the [`Accounts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub u32);

impl AccountId {
    /// All accounts beyond [`MAX_ACCOUNTS`].
    pub const BEYOND: AccountId = AccountId(u32::MAX);
}

/// One request, classified by each configuration.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Nanoseconds to its last byte; 0 where the trace does not say.
    pub duration_ns: u64,
    /// Whose it is.
    pub account: AccountId,
    /// Live or test.
    pub mode: Mode,
    /// Whether it was answered as a success.
    pub succeeded: bool,
    /// Whether a limit refused it when it was recorded.
    pub was_refused: bool,
    /// Whether it was given up before it was forwarded: its tokens go back when it ends.
    pub given_up: bool,
    /// By configuration: what it is; `None` where it would never have come to the limits.
    pub briefs: [Option<Brief>; MAX_CONFIGS],
    /// The whole classes, by configuration, where the briefs do not tell all.
    pub classes: Option<Box<[Option<RequestClass>; MAX_CONFIGS]>>,
}

// 262,144 of them are held back until their turn comes, which is more than a core's own caches hold.
const _: () = assert!(size_of::<Option<Arrival>>() <= 48);

/// Most requests have no more to them, the account and the mode aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brief {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The route.
    pub route: RouteId,
}

/// All accounts of a trace, by place.
#[derive(Debug, Default)]
pub struct Accounts {
    /// By the first half of the id.
    index: HashMap<u64, Indexed, BuildHasherDefault<IdHasher>>,
    known: Vec<Account>,
}

/// Where an account is, and enough of its id's other half to know it by: in 16 bytes with its key, so that an account is found
/// without being looked at.
#[derive(Clone, Copy, Debug)]
struct Indexed {
    place: AccountId,
    check: u32,
}

/// An account.
#[derive(Debug)]
pub struct Account {
    /// Its name.
    pub name: Box<str>,
    /// The engine's id of it.
    pub id: Id,
    /// What it draws where limits are enforced for a share of accounts.
    pub lot: u64,
    /// Its figures, by configuration.
    pub profiles: [ProfileId; MAX_CONFIGS],
}

impl Accounts {
    /// An account; `None` for [`AccountId::BEYOND`].
    #[must_use]
    pub fn get(&self, place: AccountId) -> Option<&Account> {
        self.known.get(place.0 as usize)
    }

    /// How many there are, at most [`MAX_ACCOUNTS`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn place(&mut self, id: Id, name: &str, configs: &[&Config]) -> AccountId {
        let check = id.0[1] as u32;
        if let Some(known) = self.index.get(&id.0[0]) {
            // Two accounts of one half of a hash are seldom enough to be counted with the others.
            return if known.check == check { known.place } else { AccountId::BEYOND };
        }
        if self.known.len() >= MAX_ACCOUNTS {
            return AccountId::BEYOND;
        }
        let place = AccountId(u32::try_from(self.known.len()).unwrap_or(u32::MAX));
        let mut profiles = [ProfileId::BASE; MAX_CONFIGS];
        for (profile, config) in profiles.iter_mut().zip(configs) {
            *profile = config.profile(name);
        }
        self.known.push(Account { name: kept(name), id, lot: lot(name), profiles });
        self.index.insert(id.0[0], Indexed { place, check });
        place
    }
}

/// A name as it is kept: its beginning, where it is longer than any that the gateway lets pass.
fn kept(name: &str) -> Box<str> {
    match name.char_indices().map(|(at, _)| at).take_while(|&at| at <= MAX_NAME_BYTES).last() {
        Some(end) if name.len() > MAX_NAME_BYTES => format!("{}…", name.get(..end).unwrap_or_default()).into(),
        _ => name.into(),
    }
}

/// Classifies records by each configuration, with the classification of live traffic.
#[derive(Debug)]
pub struct Classes<'c> {
    seed: Seed,
    configs: Vec<&'c Config>,
    asides: Vec<Aside>,
    /// The account and the key are put into it for each request.
    principal: Principal,
    accounts: Accounts,
    recent: Recent,
}

/// What is known of a configuration beside itself.
#[derive(Debug)]
struct Aside {
    /// A host for each route, by its name.
    hosts: HashMap<Box<str>, String>,
    /// Whether limits count by keys or by addresses.
    counts_by_origin: bool,
    /// The names under which our own log has what extractors find, in their order.
    extractors: Vec<String>,
}

/// What became of a record.
pub enum Classed {
    /// It has a class in at least one of the configurations. Its account is still to be told, see [`Classes::place`].
    Arrival(Arrival, Id),
    /// It never came to the limits.
    Elsewhere,
    /// The gateway takes no such path.
    BadPath,
}

impl<'c> Classes<'c> {
    /// At most [`MAX_CONFIGS`] are used.
    #[must_use]
    pub fn new(seed: Seed, configs: &[&'c Config]) -> Classes<'c> {
        let configs: Vec<&Config> = configs.iter().copied().take(MAX_CONFIGS).collect();
        let asides = configs.iter().map(|config| Aside::new(config)).collect();
        let principal = Principal::supposed(&seed, "", "", Mode::Live);
        Classes { seed, configs, asides, principal, accounts: Accounts::default(), recent: Recent::new() }
    }

    /// The accounts seen so far.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Classifies a record, but for its account: [`place`](Classes::place) follows.
    pub fn classify(&mut self, record: &Record<'_>) -> Classed {
        let Some(account) = &record.account else { return Classed::Elsewhere };
        let id = self.seed.id(IdKind::Account, account.as_bytes());
        let own = record.endpoint.is_some();
        let mut arrival = Arrival {
            duration_ns: record.duration.unwrap_or(0),
            account: AccountId::BEYOND,
            mode: record.mode.unwrap_or(Mode::Live),
            succeeded: (200..300).contains(&record.status),
            was_refused: record.limit.is_some() || (!own && record.status == 429),
            given_up: record.given_up,
            briefs: [None; MAX_CONFIGS],
            classes: None,
        };
        match self.recent.get(record) {
            Some(briefs) => arrival.briefs = briefs,
            None => {
                if self.classify_anew(record, own, id, &mut arrival).is_none() {
                    return Classed::BadPath;
                }
            }
        }
        if arrival.briefs.iter().any(Option::is_some) { Classed::Arrival(arrival, id) } else { Classed::Elsewhere }
    }

    /// Classifies a record of which nothing is remembered. `None`: the gateway takes no such method or path.
    #[inline(never)]
    fn classify_anew(&mut self, record: &Record<'_>, own: bool, id: Id, arrival: &mut Arrival) -> Option<()> {
        let method = Method::from_bytes(record.method.as_bytes()).ok()?;
        // What the gateway logged is canonical; in other logs the query follows.
        let path = if own { Cow::Borrowed(&*record.path) } else { canonical(&record.path).ok()? };
        self.principal.mode = arrival.mode;
        self.principal.account_id = id;
        if self.asides.iter().any(|aside| aside.counts_by_origin) {
            let key = record.key.as_deref().unwrap_or_default();
            self.principal.key_id = self.seed.id(IdKind::Key, key.as_bytes());
        }
        let headers = headers(record);
        for number in 0..self.configs.len() {
            let asked = Asked {
                method: &method,
                host: self.host(number, record),
                path: &path,
                headers: &headers,
                connected: Ok(record.connected.as_deref()),
                client: self.client(number, record),
            };
            match self.class(number, record, &asked) {
                Ok(class) => self.note(number, arrival, class),
                Err(Unfit::Path) => return None,
                Err(_) => {}
            }
        }
        if arrival.classes.is_none() {
            self.recent.note(record, arrival.briefs);
        }
        Some(())
    }

    fn class(&self, number: usize, record: &Record<'_>, asked: &Asked<'_>) -> Result<RequestClass, Unfit> {
        let (Some(config), Some(aside)) = (self.configs.get(number), self.asides.get(number)) else {
            return Err(Unfit::NoRoute);
        };
        let classifier = Classifier { config, seed: self.seed, principal: &self.principal };
        let mut class = classifier.classify(asked).class?;
        if let Some(inspection) = config.inspection(class.endpoint) {
            let mut findings = Findings { facts: 0, values: Default::default() };
            findings.facts = inspection.facts_named(|name| record.facts.iter().any(|fact| fact == name));
            let known = &config.policy.endpoint(class.endpoint).extractors;
            for (value, extractor) in findings.values.iter_mut().zip(known) {
                let Some(name) = aside.extractors.get(extractor.0 as usize) else { continue };
                let found = record.partition.iter().find(|(own, _)| own == name);
                *value = found.map(|(_, value)| Cow::Borrowed(&**value));
            }
            classification::take(&mut class, &findings, &self.seed);
        }
        Ok(class)
    }

    /// Has at hand what [`place`](Classes::place) will look for, of several accounts at once.
    pub fn look_ahead(&self, ids: impl Iterator<Item = Id>) {
        let found = ids.filter_map(|id| self.accounts.index.get(&id.0[0]));
        black_box(found.fold(0, |seen, known| seen ^ known.check));
    }

    /// Tells an arrival whose it is: the account of this id and name. What its class has of the account was that of nobody so far.
    /// It is looked up where it is kept, so mostly not here but in [`class_of`]: reading a line should not wait for one account's
    /// memory.
    pub fn place(&mut self, arrival: &mut Arrival, id: Id, name: &str) {
        arrival.account = self.accounts.place(id, name, &self.configs);
        if arrival.account == AccountId::BEYOND {
            return self.place_beyond(arrival, id, name);
        }
        let (Some(classes), Some(known)) = (&mut arrival.classes, self.accounts.get(arrival.account)) else { return };
        for (class, profile) in classes.iter_mut().zip(known.profiles) {
            if let Some(class) = class {
                (class.lot, class.profile) = (known.lot, profile);
            }
        }
    }

    /// Where accounts are not kept, each request keeps what there is of its own.
    #[cold]
    fn place_beyond(&self, arrival: &mut Arrival, id: Id, name: &str) {
        for (number, config) in self.configs.iter().enumerate() {
            let Some(brief) = arrival.briefs.get(number).copied().flatten() else { continue };
            if let Some(own) = arrival.classes.get_or_insert_default().get_mut(number) {
                let class = own.unwrap_or_else(|| plain_class(brief, config, arrival.mode, id));
                *own = Some(RequestClass { lot: lot(name), profile: config.profile(name), ..class });
            }
        }
    }

    fn note(&self, number: usize, arrival: &mut Arrival, class: RequestClass) {
        if let Some(brief) = arrival.briefs.get_mut(number) {
            *brief = Some(Brief { endpoint: class.endpoint, route: class.route });
        }
        let plain = !self.counts_by_origin(number)
            && class.connected == Id::NONE
            && class.payers == Payers::Account
            && class.facts == 0
            && class.values == [Id::NONE; MAX_VALUES];
        if !plain && let Some(own) = arrival.classes.get_or_insert_default().get_mut(number) {
            *own = Some(class);
        }
    }

    fn counts_by_origin(&self, number: usize) -> bool {
        self.asides.get(number).is_some_and(|aside| aside.counts_by_origin)
    }

    /// What the client's address counts by, where it counts.
    fn client(&self, number: usize, record: &Record<'_>) -> Id {
        if !self.counts_by_origin(number) {
            return Id::NONE;
        }
        let text = record.client.as_deref().unwrap_or_default();
        let address = text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
        let address = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.to_canonical());
        classification::address_id(&self.seed, address)
    }

    /// The host it was for: as it was recorded, or any that the recorded route takes.
    fn host<'r>(&'r self, number: usize, record: &'r Record<'_>) -> &'r str {
        if let Some(host) = record.host.as_deref() {
            return host;
        }
        let hosts = self.asides.get(number).map(|aside| &aside.hosts).filter(|hosts| !hosts.is_empty());
        let known = hosts.zip(record.route.as_deref()).and_then(|(hosts, route)| hosts.get(route));
        known.map(String::as_str).unwrap_or_default()
    }
}

impl Aside {
    fn new(config: &Config) -> Aside {
        let hosts = config.routes.iter().filter_map(|route| {
            let host = route.hosts.first()?;
            // Any label will do where any is taken.
            Some((route.name.clone(), host.replacen('*', "any", 1)))
        });
        let by_origin = |part: &Part| matches!(part, Part::Key | Part::Ip);
        let counts_by_origin = config.policy.limits().any(|(_, limit)| limit.per.iter().any(by_origin));
        let extractors = config.extractors.iter().map(ToString::to_string).collect();
        Aside { hosts: hosts.collect(), counts_by_origin, extractors }
    }
}

/// The class of a request under a configuration; `None` where it has none.
#[must_use]
pub fn class_of(arrival: &Arrival, number: usize, config: &Config, accounts: &Accounts) -> Option<RequestClass> {
    let brief = (*arrival.briefs.get(number)?)?;
    if let Some(class) = arrival.classes.as_ref().and_then(|classes| *classes.get(number)?) {
        return Some(class);
    }
    let account = accounts.get(arrival.account)?;
    let profile = account.profiles.get(number).copied().unwrap_or(ProfileId::BASE);
    Some(RequestClass { lot: account.lot, profile, ..plain_class(brief, config, arrival.mode, account.id) })
}

/// A class of which nothing is known but the account, which has no figures of its own.
pub(super) fn plain_class(brief: Brief, config: &Config, mode: Mode, account: Id) -> RequestClass {
    RequestClass {
        mode,
        access: classification::access_of(config, brief.endpoint),
        endpoint: brief.endpoint,
        route: brief.route,
        profile: ProfileId::BASE,
        cost: config.policy.endpoint(brief.endpoint).cost,
        account,
        lot: 0,
        connected: Id::NONE,
        key: Id::NONE,
        ip: Id::NONE,
        values: [Id::NONE; MAX_VALUES],
        facts: 0,
        payers: Payers::Account,
    }
}

/// The canonical path of a target, with or without a scheme and a query.
fn canonical(target: &str) -> Result<Cow<'_, str>, path::PathError> {
    let target = match target.split_once("://") {
        Some(("http" | "https", rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        _ => target,
    };
    let raw = target.split('?').next().unwrap_or_default();
    let canonical = path::canonical(raw.as_bytes())?;
    Ok(if canonical.is_borrowed() { Cow::Borrowed(raw) } else { Cow::Owned(canonical.as_str().to_owned()) })
}

/// The headers that limits count by. The log has a hash of each, which tells the same ones apart.
fn headers(record: &Record<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &record.partition {
        if let Some(name) = name.strip_prefix("header.")
            && let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value))
        {
            headers.insert(name, value);
        }
    }
    headers
}
