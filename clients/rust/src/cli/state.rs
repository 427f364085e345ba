//! The file of `--state`: where a follower stands, stream by stream.
//!
//! # Invariants
//! - It is replaced as a whole: whoever reads it finds what was written at some moment, never a part.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wavekeep::proto::id::StreamId;
use wavekeep::{Cursor, Cursors};

use super::failure::Failure;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct State {
    path: PathBuf,
    written: Option<Cursors>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stood {
    seq: u64,
    digest: Option<String>,
    next_sample: Option<u64>,
}

impl State {
    /// With what is in the file, if it is there.
    pub(super) fn open(path: &Path) -> Result<(Self, Option<Cursors>), Failure> {
        let state = Self {
            path: path.into(),
            written: None,
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((state, None)),
            Err(error) => return Err(state.failed(&error)),
        };
        let cursors = parse(&text).ok_or_else(|| {
            let sentence = format!(
                "{} is no state of `wavekeep tail`: name another file, or remove it",
                path.display()
            );
            Failure::Failed(sentence)
        })?;
        Ok((state, Some(cursors)))
    }

    pub(super) fn write(&mut self, cursors: &Cursors) -> Result<(), Failure> {
        if self.written.as_ref() == Some(cursors) {
            return Ok(());
        }
        self.replace(cursors).map_err(|error| self.failed(&error))?;
        self.written = Some(cursors.clone());
        Ok(())
    }

    fn replace(&self, cursors: &Cursors) -> io::Result<()> {
        let stood = |cursor: &Cursor| Stood {
            seq: cursor.seq,
            digest: cursor.digest.map(|digest| digest.to_string()),
            next_sample: cursor.next_sample,
        };
        let streams: BTreeMap<_, _> = cursors
            .iter()
            .map(|(id, cursor)| (id.to_string(), stood(cursor)))
            .collect();
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let mut file = fs::File::create(&name)?;
        serde_json::to_writer(&mut file, &streams)?;
        file.write_all(b"\n")?;
        fs::rename(&name, &self.path)
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::Failed(format!(
            "cannot use {} ({error}): name another file with --state",
            self.path.display()
        ))
    }
}

fn parse(text: &str) -> Option<Cursors> {
    let streams: BTreeMap<String, Stood> = serde_json::from_str(text).ok()?;
    let cursor = |(id, stood): (String, Stood)| {
        let cursor = Cursor {
            seq: stood.seq,
            digest: match stood.digest {
                Some(digest) => Some(digest.parse().ok()?),
                None => None,
            },
            next_sample: stood.next_sample,
        };
        Some((id.parse::<StreamId>().ok()?, cursor))
    };
    streams.into_iter().map(cursor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        let (mut state, none) = State::open(&path).expect("it may be new");
        assert_eq!(none, None);
        let cursor = |seq| Cursor {
            seq,
            digest: (seq > 1).then_some(wavekeep::proto::id::Hash([7; 16])),
            next_sample: (seq > 1).then_some(1_000),
        };
        let cursors: Cursors = [(StreamId([1; 16]), cursor(1)), (StreamId([2; 16]), cursor(9))].into();
        state.write(&cursors).expect("it is written");
        assert_eq!(State::open(&path).expect("it is there").1, Some(cursors));
        fs::write(&path, "{\"x\":1}").expect("it is written");
        let error = State::open(&path).expect_err("it is none");
        assert!(matches!(error, Failure::Failed(sentence) if sentence.contains("is no state")));
    }
}
