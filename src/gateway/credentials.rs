//! What becomes of the client's key on its way to an upstream, with the secrets that take its place.
//!
//! A secret lives in one buffer that is wiped when the last configuration and request that use it have gone; the header values
//! made of it share that buffer. No `Debug` and no error shows any of it.

use crate::config::{Config, CredentialForm, Credentials, Replacement, SecretSource};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use zeroize::Zeroizing;

/// Bytes of a secret.
pub const MAX_SECRET_BYTES: usize = 8 * 1024;

/// What becomes of the client's `Authorization`.
#[derive(Clone, Debug)]
pub enum Credential {
    /// It goes on as it came.
    Keep,
    /// It ends here.
    Drop,
    /// It ends here, and this field comes in its place.
    Replace(HeaderName, HeaderValue),
}

/// Why a credential cannot be had. Says where it should be, and nothing of what is there.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {why}")]
pub struct CredentialError {
    place: String,
    why: String,
}

/// The credentials of all routes, in their order. Those that are one are read once.
///
/// # Errors
/// The first that cannot be had.
pub fn load_all(config: &Config) -> Result<Box<[Credential]>, CredentialError> {
    let mut known: Vec<(&Credentials, Credential)> = Vec::new();
    let mut once = |wanted| {
        if let Some((_, credential)) = known.iter().find(|(credentials, _)| *credentials == wanted) {
            return Ok(credential.clone());
        }
        let credential = load(wanted)?;
        known.push((wanted, credential.clone()));
        Ok(credential)
    };
    config.routes.iter().map(|route| once(&route.options.credentials)).collect()
}

/// Reads what one route says.
///
/// # Errors
/// Where the secret should be, and why it cannot be had.
pub fn load(credentials: &Credentials) -> Result<Credential, CredentialError> {
    match credentials {
        Credentials::Keep => Ok(Credential::Keep),
        Credentials::Drop => Ok(Credential::Drop),
        Credentials::Replace(replacement) => {
            let place = match &replacement.source {
                SecretSource::Env(name) => format!("the environment variable {name}"),
                SecretSource::File(path) => path.display().to_string(),
            };
            let value = read(&replacement.source).and_then(|secret| value(replacement, &secret));
            let value = value.map_err(|why| CredentialError { place, why })?;
            Ok(Credential::Replace(replacement.header.clone(), value))
        }
    }
}

impl Credential {
    /// Puts this in the place of what the client sent.
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        match self {
            Credential::Keep => {}
            Credential::Drop => drop(headers.remove(header::AUTHORIZATION)),
            Credential::Replace(name, value) => {
                headers.remove(header::AUTHORIZATION);
                super::rules::clear(headers, std::slice::from_ref(name));
                headers.insert(name, value.clone());
            }
        }
    }
}

fn read(source: &SecretSource) -> Result<Zeroizing<Vec<u8>>, String> {
    match source {
        SecretSource::Env(name) => std::env::var_os(&**name)
            .map(|value| Zeroizing::new(value.into_vec()))
            .ok_or_else(|| "is not set".to_owned()),
        SecretSource::File(path) => read_file(path),
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let known = std::fs::metadata(path).map_err(cannot)?;
    if !known.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if known.permissions().mode() & 0o007 != 0 {
        tracing::warn!(file = %path.display(), "a credential that every user of this machine can read: chmod o= would keep it");
    }
    // All its room at once: a buffer that grows leaves copies behind.
    let mut secret = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 3));
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(MAX_SECRET_BYTES as u64 + 3).read_to_end(&mut secret).map_err(cannot)?;
    Ok(secret)
}

/// The header's value. One line end after the secret is no part of it.
fn value(replacement: &Replacement, secret: &[u8]) -> Result<HeaderValue, String> {
    let secret = secret.strip_suffix(b"\n").unwrap_or(secret);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    if secret.is_empty() {
        return Err("is empty".to_owned());
    }
    if secret.len() > MAX_SECRET_BYTES {
        return Err(format!("holds more than {MAX_SECRET_BYTES} bytes"));
    }
    if !secret.iter().all(|byte| matches!(byte, b' '..=b'~')) || secret.trim_ascii() != secret {
        return Err("holds more than one line of printable ASCII".to_owned());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(secret.len() * 2 + 16));
    match replacement.form {
        CredentialForm::Plain => bytes.extend_from_slice(secret),
        CredentialForm::Bearer => {
            bytes.extend_from_slice(b"Bearer ");
            bytes.extend_from_slice(secret);
        }
        CredentialForm::Basic => {
            if !secret.contains(&b':') {
                return Err("holds no `user:password`".to_owned());
            }
            bytes.extend_from_slice(b"Basic ");
            bytes.extend_from_slice(Zeroizing::new(STANDARD.encode(secret)).as_bytes());
        }
    }
    let mut value =
        HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).map_err(|_| "fits in no header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn replacement(form: CredentialForm, path: PathBuf) -> Credentials {
        Credentials::Replace(Replacement { header: header::AUTHORIZATION, form, source: SecretSource::File(path) })
    }

    fn loaded(form: CredentialForm, text: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, text).unwrap();
        match load(&replacement(form, path)) {
            Ok(credential) => {
                assert!(!format!("{credential:?}").contains("s3cret"), "{credential:?}");
                let Credential::Replace(_, value) = credential else { panic!("it is replaced") };
                Ok(value.to_str().unwrap().to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_file_becomes_a_header() {
        assert_eq!(loaded(CredentialForm::Bearer, b"s3cret\n"), Ok("Bearer s3cret".to_owned()));
        assert_eq!(loaded(CredentialForm::Plain, b"s3cret\r\n"), Ok("s3cret".to_owned()));
        assert_eq!(loaded(CredentialForm::Basic, b"user:s3cret"), Ok("Basic dXNlcjpzM2NyZXQ=".to_owned()));
    }

    #[test]
    fn what_is_no_secret_is_told_without_showing_it() {
        let long = [b"s3cret".repeat(2_000)].concat();
        for (text, why) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"s3cret\ns3cret\n", "more than one line"),
            (b" s3cret", "more than one line"),
            (b"s3cret\0", "more than one line"),
            ("s3crét".as_bytes(), "more than one line"),
            (&long, "more than 8192 bytes"),
        ] {
            let told = loaded(CredentialForm::Bearer, text).unwrap_err();
            assert!(told.contains(why) && !told.contains("s3cret"), "{told}");
        }
        assert!(loaded(CredentialForm::Basic, b"s3cret").unwrap_err().contains("user:password"));
        let folder = tempfile::tempdir().unwrap();
        let told = load(&replacement(CredentialForm::Plain, folder.path().into())).unwrap_err().to_string();
        assert!(told.contains("not a regular file"), "{told}");
        let source = SecretSource::Env("TOLLGATE_TEST_NO_SUCH_VARIABLE".into());
        let missing = Replacement { header: header::AUTHORIZATION, form: CredentialForm::Bearer, source };
        let told = load(&Credentials::Replace(missing)).unwrap_err().to_string();
        assert_eq!(told, "the environment variable TOLLGATE_TEST_NO_SUCH_VARIABLE: is not set");
    }
}
