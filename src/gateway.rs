//! FLOOR 3: ★ the stack of one request.
//!
//! Read [`stack`] top to bottom: it is the order in which a request meets the layers. Each layer changes the request's type
//! ([`Arrived`] → [`Observed`] → [`Authenticated`] → [`Classified`]), so a request that was not classified cannot reach a limiter,
//! and nothing is fetched from extensions. No layer is boxed, and only three may wait: [`inspect`] for a body, [`consult`] for a store that
//! gateways share, [`lock`] for a turn. But for them the whole stack is one call until [`forward`].

pub mod access_log;
pub mod addresses;
pub mod admit;
pub mod authenticate;
pub mod body;
pub mod classify;
pub mod consult;
pub mod context;
pub mod credentials;
pub mod exchange;
pub mod forward;
mod forwarded;
pub mod head;
pub mod headers;
pub mod hygiene;
pub mod ids;
pub mod inspect;
pub mod kept;
pub mod lock;
pub mod observe;
pub mod overriding;
mod provide;
mod recognized;
pub mod refusal;
pub mod respond;
mod rewrite;
mod rules;
pub mod step;
pub mod target;
pub mod texts;
mod trace;
mod tries;
pub mod tunnel;
pub mod words;

pub use body::{Answer, GatewayBody, Rest};
pub use context::{Arrived, Authenticated, Authority, Classified, Home, Observed, Shared, Snapshot, TlsParts};
pub use exchange::Peer;
pub use head::Head;
pub use kept::Kept;
pub use observe::Refused;

use crate::engine::Stage;
use crate::upstream::ReadAhead;
use addresses::AdmitAddress;
use admit::Admit;
use authenticate::Authenticate;
use bytes::Bytes;
use classify::Classify;
use consult::ConsultLayer;
use http::Response;
use http_body::Body;
use inspect::InspectLayer;
use lock::LockLayer;
use observe::ObserveLayer;
use respond::RespondLayer;
use std::convert::Infallible;
use std::rc::Rc;
use step::{CheckLayer, StepLayer};
use tower::{Service, ServiceBuilder};

/// The stages of the stack's five `Admit` checks, in the order they are made. A test holds it to [`Stage::ALL`], the order of the
/// engine.
pub const ADMIT_ORDER: [Stage; 5] =
    [Stage::GlobalRate, Stage::GlobalConcurrency, Stage::EndpointRate, Stage::EndpointConcurrency, Stage::Resource];

/// The layers that every request passes, around `forward`. One for each connection; clones are cheap.
pub fn stack<B, R, F>(
    home: &Rc<Home>,
    peer: &Rc<Peer>,
    forward: F,
) -> impl Service<
    Arrived<B>,
    Response = Response<GatewayBody<R>>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<GatewayBody<R>>, Infallible>> + use<B, R, F>,
> + Clone
+ use<B, R, F>
where
    B: Body<Data = Bytes, Error: std::error::Error + 'static> + Unpin,
    F: Service<Classified<ReadAhead<B>>, Response = Response<GatewayBody<R>>, Error = Refused> + Clone,
{
    // One layer for all stages: a layer costs a move of the request on its way down and of its future on the way up.
    let [global_rate, global_concurrency, endpoint_rate, endpoint_concurrency, resource] = ADMIT_ORDER.map(Admit);
    ServiceBuilder::new()
        // Outermost, so that every refusal from below becomes an answer, a panic's included.
        .layer(RespondLayer { home: Rc::clone(home) })
        // Above everything that can refuse, so that every request is recorded.
        .layer(ObserveLayer { home: Rc::clone(home), peer: Rc::clone(peer) })
        // By address before anything is read, hashed or looked up: what a flood or a guesser sends costs next to nothing.
        .layer(StepLayer::<_, Observed<B>>::new(AdmitAddress))
        // First of all who it is: nothing is looked up, counted or kept for a key that nobody issued.
        .layer(StepLayer::<_, Observed<B>>::new(Authenticate))
        // Limits decide by class alone: this is the last place that reads the head.
        .layer(StepLayer::<_, Authenticated<B>>::new(Classify))
        // Where limits count by a body, what it says, before any of them takes anything: a body that never comes holds nothing.
        .layer(InspectLayer)
        // Where gateways count together, what the shared counts say: one question for all stages, answered before the first.
        .layer(ConsultLayer)
        // The account's whole traffic before any part of it, rates before slots: a refusal at a rate touches no slot. Single
        // objects last: the narrowest limit is asked only when the wider ones have room.
        .layer(CheckLayer([global_rate, global_concurrency, endpoint_rate, endpoint_concurrency, resource]))
        // After all limits, so that a request that one refuses never stands in a queue.
        .layer(LockLayer)
        .service(forward)
}
