//! Reads RocksDB's blob files without RocksDB: where the way to them is lost (MANIFEST, CURRENT, a sorted file), the columns are still
//! in them, each with its key. What is found counts for nothing by itself: whoever asks checks it against hashes of the capture.
//!
//! A file is a header of 30 bytes, then records (a header of 32 bytes, key, value), then perhaps a footer. A record whose header is
//! damaged is passed over: the next one is looked for byte by byte, by the checksum that each header has.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use wavekeep_proto::limits;

const FILE_HEADER_BYTES: u64 = 30;
const RECORD_HEADER_BYTES: usize = 32;
/// Of the header, what its checksum is of.
const SUMMED_BYTES: usize = 24;
/// No key of an outbox is longer.
const KEY_BYTES_MAX: u64 = 25;
/// What is read at once to find the next record.
const SEARCH_BYTES: usize = 256 * 1024;
/// What is passed over where the disk cannot read.
const UNREADABLE_BYTES: u64 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    file: usize,
    at: u64,
    bytes: usize,
}

/// Where which value lies: about 100 bytes of memory for each.
#[derive(Debug, Default)]
pub(super) struct Blobs {
    files: Vec<File>,
    places: BTreeMap<Vec<u8>, Place>,
}

impl Blobs {
    /// Of all blob files of a store. One that cannot be read has nothing.
    pub(super) fn find(store: &Path) -> Self {
        let mut blobs = Self::default();
        // In the order of their numbers: what was written last counts.
        for path in super::numbered(store, "blob") {
            blobs.add(&path);
        }
        blobs
    }

    fn add(&mut self, path: &PathBuf) {
        let Ok(file) = File::open(path) else { return };
        let Ok(length) = file.metadata().map(|metadata| metadata.len()) else {
            return;
        };
        let index = self.files.len();
        let mut at = FILE_HEADER_BYTES;
        while let Some(header) = header_at(&file, at, length) {
            let value_at = header.at + RECORD_HEADER_BYTES as u64 + header.key_bytes as u64;
            let mut key = vec![0; header.key_bytes];
            if file
                .read_exact_at(&mut key, header.at + RECORD_HEADER_BYTES as u64)
                .is_ok()
            {
                let place = Place {
                    file: index,
                    at: value_at,
                    bytes: header.value_bytes,
                };
                self.places.insert(key, place);
            }
            at = value_at + header.value_bytes as u64;
        }
        self.files.push(file);
    }

    /// What was written last under this key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let place = self.places.get(key)?;
        let mut value = vec![0; place.bytes];
        self.files[place.file].read_exact_at(&mut value, place.at).ok()?;
        Some(value)
    }
}

struct Header {
    at: u64,
    key_bytes: usize,
    value_bytes: usize,
}

/// The record at `at`, which must end within `length`, or the next one after it.
fn header_at(file: &File, at: u64, length: u64) -> Option<Header> {
    let mut bytes = [0; RECORD_HEADER_BYTES];
    if file.read_exact_at(&mut bytes, at).is_ok()
        && let Some(header) = parse(&bytes, at, length)
    {
        return Some(header);
    }
    search(file, at + 1, length)
}

fn search(file: &File, mut from: u64, length: u64) -> Option<Header> {
    let mut bytes = vec![0; SEARCH_BYTES];
    while from + (RECORD_HEADER_BYTES as u64) <= length {
        let read = match file.read_at(&mut bytes, from) {
            Ok(0) => return None,
            Ok(read) => read,
            Err(_) => {
                from += UNREADABLE_BYTES;
                continue;
            }
        };
        let windows = bytes[..read].windows(RECORD_HEADER_BYTES).zip(from..);
        let mut found = windows.filter_map(|(window, at)| parse(window.try_into().ok()?, at, length));
        if let Some(header) = found.next() {
            return Some(header);
        }
        from += (read.saturating_sub(RECORD_HEADER_BYTES - 1)).max(1) as u64;
    }
    None
}

fn parse(bytes: &[u8; RECORD_HEADER_BYTES], at: u64, length: u64) -> Option<Header> {
    let number = |from: usize| u64::from_le_bytes(bytes[from..from + 8].try_into().expect("eight bytes are eight"));
    let (key_bytes, value_bytes, expires) = (number(0), number(8), number(16));
    // Before the checksum: a search looks at every byte.
    if !(1..=KEY_BYTES_MAX).contains(&key_bytes) || value_bytes > limits::CHUNK_BYTES_MAX as u64 || expires != 0 {
        return None;
    }
    let sum = u32::from_le_bytes(
        bytes[SUMMED_BYTES..SUMMED_BYTES + 4]
            .try_into()
            .expect("four bytes are four"),
    );
    // As RocksDB masks checksums.
    let expected = crc32c::crc32c(&bytes[..SUMMED_BYTES])
        .rotate_right(15)
        .wrapping_add(0xa282_ead8);
    let end = at + RECORD_HEADER_BYTES as u64 + key_bytes + value_bytes;
    (sum == expected && end <= length).then_some(Header {
        at,
        key_bytes: usize::try_from(key_bytes).ok()?,
        value_bytes: usize::try_from(value_bytes).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((key.len() as u64).to_le_bytes());
        bytes.extend((value.len() as u64).to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        let sum = crc32c::crc32c(&bytes).rotate_right(15).wrapping_add(0xa282_ead8);
        bytes.extend(sum.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(key);
        bytes.extend(value);
        bytes
    }

    fn found(bytes: &[u8]) -> Blobs {
        let dir = tempfile::TempDir::new().unwrap();
        std::fs::write(dir.path().join("000012.blob"), bytes).unwrap();
        Blobs::find(dir.path())
    }

    #[test]
    fn a_damaged_record_header_costs_that_record_alone() {
        let mut bytes = vec![7; 30];
        let mut starts = Vec::new();
        for number in 0..5u8 {
            starts.push(bytes.len());
            bytes.extend(record(&[5, number], &vec![number; 5_000]));
        }
        for (damaged, start) in starts.iter().enumerate() {
            for bit in 0..28 * 8 {
                let mut bytes = bytes.clone();
                bytes[start + bit / 8] ^= 1 << (bit % 8);
                let blobs = found(&bytes);
                for number in 0..5u8 {
                    let expected = (usize::from(number) != damaged).then(|| vec![number; 5_000]);
                    assert_eq!(blobs.get(&[5, number]), expected, "bit {bit} of {damaged}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0..200usize) {
            drop(found(&bytes));
            let mut torn = vec![0; 30];
            torn.extend(record(&[5, 1], &bytes));
            torn.truncate(torn.len().saturating_sub(cut).max(1));
            let blobs = found(&torn);
            prop_assert_eq!(blobs.get(&[5, 1]).is_some(), cut == 0);
        }
    }
}
