//! FLOOR 4: a whole gateway: load, start, reload, drain.
//!
//! Workers serve ([`crate::server`]); one more thread, the control thread, answers the admin listener, forgets idle partitions
//! and watches the files. Embedding programs use [`Gateway`] as the command line does.

mod boards;
mod keep;
mod load;
mod supervisor;
mod watch;

pub use boards::keys_board;
pub use load::{LoadError, NamedFiles, Source};
pub use supervisor::Supervisor;

use crate::admin;
use crate::board::Desk;
use crate::clock::Time;
use crate::config::KeysStore;
use crate::engine::{Clock, Engine};
use crate::gateway::ids::random_seed;
use crate::gateway::{Shared, Snapshot};
use crate::keys::Keyring;
use crate::metrics::Metrics;
use crate::server::{self, Inherited, Phase, Workers};
use crate::state::StateError;
use crate::store::Store;
use crate::upstream::{self, Servers};
use keep::{Keeping, Kept};
use load::{Loaded, Loader};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use supervisor::News;
use tokio::sync::watch as phase_watch;

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration, or a file it names.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A socket, a thread.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// Two metrics of one name: a defect.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// Time for the access log to take its last lines at the end.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// Time for what the control thread has handed to others at the end, such as a write to the disk.
const CONTROL_PATIENCE: Duration = Duration::from_secs(2);

/// A running gateway. Dropping it does not end it: call [`Handle::drain`] or [`Handle::stop`], then [`Gateway::join`].
pub struct Gateway {
    control: Arc<Control>,
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    workers: Workers,
    control_thread: JoinHandle<()>,
    boards: Option<JoinHandle<()>>,
    keeping: Option<Keeping>,
}

/// What a handle and the control thread both use.
struct Control {
    shared: Arc<Shared>,
    loader: Mutex<Loader>,
    phase: phase_watch::Sender<Phase>,
    supervisor: Supervisor,
}

/// What a gateway finds when it starts: what whoever started the process has given it, and where to look names up.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Sockets to listen on in place of own ones.
    pub sockets: Inherited,
    /// Whom to tell how it goes.
    pub supervisor: Supervisor,
    /// Upstream servers, which are looked up as they say.
    pub servers: Servers,
}

impl Surroundings {
    /// What the environment tells, as systemd does.
    ///
    /// # Errors
    /// When a socket was passed that nobody can listen on.
    pub fn from_env() -> io::Result<Surroundings> {
        Ok(Surroundings {
            sockets: Inherited::from_env()?,
            supervisor: Supervisor::from_env(),
            servers: Servers::default(),
        })
    }
}

impl Gateway {
    /// Loads the configuration, listens and serves.
    ///
    /// # Errors
    /// Every mistake in the configuration; an address that cannot be listened on.
    pub fn start(source: Source) -> Result<Gateway, StartError> {
        Gateway::start_in(source, Surroundings::default())
    }

    /// The same, in surroundings of one's own: sockets to listen on that were opened before, a supervisor to tell of it, names of
    /// upstream servers looked up elsewhere than in the system's resolver (see [`Servers::resolved_by`]).
    ///
    /// # Errors
    /// As [`Gateway::start`]; a socket that nobody asked for.
    pub fn start_in(source: Source, surroundings: Surroundings) -> Result<Gateway, StartError> {
        let Surroundings { mut sockets, supervisor, servers } = surroundings;
        let metrics = Arc::new(Metrics::new()?);
        let (loader, loaded, mut kept) = keep::load(source, &metrics)?;
        let time = Kept::resume(kept.as_ref());
        let settings = loaded.config.server.clone();
        let threads = match settings.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let admin_listener = loaded.config.admin.listen.map(|address| bind_admin(address, &mut sockets)).transpose()?;
        let engine = Arc::new(Engine::new(loader.seed(), settings.max_partitions));
        if let Some(kept) = &mut kept {
            kept.restore(&engine, &time);
        }
        let seen = loader.reads_files().then(|| watch::contents(&loaded.config.files));
        let snapshot = snapshot(loaded, &metrics, &servers);
        tell_expiry(metrics.as_ref(), None, &snapshot);
        metrics.reloaded(true, time.wall().as_second());
        metrics.process.started(time.wall().as_second(), settings.max_partitions, settings.max_buffer_memory);
        let store = store_of(&snapshot, &time, &metrics);
        let shared = Arc::new(Shared::new(engine, time, metrics, servers, snapshot).with_store(store));
        if let Some(kept) = &kept {
            kept.adopt_overrides(&shared);
        }
        let listeners = server::bind(&settings.listen, threads, &mut sockets)?;
        sockets.finish()?;
        warn_of_descriptors(settings.max_connections);
        let addresses = listeners.iter().take(1).flatten().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let (phase, watched) = phase_watch::channel(Phase::Serving);
        let workers = Workers::start(&shared, listeners, &watched)?;
        let admin = admin_listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let control = Arc::new(Control { shared, loader: Mutex::new(loader), phase, supervisor });
        let boards = start_boards(&control, watched.clone())?;
        let control_thread = start_control(Arc::clone(&control), admin_listener, watched, seen)?;
        let keeping = kept.map(|kept| kept.start(&control.shared)).transpose()?;
        control.supervisor.tell(News::Ready);
        Ok(Gateway { control, addresses, admin, workers, control_thread, boards, keeping })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin listener is.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What all its threads share, for programs that embed it.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.control.shared
    }

    /// A handle that can reload and end the gateway from another thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.control))
    }

    /// Waits for its end, which comes after [`Handle::drain`] or [`Handle::stop`].
    pub fn join(self) {
        self.workers.join();
        // After the last request has ended, so that it is counted.
        if let Some(keeping) = self.keeping {
            keeping.finish();
        }
        if let Some(log) = &self.control.shared.current().access_log
            && !log.finish(LOG_PATIENCE)
        {
            tracing::warn!("the access log takes no more lines: what waits is lost");
        }
        self.control.phase.send_replace(Phase::Stopping);
        if self.control_thread.join().is_err() {
            tracing::error!("the control thread panicked");
        }
        if self.boards.is_some_and(|boards| boards.join().is_err()) {
            tracing::error!("the thread of shared keys and overrides panicked");
        }
    }
}

/// Steers a running gateway.
#[derive(Clone)]
pub struct Handle(Arc<Control>);

impl Handle {
    /// Loads the configuration anew. Connections stay; requests that begin from now on see the new one; limits keep their
    /// state by name.
    ///
    /// # Errors
    /// Every mistake; the last good configuration goes on serving then.
    pub fn reload(&self) -> Result<(), LoadError> {
        self.0.reload()
    }

    /// Tells that it is not ready any more and goes on for `drain_delay`; then accepts nothing new and lets what is in flight
    /// end, for at most `drain_timeout`.
    pub fn drain(&self) {
        self.0.supervisor.tell(News::Stopping);
        let delay = self.0.shared.current().config.server.drain_delay;
        self.0.phase.send_if_modified(|phase| {
            let serving = *phase == Phase::Serving;
            if serving {
                *phase = if delay.is_zero() { Phase::Draining } else { Phase::Leaving };
            }
            serving
        });
    }

    /// Ends at once.
    pub fn stop(&self) {
        self.0.phase.send_replace(Phase::Stopping);
    }
}

impl Control {
    fn reload(&self) -> Result<(), LoadError> {
        self.supervisor.tell(News::Reloading);
        let outcome = self.load_anew();
        self.supervisor.tell(News::Ready);
        outcome
    }

    fn load_anew(&self) -> Result<(), LoadError> {
        let mut loader = self.loader.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.shared.current();
        let metrics = &self.shared.metrics;
        let wall = self.shared.time.wall().as_second();
        let loaded = match loader.load(current.access_log.as_ref(), metrics) {
            Ok(loaded) => loaded,
            Err(error) => {
                metrics.reloaded(false, wall);
                tracing::error!("the configuration is refused, the last good one stays:\n{error}");
                return Err(error);
            }
        };
        warn_of_restart(&current, &loaded);
        metrics.forget_limits(&current.config.policy, &loaded.config.policy);
        let next = snapshot(loaded, metrics, &self.shared.servers);
        tell_expiry(metrics, Some(&current), &next);
        self.shared.replace(next);
        metrics.reloaded(true, wall);
        tracing::info!("the configuration is reloaded");
        Ok(())
    }

    /// Puts keys of the shared store in force. `names` are the endpoints that their rights are settled for, and become those of
    /// the running configuration, which cannot change meanwhile.
    fn adopt_keys(&self, keyring: &mut Keyring, names: &mut Vec<Box<str>>) {
        let mut loader = self.loader.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.shared.current();
        let endpoints = current.config.endpoints.iter().map(|endpoint| &endpoint.name);
        if !endpoints.clone().eq(names.iter()) {
            names.clear();
            names.extend(endpoints.cloned());
            keyring.bind(&names.iter().map(|name| &**name).collect::<Vec<_>>());
        }
        self.shared.reauthorize(loader.adopt_keys(keyring.clone()));
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        self.shared.current().config.files.clone()
    }
}

fn snapshot(loaded: Loaded, metrics: &Metrics, servers: &Servers) -> Snapshot {
    let Loaded { config, authority, credentials, access_log, tls, warnings } = loaded;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    Snapshot::new(config, authority, metrics, servers, access_log, tls).with_credentials(credentials)
}

/// What gateways count in together, where they do.
fn store_of(snapshot: &Snapshot, time: &Time, metrics: &Arc<Metrics>) -> Option<Arc<Store>> {
    let settings = snapshot.config.store.redis()?.clone();
    Some(Store::new(settings, time.clone(), Arc::clone(metrics), random_seed()))
}

/// Sets the gauges of when certificates expire.
fn tell_expiry(metrics: &Metrics, old: Option<&Snapshot>, new: &Snapshot) {
    let old = old.map_or_else(Vec::new, |old| old.tls.expiries());
    let new = new.tls.expiries();
    let expiries = new.iter().map(|expiry| (expiry.label.as_str(), expiry.unix_seconds));
    metrics.tls.expire(expiries, old.iter().map(|expiry| expiry.label.as_str()));
}

/// Says what a reload cannot change.
fn warn_of_restart(current: &Snapshot, loaded: &Loaded) {
    let (old, new) = (&current.config, &loaded.config);
    let fixed = [
        ("server.listen", old.server.listen != new.server.listen),
        ("server.threads", old.server.threads != new.server.threads),
        ("addresses.max_addresses", old.addresses.max_addresses != new.addresses.max_addresses),
        ("server.max_buffer_memory", old.server.max_buffer_memory != new.server.max_buffer_memory),
        ("server.max_partitions", old.server.max_partitions != new.server.max_partitions),
        ("[state]", old.state != new.state),
        ("[store]", old.store != new.store),
        ("auth.store", old.auth.store != new.auth.store),
        ("admin.listen", old.admin.listen != new.admin.listen),
    ];
    for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
        tracing::warn!("`{key}` has changed: it takes effect at the next start");
    }
}

/// Says where the system has the last word on `max_connections`.
fn warn_of_descriptors(max_connections: usize) {
    let room = server::room_for_clients();
    if max_connections > room {
        tracing::warn!(max_connections, room, "the process may not open as many files: fewer connections are accepted");
    }
}

fn bind_admin(address: SocketAddr, inherited: &mut Inherited) -> io::Result<TcpListener> {
    if let Some(socket) = inherited.take(address).pop() {
        return Ok(socket);
    }
    let listener = TcpListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address} (admin): {error}")))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Where gateways share a store: the thread that follows its boards.
fn start_boards(control: &Arc<Control>, phase: phase_watch::Receiver<Phase>) -> io::Result<Option<JoinHandle<()>>> {
    let current = control.shared.current();
    let Some(settings) = current.config.store.redis() else { return Ok(None) };
    let (desk, jobs) = Desk::new();
    // Nobody has set one before.
    let _ = control.shared.desk.set(desk);
    let with_keys = current.config.auth.store == KeysStore::Redis;
    boards::start(control, settings, with_keys, jobs, phase).map(Some)
}

fn start_control(
    control: Arc<Control>,
    admin: Option<TcpListener>,
    phase: phase_watch::Receiver<Phase>,
    seen: Option<watch::Contents>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        runtime.block_on(control_loop(control, admin, phase, seen));
        // A look-up of a name may hang in the system's resolver; nobody waits for it.
        runtime.shutdown_timeout(CONTROL_PATIENCE);
    })
}

/// Until the gateway has ended: admin, sweeps, reloads, the bound on draining.
async fn control_loop(
    control: Arc<Control>,
    admin: Option<TcpListener>,
    mut phase: phase_watch::Receiver<Phase>,
    seen: Option<watch::Contents>,
) {
    if let Some(listener) = admin {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => drop(tokio::spawn(admin::serve(
                listener,
                Arc::clone(&control.shared),
                phase.clone(),
                admin::Bounds::default(),
            ))),
            Err(error) => tracing::error!(%error, "cannot serve the admin listener"),
        }
    }
    tokio::spawn(sweep(Arc::clone(&control.shared)));
    tokio::spawn(upstream::look_after(control.shared.servers.clone(), control.shared.time.clone()));
    tokio::spawn(expire_overrides(Arc::clone(&control.shared)));
    let store = control.shared.store.clone();
    let attending = store.clone().map(|store| tokio::spawn(store.attend(Arc::clone(&control.shared.engine))));
    if let Some(seen) = seen {
        tokio::spawn(watch::follow(Arc::clone(&control), seen));
    }
    // An error means that the gateway's handle is gone without a word: then it ends as if stopped.
    let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
    if *phase.borrow() == Phase::Leaving {
        let delay = control.shared.current().config.server.drain_delay;
        tokio::select! {
            _ = phase.wait_for(|phase| !phase.accepts()) => {}
            () = tokio::time::sleep(delay) => control.phase.send_modify(|phase| *phase = (*phase).max(Phase::Draining)),
        }
    }
    let drain_timeout = control.shared.current().config.server.drain_timeout;
    tokio::select! {
        _ = phase.wait_for(|phase| *phase == Phase::Stopping) => {}
        () = tokio::time::sleep(drain_timeout) => {
            tracing::warn!("what is still in flight after the drain timeout is cut off");
            control.phase.send_replace(Phase::Stopping);
        }
    }
    if let (Some(store), Some(attending)) = (store, attending) {
        attending.abort();
        store.leave().await;
    }
}

/// Ends overrides within a second of their time.
async fn expire_overrides(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let ending = Arc::clone(&shared);
        // It may wait for the disk. A panic there has been told of.
        let _ = tokio::task::spawn_blocking(move || admin::expire(&ending, ending.time.wall())).await;
    }
}

/// Forgets idle partitions every `sweep_interval`.
async fn sweep(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shared.current().config.server.sweep_interval).await;
        let forgotten = shared.engine.sweep(shared.time.now()) + shared.addresses.sweep(shared.time.now());
        tracing::debug!(forgotten, left = shared.engine.partitions(), "swept");
    }
}
