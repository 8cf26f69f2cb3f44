//! FLOOR 2: request -> class: route, endpoint, read or write, account, connected account, and the values that limits count by.
//!
//! Pure: what is asked comes in as [`Asked`], so live traffic, `explain` and `replay` are classified by the same lines, and none
//! of them can come to another answer.

use crate::body::{Findings, Inspection};
use crate::config::{Charge, Config, Extractor};
use crate::endpoints::Found;
use crate::engine::class::MAX_VALUES;
use crate::engine::policy::ExtractorId;
use crate::engine::{Access, EndpointId, Id, IdKind, Payers, RequestClass, RouteId, Seed};
use crate::keys::Principal;
use crate::path;
use http::{HeaderMap, Method};
use std::net::IpAddr;

/// What classification looks at of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// As sent.
    pub method: &'a Method,
    /// The host it is for, without port; empty where none is named, or no route asks for it.
    pub host: &'a str,
    /// Canonical.
    pub path: &'a str,
    /// All its headers; only those that limits count by are read.
    pub headers: &'a HeaderMap,
    /// The account that it acts for, if any; see [`connected_account`].
    pub connected: Result<Option<&'a str>, BadAccount>,
    /// What the client's address counts by; see [`address_id`].
    pub client: Id,
}

/// A `Stripe-Account` that names no account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The Stripe-Account header does not name an account.")]
pub struct BadAccount;

/// Why a request has no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// No route takes its host and path.
    NoRoute,
    /// Its path is not canonical.
    Path,
    /// The key's `allow` list lacks its endpoint.
    Endpoint(EndpointId),
    /// It names an account in a way that names none.
    BadAccount(BadAccount),
    /// The key may not act for the account it names.
    Account,
}

/// What was found, as far as it went.
#[derive(Debug)]
pub struct Outcome {
    /// The route, where one takes it.
    pub route: Option<RouteId>,
    /// The endpoint, where a route takes it.
    pub endpoint: Option<EndpointId>,
    /// The class, or why there is none.
    pub class: Result<RequestClass, Unfit>,
}

/// What classification asks.
#[derive(Clone, Copy)]
pub struct Classifier<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// What ids are made with.
    pub seed: Seed,
    /// Whom the key names.
    pub principal: &'a Principal,
}

impl Classifier<'_> {
    /// Finds out what a request is.
    #[must_use]
    pub fn classify(&self, asked: &Asked<'_>) -> Outcome {
        // The path is canonical already: making it so again borrows it.
        match path::canonical_text(asked.path) {
            Ok(path) => self.classify_at(asked, &path),
            Err(_) => {
                let route = self.config.route(asked.host, asked.path);
                let unfit = if route.is_some() { Unfit::Path } else { Unfit::NoRoute };
                Outcome { route, endpoint: None, class: Err(unfit) }
            }
        }
    }

    /// The same for whoever has made the path canonical, which is that of the request: it is not looked at again.
    #[must_use]
    pub fn classify_at(&self, asked: &Asked<'_>, path: &path::CanonicalPath<'_>) -> Outcome {
        let Some(route) = self.config.route(asked.host, asked.path) else {
            return Outcome { route: None, endpoint: None, class: Err(Unfit::NoRoute) };
        };
        let found = self.config.index.find(asked.method, path);
        let endpoint = match &found {
            Some(found) => found.endpoint(),
            None => self.config.other(access_of_method(asked.method)),
        };
        let class = self.class(asked, route, endpoint, found.as_ref());
        Outcome { route: Some(route), endpoint: Some(endpoint), class }
    }

    fn class(
        &self,
        asked: &Asked<'_>,
        route: RouteId,
        endpoint: EndpointId,
        found: Option<&Found<'_>>,
    ) -> Result<RequestClass, Unfit> {
        let principal = self.principal;
        if !principal.may_use(endpoint) {
            return Err(Unfit::Endpoint(endpoint));
        }
        let connected_account = asked.connected.map_err(Unfit::BadAccount)?;
        let connected = self.connected(connected_account)?;
        let known = self.config.policy.endpoint(endpoint);
        let mut values = [Id::NONE; MAX_VALUES];
        for (value, extractor) in values.iter_mut().zip(&known.extractors) {
            *value = self.value(*extractor, asked.headers, endpoint, found);
        }
        Ok(RequestClass {
            mode: principal.mode,
            access: access_of(self.config, endpoint),
            endpoint,
            route,
            profile: self.config.profile(&principal.account),
            cost: known.cost,
            account: principal.account_id,
            connected,
            key: principal.key_id,
            ip: asked.client,
            values,
            facts: 0,
            payers: self.payers(connected_account, connected),
            lot: principal.lot,
        })
    }

    /// Whose budget a call spends; a call of an account on itself is no call on a connected one.
    fn payers(&self, connected_account: Option<&str>, connected: Id) -> Payers {
        if connected == Id::NONE || connected == self.principal.account_id {
            return Payers::Account;
        }
        let profile = || self.config.profile(connected_account.unwrap_or_default());
        match self.config.connect.charge {
            Charge::Platform => Payers::Account,
            Charge::Connected => Payers::Connected(profile()),
            Charge::Both => Payers::Both(profile()),
        }
    }

    fn connected(&self, connected: Option<&str>) -> Result<Id, Unfit> {
        let Some(connected) = connected else { return Ok(Id::NONE) };
        if !self.principal.may_act_for(connected) {
            return Err(Unfit::Account);
        }
        Ok(self.seed.id(IdKind::Account, connected.as_bytes()))
    }

    fn value(
        &self,
        extractor: ExtractorId,
        headers: &HeaderMap,
        endpoint: EndpointId,
        found: Option<&Found<'_>>,
    ) -> Id {
        let id = |bytes: &[u8]| self.seed.id(IdKind::Value, bytes);
        match self.config.extractor_at(endpoint, extractor) {
            Some(Extractor::Header(name)) => headers.get(name).map_or(Id::NONE, |value| id(value.as_bytes())),
            Some(Extractor::Path(name)) => {
                let place = self.config.parameter(endpoint, name);
                let value = place.zip(found).and_then(|(place, found)| found.param(place));
                value.map_or(Id::NONE, |value| id(value.as_bytes()))
            }
            // Query and body come later: see [`take`].
            Some(Extractor::Query(_) | Extractor::Form(_) | Extractor::Json(_) | Extractor::FirstOf(_)) | None => {
                Id::NONE
            }
        }
    }

    /// The values that the endpoint's limits take from path and headers, with their names, for people to read.
    #[must_use]
    pub fn named_values(&self, asked: &Asked<'_>, endpoint: EndpointId) -> Vec<(Box<str>, Box<str>)> {
        let Ok(path) = path::canonical_text(asked.path) else { return Vec::new() };
        let found = self.config.index.find(asked.method, &path);
        let known = self.config.policy.endpoint(endpoint);
        let extractors = known.extractors.iter().filter_map(|id| self.config.extractor_at(endpoint, *id));
        extractors
            .filter_map(|extractor| match extractor {
                // A header that limits count by may be a credential: people get its keyed hash.
                Extractor::Header(name) => {
                    let value = asked.headers.get(name)?;
                    let id = self.seed.id(IdKind::Value, value.as_bytes());
                    Some((format!("header.{name}").into(), format!("{:016x}", id.0[0]).into()))
                }
                Extractor::Path(name) => {
                    let place = self.config.parameter(endpoint, name)?;
                    Some((format!("path.{name}").into(), found.as_ref()?.param(place)?.into()))
                }
                Extractor::Query(_) | Extractor::Form(_) | Extractor::Json(_) | Extractor::FirstOf(_) => None,
            })
            .collect()
    }
}

/// The id that a client's address counts by. An IPv6 client has a whole /64 to itself, so that is what counts as one address.
#[must_use]
pub fn address_id(seed: &Seed, client: IpAddr) -> Id {
    match client {
        IpAddr::V4(address) => seed.id(IdKind::Ip, &address.octets()),
        IpAddr::V6(address) => {
            let [network @ .., _, _, _, _, _, _, _, _] = address.octets();
            seed.id(IdKind::Ip, &network)
        }
    }
}

/// Puts into a class what its query and body say.
pub fn take(class: &mut RequestClass, findings: &Findings<'_>, seed: &Seed) {
    class.facts = findings.facts;
    for (id, value) in class.values.iter_mut().zip(&findings.values) {
        if let Some(value) = value {
            *id = seed.id(IdKind::Value, value.as_bytes());
        }
    }
}

/// The same values with their names, for people to read, each cut to at most `most` bytes.
pub fn named_findings<'a>(
    config: &'a Config,
    endpoint: EndpointId,
    findings: &'a Findings<'_>,
    most: usize,
) -> impl Iterator<Item = (Box<str>, Box<str>)> + 'a {
    let known = &config.policy.endpoint(endpoint).extractors;
    findings.values.iter().enumerate().filter_map(move |(slot, value)| {
        let value = value.as_deref()?;
        let value = value.get(..value.floor_char_boundary(most))?;
        let extractor = config.extractors.get(known.get(slot)?.0 as usize)?;
        Some((extractor.to_string().into(), value.into()))
    })
}

/// The names of what conditions asked of a body and found there.
pub fn named_facts<'a>(inspection: &'a Inspection, findings: &Findings<'_>) -> impl Iterator<Item = Box<str>> + 'a {
    inspection.holding(findings.facts).map(|test| test.name().into())
}

/// The account that a `Stripe-Account` header names: 1 to 255 letters, digits and `_-.`.
///
/// # Errors
/// When it names none.
pub fn connected_account(value: Option<&http::HeaderValue>) -> Result<Option<&str>, BadAccount> {
    const MAX_BYTES: usize = 255;
    let Some(value) = value else { return Ok(None) };
    let fit = |text: &&str| {
        (1..=MAX_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    value.to_str().ok().filter(fit).map(Some).ok_or(BadAccount)
}

/// Whether requests to an endpoint read or write.
#[must_use]
pub fn access_of(config: &Config, endpoint: EndpointId) -> Access {
    config.endpoints.get(endpoint.0 as usize).map_or(Access::Write, |endpoint| endpoint.access)
}

/// Read for the methods that are safe by definition; everything else, unknown methods included, is a write.
fn access_of_method(method: &Method) -> Access {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Access::Read,
        _ => Access::Write,
    }
}
