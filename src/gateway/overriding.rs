//! Temporary figures of accounts over those of the configuration.
//!
//! The configuration as it was loaded is kept; each change makes another snapshot of it with all overrides over it. Limits
//! keep their state by name, so what was spent stays spent. Changes and reloads wait for each other.

use super::context::{Authority, Shared, Snapshot};
use crate::config::Config;
use crate::engine::{LimitId, Limiter};
use crate::state::overrides::{Book, Override};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The overrides, and what they are over.
pub struct Overriding(Mutex<Inner>);

struct Inner {
    base: Arc<Snapshot>,
    book: Book,
}

impl Overriding {
    /// No overrides yet, kept nowhere.
    pub(super) fn new(base: Arc<Snapshot>) -> Overriding {
        Overriding(Mutex::new(Inner { base, book: Book::default() }))
    }

    /// Takes a list of overrides in place of the one there is.
    pub fn adopt(&self, shared: &Shared, book: Book) {
        let mut inner = self.lock();
        inner.book = book;
        inner.show(shared);
    }

    /// Changes the list, and puts the change in force when it succeeds. `change` also gets the configuration without
    /// overrides.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn change<T, E>(
        &self,
        shared: &Shared,
        change: impl FnOnce(&mut Book, &Config) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut inner = self.lock();
        let base = Arc::clone(&inner.base);
        let done = change(&mut inner.book, &base.config)?;
        inner.show(shared);
        Ok(done)
    }

    /// Looks at the list and the configuration without it.
    pub fn look<T>(&self, look: impl FnOnce(&Book, &Config) -> T) -> T {
        let inner = self.lock();
        look(&inner.book, &inner.base.config)
    }

    pub(super) fn reauthorize(&self, shared: &Shared, authority: Authority) {
        let mut inner = self.lock();
        inner.base = Arc::new(inner.base.with_authority(authority));
        inner.show(shared);
    }

    pub(super) fn rebase(&self, shared: &Shared, base: Arc<Snapshot>) {
        let mut inner = self.lock();
        inner.base = base;
        inner.show(shared);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn show(&self, shared: &Shared) {
        if self.book.entries().is_empty() {
            return shared.show(Arc::clone(&self.base));
        }
        let config = &self.base.config;
        let figures = self.book.entries().iter().filter_map(|entry| {
            let (id, limiter) = in_force(config, entry)?;
            Some((entry.account.as_str(), id, limiter))
        });
        shared.show(Arc::new(self.base.with_config(config.with_figures(figures))));
    }
}

/// What an override sets. `None`: its limit is gone or of another mechanism since a reload; it waits.
#[must_use]
pub fn in_force(config: &Config, entry: &Override) -> Option<(LimitId, Limiter)> {
    config.figures(&entry.limit, &entry.figures).ok()
}
