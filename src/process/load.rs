//! Configuration, keys, certificate and access log: all that a snapshot is made of, loaded together or not at all.

use crate::config::{self, AuthMode, Config, ConfigErrors};
use crate::engine::Seed;
use crate::gateway::Authority;
use crate::gateway::access_log::AccessLog;
use crate::keys::{Keyring, KeysMistake, Passthrough};
use crate::server::tls::{self, TlsError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A TOML file, and the files it names.
    File(PathBuf),
    /// Texts made by a program; nothing is watched.
    Text {
        /// The configuration.
        config: String,
        /// The keys file.
        keys: String,
    },
}

/// Why a configuration is refused: everything that is wrong with the first file that has something wrong.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Mistakes in the configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A file that cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Mistakes in the keys file.
    #[error("{}", listed(path, mistakes))]
    Keys {
        /// The file.
        path: PathBuf,
        /// All of them.
        mistakes: Vec<KeysMistake>,
    },
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The access log.
    #[error("{path}: cannot be written: {source}")]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn listed(path: &Path, mistakes: &[KeysMistake]) -> String {
    mistakes.iter().map(|mistake| format!("{}:{mistake}", path.display())).collect::<Vec<_>>().join("\n")
}

/// Everything loaded.
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) authority: Authority,
    pub(super) access_log: Option<Arc<AccessLog>>,
    pub(super) tls: Option<TlsAcceptor>,
}

pub(super) struct Loader {
    source: Source,
    seed: Seed,
}

impl Loader {
    pub(super) fn new(source: Source, seed: Seed) -> Loader {
        Loader { source, seed }
    }

    /// The seed of all ids.
    pub(super) fn seed(&self) -> Seed {
        self.seed
    }

    /// The same with another seed.
    pub(super) fn with_seed(self, seed: Seed) -> Loader {
        Loader { seed, ..self }
    }

    /// Whether there are files to watch.
    pub(super) fn reads_files(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    /// Loads everything anew; the access log stays open where its place is the same.
    pub(super) fn load(&mut self, log: Option<&Arc<AccessLog>>) -> Result<Loaded, LoadError> {
        let config = match &self.source {
            Source::File(path) => config::load(path, &self.seed)?,
            Source::Text { config, .. } => config::parse(config, Path::new("tollgate.toml"), &self.seed)?,
        };
        let authority = self.authority(&config)?;
        let tls = config.server.tls.as_ref().map(tls::acceptor).transpose()?;
        let access_log = config.log.access.as_ref().map(|place| open_log(place, log)).transpose()?;
        Ok(Loaded { config, authority, access_log, tls })
    }

    fn authority(&self, config: &Config) -> Result<Authority, LoadError> {
        if config.auth.mode == AuthMode::Passthrough {
            return Ok(Authority::Passthrough(Passthrough::new(self.seed)));
        }
        let path = config.auth.keys_file.clone().unwrap_or_else(|| "keys.toml".into());
        let text = match &self.source {
            Source::Text { keys, .. } => keys.clone(),
            Source::File(_) => {
                std::fs::read_to_string(&path).map_err(|source| LoadError::Unreadable { path: path.clone(), source })?
            }
        };
        let mut keyring = Keyring::parse(&text, &self.seed).map_err(|mistakes| LoadError::Keys { path, mistakes })?;
        let names: Vec<&str> = config.endpoints.iter().map(|endpoint| &*endpoint.name).collect();
        for glob in keyring.idle_globs(&names) {
            tracing::warn!("no endpoint matches `{glob}`, which a key is allowed");
        }
        keyring.bind(&names);
        Ok(Authority::Keys(keyring))
    }
}

fn open_log(place: &config::AccessLog, open: Option<&Arc<AccessLog>>) -> Result<Arc<AccessLog>, LoadError> {
    let path = match place {
        config::AccessLog::Stdout => Path::new("-"),
        config::AccessLog::File(path) => path,
    };
    match open {
        Some(log) if log.path() == path => Ok(Arc::clone(log)),
        _ => {
            AccessLog::open(path).map(Arc::new).map_err(|source| LoadError::AccessLog { path: path.to_owned(), source })
        }
    }
}
