//! Loads the windows at the start, and writes what has changed every `persist_interval` from a thread of its own.

use super::anchor::Anchor;
use super::windows::{Fault, Windows};
use super::{Directory, set_aside};
use crate::clock::{Marks, Time};
use crate::engine::{Clock, Engine, Nanos, Seed};
use crate::metrics::Metrics;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The file's name in its directory.
const FILE: &str = "windows.redb";

/// Without a change the anchor is written this often: were the machine to restart, the time since would be told by the wall
/// clock.
const ANCHOR_EVERY: Duration = Duration::from_secs(60);

/// What is kept, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time between two writes: what a kill may lose.
    pub interval: Duration,
    /// Windows at least this long are kept.
    pub min_window: Duration,
}

/// The windows' store, opened: first [`resume`](Keeper::resume) for the time axis, then [`restore`](Keeper::restore) into
/// the engine, then [`start`](Keeper::start).
#[derive(Debug)]
pub struct Keeper {
    store: Option<Windows>,
    anchor: Option<Anchor>,
    path: std::path::PathBuf,
    fingerprint: u64,
    damaged: bool,
}

impl Keeper {
    /// Opens the store. A damaged one is set aside here or by [`restore`](Keeper::restore); one that the file system keeps
    /// back is gone without and tried again at each write.
    #[must_use]
    pub fn open(directory: &Directory) -> Keeper {
        let path = directory.file(FILE);
        let fingerprint = fingerprint(directory.seed());
        let mut keeper = Keeper { store: None, anchor: None, path, fingerprint, damaged: false };
        let existed = keeper.path.exists();
        match Windows::open(&keeper.path).and_then(|store| Ok((store.anchor()?, store))) {
            Ok((anchor, store)) => {
                keeper.store = Some(store);
                match anchor {
                    Some(anchor) if anchor.fingerprint == fingerprint => keeper.anchor = Some(anchor),
                    Some(_) => keeper.begin_anew(&Fault::Damaged("it was written with another seed".to_owned())),
                    // The first start writes an anchor at once: without one it is not what was written.
                    None if existed => keeper.begin_anew(&Fault::Damaged("it is empty".to_owned())),
                    None => {}
                }
            }
            Err(fault) => keeper.begin_anew(&fault),
        }
        keeper
    }

    /// Where the time axis goes on.
    #[must_use]
    pub fn resume(&self, marks: &Marks) -> Nanos {
        self.anchor.as_ref().map_or(Nanos::ZERO, |anchor| anchor.resume(marks))
    }

    /// Gives the engine back what was counted and is still of use at `now`, and has it note changes from here on. Answers how
    /// many windows that is.
    pub fn restore(&mut self, engine: &Engine, settings: &Settings, now: Nanos) -> usize {
        engine.follow_windows(settings.min_window);
        let Some(store) = &self.store else { return 0 };
        let mut restored = 0;
        let loaded = store.load(|key, window| {
            let taken = engine.import(key, window, now);
            restored += usize::from(taken);
            taken
        });
        let outcome = loaded.and_then(|idle| {
            let removed = |each: &mut dyn FnMut(_, Option<&_>)| idle.iter().for_each(|&key| each(key, None));
            // The axis was begun where the old anchor said: this one takes its place.
            store.write(removed, || Anchor::new(now, &Marks::of_machine(), self.fingerprint)).map(drop)
        });
        if let Err(fault) = outcome {
            self.begin_anew(&fault);
            engine.export_all_next();
        }
        restored
    }

    /// Goes on without what is there: sets a damaged file aside and opens a new one.
    fn begin_anew(&mut self, fault: &Fault) {
        self.store = None;
        if let Fault::Io(error) = fault {
            tracing::error!(file = %self.path.display(), %error, "the state store cannot be used: counts are not kept until it can");
            return;
        }
        self.damaged = true;
        match set_aside(&self.path) {
            Ok(aside) => tracing::error!(%fault, aside = %aside.display(), "the state store is damaged and set aside"),
            Err(error) => tracing::error!(%fault, %error, "the state store is damaged and cannot be set aside"),
        }
        match Windows::open(&self.path) {
            Ok(store) => self.store = Some(store),
            Err(error) => tracing::error!(%error, "no new state store can be made: counts are not kept until one can"),
        }
    }

    /// Starts writing, until [`Writer::finish`].
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        self,
        engine: Arc<Engine>,
        time: Time,
        metrics: Arc<Metrics>,
        interval: Duration,
    ) -> io::Result<Writer> {
        metrics.state.damaged.inc_by(u64::from(self.damaged));
        let Keeper { store, path, fingerprint, .. } = self;
        let read = store.is_some();
        let mut writing =
            Writing { store, read, path, fingerprint, engine, time, metrics, written_at: Nanos::ZERO, failing: false };
        let (finish, finished) = sync_channel(0);
        let thread =
            std::thread::Builder::new().name("state".to_owned()).spawn(move || writing.run(&finished, interval))?;
        Ok(Writer { thread, finish })
    }
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
    finish: SyncSender<()>,
}

impl Writer {
    /// Writes once more and ends.
    pub fn finish(self) {
        // The thread drops its end only when it panics, which is told below.
        drop(self.finish);
        if self.thread.join().is_err() {
            tracing::error!("the state writer panicked");
        }
    }
}

struct Writing {
    store: Option<Windows>,
    /// The engine knows what is in the file, and more.
    read: bool,
    path: std::path::PathBuf,
    fingerprint: u64,
    engine: Arc<Engine>,
    time: Time,
    metrics: Arc<Metrics>,
    written_at: Nanos,
    failing: bool,
}

impl Writing {
    fn run(&mut self, finished: &Receiver<()>, interval: Duration) {
        while finished.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            self.write(false);
        }
        self.write(true);
    }

    /// Writes what has changed. `last`: the anchor too, whatever has changed.
    fn write(&mut self, last: bool) {
        let due = last || self.time.now() - self.written_at >= ANCHOR_EVERY;
        if self.store.is_none() {
            self.reopen();
        }
        let Some(store) = &self.store else { return self.failed("there is no store") };
        if !due && !self.engine.has_changes() {
            return;
        }
        let (time, fingerprint) = (&self.time, self.fingerprint);
        let engine = &self.engine;
        // After the last change was read, so that none is of a later time than the anchor.
        let anchor = || Anchor::new(time.now(), &time.marks(), fingerprint);
        match store.write(|each| engine.export(each), anchor) {
            Ok(written) => {
                self.written_at = self.time.now();
                self.metrics.state.written(true);
                self.metrics.state.windows.set(i64::try_from(written.total).unwrap_or(i64::MAX));
                tracing::debug!(changed = written.changed, total = written.total, "the state is written");
                if std::mem::take(&mut self.failing) {
                    tracing::info!(file = %store.path().display(), "the state is written again");
                }
            }
            Err(fault) => {
                self.store = None;
                self.engine.export_all_next();
                self.failed(&fault.to_string());
            }
        }
    }

    /// After a failed write the file is opened anew: all that the engine knows is written over it. A file that was never read
    /// is of another time axis: it is set aside.
    fn reopen(&mut self) {
        match self.opened_again() {
            Ok(store) => {
                self.store = Some(store);
                self.engine.export_all_next();
            }
            Err(fault) => tracing::debug!(%fault, "there is no store yet"),
        }
    }

    fn opened_again(&mut self) -> Result<Windows, Fault> {
        if !self.read && self.path.exists() {
            set_aside(&self.path).map_err(Fault::Io)?;
        }
        self.read = true;
        match Windows::open(&self.path) {
            // The engine knows more than it: nothing to keep.
            Err(Fault::Damaged(_)) => {
                std::fs::remove_file(&self.path).map_err(Fault::Io)?;
                Windows::open(&self.path)
            }
            other => other,
        }
    }

    fn failed(&mut self, why: &str) {
        self.metrics.state.written(false);
        // Told once: the metric counts on.
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(file = %self.path.display(), why, "the state cannot be written; serving goes on, a restart would forget");
        }
    }
}

/// Tells one seed from another without giving it away.
fn fingerprint(seed: Seed) -> u64 {
    seed.hash(b"state fingerprint").0[0]
}
