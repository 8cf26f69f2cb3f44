//! One certificate with its key.

use super::facts::Facts;
use super::{Names, TlsError, provider};
use crate::config::Pair;
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A certificate chain and its key, found to belong together.
#[derive(Debug)]
pub struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) names: Names,
    unusable: Vec<String>,
    not_after: Timestamp,
    path: PathBuf,
    /// Of both files' contents.
    digest: [u8; 32],
}

impl Certificate {
    /// Reads both files once. What works but is surely not meant goes to `warnings`.
    ///
    /// # Errors
    /// When a file cannot be read, is cut, or the two do not belong together.
    pub fn load(pair: &Pair, now: Timestamp, warnings: &mut Vec<String>) -> Result<Certificate, TlsError> {
        let certificate = Certificate::load_client(pair, now, warnings)?;
        let mut tell = |what: String| warnings.push(format!("{}: warning: {what}", pair.certificate.display()));
        if certificate.names.is_empty() {
            tell("the certificate has no subject alternative name that a client accepts".to_owned());
        }
        for name in &certificate.unusable {
            tell(format!("the certificate has a name that no client accepts: {name}"));
        }
        Ok(certificate)
    }

    /// The same for a client's certificate, whose names are nobody's matter.
    ///
    /// # Errors
    /// As [`Certificate::load`].
    pub fn load_client(pair: &Pair, now: Timestamp, warnings: &mut Vec<String>) -> Result<Certificate, TlsError> {
        let path = &pair.certificate;
        let certificate_fault = |why: String| TlsError::Certificate { path: path.clone(), why };
        let key_fault = |why: String| TlsError::Key { path: pair.private_key.clone(), why };
        let certificate_pem = crate::files::read(path).map_err(|error| certificate_fault(error.to_string()))?;
        let key_pem = crate::files::read(&pair.private_key).map_err(|error| key_fault(error.to_string()))?;
        let chain = CertificateDer::pem_slice_iter(&certificate_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| certificate_fault(error.to_string()))?;
        let own = chain.first().ok_or_else(|| certificate_fault("it holds no certificate".to_owned()))?;
        let facts = Facts::of(own).ok_or_else(|| certificate_fault("it holds no X.509 certificate".to_owned()))?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| key_fault(error.to_string()))?;
        warn(path, &facts, &chain, now, warnings);
        warn_of_mode(&pair.private_key, warnings);
        let key = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|why| TlsError::Pair { path: path.clone(), why })?;
        Ok(Certificate {
            key: Arc::new(key),
            names: facts.names,
            unusable: facts.unusable,
            not_after: facts.not_after,
            path: path.clone(),
            digest: digest(&[&certificate_pem, &key_pem]),
        })
    }

    /// The chain and the key, for rustls.
    #[must_use]
    pub fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// What the files held, in short.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

/// In short, such that no two lists of parts have one digest.
pub(super) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn warn(path: &Path, facts: &Facts, chain: &[CertificateDer<'_>], now: Timestamp, warnings: &mut Vec<String>) {
    let mut tell = |what: String| warnings.push(format!("{}: warning: {what}", path.display()));
    facts.validity(now).map(&mut tell);
    if let Some(next) = chain.get(1).and_then(Facts::of)
        && next.subject != facts.issuer
    {
        tell(
            "the second certificate of the chain did not issue the first: some clients refuse such a chain".to_owned(),
        );
    }
}

/// A key that everybody on the machine can read is nobody's secret.
fn warn_of_mode(path: &Path, warnings: &mut Vec<String>) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        const OTHERS: u32 = 0o006;
        let Ok(metadata) = std::fs::metadata(path) else { return };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            let path = path.display();
            warnings.push(format!("{path}: warning: every user can open the private key (mode {mode:o}): chmod 600"));
        }
    }
    #[cfg(not(unix))]
    let _ = (path, warnings);
}

/// When a certificate expires, under the label of its metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The name of its file without the extension; with the folder's in front where several files have one name.
    pub label: String,
    /// In seconds of the Unix epoch.
    pub unix_seconds: i64,
}

/// When each certificate expires. Of certificates that still have one label, the first to expire counts.
pub fn expiries<'a>(certificates: impl Iterator<Item = &'a Certificate> + Clone) -> Vec<Expiry> {
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut stems: BTreeMap<String, Vec<&Path>> = BTreeMap::new();
    for certificate in certificates.clone() {
        let paths = stems.entry(stem(&certificate.path)).or_default();
        if !paths.contains(&certificate.path.as_path()) {
            paths.push(&certificate.path);
        }
    }
    let label = |path: &Path| {
        let own = stem(path);
        let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        match folder.filter(|_| stems.get(&own).is_some_and(|paths| paths.len() > 1)) {
            Some(folder) => format!("{folder}/{own}"),
            None => own,
        }
    };
    let mut first: BTreeMap<String, i64> = BTreeMap::new();
    for certificate in certificates {
        let unix_seconds = certificate.not_after.as_second();
        let known = first.entry(label(&certificate.path)).or_insert(unix_seconds);
        *known = unix_seconds.min(*known);
    }
    first.into_iter().map(|(label, unix_seconds)| Expiry { label, unix_seconds }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    /// Files of certificates in a folder of their own.
    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Files {
            Files(tempfile::tempdir().unwrap())
        }

        /// A certificate that is valid from and until the beginning of these years.
        fn put(&self, name: &str, names: &[&str], years: (i32, i32)) -> Pair {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let mut params = CertificateParams::new(names).unwrap();
            (params.not_before, params.not_after) =
                (rcgen::date_time_ymd(years.0, 1, 1), rcgen::date_time_ymd(years.1, 1, 1));
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            let path = |extension: &str| self.0.path().join(format!("{name}.{extension}"));
            let pair = Pair { certificate: path("pem"), private_key: path("key") };
            std::fs::create_dir_all(pair.certificate.parent().unwrap()).unwrap();
            std::fs::write(&pair.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
            std::fs::write(&pair.private_key, key.serialize_pem()).unwrap();
            set_mode(&pair.private_key, 0o600);
            pair
        }
    }

    fn set_mode(path: &Path, mode: u32) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        #[cfg(not(unix))]
        let _ = (path, mode);
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn warnings(pair: &Pair, now: &str) -> String {
        let mut warnings = Vec::new();
        Certificate::load(pair, at(now), &mut warnings).unwrap();
        assert!(warnings.iter().all(|warning| warning.contains(": warning: ")), "{warnings:?}");
        warnings.join("\n")
    }

    #[test]
    fn what_is_about_to_fail_is_told_before_it_does() {
        let files = Files::new();
        let year = files.put("year", &["api.test"], (2030, 2031));
        assert_eq!(warnings(&year, "2030-06-01T00:00:00Z"), "");
        assert_eq!(warnings(&year, "2030-12-17T00:00:00Z"), "");
        for (now, told) in [
            ("2030-12-19T00:00:00Z", "expires soon (2031-01-01T00:00:00Z)"),
            ("2031-01-01T00:00:01Z", "has expired (2031-01-01T00:00:00Z)"),
            ("2029-12-31T23:59:59Z", "is not valid before 2030-01-01T00:00:00Z"),
        ] {
            let warnings = warnings(&year, now);
            assert!(warnings.contains(told) && warnings.lines().count() == 1, "{told}: {warnings}");
        }
    }

    #[test]
    fn what_no_client_will_accept_is_told() {
        let (files, now) = (Files::new(), "2030-06-01T00:00:00Z");
        let nameless = files.put("nameless", &[], (2030, 2031));
        assert!(warnings(&nameless, now).contains("no subject alternative name"));
        let odd = files.put("odd", &["*.com", "api.test"], (2030, 2031));
        let told = warnings(&odd, now);
        assert!(told.contains("*.com") && told.lines().count() == 1, "{told}");
        let mut none = Vec::new();
        Certificate::load_client(&nameless, at(now), &mut none).unwrap();
        assert_eq!(none, Vec::<String>::new(), "a client's names are nobody's matter");

        let other = std::fs::read(&files.put("other", &["b.test"], (2030, 2031)).certificate).unwrap();
        let chain = files.put("chain", &["api.test"], (2030, 2031));
        let whole = [std::fs::read(&chain.certificate).unwrap(), other].concat();
        std::fs::write(&chain.certificate, whole).unwrap();
        assert!(warnings(&chain, now).contains("did not issue the first"));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_everybody_can_read_is_told() {
        let (files, now) = (Files::new(), "2030-06-01T00:00:00Z");
        let pair = files.put("a", &["api.test"], (2030, 2031));
        for (mode, told) in [(0o600, false), (0o640, false), (0o644, true), (0o666, true)] {
            set_mode(&pair.private_key, mode);
            assert_eq!(warnings(&pair, now).contains(&format!("mode {mode:o}")), told, "{mode:o}");
        }
    }

    #[test]
    fn labels_are_stems_and_folders_where_stems_are_not_enough() {
        let files = Files::new();
        let pairs = [
            files.put("a.test/fullchain", &["a.test"], (2030, 2033)),
            files.put("b.test/fullchain", &["b.test"], (2030, 2032)),
            files.put("sub/b.test/fullchain", &["b.test"], (2030, 2031)),
            files.put("own", &["c.test"], (2030, 2031)),
        ];
        let mut warnings = Vec::new();
        let now = at("2030-06-01T00:00:00Z");
        let load = |pair| Certificate::load(pair, now, &mut warnings).unwrap();
        let certificates: Vec<Certificate> = pairs.iter().map(load).collect();
        let found = expiries(certificates.iter());
        let found: Vec<_> = found.iter().map(|expiry| (expiry.label.as_str(), expiry.unix_seconds)).collect();
        let [y2031, y2033] = ["2031-01-01T00:00:00Z", "2033-01-01T00:00:00Z"].map(|day| at(day).as_second());
        assert_eq!(found, [("a.test/fullchain", y2033), ("b.test/fullchain", y2031), ("own", y2031)]);
    }
}
