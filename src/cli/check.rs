//! `tollgate check`: every mistake of a configuration, at once.

use crate::config::{self, Config, ConfigErrors, Severity};
use crate::engine::Seed;
use crate::process::NamedFiles;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check a configuration file and the files it names.
///
/// Prints every mistake with its file, line, column and a hint. Exits with 0 when there is none, 1 when there are warnings
/// and --strict is given, 2 when there are errors.
#[derive(Clone, Debug, clap::Args)]
pub struct Check {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Exit with 1 when there are warnings.
    #[arg(long)]
    pub strict: bool,
}

/// What a check ended in; the number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to complain of, or warnings only and no --strict.
    Clean = 0,
    /// Warnings, with --strict.
    Warnings = 1,
    /// Errors.
    Errors = 2,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> ExitCode {
        ExitCode::from(verdict as u8)
    }
}

impl Check {
    /// Checks, and prints mistakes and a summary to `out` (stderr).
    ///
    /// # Errors
    /// `out` cannot be written to.
    pub fn run(&self, out: &mut impl Write) -> std::io::Result<Verdict> {
        // Nothing is counted here, so any seed will do.
        match config::load(&self.config, &Seed([0, 0])) {
            Ok(config) => self.passed(&config, out),
            Err(errors) => self.failed(&errors, out),
        }
    }

    fn passed(&self, config: &Config, out: &mut impl Write) -> std::io::Result<Verdict> {
        for warning in &config.warnings {
            writeln!(out, "{warning}\n")?;
        }
        let files = NamedFiles::of(config);
        for warning in &files.warnings {
            writeln!(out, "{warning}\n")?;
        }
        for path in &files.missing {
            writeln!(out, "{}: note: not there yet; `tollgate run` needs it\n", path.display())?;
        }
        for error in &files.errors {
            writeln!(out, "{error}\n")?;
        }
        if !files.errors.is_empty() {
            writeln!(out, "{}: the files it names cannot be used", self.config.display())?;
            return Ok(Verdict::Errors);
        }
        let warnings = config.warnings.len() + files.warnings.len();
        let counts = format!(
            "{}, {}, {}, {}",
            count(config.upstreams.len(), "upstream"),
            count(config.routes.len(), "route"),
            count(config.endpoints.len(), "endpoint"),
            count(config.policy.len(), "limit"),
        );
        let verdict = if warnings > 0 { count(warnings, "warning") } else { "ok".to_owned() };
        writeln!(out, "{}: {verdict}: {counts}", self.config.display())?;
        Ok(if self.strict && warnings > 0 { Verdict::Warnings } else { Verdict::Clean })
    }

    fn failed(&self, errors: &ConfigErrors, out: &mut impl Write) -> std::io::Result<Verdict> {
        for mistake in &errors.mistakes {
            writeln!(out, "{mistake}\n")?;
        }
        let of = |severity| errors.mistakes.iter().filter(|mistake| mistake.severity == severity).count();
        let mut summary = count(of(Severity::Error), "error");
        match of(Severity::Warning) {
            0 => {}
            warnings => summary = format!("{summary}, {}", count(warnings, "warning")),
        }
        if errors.omitted > 0 {
            summary = format!("{summary}, and {} more mistakes", errors.omitted);
        }
        writeln!(out, "{}: {summary}", self.config.display())?;
        Ok(Verdict::Errors)
    }
}

fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, strict: bool) -> (Verdict, String) {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("t.toml");
        std::fs::write(&config, text).unwrap();
        let mut out = Vec::new();
        let verdict = Check { config, strict }.run(&mut out).unwrap();
        (verdict, String::from_utf8(out).unwrap())
    }

    const GOOD: &str = "[auth]\nkeys_file = 'k'\n[upstreams.a]\nservers = 'http://a'\n";

    #[test]
    fn the_exit_code_tells_errors_from_warnings() {
        assert_eq!(check(GOOD, true).0, Verdict::Clean);
        let warned = format!("{GOOD}[tiers.gold.limits]\n");
        assert_eq!(check(&warned, false).0, Verdict::Clean);
        let (verdict, out) = check(&warned, true);
        assert_eq!(verdict, Verdict::Warnings);
        assert!(out.contains("t.toml:5:8: warning: no account has the tier `gold`"), "{out}");
        assert!(out.ends_with("t.toml: 1 warning: 1 upstream, 1 route, 2 endpoints, 0 limits\n"), "{out}");
        let (verdict, out) = check(&format!("{warned}[serve]\nlisten = 5"), false);
        assert_eq!(verdict, Verdict::Errors);
        assert!(out.ends_with("t.toml: 2 errors, 1 warning\n"), "{out}");
    }

    #[test]
    fn the_files_it_names_are_checked_where_they_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let text = "[server]\ntls = { certificate = 'c.pem', private_key = 'k.pem' }\n[auth]\nkeys_file = 'k'\n\
                    [upstreams.a]\nservers = 'https://a'\nca = 'ca.pem'\ncredentials = { bearer_file = 'token' }\n";
        put("t.toml", text);
        let check = || {
            let mut out = Vec::new();
            let config = folder.path().join("t.toml");
            let verdict = Check { config, strict: true }.run(&mut out).unwrap();
            (verdict, String::from_utf8(out).unwrap())
        };
        let (verdict, out) = check();
        assert_eq!((verdict, out.matches("not there yet").count()), (Verdict::Clean, 5), "{out}");
        for name in ["c.pem", "k.pem", "ca.pem", "token"] {
            put(name, "");
        }
        put("k", "[[keys]]\nid = 'k'\n");
        let (verdict, out) = check();
        assert_eq!(verdict, Verdict::Errors, "{out}");
        for told in ["k:1:1: ", "cannot read the certificate", "authorities in", "token: is empty"] {
            assert!(out.contains(told), "{told}: {out}");
        }
    }

    #[test]
    fn a_certificate_that_works_but_not_for_long_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        put("c.pem", &params.self_signed(&key).unwrap().pem());
        put("k.pem", &key.serialize_pem());
        put("t.toml", &format!("{GOOD}[server]\ntls = {{ certificate = 'c.pem', private_key = 'k.pem' }}\n"));
        let mut out = Vec::new();
        let verdict = Check { config: folder.path().join("t.toml"), strict: true }.run(&mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(verdict, Verdict::Warnings, "{out}");
        assert!(out.contains("c.pem: warning: the certificate has expired (2001-01-01T00:00:00Z)"), "{out}");
    }

    #[test]
    fn what_is_not_a_file_of_text_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("latin1"), b"# caf\xe9\n").unwrap();
        let large = std::fs::File::create(path("large")).unwrap();
        large.set_len(100 << 20).unwrap();
        std::fs::write(path("empty"), "").unwrap();
        let cases = [
            ("missing", "cannot be read"),
            (".", "it is a directory"),
            ("latin1", "not UTF-8"),
            ("large", "larger than 16 MiB"),
            ("empty", "there is no upstream"),
        ];
        for (name, message) in cases {
            let mut out = Vec::new();
            let verdict = Check { config: path(name), strict: false }.run(&mut out).unwrap();
            let out = String::from_utf8(out).unwrap();
            assert_eq!(verdict, Verdict::Errors, "{name}");
            assert!(out.contains(message), "{name}: {out}");
        }
        #[cfg(unix)]
        {
            let _listener = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
            let mut out = Vec::new();
            Check { config: path("socket"), strict: false }.run(&mut out).unwrap();
            assert!(String::from_utf8(out).unwrap().contains("not a regular file"));
        }
    }
}
