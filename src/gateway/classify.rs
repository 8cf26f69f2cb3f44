//! Request -> class: route, endpoint, read or write, account, connected account, and the values that limits count by.

use super::addresses::id_of;
use super::context::{Authenticated, Classified, Held};
use super::headers::STRIPE_ACCOUNT;
use super::hygiene;
use super::observe::Refused;
use super::refusal::{BadRequest, Forbidden, Refusal};
use super::rewrite;
use super::step::Step;
use crate::config::{Charge, Config, Extractor};
use crate::endpoints::Found;
use crate::engine::class::MAX_VALUES;
use crate::engine::{Access, EndpointId, Id, IdKind, Payers, RequestClass, RouteId, Seed};
use crate::keys::Principal;
use crate::path;
use http::request::Parts;
use http::{Method, Request, StatusCode};
use std::net::IpAddr;

/// Finds out what a request is.
#[derive(Clone, Copy, Debug)]
pub struct Classify;

impl<B> Step<Authenticated<B>> for Classify {
    type Next = Classified<B>;

    fn take(&self, authenticated: Authenticated<B>) -> Result<Classified<B>, Refused> {
        let Authenticated { request, mut exchange, principal } = authenticated;
        let (parts, body) = request.into_parts();
        let view = std::rc::Rc::clone(&exchange.view);
        let asked =
            Asked { config: &view.snapshot.config, seed: exchange.home.shared.engine.seed(), principal: &principal };
        let outcome = asked.classify(&parts, exchange.client);
        exchange.route = outcome.route;
        exchange.endpoint = outcome.endpoint;
        exchange.access = outcome.endpoint.map(|id| access_of(asked.config, id));
        let class = match outcome.class {
            Ok(class) => class,
            Err(refusal) => return Err(Refused::new(*refusal, exchange)),
        };
        if let Some(draft) = &mut exchange.draft {
            draft.connected = connected_account(&parts).ok().flatten().map(Into::into);
            draft.values = asked.named_values(&parts, class.endpoint);
        }
        let (held, at) = (Held::new(&exchange.home), exchange.started);
        Ok(Classified { request: Request::from_parts(parts, body), exchange, principal, class, held, at })
    }
}

/// What classification asks.
struct Asked<'a> {
    config: &'a Config,
    seed: Seed,
    principal: &'a Principal,
}

/// What was found, as far as it went.
struct Outcome {
    route: Option<RouteId>,
    endpoint: Option<EndpointId>,
    class: Result<RequestClass, Box<Refusal>>,
}

impl Asked<'_> {
    fn classify(&self, parts: &Parts, client: IpAddr) -> Outcome {
        let Some(route) = self.config.route(hygiene::host(parts), parts.uri.path()) else {
            let refusal = Refusal::NoRoute { method: parts.method.as_str().into(), path: parts.uri.path().into() };
            return Outcome { route: None, endpoint: None, class: Err(Box::new(refusal)) };
        };
        let options = self.config.routes.get(route.0 as usize).map(|route| &route.options);
        if options.is_some_and(|options| !rewrite::fits(&parts.uri, options)) {
            let message = "The target of this request is too long.";
            let refusal = Refusal::BadRequest(BadRequest { status: StatusCode::URI_TOO_LONG, message });
            return Outcome { route: Some(route), endpoint: None, class: Err(Box::new(refusal)) };
        }
        // The path is canonical already: making it so again borrows it.
        let path = match path::canonical(parts.uri.path().as_bytes()) {
            Ok(path) => path,
            Err(_) => {
                let refusal = Refusal::BadRequest(BadRequest::new("The request target is not valid."));
                return Outcome { route: Some(route), endpoint: None, class: Err(Box::new(refusal)) };
            }
        };
        let found = self.config.index.find(&parts.method, &path);
        let endpoint = match &found {
            Some(found) => found.endpoint(),
            None => self.config.other(access_of_method(&parts.method)),
        };
        let class = self.class(parts, client, route, endpoint, found.as_ref()).map_err(Box::new);
        Outcome { route: Some(route), endpoint: Some(endpoint), class }
    }

    fn class(
        &self,
        parts: &Parts,
        client: IpAddr,
        route: RouteId,
        endpoint: EndpointId,
        found: Option<&Found<'_>>,
    ) -> Result<RequestClass, Refusal> {
        let principal = self.principal;
        let known = self.config.policy.endpoint(endpoint);
        if !principal.may_use(endpoint) {
            return Err(Refusal::Forbidden(Forbidden::Endpoint {
                key_id: principal.id.clone(),
                endpoint: known.name.clone(),
                account: principal.account.clone(),
            }));
        }
        let connected = self.connected(parts)?;
        let mut values = [Id::NONE; MAX_VALUES];
        for (value, extractor) in values.iter_mut().zip(&known.extractors) {
            *value = self.value(*extractor, parts, endpoint, found);
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
            ip: id_of(&self.seed, client),
            values,
            facts: 0,
            payers: self.payers(parts, connected),
        })
    }

    /// Whose budget a call spends; a call of an account on itself is no call on a connected one.
    fn payers(&self, parts: &Parts, connected: Id) -> Payers {
        if connected == Id::NONE || connected == self.principal.account_id {
            return Payers::Account;
        }
        let profile = || self.config.profile(connected_account(parts).ok().flatten().unwrap_or_default());
        match self.config.connect.charge {
            Charge::Platform => Payers::Account,
            Charge::Connected => Payers::Connected(profile()),
            Charge::Both => Payers::Both(profile()),
        }
    }

    fn connected(&self, parts: &Parts) -> Result<Id, Refusal> {
        let Some(connected) = connected_account(parts).map_err(Refusal::BadRequest)? else { return Ok(Id::NONE) };
        if !self.principal.may_act_for(connected) {
            let key_id = self.principal.id.clone();
            return Err(Refusal::Forbidden(Forbidden::Account { key_id, connected: connected.into() }));
        }
        Ok(self.seed.id(IdKind::Account, connected.as_bytes()))
    }

    fn value(
        &self,
        extractor: crate::engine::policy::ExtractorId,
        parts: &Parts,
        endpoint: EndpointId,
        found: Option<&Found<'_>>,
    ) -> Id {
        let id = |bytes: &[u8]| self.seed.id(IdKind::Value, bytes);
        match self.config.extractor_at(endpoint, extractor) {
            Some(Extractor::Header(name)) => parts.headers.get(name).map_or(Id::NONE, |value| id(value.as_bytes())),
            Some(Extractor::Path(name)) => {
                let place = self.config.parameter(endpoint, name);
                let value = place.zip(found).and_then(|(place, found)| found.param(place));
                value.map_or(Id::NONE, |value| id(value.as_bytes()))
            }
            // Query and body are the next layer's to read.
            Some(Extractor::Query(_) | Extractor::Form(_) | Extractor::Json(_) | Extractor::FirstOf(_)) | None => {
                Id::NONE
            }
        }
    }

    /// The same values with their names, for the access log.
    fn named_values(&self, parts: &Parts, endpoint: EndpointId) -> Vec<(Box<str>, Box<str>)> {
        let Ok(path) = path::canonical(parts.uri.path().as_bytes()) else { return Vec::new() };
        let found = self.config.index.find(&parts.method, &path);
        let known = self.config.policy.endpoint(endpoint);
        let extractors = known.extractors.iter().filter_map(|id| self.config.extractor_at(endpoint, *id));
        extractors
            .filter_map(|extractor| match extractor {
                // A header that limits count by may be a credential: the log gets its keyed hash.
                Extractor::Header(name) => {
                    let value = parts.headers.get(name)?;
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

/// The account that `Stripe-Account` names.
fn connected_account(parts: &Parts) -> Result<Option<&str>, BadRequest> {
    const MAX_BYTES: usize = 255;
    let Some(value) = parts.headers.get(&STRIPE_ACCOUNT) else { return Ok(None) };
    let fit = |text: &&str| {
        (1..=MAX_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    let text = value.to_str().ok().filter(fit);
    text.map(Some).ok_or(BadRequest::new("The Stripe-Account header does not name an account."))
}

fn access_of(config: &Config, endpoint: EndpointId) -> Access {
    config.endpoints.get(endpoint.0 as usize).map_or(Access::Write, |endpoint| endpoint.access)
}

/// Read for the methods that are safe by definition; everything else, unknown methods included, is a write.
fn access_of_method(method: &Method) -> Access {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Access::Read,
        _ => Access::Write,
    }
}
