//! The directory: which files there are, what their names say, and how one comes into being.
//!
//! The names are the state. `workspace=W/device=D/date=2026-03-01/STREAM_SEQ-SEQ_SAMPLE-SAMPLE.parquet` says which samples of which
//! stream a file holds, so that nothing else has to be kept that could disagree with it.
//!
//! # Invariants
//! - A file appears whole, synced, under its name, or not at all. A killed export leaves hidden `.….partial` files at most, which the
//!   next one removes.
//! - One export writes into a directory at a time: it holds the lock on `.wavekeep.lock`.
//! - No two files hold the same sample; a directory where two do is refused.
//! - Every file is written with the same settings, those of `.wavekeep.json`: a file with other signals would look like a hole.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::{Span, ToSpan};
use serde::{Deserialize, Serialize};
use wavekeep::proto::id::StreamId;

use crate::cli::failure::Failure;
use crate::cli::limits::FILES_MAX;
use crate::cli::raw::RawFile;

const LOCK: &str = ".wavekeep.lock";
const SETTINGS: &str = ".wavekeep.json";
const ENDING: &str = ".parquet";
const PARTIAL: &str = ".partial";

/// What a file's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) stream: StreamId,
    /// The first seq and the last one.
    pub(super) seqs: (u64, u64),
    /// The first sample, and the one after the last.
    pub(super) samples: (u64, u64),
}

impl Name {
    pub(super) fn file(&self) -> String {
        let (seqs, samples) = (self.seqs, self.samples);
        // As wide as the largest numbers, so that names are in the order of samples.
        format!(
            "{}_{:012}-{:012}_{:019}-{:019}{ENDING}",
            self.stream, seqs.0, seqs.1, samples.0, samples.1
        )
    }

    /// `None`: it is not one of ours.
    pub(super) fn parse(file: &str) -> Option<Self> {
        let mut parts = file.strip_suffix(ENDING)?.split('_');
        let stream = parts.next()?.parse().ok()?;
        let mut pair = || {
            let (from, to) = parts.next()?.split_once('-')?;
            Some((from.parse().ok()?, to.parse().ok()?))
        };
        let name = Self {
            stream,
            seqs: pair()?,
            samples: pair()?,
        };
        (name.file() == file).then_some(name)
    }
}

/// Sample ranges of a stream that files hold; in order, and apart from each other.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Covered(BTreeMap<u64, Extent>);

/// Neighbouring files as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    end_sample: u64,
    last_seq: u64,
}

impl Covered {
    /// `false`: some of it was there.
    #[must_use]
    pub(super) fn add(&mut self, name: &Name) -> bool {
        let (from, to) = name.samples;
        let after = self.0.range(from..).next().map(|(from, _)| *from);
        let before = self.0.range(..=from).next_back().map(|(from, extent)| (*from, *extent));
        if from >= to
            || after.is_some_and(|after| after < to)
            || before.is_some_and(|(_, before)| before.end_sample > from)
        {
            return from == to;
        }
        let mut joined = (
            from,
            Extent {
                end_sample: to,
                last_seq: name.seqs.1,
            },
        );
        if let Some((start, _)) = before.filter(|(_, before)| before.end_sample == from) {
            joined.0 = start;
        }
        if let Some(next) = after
            .filter(|after| *after == to)
            .and_then(|after| self.0.remove(&after))
        {
            joined.1 = next;
        }
        self.0.insert(joined.0, joined.1);
        true
    }

    /// What of `from`..`to` is in no file.
    pub(super) fn without(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut left = Vec::new();
        let mut at = from;
        let first = self.0.range(..=from).next_back().map_or(from, |(start, _)| *start);
        for (start, extent) in self.0.range(first..) {
            if *start >= to {
                break;
            }
            if *start > at {
                left.push((at, *start));
            }
            at = at.max(extent.end_sample);
        }
        if at < to {
            left.push((at, to));
        }
        left
    }

    /// The seq up to which chunks need not be looked at again: before the last two of the files that begin with the stream. The last one may
    /// go on in the next file, and the one before tells the digest there.
    pub(super) fn known_seq(&self, first_sample: u64) -> u64 {
        self.0
            .get(&first_sample)
            .map_or(0, |extent| extent.last_seq.saturating_sub(2))
    }
}

/// How the files of a directory are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Those that were asked for; all, where none is named.
    pub(super) signals: Vec<String>,
    pub(super) gaps: String,
    pub(super) file_seconds: u64,
}

impl Settings {
    /// Keeps them, where the directory has none yet.
    fn require_same(&self, path: &Path) -> Result<(), Failure> {
        let failed = |error: io::Error| cannot(path, &error);
        match fs::read(path) {
            Ok(found) => {
                let found: Option<Self> = serde_json::from_slice(&found).ok();
                if found.as_ref() == Some(self) {
                    return Ok(());
                }
                let found = found.map_or_else(|| "something else".into(), |found| found.words());
                Err(Failure::Failed(format!(
                    "what is in this directory was exported with {found}, and this is {}: use the same, or another directory",
                    self.words()
                )))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut file = RawFile::create(path)?;
                file.write(&serde_json::to_vec(self)?)?;
                file.finish(&[]).map(|_| ())
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn words(&self) -> String {
        let mut words: Vec<String> = self.signals.iter().map(|name| format!("--signal {name}")).collect();
        words.push(format!("--gaps {} --file-seconds {}", self.gaps, self.file_seconds));
        words.join(" ")
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Lake {
    /// `DIR/workspace=W`.
    root: PathBuf,
    covered: BTreeMap<StreamId, Covered>,
    pub(super) found: u64,
    _lock: File,
}

impl Lake {
    /// Takes the directory, makes it where there is none, and looks at what is in it.
    pub(super) fn open(directory: &Path, workspace: &str, settings: &Settings) -> Result<Self, Failure> {
        let failed = |error: io::Error| cannot(directory, &error);
        fs::create_dir_all(directory).map_err(failed)?;
        let lock = File::create(directory.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                let sentence = format!(
                    "another export writes into {}: wait until it is done, end it, or name another directory",
                    directory.display()
                );
                return Err(Failure::Failed(sentence));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        settings.require_same(&directory.join(SETTINGS))?;
        let mut lake = Self {
            root: directory.join(format!("workspace={}", escaped(workspace))),
            covered: BTreeMap::new(),
            found: 0,
            _lock: lock,
        };
        let root = lake.root.clone();
        if root.is_dir() {
            lake.look(&root)?;
        }
        Ok(lake)
    }

    fn look(&mut self, folder: &Path) -> Result<(), Failure> {
        let failed = |error: io::Error| cannot(folder, &error);
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if entry.file_type().map_err(failed)?.is_dir() {
                self.look(&path)?;
                continue;
            }
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(partial) = name.strip_prefix('.').filter(|name| name.ends_with(PARTIAL)) {
                if partial.contains(ENDING) {
                    fs::remove_file(&path).map_err(failed)?;
                }
                continue;
            }
            let Some(name) = Name::parse(name) else { continue };
            self.take(&name, &path)?;
            self.found += 1;
            if self.found > FILES_MAX {
                let sentence = format!(
                    "{} holds more than {FILES_MAX} files: begin another directory, with --from where this one ends",
                    self.root.display()
                );
                return Err(Failure::Failed(sentence));
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &Name, path: &Path) -> Result<(), Failure> {
        if self.covered.entry(name.stream).or_default().add(name) {
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "{} holds samples that another file of its stream holds, too: remove one of the two",
            path.display()
        )))
    }

    pub(super) fn covered(&self, stream: StreamId) -> Covered {
        self.covered.get(&stream).cloned().unwrap_or_default()
    }

    /// Where a file belongs; its folder is made where there is none.
    pub(super) fn place(&self, device: &str, day: i64, name: &Name) -> Result<PathBuf, Failure> {
        let folder = self
            .root
            .join(format!("device={}", escaped(device)))
            .join(format!("date={}", date(day)));
        make_folder(&folder).map_err(|error| cannot(&folder, &error))?;
        Ok(folder.join(name.file()))
    }

    /// It is there now.
    pub(super) fn written(&mut self, name: &Name, path: &Path) -> Result<(), Failure> {
        self.take(name, path)
    }
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("cannot use {}: {error}", path.display()))
}

/// Makes a folder, and those above it, so that they are there after a power cut as well.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    make_folder(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => (),
    }
    File::open(parent)?.sync_all()
}

/// `2026-03-01`.
fn date(day: i64) -> String {
    let days: Option<Span> = i32::try_from(day).ok().map(|day| day.days());
    let epoch = Date::constant(1970, 1, 1);
    let date = days.and_then(|days| epoch.checked_add(days).ok());
    date.map_or_else(|| day.to_string(), |date| date.to_string())
}

/// A value in a path, as Hive and its readers write it: `%2F` for what a name of a folder cannot hold, or would say something else in it.
fn escaped(value: &str) -> String {
    let mut out = String::new();
    for character in value.chars() {
        let is_plain = !character.is_control() && !"\"#%'*/:=?\\{}[]^".contains(character);
        if is_plain && !(out.is_empty() && character == '.') {
            out.push(character);
            continue;
        }
        let mut bytes = [0; 4];
        for byte in character.encode_utf8(&mut bytes).bytes() {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(seqs: (u64, u64), samples: (u64, u64)) -> Name {
        let stream = StreamId([0x0b; 16]);
        Name { stream, seqs, samples }
    }

    #[test]
    fn names_say_what_a_file_holds_and_nothing_else_is_one() {
        let one = name((1, 60), (0, 60_000_000));
        assert_eq!(Name::parse(&one.file()), Some(one));
        for other in [
            "x.parquet",
            "_SUCCESS",
            &one.file().replace("_0000", "_000"),
            &format!("{}.crc", one.file()),
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
        let later = name((61, 61), (60_000_000, 60_000_001));
        assert!(one.file() < later.file());
    }

    #[test]
    fn values_of_partitions_are_escaped() {
        assert_eq!(escaped("js220-001"), "js220-001");
        assert_eq!(escaped("a/b=c%"), "a%2Fb%3Dc%25");
        assert_eq!((escaped(".."), escaped("µ A")), ("%2E.".into(), "µ A".into()));
        assert_eq!(
            [date(0), date(20_513), date(-1)],
            ["1970-01-01", "2026-03-01", "1969-12-31"]
        );
    }

    #[test]
    fn files_join_and_never_overlap() {
        let mut covered = Covered::default();
        assert!(covered.add(&name((1, 2), (10, 20))));
        assert!(covered.add(&name((5, 6), (30, 40))));
        assert_eq!(covered.without(0, 50), [(0, 10), (20, 30), (40, 50)]);
        assert_eq!((covered.known_seq(10), covered.known_seq(30)), (0, 4));
        for overlap in [(10, 20), (15, 16), (19, 31), (5, 11), (0, 100), (39, 41)] {
            assert!(!covered.clone().add(&name((0, 0), overlap)), "{overlap:?}");
        }
        assert!(covered.add(&name((3, 4), (20, 30))));
        assert_eq!((covered.0.len(), covered.known_seq(10)), (1, 4));
        assert_eq!(covered.without(12, 38), []);
        assert_eq!(covered.without(35, 45), [(40, 45)]);
    }

    #[test]
    fn a_directory_is_taken_by_one_and_swept_of_what_a_killed_one_left() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let settings = Settings {
            signals: Vec::new(),
            gaps: "skip".into(),
            file_seconds: 60,
        };
        let open = || Lake::open(directory.path(), "main", &settings);
        let lake = open().expect("it opens");
        let second = open().expect_err("it is taken");
        assert!(format!("{second:?}").contains("another export writes into"));
        let one = name((1, 60), (0, 60));
        let place = lake.place("js220-001", 20_513, &one).expect("a place");
        assert!(place.ends_with(format!(
            "workspace=main/device=js220-001/date=2026-03-01/{}",
            one.file()
        )));
        fs::write(&place, b"whole").expect("written");
        let partial = place.with_file_name(format!(".{}.77.partial", one.file()));
        let foreign = place.with_file_name(".notes.partial");
        fs::write(&partial, b"torn").expect("written");
        fs::write(&foreign, b"somebody's").expect("written");
        drop(lake);
        let lake = open().expect("it opens again");
        assert!(!partial.exists() && foreign.exists() && lake.found == 1);
        assert_eq!(lake.covered(one.stream).without(0, 61), [(60, 61)]);
        drop(lake);
        fs::write(place.with_file_name(name((2, 3), (59, 61)).file()), b"").expect("written");
        let refused = open().expect_err("it overlaps");
        assert!(format!("{refused:?}").contains("remove one of the two"));
        let other = Settings {
            signals: vec!["current".into()],
            ..settings.clone()
        };
        let refused = Lake::open(directory.path(), "main", &other).expect_err("other signals");
        assert!(format!("{refused:?}").contains("--signal current --gaps skip --file-seconds 60: use the same"));
    }
}
