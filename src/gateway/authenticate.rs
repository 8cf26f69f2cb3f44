//! API key -> principal. Nothing is kept of a key that nobody issued.

use super::context::{Authenticated, Authority, Observed};
use super::exchange::Peer;
use super::observe::Refused;
use super::refusal::{BadRequest, Refusal, Unauthenticated};
use super::step::Step;
use super::{addresses, hygiene, target};
use crate::keys::{self, KeyState, Keyring, Principal, Secret};
use http::{HeaderMap, Request, header};
use jiff::Timestamp;
use std::sync::Arc;

/// Refuses what is ambiguous, makes the path canonical, finds the key's principal.
#[derive(Clone, Copy, Debug)]
pub struct Authenticate;

impl<B> Step<Observed<B>> for Authenticate {
    type Next = Authenticated<B>;

    fn take(&self, observed: Observed<B>) -> Result<Authenticated<B>, Refused> {
        let Observed { request, mut exchange } = observed;
        if hygiene::is_loop(request.headers(), &exchange.view.snapshot.config.server.via) {
            return Err(Refused::new(Refusal::Loop, exchange));
        }
        let request = match acceptable(request, &exchange.peer) {
            Ok(request) => request,
            Err(bad) => return Err(Refused::new(Refusal::BadRequest(bad), exchange)),
        };
        if let Some(draft) = &mut exchange.draft {
            draft.path = request.uri().path().into();
        }
        let found = match &*exchange.view.snapshot.authority {
            Authority::Keys(keyring) => find(keyring, request.headers(), || exchange.home.shared.time.wall()),
            Authority::Passthrough(any) => presented(request.headers()).map(|secret| Arc::new(any.principal(&secret))),
            // Neither a free pass nor a 401, which would tell a good client that its key is no good any more.
            Authority::Waiting => return Err(Refused::new(Refusal::NoKeysYet, exchange)),
        };
        let principal = match found {
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
        if let Err(bad) = hygiene::check_query(request.uri().query().unwrap_or_default()) {
            return Err(Refused::new(Refusal::BadRequest(bad), exchange));
        }
        exchange.mode = Some(principal.mode);
        if let Some(draft) = &mut exchange.draft {
            draft.principal = Some(Arc::clone(&principal));
        }
        Ok(Authenticated { request, exchange, principal })
    }
}

/// The request with its canonical target, when nothing about it is ambiguous.
fn acceptable<B>(request: Request<B>, peer: &Peer) -> Result<Request<B>, BadRequest> {
    let (mut parts, body) = request.into_parts();
    hygiene::check(&parts)?;
    hygiene::check_directed(&parts, peer)?;
    target::make_canonical(&mut parts)?;
    Ok(Request::from_parts(parts, body))
}

fn presented(headers: &HeaderMap) -> Result<Secret<'_>, Unauthenticated> {
    let header = headers.get(header::AUTHORIZATION).ok_or(Unauthenticated::NoKey)?;
    keys::from_authorization(header.as_bytes()).map_err(|_| Unauthenticated::Malformed)
}

fn find(
    keyring: &Keyring,
    headers: &HeaderMap,
    wall: impl FnOnce() -> Timestamp,
) -> Result<Arc<Principal>, Unauthenticated> {
    let secret = presented(headers)?;
    let masked = || secret.masked().into();
    let principal = keyring.find(&secret).ok_or_else(|| Unauthenticated::Unknown { masked: masked() })?;
    // The clock is read only for keys that can expire.
    let now = if principal.expires_at.is_some() { wall() } else { Timestamp::MIN };
    match principal.state(now) {
        KeyState::Active => Ok(Arc::clone(principal)),
        KeyState::Revoked => Err(Unauthenticated::Revoked { masked: masked() }),
        KeyState::Expired => Err(Unauthenticated::Expired { masked: masked() }),
    }
}
