//! Damaged files are kept for whoever wants to look at them, but not without end.

use std::io;
use std::path::{Path, PathBuf};

/// So many damaged files of one name are kept; the oldest gives way.
const KEPT: u32 = 3;

/// Renames a damaged file to `NAME.damaged-1`, and those before it to 2 and 3. Answers the new name.
///
/// # Errors
/// As the file system says.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let name = |nth: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{nth}"));
        PathBuf::from(name)
    };
    for nth in (1..KEPT).rev() {
        match std::fs::rename(name(nth), name(nth + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, name(1))?;
    Ok(name(1))
}
