//! The gateway's stack without sockets: a clock that the test moves, and an upstream that is a function.

use super::seed;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tollgate::clock::{ManualTime, Time};
use tollgate::config::Config;
use tollgate::engine::{Count, Engine};
use tollgate::gateway::{
    self, Authority, Classified, GatewayBody, Home, Peer, Refused, Rest, Shared, Snapshot, TlsParts, refusal::Refusal,
};
use tollgate::keys::Keyring;
use tollgate::metrics::Metrics;
use tollgate::store::Store;
use tollgate::upstream::{ReadAhead, Servers, Tick};
use tower::Service;

/// What the stub upstream does with a request, as the header `x-stub` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Answers at once.
    Answer,
    /// Waits before the request is sent on, until [`Stack::release`].
    Wait,
    /// Fails after the request was sent on.
    Fail,
    /// Panics before the request is sent on.
    PanicBefore,
    /// Panics after it.
    PanicAfter,
    /// Panics in the answer's body.
    PanicInBody,
}

const DEEDS: [(Deed, &str); 6] = [
    (Deed::Answer, "answer"),
    (Deed::Wait, "wait"),
    (Deed::Fail, "fail"),
    (Deed::PanicBefore, "panic-before"),
    (Deed::PanicAfter, "panic-after"),
    (Deed::PanicInBody, "panic-in-body"),
];

impl Deed {
    pub(crate) fn as_str(self) -> &'static str {
        DEEDS.iter().find(|known| known.0 == self).unwrap().1
    }

    fn of(text: &str) -> Deed {
        DEEDS.iter().find(|known| known.1 == text).map_or(Deed::Answer, |known| known.0)
    }
}

/// A short body, or one that panics.
pub(crate) struct StubBody {
    frames: u8,
    panics: bool,
}

impl Body for StubBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        assert!(!self.panics, "an upstream's body panics, as the test wants");
        if self.frames == 0 {
            return Poll::Ready(None);
        }
        self.frames -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece")))))
    }
}

/// An answer of the stack; its body may still be open.
pub(crate) type StubResponse = Response<GatewayBody<StubBody>>;

/// A request in the stack.
pub(crate) type InFlight = LocalBoxFuture<'static, StubResponse>;

/// One thread's stack with all that it needs.
pub(crate) struct Stack {
    pub(crate) home: Rc<Home>,
    pub(crate) clock: ManualTime,
    waiting: Rc<RefCell<bool>>,
    /// Requests that have come to the upstream and wait there.
    pub(crate) arrived: Rc<Cell<usize>>,
}

impl Stack {
    pub(crate) fn new(config: Config, keys: &str) -> Stack {
        let (time, clock) = Time::manual();
        let engine = Arc::new(Engine::new(seed(), usize::MAX));
        let (metrics, servers) = (Arc::new(Metrics::new().unwrap()), Servers::default());
        let snapshot = snapshot(config, keys, &metrics, &servers);
        let store = snapshot.config.store.redis().cloned();
        let store = store.map(|settings| Store::new(settings, time.clone(), Arc::clone(&metrics), seed()));
        let shared = Arc::new(Shared::new(engine, time, metrics, servers, snapshot).with_store(store));
        Stack { home: Home::new(shared), clock, waiting: Rc::new(RefCell::new(true)), arrived: Rc::default() }
    }

    /// Puts another configuration in place.
    pub(crate) fn reload(&self, config: Config, keys: &str) {
        let shared = &self.home.shared;
        shared.replace(snapshot(config, keys, &shared.metrics, &shared.servers));
    }

    /// Sends a request in from `peer`.
    pub(crate) fn call(&self, peer: &Rc<Peer>, request: Request<()>) -> InFlight {
        self.send(peer, request.map(|()| Bytes::new()))
    }

    /// Sends a request with a body in from `peer`.
    pub(crate) fn send(&self, peer: &Rc<Peer>, request: Request<Bytes>) -> InFlight {
        let (waiting, arrived) = (Rc::clone(&self.waiting), Rc::clone(&self.arrived));
        let upstream =
            tower::service_fn(move |classified| forward(classified, Rc::clone(&waiting), Rc::clone(&arrived)));
        let mut stack = gateway::stack(&self.home, peer, upstream);
        stack
            .call(request.map(Full::new).into())
            .map(|answered| GatewayBody::spelled_out(answered.unwrap()))
            .boxed_local()
    }

    /// Sends a request in and takes its answer, which is there at once.
    pub(crate) fn ask(&self, peer: &Rc<Peer>, request: Request<()>) -> StubResponse {
        self.call(peer, request).now_or_never().expect("nothing to wait for")
    }

    /// Lets a waiting request go on.
    pub(crate) fn release(&self, waiting: InFlight) -> StubResponse {
        self.waiting.replace(false);
        let answer = waiting.now_or_never().expect("nothing more to wait for");
        self.waiting.replace(true);
        answer
    }

    /// Partitions and slots of a limit.
    pub(crate) fn count(&self, limit: &str) -> Count {
        let policy = &self.home.shared.current().config.policy;
        let id = policy.limits().find(|(_, known)| &*known.name == limit).unwrap().0;
        self.home.shared.engine.census(policy).get(&id).copied().unwrap_or_default()
    }
}

fn snapshot(config: Config, keys: &str, metrics: &Metrics, servers: &Servers) -> Snapshot {
    let mut keyring = Keyring::parse(keys, &seed()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let names: Vec<&str> = config.endpoints.iter().map(|endpoint| &*endpoint.name).collect();
    keyring.bind(&names);
    Snapshot::new(config, Authority::Keys(keyring), metrics, servers, None, TlsParts::default())
}

async fn forward(
    classified: Classified<ReadAhead<Full<Bytes>>>,
    waiting: Rc<RefCell<bool>>,
    arrived: Rc<Cell<usize>>,
) -> Result<Response<GatewayBody<StubBody>>, Refused> {
    let deed =
        classified.request.head.headers.get("x-stub").map_or(Deed::Answer, |deed| Deed::of(deed.to_str().unwrap()));
    if deed == Deed::Wait {
        arrived.set(arrived.get() + 1);
        std::future::poll_fn(|_| if *waiting.borrow() { Poll::Pending } else { Poll::Ready(()) }).await;
    }
    assert!(deed != Deed::PanicBefore, "the stub panics, as the test wants");
    let Classified { mut exchange, mut held, .. } = classified;
    held.commit();
    assert!(deed != Deed::PanicAfter, "the stub panics, as the test wants");
    if deed == Deed::Fail {
        return Err(Refused::new(Refusal::Upstream(gateway::refusal::UpstreamFailure::Broken), exchange));
    }
    exchange.status = 200;
    let body = StubBody { frames: 2, panics: deed == Deed::PanicInBody };
    Ok(Response::new(GatewayBody::forwarded(body, Tick::new(Duration::from_secs(1)), Rest::new(held, exchange))))
}

/// A client's end of a connection.
pub(crate) fn peer(ip: &str) -> Rc<Peer> {
    Rc::new(Peer::new(ip.parse::<IpAddr>().unwrap(), false))
}

/// Polls once; for a request that is expected to wait.
pub(crate) fn poll_once(future: &mut InFlight) -> Poll<StubResponse> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Reads an answer to its end.
pub(crate) fn read(response: StubResponse) -> Bytes {
    response.into_body().collect().now_or_never().expect("nothing to wait for").unwrap().to_bytes()
}
