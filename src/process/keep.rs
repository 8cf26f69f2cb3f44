//! The state directory in the life of a gateway: opened before anything is counted, written while it serves, written once
//! more after its last request.

use super::StartError;
use super::load::{Loaded, Loader, Source};
use crate::clock::{Marks, Time};
use crate::engine::{Clock, Engine};
use crate::gateway::Shared;
use crate::gateway::ids::random_seed;
use crate::metrics::Metrics;
use crate::state::overrides::Book;
use crate::state::{Directory, Keeper, Settings, Writer};
use crate::store;
use std::io;
use std::sync::Arc;

/// What is kept, before it is kept.
pub(super) struct Kept {
    directory: Directory,
    keeper: Keeper,
    settings: Settings,
}

/// Loads the configuration and opens the state directory that it names. The directory holds the seed, so what has been
/// compiled with another one is compiled again.
pub(super) fn load(source: Source, metrics: &Metrics) -> Result<(Loader, Loaded, Option<Kept>), StartError> {
    let mut loader = Loader::new(source, random_seed());
    let loaded = loader.load(None, metrics)?;
    // Gateways that count together must mean the same partition by one key.
    let shared = loaded.config.store.redis().map(|redis| store::seed(&redis.prefix));
    let state = &loaded.config.state;
    let Some(dir) = &state.dir else {
        let Some(seed) = shared else { return Ok((loader, loaded, None)) };
        let mut loader = loader.with_seed(seed);
        let loaded = loader.load(loaded.access_log.as_ref(), metrics)?;
        return Ok((loader, loaded, None));
    };
    let directory = Directory::open(dir, random_seed)?;
    let settings = Settings { interval: state.persist_interval, min_window: state.persist_min_window };
    let mut loader = loader.with_seed(shared.unwrap_or(directory.seed()));
    let loaded = loader.load(loaded.access_log.as_ref(), metrics)?;
    let keeper = Keeper::open(&directory);
    Ok((loader, loaded, Some(Kept { directory, keeper, settings })))
}

impl Kept {
    /// The time axis: a new one, or the one that is kept.
    pub(super) fn resume(kept: Option<&Kept>) -> Time {
        kept.map_or_else(Time::system, |kept| Time::system_from(kept.keeper.resume(&Marks::of_machine())))
    }

    /// Gives the engine what it had counted.
    pub(super) fn restore(&mut self, engine: &Engine, time: &Time) {
        let windows = self.keeper.restore(engine, &self.settings, time.now());
        tracing::info!(windows, "the state is restored");
    }

    /// Puts the overrides that are kept in force again.
    pub(super) fn adopt_overrides(&self, shared: &Shared) {
        shared.overriding.adopt(shared, Book::open(self.directory.file("overrides.json")));
    }

    pub(super) fn start(self, shared: &Shared) -> io::Result<Keeping> {
        let Kept { directory, keeper, settings } = self;
        let (engine, metrics) = (Arc::clone(&shared.engine), Arc::clone(&shared.metrics));
        let writer = keeper.start(engine, shared.time.clone(), metrics, settings.interval)?;
        Ok(Keeping { writer, _directory: directory })
    }
}

/// The thread that writes, and the lock on the directory.
pub(super) struct Keeping {
    writer: Writer,
    _directory: Directory,
}

impl Keeping {
    /// Writes once more.
    pub(super) fn finish(self) {
        self.writer.finish();
    }
}
