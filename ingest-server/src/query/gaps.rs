//! `ListGaps`: what is missing, and why. And what is missing in one chunk, for manifests.
//!
//! # Invariants
//! - I4: absence is a gap with a reason: of all signals (gaps, quarantined chunks) or of some (absent columns).
//! - I12: one gap of each set of signals waits, to be joined with the one that continues it.

use std::sync::Arc;

use wavekeep_proto::chunk::{ChunkKind, ColumnContent, Reason};
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::v1;

use super::answer::Parts;
use super::error::QueryError;
use super::locate::Located;
use super::plan::{self, Asked, Span};
use super::read::Reader;
use super::runs::Member;
use super::want::{Want, places};
use crate::store::read_chunk::ChunkRow;
use crate::store::read_gap::GapRow;
use crate::store::read_stream::StreamRow;

/// Lists them stream by stream, in order of samples. Outages follow the stream that crashed.
pub(super) async fn list(reader: Reader, asked: Asked, parts: Parts<v1::Gap>) -> Result<(), QueryError> {
    let members = reader.members(&asked).await?;
    let streams: Vec<StreamRow> = members.iter().map(|member| member.row.clone()).collect();
    for member in &members {
        let row = &member.row;
        for located in reader.locate(member).await? {
            list_stream(&reader, &asked, row, &located, &parts).await?;
        }
        if let Some(times_ns) = plan::outage(row, &streams)
            && is_asked(times_ns, row, &members)
        {
            let gap = gap(&row.definition, (row.at.next_sample, 0), Reason::Crashed, times_ns);
            parts.send(gap).await?;
        }
    }
    Ok(())
}

/// Does any of the ranges of the device have something of that time?
fn is_asked(times_ns: (i64, i64), row: &StreamRow, members: &[Member]) -> bool {
    let of_device = members
        .iter()
        .filter(|member| member.row.definition.device == row.definition.device);
    let mut ranges = of_device.flat_map(|member| &member.ranges);
    ranges.any(|range| range.touches(times_ns))
}

async fn list_stream(
    reader: &Reader,
    asked: &Asked,
    row: &StreamRow,
    located: &Located,
    parts: &Parts<v1::Gap>,
) -> Result<(), QueryError> {
    let mut missing = Missing::new(reader, row, located, &Want::all(asked, &row.definition, false));
    while let Some(gaps) = missing.next().await? {
        for gap in gaps {
            parts.send(gap).await?;
        }
    }
    Ok(())
}

/// What is missing of some wants in a range, page by page, and how much of each.
pub(super) struct Missing {
    reader: Reader,
    definition: Arc<StreamDefinition>,
    located: Located,
    /// The numbers of the signals of each want.
    wants: Vec<Vec<u16>>,
    /// All of them.
    signals: Vec<u16>,
    joiner: Joiner,
    /// None: all pages were read.
    after: Option<u64>,
    over: bool,
    /// Samples so far that are missing of each want.
    pub(super) of_wants: Vec<u64>,
    /// And of all of them at once.
    pub(super) of_all: u64,
}

impl Missing {
    pub(super) fn new(reader: &Reader, row: &StreamRow, located: &Located, wants: &[Want]) -> Self {
        let numbers = |places: Vec<usize>| {
            places
                .into_iter()
                .map(|place| row.definition.signals[place].number)
                .collect()
        };
        Self {
            reader: reader.clone(),
            definition: row.definition.clone(),
            located: located.clone(),
            wants: wants.iter().map(|want| numbers(want.places())).collect(),
            signals: numbers(places(wants)),
            joiner: Joiner::default(),
            after: Some(located.span.first_seq - 1),
            over: false,
            of_wants: vec![0; wants.len()],
            of_all: 0,
        }
    }

    /// The next gaps, joined, in order; None after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<v1::Gap>>, QueryError> {
        let Some(after) = self.after else {
            let over = std::mem::replace(&mut self.over, true);
            return Ok((!over).then(|| std::mem::take(&mut self.joiner.waiting)));
        };
        let seqs = (after, self.located.span.last_seq);
        let (rows, next) = self.reader.gaps(self.located.place, &self.signals, seqs).await?;
        self.after = next;
        // A page holds all rows of a chunk.
        rows.chunk_by(|one, other| one.seq == other.seq)
            .for_each(|rows| self.count(rows));
        let gaps = rows.iter().filter_map(|row| cut(&self.definition, row, &self.located));
        Ok(Some(gaps.filter_map(|gap| self.joiner.join(gap)).collect()))
    }

    /// So many samples of each want were found: where they are all, nothing is missing, and there is nothing to look for.
    pub(super) fn found(&mut self, samples: impl IntoIterator<Item = u64>) {
        let length = self.located.span.to_sample - self.located.span.from_sample;
        if samples.into_iter().all(|samples| samples == length) {
            (self.after, self.over) = (None, true);
        }
    }

    /// All pages, for the counts alone.
    pub(super) async fn counted(mut self) -> Result<Self, QueryError> {
        while self.next().await?.is_some() {}
        Ok(self)
    }

    fn count(&mut self, rows: &[GapRow]) {
        let span = &self.located.span;
        let (first, end) = (rows[0].first_sample, rows[0].first_sample.saturating_add(rows[0].count));
        let length = end.min(span.to_sample).saturating_sub(first.max(span.from_sample));
        let is_missing = |number: &u16| {
            let of_row = |row: &GapRow| row.signals.as_ref().is_none_or(|signals| signals.contains(number));
            rows.iter().any(of_row)
        };
        let mut of_all = true;
        for (want, numbers) in self.wants.iter().enumerate() {
            if numbers.iter().any(is_missing) {
                self.of_wants[want] += length;
            } else {
                of_all = false;
            }
        }
        self.of_all += if of_all { length } else { 0 };
    }

    /// Once all pages were read: so many samples of a want were found, and all others must have been named.
    pub(super) fn require_all_named(&self, want: usize, samples: u64) -> Result<(), QueryError> {
        let Span {
            from_sample, to_sample, ..
        } = self.located.span;
        let named = self.of_wants[want];
        if samples + named == to_sample - from_sample {
            return Ok(());
        }
        Err(QueryError::Damaged(format!(
            "stream {} is not whole: of samples {from_sample} to {to_sample}, {samples} are folded and {named} are in gaps",
            self.definition.id
        )))
    }
}

fn gap(
    definition: &StreamDefinition,
    (first_sample, count): (u64, u64),
    reason: Reason,
    (from_ns, to_ns): (i64, i64),
) -> v1::Gap {
    v1::Gap {
        stream_id: definition.id.to_vec().into(),
        device: definition.device.clone(),
        first_sample,
        count,
        reason: i32::from(reason as u16),
        from_ns,
        to_ns,
        signals: Vec::new(),
    }
}

/// A row as it is told, cut to the range; None where it lies outside.
fn cut(definition: &StreamDefinition, row: &GapRow, located: &Located) -> Option<v1::Gap> {
    let from = row.first_sample.max(located.span.from_sample);
    let to = row.first_sample.saturating_add(row.count).min(located.span.to_sample);
    let count = to.checked_sub(from).filter(|count| *count > 0)?;
    let ns = |sample: u64| {
        row.utc_ns
            .saturating_add(definition.duration_ns(sample - row.first_sample))
    };
    let numbers = row.signals.as_deref().unwrap_or_default();
    let named = definition
        .signals
        .iter()
        .filter(|signal| numbers.contains(&signal.number));
    Some(v1::Gap {
        signals: named.map(|signal| signal.name.clone()).collect(),
        ..gap(definition, (from, count), row.reason, (ns(from), ns(to)))
    })
}

/// Joins gaps of neighbouring chunks that have one reason and the same signals.
#[derive(Debug, Default)]
struct Joiner {
    /// One for each set of signals.
    waiting: Vec<v1::Gap>,
}

impl Joiner {
    /// Takes a gap in; gives out the one that it does not continue.
    fn join(&mut self, gap: v1::Gap) -> Option<v1::Gap> {
        let Some(before) = self.waiting.iter_mut().find(|before| before.signals == gap.signals) else {
            self.waiting.push(gap);
            return None;
        };
        if before.reason == gap.reason && before.first_sample + before.count == gap.first_sample {
            before.count += gap.count;
            before.to_ns = gap.to_ns;
            return None;
        }
        Some(std::mem::replace(before, gap))
    }
}

/// What is missing in one chunk within its cut, of the signals at `places`: all of it, or the signals of each reason.
pub(super) fn of_chunk(
    definition: &StreamDefinition,
    places: &[usize],
    row: &ChunkRow,
    (from, to): (u64, u64),
) -> Vec<v1::Gap> {
    let header = &row.header;
    let ns = |sample| plan::time_ns(definition, header, sample);
    let missing = |reason| gap(definition, (from, to - from), reason, (ns(from), ns(to)));
    match header.kind {
        _ if from == to => Vec::new(),
        _ if row.quarantined => vec![missing(Reason::Quarantined)],
        ChunkKind::Gap => vec![missing(header.reason)],
        ChunkKind::End => Vec::new(),
        ChunkKind::Samples => {
            let mut gaps: Vec<v1::Gap> = Vec::new();
            for (place, column) in places
                .iter()
                .filter_map(|place| Some((place, header.columns.get(*place)?)))
            {
                let ColumnContent::Absent(reason) = column.content else {
                    continue;
                };
                let name = definition.signals[*place].name.clone();
                match gaps.iter_mut().find(|gap| gap.reason == i32::from(reason as u16)) {
                    Some(gap) => gap.signals.push(name),
                    None => gaps.push(v1::Gap {
                        signals: vec![name],
                        ..missing(reason)
                    }),
                }
            }
            gaps
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(first_sample: u64, count: u64, reason: Reason, signals: &[&str]) -> v1::Gap {
        v1::Gap {
            first_sample,
            count,
            reason: i32::from(reason as u16),
            to_ns: (first_sample + count) as i64,
            signals: signals.iter().map(|name| (*name).to_owned()).collect(),
            ..v1::Gap::default()
        }
    }

    #[test]
    fn neighbours_of_one_reason_and_the_same_signals_are_joined() {
        let mut joiner = Joiner::default();
        assert_eq!(joiner.join(missing(0, 10, Reason::Quarantined, &[])), None);
        assert_eq!(joiner.join(missing(0, 5, Reason::SignalOff, &["current"])), None);
        assert_eq!(joiner.join(missing(10, 10, Reason::Quarantined, &[])), None);
        let joined = joiner.join(missing(20, 1, Reason::Evicted, &[]));
        assert_eq!(joined, Some(missing(0, 20, Reason::Quarantined, &[])));
        let apart = joiner.join(missing(22, 1, Reason::Evicted, &[]));
        assert_eq!(apart, Some(missing(20, 1, Reason::Evicted, &[])));
        let rest = [
            missing(22, 1, Reason::Evicted, &[]),
            missing(0, 5, Reason::SignalOff, &["current"]),
        ];
        assert_eq!(joiner.waiting, rest);
    }
}
