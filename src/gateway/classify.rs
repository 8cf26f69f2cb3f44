//! Request -> class, by [`crate::classification`]; what has none is refused.

use super::context::{Authenticated, Classified, Held};
use super::headers::STRIPE_ACCOUNT;
use super::hygiene;
use super::kept::Kept;
use super::observe::Refused;
use super::refusal::{BadRequest, Forbidden, Refusal};
use super::rewrite;
use super::step::Step;
use crate::classification::{Asked, Classifier, Unfit, access_of, connected_account};
use crate::path::CanonicalPath;
use http::StatusCode;
use http::request::Parts;

/// Finds out what a request is.
#[derive(Clone, Copy, Debug)]
pub struct Classify;

impl<B> Step<Authenticated<B>> for Classify {
    type Next = Classified<B>;

    fn take(&self, authenticated: Authenticated<B>) -> Result<Classified<B>, Refused> {
        let Authenticated { request, mut exchange, principal } = authenticated;
        let head = &*request.head;
        let view = std::rc::Rc::clone(&exchange.view);
        let config = &view.snapshot.config;
        let classifier = Classifier { config, seed: exchange.home.shared.engine.seed(), principal: &principal };
        let asked = Asked {
            method: &head.method,
            host: if config.asks_for_hosts() { hygiene::host(head) } else { "" },
            path: head.uri.path(),
            headers: &head.headers,
            connected: connected_account(head.get(&STRIPE_ACCOUNT)),
            client: exchange.client_id(),
        };
        let outcome = classifier.classify_at(&asked, &CanonicalPath::of_canonical(asked.path));
        exchange.route = outcome.route;
        exchange.endpoint = outcome.endpoint;
        exchange.access = outcome.endpoint.map(|id| access_of(config, id));
        // Copied from where it is into its place, and nowhere between.
        let class = match &outcome.class {
            Ok(class) => Kept::new(*class),
            Err(unfit) => return Err(Refused::new(refusal(*unfit, &classifier, head), exchange)),
        };
        if view.snapshot.options(exchange.route).is_some_and(|options| !rewrite::fits(&head.uri, options)) {
            let message = "The target of this request is too long.";
            let refusal = Refusal::BadRequest(BadRequest { status: StatusCode::URI_TOO_LONG, message });
            return Err(Refused::new(refusal, exchange));
        }
        if let Some(draft) = &mut exchange.draft {
            draft.connected = asked.connected.ok().flatten().map(Into::into);
            draft.values = classifier.named_values(&asked, class.endpoint);
        }
        let (held, at) = (Kept::new(Held::new(&exchange.home)), exchange.started);
        Ok(Classified { request, exchange, principal, class, held, at })
    }
}

/// What a client is told whose request has no class.
fn refusal(unfit: Unfit, classifier: &Classifier<'_>, parts: &Parts) -> Refusal {
    let principal = classifier.principal;
    match unfit {
        Unfit::NoRoute => Refusal::NoRoute { method: parts.method.as_str().into(), path: parts.uri.path().into() },
        Unfit::Path => Refusal::BadRequest(BadRequest::new("The request target is not valid.")),
        Unfit::Endpoint(endpoint) => Refusal::Forbidden(Forbidden::Endpoint {
            key_id: principal.id.clone(),
            endpoint: classifier.config.policy.endpoint(endpoint).name.clone(),
            account: principal.account.clone(),
        }),
        Unfit::BadAccount(_) => {
            Refusal::BadRequest(BadRequest::new("The Stripe-Account header does not name an account."))
        }
        Unfit::Account => {
            let connected = connected_account(parts.headers.get(&STRIPE_ACCOUNT)).ok().flatten().unwrap_or_default();
            Refusal::Forbidden(Forbidden::Account { key_id: principal.id.clone(), connected: connected.into() })
        }
    }
}
