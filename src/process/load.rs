//! Configuration, keys, certificate and access log: all that a snapshot is made of, loaded together or not at all.

use crate::clock::Marks;
use crate::config::{self, AuthMode, Config, ConfigErrors, Credentials, KeysStore, Replacement, SecretSource};
use crate::engine::Seed;
use crate::gateway::access_log::AccessLog;
use crate::gateway::credentials::{self, Credential, CredentialError};
use crate::gateway::{Authority, TlsParts};
use crate::keys::{self, Keyring, KeysMistake, Passthrough};
use crate::metrics::Metrics;
use crate::tls::{Acceptor, Certificate, ClientTrust, Lasting, Protocol, TlsErrors};
use crate::upstream::UpstreamTls;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    #[error("{path}: {why}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why. In the message, so not its source too: whoever prints the chain would say it twice.
        why: keys::ReadError,
    },
    /// Mistakes in the keys file.
    #[error("{}", listed(path, mistakes))]
    Keys {
        /// The file.
        path: PathBuf,
        /// All of them.
        mistakes: Vec<KeysMistake>,
    },
    /// Certificates, keys, authorities: all of them that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsErrors),
    /// A credential for an upstream.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The access log.
    #[error("{path}: cannot be written: {why}")]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
}

fn listed(path: &Path, mistakes: &[KeysMistake]) -> String {
    mistakes.iter().map(|mistake| format!("{}:{mistake}", path.display())).collect::<Vec<_>>().join("\n")
}

/// Everything loaded.
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) authority: Authority,
    pub(super) credentials: Box<[Credential]>,
    pub(super) access_log: Option<Arc<AccessLog>>,
    pub(super) tls: TlsParts,
    /// What works, but is surely not meant, of the files besides the configuration.
    pub(super) warnings: Vec<String>,
}

/// What is offered to clients by ALPN.
const PROTOCOLS: &[Protocol] = &[Protocol::Http2, Protocol::Http1];

pub(super) struct Loader {
    source: Source,
    seed: Seed,
    lasting: Lasting,
    /// Those of the shared store, once they have come.
    shared_keys: Option<Keyring>,
}

impl Loader {
    pub(super) fn new(source: Source, seed: Seed) -> Loader {
        Loader { source, seed, lasting: Lasting::default(), shared_keys: None }
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

    /// Loads everything anew; the access log stays open where its place is the same and still holds the same file.
    pub(super) fn load(&mut self, log: Option<&Arc<AccessLog>>, metrics: &Metrics) -> Result<Loaded, LoadError> {
        let config = match &self.source {
            Source::File(path) => config::load(path, &self.seed)?,
            Source::Text { config, .. } => config::parse(config, Path::new("tollgate.toml"), &self.seed)?,
        };
        let authority = self.authority(&config)?;
        let mut warnings = Vec::new();
        let tls = self.tls(&config, &mut warnings)?;
        let credentials = credentials::load_all(&config)?;
        let access_log = config.log.access.as_ref().map(|place| open_log(place, log, metrics)).transpose()?;
        Ok(Loaded { config, authority, credentials, access_log, tls, warnings })
    }

    /// TLS on both sides, past every mistake.
    fn tls(&mut self, config: &Config, warnings: &mut Vec<String>) -> Result<TlsParts, TlsErrors> {
        let now = Marks::of_machine().wall;
        let mut errors = Vec::new();
        let server = &config.server;
        let clients = server.tls.as_ref().and_then(|tls| {
            let protocols = if server.http2.is_some() { PROTOCOLS } else { &[Protocol::Http1][..] };
            let loaded = Acceptor::load(tls, server, protocols, &mut self.lasting, now, warnings);
            loaded.map(Arc::new).map_err(|TlsErrors(more)| errors.extend(more)).ok()
        });
        let mut upstreams = Vec::new();
        for upstream in &config.upstreams {
            match UpstreamTls::load(upstream, now, warnings) {
                Ok(loaded) => upstreams.push(Arc::new(loaded)),
                Err(TlsErrors(more)) => errors.extend(more),
            }
        }
        if !errors.is_empty() {
            return Err(TlsErrors(errors));
        }
        Ok(TlsParts { clients, upstreams })
    }

    /// Takes keys that have come from the shared store.
    pub(super) fn adopt_keys(&mut self, keyring: Keyring) -> Authority {
        self.shared_keys = Some(keyring.clone());
        Authority::Keys(keyring)
    }

    fn authority(&self, config: &Config) -> Result<Authority, LoadError> {
        if config.auth.mode == AuthMode::Passthrough {
            return Ok(Authority::Passthrough(Passthrough::new(self.seed)));
        }
        let names: Vec<&str> = config.endpoints.iter().map(|endpoint| &*endpoint.name).collect();
        if config.auth.store == KeysStore::Redis {
            let bound = self.shared_keys.clone().map(|mut keyring| {
                keyring.bind(&names);
                Authority::Keys(keyring)
            });
            return Ok(bound.unwrap_or(Authority::Waiting));
        }
        let path = config.auth.keys_file.clone().unwrap_or_else(|| "keys.toml".into());
        let mut keyring = match &self.source {
            Source::Text { keys, .. } => parse_keys(keys, &path, &self.seed),
            Source::File(_) => read_keys(&path, &self.seed),
        }?;
        for glob in keyring.idle_globs(&names) {
            tracing::warn!("no endpoint matches `{glob}`, which a key is allowed");
        }
        keyring.bind(&names);
        Ok(Authority::Keys(keyring))
    }
}

fn read_keys(path: &Path, seed: &Seed) -> Result<Keyring, LoadError> {
    let text = keys::read(path).map_err(|why| LoadError::Unreadable { path: path.to_owned(), why })?;
    parse_keys(&text, path, seed)
}

fn parse_keys(text: &str, path: &Path, seed: &Seed) -> Result<Keyring, LoadError> {
    Keyring::parse(text, seed).map_err(|mistakes| LoadError::Keys { path: path.to_owned(), mistakes })
}

/// What is to say of the files that a configuration names, without running it.
#[derive(Debug, Default)]
pub struct NamedFiles {
    /// Those that are not there: keys and certificates are often put in place where the gateway runs only.
    pub missing: Vec<PathBuf>,
    /// What is wrong with those that are, all of it.
    pub errors: Vec<LoadError>,
    /// What works, but is surely not meant.
    pub warnings: Vec<String>,
}

impl NamedFiles {
    /// Looks at the keys, at certificates with their keys, and at authorities.
    #[must_use]
    pub fn of(config: &Config) -> NamedFiles {
        let mut files = NamedFiles::default();
        // Nothing is counted by these keys, so any seed will do.
        let seed = Seed([0, 0]);
        let keys = config.auth.keys_file.as_ref().filter(|_| config.auth.mode == AuthMode::Keys);
        if let Some(path) = keys {
            files.look(&[path], || read_keys(path, &seed).map(drop));
        }
        files.look_at_tls(config);
        let mut seen: Vec<&Credentials> = Vec::new();
        for credentials in config.routes.iter().map(|route| &route.options.credentials) {
            // Environments differ: only files are looked at.
            if let Credentials::Replace(Replacement { source: SecretSource::File(path), .. }) = credentials
                && !seen.contains(&credentials)
            {
                seen.push(credentials);
                files.look(&[path], || Ok(credentials::load(credentials).map(drop)?));
            }
        }
        files
    }

    fn look_at_tls(&mut self, config: &Config) {
        let now = Marks::of_machine().wall;
        let mut warnings = Vec::new();
        let clients = config.server.tls.iter();
        for pair in clients.clone().flat_map(|tls| &tls.certificates) {
            let files = [&pair.certificate, &pair.private_key];
            self.look(&files, || Ok(Certificate::load(pair, now, &mut warnings).map(drop).map_err(TlsErrors::from)?));
        }
        for clients in clients.filter_map(|tls| tls.clients.as_ref()) {
            let files: Vec<_> = [Some(&clients.ca), clients.crl.as_ref()].into_iter().flatten().collect();
            self.look(&files, || {
                Ok(ClientTrust::load(clients, now, &mut warnings).map(drop).map_err(TlsErrors::from)?)
            });
        }
        for upstream in &config.upstreams {
            let own = upstream.client_certificate.as_ref().map(|pair| [&pair.certificate, &pair.private_key]);
            let files: Vec<_> = upstream.ca.iter().chain(own.into_iter().flatten()).collect();
            self.look(&files, || Ok(UpstreamTls::load(upstream, now, &mut warnings).map(drop)?));
        }
        self.warnings = warnings;
    }

    fn look(&mut self, paths: &[&PathBuf], check: impl FnOnce() -> Result<(), LoadError>) {
        let missing = paths.iter().filter(|path| path.try_exists().is_ok_and(|exists| !exists));
        let before = self.missing.len();
        self.missing.extend(missing.map(|path| path.to_path_buf()));
        if self.missing.len() == before {
            self.errors.extend(check().err());
        }
    }
}

fn open_log(
    place: &config::AccessLog,
    open: Option<&Arc<AccessLog>>,
    metrics: &Metrics,
) -> Result<Arc<AccessLog>, LoadError> {
    let path = match place {
        config::AccessLog::Stdout => Path::new("-"),
        config::AccessLog::File(path) => path,
    };
    match open {
        Some(log) if log.is_at(path) => Ok(Arc::clone(log)),
        _ => AccessLog::open(path, metrics)
            .map(Arc::new)
            .map_err(|why| LoadError::AccessLog { path: path.to_owned(), why }),
    }
}
