//! FLOOR 1: files that an operator names, read so that none of them can hold anybody up.
//!
//! Only regular files are read: opening a FIFO waits for whoever writes to it, and a device may never end. And no more is read
//! than a bound, whatever a file has grown to meanwhile.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The longest certificate, key, authority or list that is read: 16 MiB, room for a hundred thousand revocations.
pub const MAX_BYTES: u64 = 16 << 20;

/// What a regular file of at most [`MAX_BYTES`] holds.
///
/// # Errors
/// When it cannot be read, is something else than a regular file, or is longer.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 16 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_file_within_the_bound_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(read(folder.path()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let file = File::create(&path).unwrap();
        file.set_len(MAX_BYTES).unwrap();
        assert_eq!(read(&path).unwrap().len() as u64, MAX_BYTES);
        file.set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let circle = folder.path().join("circle");
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        assert!(read(&circle).is_err());
    }
}
