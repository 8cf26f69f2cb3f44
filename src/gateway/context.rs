//! What one request carries through the layers, and where it lives.
//!
//! [`Shared`] is the process, [`Home`] one thread, [`View`] one thread's look at one [`Snapshot`] of the configuration, and
//! [`Exchange`] one request. A request keeps the view it began with: a reload never changes the rules under it.

use super::access_log::AccessLog;
use super::credentials::Credential;
use super::exchange::Exchange;
use super::head::Head;
use super::ids::RequestIds;
use super::kept::Kept;
use super::overriding::Overriding;
use super::texts::Texts;
use crate::board::Desk;
use crate::budget::Budget;
use crate::clock::{Time, WallAxis};
use crate::config::{Config, Credentials, RouteOptions, StoreMode};
use crate::engine::{Access, Clock, Engine, Hold, Mode, Nanos, RequestClass, RouteId};
use crate::keys::{Keyring, Passthrough, Principal};
use crate::locks::{Lock, Locks};
use crate::metrics::{LimitCounters, Metrics, RouteTimers};
use crate::store::{Exact, Grip, Lender, Link, Store, lender};
use crate::tls::{self, Acceptor};
use crate::upstream::{Group, Pool, Servers, UpstreamTls};
use arc_swap::ArcSwap;
use http::Request;
use prometheus::IntCounter;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// What all threads share.
pub struct Shared {
    /// The state of all limits.
    pub engine: Arc<Engine>,
    /// The state of limits by address: apart, so that strangers never take room from accounts.
    pub addresses: Engine,
    /// Who has the turn at which object.
    pub locks: Arc<Locks>,
    /// Where the time comes from.
    pub time: Time,
    /// Its moments as the access log has them.
    pub wall: WallAxis,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The upstreams as they run: a reload keeps what stays.
    pub servers: Servers,
    /// What the buffers of client connections may hold.
    pub budget: Arc<Budget>,
    /// Temporary figures of accounts.
    pub overriding: Overriding,
    /// What several gateways count in together, where they do.
    pub store: Option<Arc<Store>>,
    /// Who writes to the boards that all gateways read; empty without a shared store.
    pub desk: OnceLock<Desk>,
    current: ArcSwap<Snapshot>,
    version: AtomicU64,
}

impl Shared {
    /// The process's state with its first configuration.
    #[must_use]
    pub fn new(engine: Arc<Engine>, time: Time, metrics: Arc<Metrics>, servers: Servers, first: Snapshot) -> Shared {
        let first = Arc::new(first);
        Shared {
            wall: WallAxis::new(&time),
            addresses: Engine::new(engine.seed(), first.config.addresses.max_addresses),
            overriding: Overriding::new(Arc::clone(&first)),
            desk: OnceLock::new(),
            engine,
            locks: Arc::default(),
            store: None,
            time,
            metrics,
            servers,
            budget: Budget::new(first.config.server.max_buffer_memory),
            current: ArcSwap::from(first),
            version: AtomicU64::new(0),
        }
    }

    /// The same with a store, where there is one.
    #[must_use]
    pub fn with_store(self, store: Option<Arc<Store>>) -> Shared {
        if let Some(settings) = store.as_ref().map(|store| store.settings())
            && settings.mode == StoreMode::Leased
        {
            self.engine.set_terms(lender::terms(settings));
        }
        Shared { store, ..self }
    }

    /// The running configuration.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts a new configuration in place, with the overrides that there are: requests that begin from now on see it.
    pub fn replace(&self, next: Snapshot) {
        self.overriding.rebase(self, Arc::new(next));
    }

    /// Puts other keys in place of those that there are.
    pub fn reauthorize(&self, authority: Authority) {
        self.overriding.reauthorize(self, authority);
    }

    pub(super) fn show(&self, next: Arc<Snapshot>) {
        self.current.store(next);
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// Who may come in.
pub enum Authority {
    /// Known keys.
    Keys(Keyring),
    /// Any key.
    Passthrough(Passthrough),
    /// Known keys, once they have come from the shared store; until then nobody.
    Waiting,
}

/// One configuration with all that is derived from it once.
pub struct Snapshot {
    /// The configuration itself.
    pub config: Config,
    /// The keys, or none needed.
    pub authority: Arc<Authority>,
    /// The upstreams of the configuration as they run, in its order.
    pub upstreams: Box<[Arc<Group>]>,
    /// The counters of each limit.
    pub limits: Box<[LimitCounters]>,
    /// The timers of each route.
    pub routes: Box<[RouteTimers]>,
    /// What becomes of the client's key on each route.
    pub credentials: Arc<[Credential]>,
    /// The access log, when one is configured.
    pub access_log: Option<Arc<AccessLog>>,
    /// TLS on both sides.
    pub tls: TlsParts,
}

/// TLS on both sides, loaded.
#[derive(Clone, Default)]
pub struct TlsParts {
    /// To clients, when it is configured.
    pub clients: Option<Arc<Acceptor>>,
    /// To the servers of each upstream of the configuration.
    pub upstreams: Vec<Arc<UpstreamTls>>,
}

impl TlsParts {
    /// When the certificates in use expire.
    #[must_use]
    pub fn expiries(&self) -> Vec<tls::Expiry> {
        let own = self.clients.iter().flat_map(|acceptor| acceptor.certificates().iter());
        tls::expiries(own.chain(self.upstreams.iter().filter_map(|upstream| upstream.certificate())))
    }
}

impl Snapshot {
    /// Derives what a configuration needs to serve.
    #[must_use]
    pub fn new(
        config: Config,
        authority: Authority,
        metrics: &Metrics,
        servers: &Servers,
        access_log: Option<Arc<AccessLog>>,
        mut tls: TlsParts,
    ) -> Snapshot {
        tls.upstreams.resize_with(config.upstreams.len(), Arc::default);
        let upstreams = servers.replace(&config.upstreams, &tls.upstreams, &metrics.upstreams);
        let limits = metrics.limits(&config.policy);
        let routes = config.routes.iter().map(|route| metrics.route(&route.name)).collect();
        let authority = Arc::new(authority);
        // Whoever has the secrets gives them after; until then the client's key does not go where another belongs.
        let credentials = config.routes.iter().map(|route| match route.options.credentials {
            Credentials::Keep => Credential::Keep,
            Credentials::Drop | Credentials::Replace(_) => Credential::Drop,
        });
        let credentials = credentials.collect();
        Snapshot { config, authority, upstreams, limits, routes, credentials, access_log, tls }
    }

    /// The same with the credentials of all routes, in their order.
    #[must_use]
    pub fn with_credentials(self, credentials: Box<[Credential]>) -> Snapshot {
        Snapshot { credentials: credentials.into(), ..self }
    }

    /// What a route does to what passes.
    #[must_use]
    pub fn options(&self, route: Option<RouteId>) -> Option<&RouteOptions> {
        self.config.routes.get(route?.0 as usize).map(|route| &route.options)
    }

    /// What becomes of the client's key on a route.
    #[must_use]
    pub fn credential(&self, route: Option<RouteId>) -> &Credential {
        route.and_then(|route| self.credentials.get(route.0 as usize)).unwrap_or(&Credential::Drop)
    }

    /// The same but for the keys.
    pub(super) fn with_authority(&self, authority: Authority) -> Snapshot {
        let config = self.config.clone();
        Snapshot { authority: Arc::new(authority), ..self.with_config(config) }
    }

    /// The same but for figures of accounts.
    pub(super) fn with_config(&self, config: Config) -> Snapshot {
        Snapshot {
            config,
            authority: Arc::clone(&self.authority),
            upstreams: self.upstreams.clone(),
            limits: self.limits.clone(),
            routes: self.routes.clone(),
            credentials: Arc::clone(&self.credentials),
            access_log: self.access_log.clone(),
            tls: self.tls.clone(),
        }
    }
}

/// One thread's look at a snapshot, with the counters it has met so far.
pub struct View {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// The texts of its refusals.
    pub texts: Texts,
    /// Few combinations are ever met, and the usual ones are at the front.
    requests: RefCell<Vec<(RequestLabels, IntCounter)>>,
    /// Whether somebody was told that a refused address may be a proxy's.
    pub(super) hinted: Cell<bool>,
}

/// What tells one `tollgate_requests_total` from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLabels {
    /// `None` where no route was found.
    pub route: Option<RouteId>,
    /// `None` where the key was refused.
    pub mode: Option<Mode>,
    /// `None` where the endpoint was not looked for.
    pub access: Option<Access>,
    /// The status answered.
    pub status: u16,
}

/// The route label of requests that were refused before a route was looked for.
const NO_ROUTE: &str = "none";

impl View {
    fn new(snapshot: Arc<Snapshot>) -> View {
        View { snapshot, texts: Texts::default(), requests: RefCell::default(), hinted: Cell::new(false) }
    }

    /// Counts one answered request.
    pub fn count(&self, metrics: &Metrics, labels: RequestLabels) {
        let mut known = self.requests.borrow_mut();
        match known.iter().position(|(met, _)| *met == labels) {
            Some(place) => {
                if let Some((_, counter)) = known.get(place) {
                    counter.inc();
                }
                if place > 0 {
                    known.swap(place, place - 1);
                }
            }
            None => {
                let route = labels.route.and_then(|id| self.snapshot.config.routes.get(id.0 as usize));
                let route = route.map_or(NO_ROUTE, |route| &route.name);
                let counter = metrics.requests(route, labels.mode, labels.access, labels.status);
                counter.inc();
                known.push((labels, counter));
            }
        }
    }
}

/// What one thread's requests share. Not `Send`: nothing here is locked.
pub struct Home {
    /// The process.
    pub shared: Arc<Shared>,
    /// This thread's upstream connections.
    pub pool: Pool,
    /// This thread's request ids.
    pub ids: RequestIds,
    /// This thread's way to the store.
    pub link: Option<Rc<Link>>,
    /// This thread's part in what the store lends, where it lends.
    pub lender: Option<Rc<Lender>>,
    /// Who asks it about every request, where that is wanted.
    pub exact: Option<Rc<Exact>>,
    view: RefCell<(u64, Rc<View>)>,
    cutting: Cell<bool>,
}

impl Home {
    /// A thread's part.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Rc<Home> {
        let version = shared.version.load(Ordering::Acquire);
        let view = Rc::new(View::new(shared.current()));
        let ids = RequestIds::new();
        let (pool, view) = (Pool::new(shared.time.clone()), RefCell::new((version, view)));
        let link = shared.store.clone().map(Link::new);
        let leases = |link: &&Rc<Link>| link.store().settings().mode == StoreMode::Leased;
        let lender = link.as_ref().filter(leases).map(|link| Lender::new(Rc::clone(link), Arc::clone(&shared.engine)));
        let is_exact = |link: &&Rc<Link>| link.store().settings().mode == StoreMode::Exact;
        let exact = link.as_ref().filter(is_exact).map(|link| Exact::new(Rc::clone(link)));
        Rc::new(Home { pool, ids, link, lender, exact, view, cutting: Cell::new(false), shared })
    }

    /// The thread ends: what is still in flight is cut off, and told so where its answer has not begun.
    pub fn cut(&self) {
        self.cutting.set(true);
    }

    /// Whether [`Home::cut`] was called.
    #[must_use]
    pub fn is_cutting(&self) -> bool {
        self.cutting.get()
    }

    /// The view of the newest configuration.
    #[must_use]
    pub fn view(&self) -> Rc<View> {
        let version = self.shared.version.load(Ordering::Acquire);
        let mut view = self.view.borrow_mut();
        if view.0 != version {
            *view = (version, Rc::new(View::new(self.shared.current())));
        }
        Rc::clone(&view.1)
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.shared.time.now()
    }
}

/// A request as a connection hands it in. Its head is in a place of its own from the first byte on: moved through the layers by
/// value, its 224 bytes were the largest part of what is copied for a request.
pub struct Arrived<B> {
    /// Its head.
    pub head: Kept<Head>,
    /// Its body.
    pub body: B,
}

impl<B> Arrived<B> {
    /// The same with another body, made of its own.
    #[must_use]
    pub fn map<T>(self, into: impl FnOnce(B) -> T) -> Arrived<T> {
        Arrived { head: self.head, body: into(self.body) }
    }
}

impl<B> From<Request<B>> for Arrived<B> {
    fn from(request: Request<B>) -> Arrived<B> {
        let (head, body) = request.into_parts();
        Arrived { head: Kept::new(head.into()), body }
    }
}

impl<B> From<Arrived<B>> for Request<B> {
    fn from(Arrived { mut head, body }: Arrived<B>) -> Request<B> {
        let head = head.parts_mut();
        let mut request = Request::new(body);
        *request.version_mut() = head.version;
        std::mem::swap(request.method_mut(), &mut head.method);
        std::mem::swap(request.uri_mut(), &mut head.uri);
        std::mem::swap(request.headers_mut(), &mut head.headers);
        std::mem::swap(request.extensions_mut(), &mut head.extensions);
        request
    }
}

/// A request whose answer will be recorded.
pub struct Observed<B> {
    /// As it came.
    pub request: Arrived<B>,
    /// The record of it.
    pub exchange: Kept<Exchange>,
}

/// A request with a good key.
pub struct Authenticated<B> {
    /// With its canonical path.
    pub request: Arrived<B>,
    /// The record of it.
    pub exchange: Kept<Exchange>,
    /// Whom the key names.
    pub principal: Arc<Principal>,
}

/// A request that limits can decide about.
pub struct Classified<B> {
    /// With its canonical path.
    pub request: Arrived<B>,
    /// The record of it.
    pub exchange: Kept<Exchange>,
    /// Whom the key names.
    pub principal: Arc<Principal>,
    /// What decides.
    pub class: Kept<RequestClass>,
    /// What it has taken so far.
    pub held: Kept<Held>,
    /// The moment at which all limits decide.
    pub at: Nanos,
}

/// A hold that knows the time, so that dropping it anywhere gives back all that is due: see [`Hold`]. And the lock of the
/// request's object, where its endpoint has one: it goes back when the slots do.
pub struct Held {
    hold: Hold,
    lock: Option<Lock>,
    grip: Option<Box<Grip>>,
    home: Rc<Home>,
}

impl Held {
    /// A hold on nothing yet.
    #[must_use]
    pub fn new(home: &Rc<Home>) -> Held {
        Held { hold: Hold::new(Arc::clone(&home.shared.engine)), lock: None, grip: None, home: Rc::clone(home) }
    }

    /// The hold itself, for the engine to add to.
    pub fn hold(&mut self) -> &mut Hold {
        &mut self.hold
    }

    /// It is the request's turn at its object.
    pub fn lock(&mut self, lock: Lock) {
        self.lock = Some(lock);
    }

    /// What it has taken in a store: it goes back as all else does.
    pub fn grip(&mut self, grip: Grip) {
        self.grip = Some(Box::new(grip));
    }

    /// The request is forwarded: its tokens are spent, its slots stay until the response's last byte.
    pub fn commit(&mut self) {
        self.hold.commit();
        if let Some(grip) = &mut self.grip {
            grip.commit();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.hold.is_committed() && !self.hold.is_empty() {
            self.hold.cancel(self.home.now());
        }
    }
}
