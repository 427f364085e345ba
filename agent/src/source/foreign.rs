//! Files that say by how they begin what they are: none of them is raw samples, although any bytes could be.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::FileError;

/// The longest beginning that is known.
const BEGINNING_BYTES: u64 = 16;

const EXPORT: &str = "export it as csv, npy, jls or raw, and replay that";
const UNPACK: &str = "unpack it, and replay what is in it";

/// How it begins, what it is, and what to do.
const KNOWN: [(&[u8], &str, &str); 10] = [
    (b"PAR1", "a Parquet file", EXPORT),
    (b"SQLite format 3\0", "an SQLite database", EXPORT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", EXPORT),
    (b"PK\x03\x04", "a zip archive", UNPACK),
    // The third byte is the method, of which there is one.
    (b"\x1f\x8b\x08", "a gzip file", UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd file", UNPACK),
    (b"\xfd7zXZ\0", "an xz file", UNPACK),
    (b"\x93NUMPY", "an npy file", "say --format npy"),
    (b"jlsfmt\r\n", "a JLS file", "say --format jls"),
    (b"WKCHUNK1", "a chunk file", "say --format chunks"),
];

/// Refuses a file that nobody called raw, and that says itself what it is. One that cannot be read is for its reader to name.
pub fn require_raw(path: &Path) -> Result<(), FileError> {
    let begins = beginning(path);
    match KNOWN.iter().find(|(magic, _, _)| begins.starts_with(magic)) {
        Some((_, what, advice)) => Err(FileError::Foreign {
            path: path.into(),
            what,
            advice,
        }),
        None => Ok(()),
    }
}

fn beginning(path: &Path) -> Vec<u8> {
    let mut begins = Vec::new();
    // Asked before it is opened: opening a pipe waits for a writer.
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
        && let Ok(file) = File::open(path)
    {
        // What came before an error counts; the error comes again.
        let _ = file.take(BEGINNING_BYTES).read_to_end(&mut begins);
    }
    begins
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Result<(), String> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), bytes).expect("it takes bytes");
        require_raw(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_says_itself_that_it_is_something_else_is_no_raw_file() {
        for (magic, what, advice) in KNOWN {
            assert!(magic.len() as u64 <= BEGINNING_BYTES, "{what}");
            let refusal = of(&[magic, &[0; 64]].concat()).expect_err(what);
            assert!(refusal.contains(what) && refusal.contains(advice), "{refusal}");
            assert!(refusal.contains("--format"), "{refusal}");
        }
    }

    #[test]
    fn samples_are_raw() {
        for bytes in [&[0; 64][..], b"PAR", b"", &[0x1f, 0x8b, 0, 0], &1.5f32.to_le_bytes()] {
            assert_eq!(of(bytes), Ok(()), "{bytes:?}");
        }
        assert!(require_raw(Path::new("/nowhere/at/all")).is_ok() && require_raw(Path::new("/dev")).is_ok());
    }
}
