//! The buckets of a stream that are not complete yet, one on top of the other, and what a chunk completes. Pure.
//!
//! # Invariants
//! - I8: a bucket that is given out is the fold of all pieces in it, each once.
//! - A bucket is given out by the first chunk that ends at or after its end; never twice, never without samples.
//! - Its state is a function of the pieces since the start of the largest unfinished bucket: [`Tower::child`] and
//!   [`Tower::piece`] build it again from rows.

use std::collections::BTreeMap;

use super::envelope::Bucket;
use super::{LEVEL_MAX, Levels, bucket_samples};

/// A complete bucket, for table `envelope`.
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    /// Of the definition, or [`wavekeep_proto::power::POWER_NUMBER`].
    pub signal: u32,
    /// Its level.
    pub level: u32,
    /// Its start, divided by its size.
    pub bucket: u64,
    /// UTC of its start.
    pub utc_ns: i64,
    /// All of it.
    pub whole: Bucket,
    /// Of the level below; None where there are no samples.
    pub children: [Option<Bucket>; 16],
}

impl Completed {
    /// Signal, level and bucket, from what the level below has of it.
    #[must_use]
    pub fn of((signal, level, bucket): (u32, u32, u64), utc_ns: i64, children: [Option<Bucket>; 16]) -> Self {
        let mut whole = Bucket::EMPTY;
        children.iter().flatten().for_each(|child| whole.merge(child));
        Self {
            signal,
            level,
            bucket,
            utc_ns,
            whole,
            children,
        }
    }
}

/// A bucket under way.
#[derive(Debug, Clone, PartialEq)]
struct Open {
    bucket: u64,
    utc_ns: i64,
    children: Vec<(u8, Bucket)>,
}

/// Of one signal.
#[derive(Debug, Clone, Default, PartialEq)]
struct Column {
    /// The bucket of the piece level under way, and what is in it.
    piece: Option<(u64, Bucket)>,
    /// By level, from [`Levels::first`] on.
    open: BTreeMap<u32, Open>,
}

/// Of one stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Tower {
    levels: Levels,
    columns: BTreeMap<u32, Column>,
}

impl Tower {
    /// Of a stream without samples.
    #[must_use]
    pub const fn new(levels: Levels) -> Self {
        Self {
            levels,
            columns: BTreeMap::new(),
        }
    }

    /// What it takes in memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let open = |open: &Open| size_of::<Open>() + open.children.capacity() * size_of::<(u8, Bucket)>();
        let column = |column: &Column| size_of::<Column>() + column.open.values().map(open).sum::<usize>();
        size_of::<Self>() + self.columns.values().map(column).sum::<usize>()
    }

    /// A complete bucket whose parent is not, as it was given out. `utc` tells the time of a sample near it. In order of level, then of bucket.
    pub fn child(&mut self, signal: u32, level: u32, bucket: u64, of: Bucket, utc: &impl Fn(u64) -> i64) {
        let column = self.columns.entry(signal).or_default();
        column.insert(level, bucket, of, utc);
    }

    /// Samples of one bucket of the piece level. What they complete of those before is given out.
    pub fn piece(
        &mut self,
        signal: u32,
        bucket: u64,
        of: &Bucket,
        utc: &impl Fn(u64) -> i64,
        out: &mut Vec<Completed>,
    ) {
        let level = self.levels.piece();
        let column = self.columns.entry(signal).or_default();
        if let Some((before, done)) = column.piece.take_if(|(before, _)| *before != bucket) {
            column.rise(signal, level, (before, done), utc, out);
        }
        column.piece.get_or_insert((bucket, Bucket::EMPTY)).1.merge(of);
    }

    /// The chunk ends here: gives out what is complete.
    pub fn close(&mut self, end_sample: u64, utc: &impl Fn(u64) -> i64, out: &mut Vec<Completed>) {
        let piece = self.levels.piece();
        let is_complete = |level: u32, bucket: u64| (bucket + 1) * bucket_samples(level) <= end_sample;
        for (signal, column) in &mut self.columns {
            if let Some((bucket, done)) = column.piece.take_if(|(bucket, _)| is_complete(piece, *bucket)) {
                column.rise(*signal, piece, (bucket, done), utc, out);
            }
            for level in self.levels.first..=LEVEL_MAX {
                let Some(open) = column.open.get(&level) else {
                    continue;
                };
                if is_complete(level, open.bucket) {
                    column.complete(*signal, level, utc, out);
                }
            }
        }
    }
}

impl Column {
    fn insert(&mut self, level: u32, bucket: u64, of: Bucket, utc: &impl Fn(u64) -> i64) {
        let parent = level + 1;
        if parent > LEVEL_MAX {
            return;
        }
        let open = self.open.entry(parent).or_insert_with(|| Open {
            bucket: bucket / 16,
            utc_ns: utc(bucket / 16 * bucket_samples(parent)),
            children: Vec::new(),
        });
        assert_eq!(
            open.bucket,
            bucket / 16,
            "I8: a bucket is completed before the next one begins"
        );
        open.children.push(((bucket % 16) as u8, of));
    }

    /// A complete bucket becomes a child of the one above, after what that one's predecessor needs.
    fn rise(
        &mut self,
        signal: u32,
        level: u32,
        (bucket, of): (u64, Bucket),
        utc: &impl Fn(u64) -> i64,
        out: &mut Vec<Completed>,
    ) {
        let is_past = |open: &Open| open.bucket != bucket / 16;
        if self.open.get(&(level + 1)).is_some_and(is_past) {
            self.complete(signal, level + 1, utc, out);
        }
        self.insert(level, bucket, of, utc);
    }

    /// Gives out the bucket under way at this level.
    fn complete(&mut self, signal: u32, level: u32, utc: &impl Fn(u64) -> i64, out: &mut Vec<Completed>) {
        let Some(Open {
            bucket,
            utc_ns,
            children,
        }) = self.open.remove(&level)
        else {
            return;
        };
        let mut all = [None; 16];
        for (place, child) in children {
            all[usize::from(place)] = Some(child);
        }
        let completed = Completed::of((signal, level, bucket), utc_ns, all);
        let whole = completed.whole;
        out.push(completed);
        self.rise(signal, level, (bucket, whole), utc, out);
    }
}

#[cfg(test)]
#[path = "tower_tests.rs"]
mod tests;
