//! What stands at single samples of a JLS file: times and annotations, each with an index and a summary of so many.
//!
//! # Invariants
//! - They come in order of sample.

use std::io::{self, Seek, Write};

use super::chunks::{Chunks, List, meta, payload, tag};
use super::samples::LEVELS;

/// Entries of an index.
pub(super) const NOTES_PER_INDEX: usize = 100;

/// Of a time: sample and time. Of an annotation: sample, kind, group, height.
type Summary = [u8; 16];

#[derive(Debug, Default)]
struct Level {
    /// Sample and place.
    index: Vec<(i64, u64)>,
    summary: Vec<Summary>,
    indices: List,
    summaries: List,
}

/// A track of one signal.
#[derive(Debug)]
pub(super) struct Notes {
    track: u8,
    signal: u16,
    data: List,
    levels: Vec<Level>,
    /// The first chunk of each level.
    pub(super) heads: [u64; LEVELS],
}

impl Notes {
    pub(super) fn new(track: u8, signal: u16) -> Self {
        Self {
            track,
            signal,
            data: List::default(),
            levels: Vec::new(),
            heads: [0; LEVELS],
        }
    }

    /// `note` is what follows the payload's header.
    pub(super) fn add(
        &mut self,
        chunks: &mut Chunks,
        out: &mut (impl Write + Seek),
        (sample, note): (i64, &[u8]),
        (entry_bits, summary): (u16, Summary),
    ) -> io::Result<()> {
        let mut data = payload(sample, 1, entry_bits, note.len());
        data.extend_from_slice(note);
        let offset = chunks.append(out, &mut self.data, self.track | tag::DATA, meta(self.signal, 0), &data)?;
        if self.heads[0] == 0 {
            self.heads[0] = offset;
        }
        self.note(1, (sample, offset), summary);
        self.end_full_levels(chunks, out)
    }

    fn note(&mut self, level: usize, place: (i64, u64), summary: Summary) {
        while self.levels.len() < level {
            self.levels.push(Level::default());
        }
        self.levels[level - 1].index.push(place);
        self.levels[level - 1].summary.push(summary);
    }

    fn end_full_levels(&mut self, chunks: &mut Chunks, out: &mut (impl Write + Seek)) -> io::Result<()> {
        let mut at = 1;
        while self
            .levels
            .get(at - 1)
            .is_some_and(|level| level.index.len() >= NOTES_PER_INDEX)
        {
            self.end_level(at, true, chunks, out)?;
            at += 1;
        }
        Ok(())
    }

    fn end_level(
        &mut self,
        at: usize,
        tells: bool,
        chunks: &mut Chunks,
        out: &mut (impl Write + Seek),
    ) -> io::Result<()> {
        let level = &mut self.levels[at - 1];
        let Some(((first, _), summary_first)) = level.index.first().copied().zip(level.summary.first().copied()) else {
            return Ok(());
        };
        let mut index = payload(first, level.index.len(), 128, 16 * level.index.len());
        for (sample, offset) in &level.index {
            index.extend(sample.to_le_bytes());
            index.extend(offset.to_le_bytes());
        }
        let mut summary = payload(first, level.summary.len(), 128, 16 * level.summary.len());
        summary.extend(level.summary.iter().flatten());
        let meta = meta(self.signal, at);
        let offset = chunks.append(out, &mut level.indices, self.track | tag::INDEX, meta, &index)?;
        chunks.append(out, &mut level.summaries, self.track | tag::SUMMARY, meta, &summary)?;
        level.index.clear();
        level.summary.clear();
        if self.heads[at] == 0 {
            self.heads[at] = offset;
        }
        if tells && at + 1 < LEVELS {
            self.note(at + 1, (first, offset), summary_first);
        }
        Ok(())
    }

    /// Writes what waits. The level above hears of it where there is one.
    pub(super) fn finish(&mut self, chunks: &mut Chunks, out: &mut (impl Write + Seek)) -> io::Result<()> {
        let mut at = 1;
        while at <= self.levels.len() {
            let tells = self.levels.len() > at;
            self.end_level(at, tells, chunks, out)?;
            at += 1;
        }
        Ok(())
    }
}
