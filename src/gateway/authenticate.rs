//! API key -> principal. Nothing is kept of a key that nobody issued.

use super::context::{Authenticated, Authority, Observed};
use super::exchange::{Exchange, Peer};
use super::head::Head;
use super::observe::Refused;
use super::refusal::{BadRequest, Refusal, Unauthenticated};
use super::step::Step;
use super::{addresses, hygiene, target};
use crate::engine::IdKind;
use crate::keys::{self, KeyState, Principal, Secret};
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use std::sync::Arc;

/// Refuses what is ambiguous, makes the path canonical, finds the key's principal.
#[derive(Clone, Copy, Debug)]
pub struct Authenticate;

impl<B> Step<Observed<B>> for Authenticate {
    type Next = Authenticated<B>;

    fn take(&self, observed: Observed<B>) -> Result<Authenticated<B>, Refused> {
        let Observed { mut request, mut exchange } = observed;
        let head = &mut *request.head;
        if hygiene::is_loop(head, &exchange.view.snapshot.config.server.via) {
            return Err(Refused::new(Refusal::Loop, exchange));
        }
        if let Err(bad) = make_acceptable(head, &exchange.peer) {
            return Err(Refused::new(Refusal::BadRequest(bad), exchange));
        }
        if let Some(draft) = &mut exchange.draft {
            draft.path = head.uri.path().into();
        }
        if let Authority::Waiting = *exchange.view.snapshot.authority {
            // Neither a free pass nor a 401, which would tell a good client that its key is no good any more.
            return Err(Refused::new(Refusal::NoKeysYet, exchange));
        }
        let principal = match find(&exchange, &head.headers) {
            Ok(principal) => principal,
            Err(cause) => {
                let refusal = match addresses::failed(&exchange, &cause) {
                    Ok(()) => Refusal::Unauthenticated(cause),
                    Err(rejection) => Refusal::Address(rejection),
                };
                return Err(Refused::new(refusal, exchange));
            }
        };
        // After the key: without one, or with a bad one, the answer is a 401 whatever the query holds.
        if let Err(bad) = hygiene::check_query(head.uri.query().unwrap_or_default()) {
            return Err(Refused::new(Refusal::BadRequest(bad), exchange));
        }
        exchange.mode = Some(principal.mode);
        if let Some(draft) = &mut exchange.draft {
            draft.principal = Some(Arc::clone(&principal));
        }
        Ok(Authenticated { request, exchange, principal })
    }
}

/// Gives a head its canonical target, when nothing about it is ambiguous.
fn make_acceptable(head: &mut Head, peer: &Peer) -> Result<(), BadRequest> {
    hygiene::check(head)?;
    hygiene::check_directed(head, peer)?;
    target::make_canonical(head.parts_mut())
}

fn find(exchange: &Exchange, headers: &HeaderMap) -> Result<Arc<Principal>, Unauthenticated> {
    let header = headers.get(header::AUTHORIZATION).ok_or(Unauthenticated::NoKey)?;
    let authority = &exchange.view.snapshot.authority;
    let shared = &exchange.home.shared;
    let (recognized, id) = (&exchange.peer.recognized, shared.engine.seed().id(IdKind::Value, header.as_bytes()));
    let principal = match recognized.find(authority, id) {
        Some(principal) => principal,
        None => {
            let principal = look_up(authority, header)?;
            recognized.keep(authority, id, &principal);
            principal
        }
    };
    // The clock is read only for keys that can expire.
    let now = if principal.expires_at.is_some() { shared.time.wall() } else { Timestamp::MIN };
    match principal.state(now) {
        KeyState::Active => Ok(principal),
        KeyState::Revoked => Err(Unauthenticated::Revoked { masked: secret(header)?.masked().into() }),
        KeyState::Expired => Err(Unauthenticated::Expired { masked: secret(header)?.masked().into() }),
    }
}

fn look_up(authority: &Authority, header: &HeaderValue) -> Result<Arc<Principal>, Unauthenticated> {
    let secret = secret(header)?;
    match authority {
        Authority::Keys(keyring) => {
            let unknown = || Unauthenticated::Unknown { masked: secret.masked().into() };
            keyring.find(&secret).map(Arc::clone).ok_or_else(unknown)
        }
        Authority::Passthrough(passthrough) => Ok(Arc::new(passthrough.principal(&secret))),
        // Refused before.
        Authority::Waiting => Err(Unauthenticated::NoKey),
    }
}

fn secret(header: &HeaderValue) -> Result<Secret<'_>, Unauthenticated> {
    keys::from_authorization(header.as_bytes()).map_err(|_| Unauthenticated::Malformed)
}
