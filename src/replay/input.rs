//! Where traces are read from: files, plain or compressed, and standard input.
//!
//! What a file is compressed with is told by its first bytes, never by its name. A replay reads its traces several times;
//! standard input, which cannot be, is kept in a temporary file without a name.

use flate2::read::MultiGzDecoder;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The largest window of a zstd frame, as a power of two of bytes: what unpacking may take.
const ZSTD_WINDOW_LOG: u32 = 27;

/// One trace.
#[derive(Debug)]
pub struct Input {
    /// As it was named; `-` is standard input.
    name: PathBuf,
    /// What came in through standard input.
    kept: Option<File>,
}

/// Counts the bytes read of all inputs, compressed as they are.
pub type BytesRead = Rc<Cell<u64>>;

impl Input {
    /// An input by its name. Reads all of standard input where that is meant.
    ///
    /// # Errors
    /// It is no file that can be read, or standard input cannot be kept.
    pub fn new(name: &Path) -> io::Result<Input> {
        let kept = if name.as_os_str() == "-" {
            let mut file = tempfile::tempfile()?;
            io::copy(&mut io::stdin().lock(), &mut file)?;
            Some(file)
        } else {
            let known = std::fs::metadata(name)?;
            if !known.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
            }
            None
        };
        Ok(Input { name: name.into(), kept })
    }

    /// Its name for people.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.display().to_string()
    }

    /// Its size in bytes, as it is stored.
    ///
    /// # Errors
    /// It is gone.
    pub fn size(&self) -> io::Result<u64> {
        Ok(match &self.kept {
            Some(file) => file.metadata()?.len(),
            None => std::fs::metadata(&self.name)?.len(),
        })
    }

    /// Opens it from its beginning, unpacked.
    ///
    /// # Errors
    /// It cannot be opened, or its first bytes not be read.
    pub fn open(&self, read: &BytesRead) -> io::Result<Box<dyn Read>> {
        let file = match &self.kept {
            Some(file) => {
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(0))?;
                file
            }
            None => File::open(&self.name)?,
        };
        unpacked(Counting { file, read: Rc::clone(read) })
    }
}

struct Counting {
    file: File,
    read: BytesRead,
}

impl Read for Counting {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(room)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}

fn unpacked(mut file: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut magic = Vec::with_capacity(4);
    file.by_ref().take(4).read_to_end(&mut magic)?;
    let kind: [u8; 4] = match magic.as_slice() {
        [a, b, c, d] => [*a, *b, *c, *d],
        _ => [0; 4],
    };
    let whole = Cursor::new(magic).chain(file);
    Ok(match kind {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::stream::read::Decoder::new(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        _ => Box::new(whole),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        std::fs::write(&path, bytes).unwrap();
        let input = Input::new(&path).unwrap();
        let mut text = Vec::new();
        let count = BytesRead::default();
        input.open(&count)?.read_to_end(&mut text)?;
        assert_eq!((count.get(), input.size().unwrap()), (bytes.len() as u64, bytes.len() as u64));
        Ok(text)
    }

    #[test]
    fn what_it_is_packed_with_is_told_by_its_bytes() {
        let text = b"one line\nand another\n".repeat(1_000);
        let gzip = |text: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let (one, other) = text.split_at(5_000);
        let zstd = |text: &[u8]| zstd::encode_all(text, 0).unwrap();
        for packed in [
            text.clone(),
            gzip(&text),
            zstd(&text),
            [gzip(one), gzip(other)].concat(),
            [zstd(one), zstd(other)].concat(),
        ] {
            assert!(read(&packed).unwrap() == text);
        }
        for short in [&b""[..], b"a", b"\x1f"] {
            assert_eq!(read(short).unwrap(), short);
        }
    }

    #[test]
    fn what_cannot_be_read_on_is_an_error() {
        assert!(read(b"\x1f\x8b\x08\x00 and then nothing of the kind").is_err());
        assert!(read(b"\x28\xb5\x2f\xfd and then nothing of the kind").is_err());
        assert!(Input::new(Path::new("/")).is_err());
        assert!(Input::new(Path::new("/no/such/file")).is_err());
    }
}
