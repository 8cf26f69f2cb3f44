//! The record of one request, from its head to the last byte of its answer.

use super::access_log::Line;
use super::body::Rest;
use super::context::{Home, RequestLabels, View};
use super::head::Head;
use super::kept::Kept;
use super::recognized::Recognized;
use super::refusal::{LockTimeout, Refusal};
use crate::classification::address_id;
use crate::engine::{Access, EndpointId, Id, Mode, Nanos, Rejection, RequestClass, RouteId};
use crate::keys::Principal;
use crate::metrics::seconds;
use crate::tls::Handshake;
use http::{HeaderMap, HeaderValue, Method};
use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The status recorded when the client left before it had its answer, as nginx has it.
pub const CLIENT_GONE: u16 = 499;

/// What is known of a request so far. It rides with the request, then with the response's body; wherever it is dropped, the
/// request has ended and is recorded, exactly once: counters, timers, access log.
pub struct Exchange {
    /// The thread it lives on.
    pub home: Rc<Home>,
    /// The configuration it began with.
    pub view: Rc<View>,
    /// When its head was complete.
    pub started: Nanos,
    /// How long its body was waited for before limits could decide: the client's time, not the gateway's.
    pub body_wait: Duration,
    /// Its id: the client's or the gateway's own.
    pub request_id: HeaderValue,
    /// Who is at the other end of the connection.
    pub peer: Rc<Peer>,
    /// The client's address: the peer's, or behind trusted proxies the one they name.
    pub client: IpAddr,
    /// The route, once known.
    pub route: Option<RouteId>,
    /// The mode, once known.
    pub mode: Option<Mode>,
    /// The access, once known.
    pub access: Option<Access>,
    /// The endpoint, once known.
    pub endpoint: Option<EndpointId>,
    /// Nanoseconds that it waited for its turn at an object; `None` where it did not have to.
    pub waited_ns: Option<u64>,
    /// Whether it was forwarded: what limits gave it is spent.
    pub forwarded: bool,
    /// When the request was handed to the upstream.
    pub sent: Option<Nanos>,
    /// When the head of the upstream's answer came.
    pub answered: Option<Nanos>,
    /// When it ended, where that was known before its record closes: the moment at which a refusal is put into words.
    pub(super) ended: Option<Nanos>,
    /// The status answered.
    pub status: u16,
    /// The head of a request that a limit refused, which nobody needs any more: its map goes with the answer.
    pub(super) spare: Option<Kept<Head>>,
    /// Why it was refused.
    pub refusal: Option<Refusal>,
    /// What a success of it earns, for endpoints whose requests are transactions.
    pub transaction: Option<Box<RequestClass>>,
    /// For the access log, when there is one.
    pub draft: Option<Box<Draft>>,
}

/// The other end of a client's connection.
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The same, as `X-Forwarded-For` has it.
    pub header: HeaderValue,
    /// Whether the connection is TLS.
    pub secure: bool,
    /// Whether it carries many requests at once, each with a window of its own.
    pub is_http2: bool,
    /// What its handshake told, where it was with us.
    handshake: Option<Handshake>,
    /// Exchanges of its that have not ended.
    open: Cell<usize>,
    /// What its address counts by, once asked: it is the same for all of its requests.
    id: OnceCell<Id>,
    /// Its last key.
    pub(super) recognized: Recognized,
    /// When the last one ended.
    idle_since: Cell<Nanos>,
    /// Exchanges whose last byte is written but may not have left this process yet.
    parting: RefCell<Vec<Kept<Rest>>>,
}

impl Peer {
    /// A peer at `address`. IPv4 addresses that come in IPv6 clothing are taken as what they are.
    #[must_use]
    pub fn new(address: IpAddr, secure: bool) -> Peer {
        let address = address.to_canonical();
        let header = HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Peer {
            address,
            header,
            secure,
            is_http2: false,
            handshake: None,
            id: OnceCell::new(),
            recognized: Recognized::default(),
            open: Cell::new(0),
            idle_since: Cell::new(Nanos::ZERO),
            parting: RefCell::default(),
        }
    }

    /// The same after a handshake.
    #[must_use]
    pub fn over_tls(address: IpAddr, handshake: Handshake) -> Peer {
        Peer { handshake: Some(handshake), ..Peer::new(address, true) }
    }

    /// The same over HTTP/2.
    #[must_use]
    pub fn over_http2(self) -> Peer {
        Peer { is_http2: true, ..self }
    }

    /// What its handshake told, where it was with us.
    #[must_use]
    pub fn handshake(&self) -> Option<&Handshake> {
        self.handshake.as_ref()
    }

    /// The fingerprint of its certificate, which was verified.
    #[must_use]
    pub fn certificate(&self) -> Option<&HeaderValue> {
        self.handshake.as_ref().and_then(|handshake| handshake.client_certificate.as_ref())
    }

    /// Since when it has had no request in flight. `None` while it has one.
    #[must_use]
    pub fn idle_since(&self) -> Option<Nanos> {
        (self.open.get() == 0).then(|| self.idle_since.get())
    }

    /// Counts its rest from `now`.
    pub fn rest_from(&self, now: Nanos) {
        self.idle_since.set(now);
    }

    /// Keeps what an ended exchange holds until [`Peer::let_go`].
    pub(super) fn part(&self, rest: Kept<Rest>) {
        self.parting.borrow_mut().push(rest);
    }

    /// Everything written has left: exchanges that have ended give back what they hold.
    pub fn let_go(&self) {
        self.parting.borrow_mut().clear();
    }
}

/// What only the access log needs.
#[derive(Debug)]
pub struct Draft {
    /// Wall time of the request's head.
    pub at: jiff::Timestamp,
    /// As sent.
    pub method: Method,
    /// Canonical once known; until then what could be read of it.
    pub path: Box<str>,
    /// Whom the key names.
    pub principal: Option<Arc<Principal>>,
    /// The account acted for.
    pub connected: Option<Box<str>>,
    /// The partition values that limits of this endpoint count by, by name.
    pub values: Vec<(Box<str>, Box<str>)>,
    /// What conditions asked of its body and found there.
    pub facts: Vec<Box<str>>,
}

impl Exchange {
    /// Begins the record of a request that came from `peer`.
    pub fn begin(home: &Rc<Home>, peer: &Rc<Peer>, head: &Head) -> Exchange {
        let started = home.now();
        let view = home.view();
        let client = client_address(peer, &view, &head.headers);
        home.shared.metrics.exchanges.inc();
        peer.open.set(peer.open.get() + 1);
        let draft = view.snapshot.access_log.is_some().then(|| {
            Box::new(Draft {
                at: home.shared.wall.at(&home.shared.time, started),
                method: head.method.clone(),
                path: head.uri.path().into(),
                principal: None,
                connected: None,
                values: Vec::new(),
                facts: Vec::new(),
            })
        });
        Exchange {
            request_id: request_id(home, head),
            home: Rc::clone(home),
            view,
            started,
            body_wait: Duration::ZERO,
            peer: Rc::clone(peer),
            client,
            route: None,
            mode: None,
            access: None,
            endpoint: None,
            waited_ns: None,
            forwarded: false,
            sent: None,
            answered: None,
            ended: None,
            status: CLIENT_GONE,
            spare: None,
            refusal: None,
            transaction: None,
            draft,
        }
    }

    /// The limit that refused it.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        match &self.refusal {
            Some(Refusal::Rejected(rejected)) => Some(&rejected.rejection),
            _ => None,
        }
    }

    /// Why its turn at an object did not come.
    #[must_use]
    pub fn lock_timeout(&self) -> Option<LockTimeout> {
        match self.refusal {
            Some(Refusal::LockTimeout(timeout)) => Some(timeout),
            _ => None,
        }
    }

    /// What the client's address counts by.
    #[must_use]
    pub fn client_id(&self) -> Id {
        let id = || address_id(&self.home.shared.engine.seed(), self.client);
        if self.client == self.peer.address { *self.peer.id.get_or_init(id) } else { id() }
    }

    /// Its wait for an object, which began at `since`, is over.
    pub fn waited(&mut self, since: Nanos) {
        self.waited_ns = Some(self.home.now().since(since));
    }

    /// The upstream has answered with this status: a transaction has been made or not.
    pub(super) fn settle(&mut self, status: http::StatusCode) {
        self.status = status.as_u16();
        let Some(class) = self.transaction.take().filter(|_| status.is_success()) else { return };
        let (shared, policy) = (&self.home.shared, &self.view.snapshot.config.policy);
        shared.engine.credit(policy, &class, self.answered.unwrap_or(self.started));
        shared.metrics.transaction(class.mode);
    }

    fn record(&mut self) {
        let ended = self.ended.unwrap_or_else(|| self.home.now());
        self.peer.open.set(self.peer.open.get().saturating_sub(1));
        self.peer.rest_from(ended);
        let metrics = &self.home.shared.metrics;
        metrics.exchanges.dec();
        let labels = RequestLabels { route: self.route, mode: self.mode, access: self.access, status: self.status };
        self.view.count(metrics, labels);
        if let Some(timers) = self.route.and_then(|route| self.view.snapshot.routes.get(route.0 as usize)) {
            timers.request.observe(seconds(ended - self.started));
            if let (Some(sent), Some(answered)) = (self.sent, self.answered) {
                timers.upstream.observe(seconds(answered - sent));
                // Waiting for a body or for one's turn is not what the gateway adds.
                let waited = self.body_wait + Duration::from_nanos(self.waited_ns.unwrap_or(0));
                timers.overhead.observe(seconds((sent - self.started).saturating_sub(waited)));
            }
            if let Some(waited_ns) = self.waited_ns {
                timers.lock_wait.observe(seconds(Duration::from_nanos(waited_ns)));
            }
        }
        if let (Some(draft), Some(log)) = (self.draft.take(), &self.view.snapshot.access_log) {
            log.write(&Line { exchange: self, draft: &draft, ended });
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.status = http::StatusCode::INTERNAL_SERVER_ERROR.as_u16();
        } else if self.status == CLIENT_GONE && self.home.is_cutting() {
            // Its client is still there: it is the gateway that leaves.
            self.status = http::StatusCode::SERVICE_UNAVAILABLE.as_u16();
        }
        self.record();
    }
}

/// The rightmost address that no trusted proxy has; the peer's where it is not a trusted proxy itself.
fn client_address(peer: &Peer, view: &View, headers: &HeaderMap) -> IpAddr {
    let trusted = &view.snapshot.config.server.trusted_proxies;
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut client = peer.address;
    if trusted.is_empty() || !is_trusted(client) {
        return client;
    }
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        for item in value.to_str().unwrap_or_default().rsplit(',') {
            let Ok(address) = item.trim().parse::<IpAddr>() else { return client };
            client = address.to_canonical();
            if !is_trusted(client) {
                return client;
            }
        }
    }
    client
}

/// The client's own id where it is fit to be carried on, else a new one.
fn request_id(home: &Home, head: &Head) -> HeaderValue {
    const MAX_BYTES: usize = 128;
    let fit = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=MAX_BYTES).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    // A copy: the client's own shares room with all that was read beside it, and would keep that for as long as it lives.
    let own = head.get(&super::headers::REQUEST_ID).filter(fit);
    own.and_then(|own| HeaderValue::from_bytes(own.as_bytes()).ok()).unwrap_or_else(|| home.ids.request_id())
}
