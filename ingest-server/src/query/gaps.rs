//! `ListGaps`: what is missing, and why. And what is missing in one chunk, for manifests.
//!
//! # Invariants
//! - I4: absence is a gap with a reason: of all signals (gaps, quarantined chunks) or of some (absent columns).
//! - I12: one gap of each set of signals waits, to be joined with the one that continues it.

use wavekeep_proto::chunk::{ChunkKind, ColumnContent, Reason};
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::v1;

use super::answer::Parts;
use super::error::QueryError;
use super::plan::{self, Asked};
use super::read::{Located, Reader};
use crate::store::read_chunk::ChunkRow;
use crate::store::read_gap::GapRow;
use crate::store::read_stream::StreamRow;

/// Lists them stream by stream, in order of samples. Outages follow the stream that crashed.
pub(super) async fn list(reader: Reader, asked: Asked, parts: Parts<v1::Gap>) -> Result<(), QueryError> {
    let streams = reader.streams(&asked).await?;
    for row in &streams {
        if let Some(located) = reader.locate(&asked, row).await? {
            list_stream(&reader, &asked, row, &located, &parts).await?;
        }
        if let Some((from_ns, to_ns)) = plan::outage(row, &streams) {
            let gap = gap(
                &row.definition,
                (row.at.next_sample, 0),
                Reason::Crashed,
                (from_ns, to_ns),
            );
            parts.send(gap).await?;
        }
    }
    Ok(())
}

async fn list_stream(
    reader: &Reader,
    asked: &Asked,
    row: &StreamRow,
    located: &Located,
    parts: &Parts<v1::Gap>,
) -> Result<(), QueryError> {
    let definition = &row.definition;
    let signals: Vec<u16> = asked
        .places(definition)
        .into_iter()
        .map(|place| definition.signals[place].number)
        .collect();
    let mut joiner = Joiner::default();
    let mut after = Some(located.span.first_seq - 1);
    while let Some(seq) = after {
        let (rows, next) = reader
            .gaps(located.place, &signals, (seq, located.span.last_seq))
            .await?;
        for row in rows {
            let Some(gap) = cut(definition, &row, located) else {
                continue;
            };
            if let Some(done) = joiner.join(gap) {
                parts.send(done).await?;
            }
        }
        after = next;
    }
    for gap in joiner.waiting {
        parts.send(gap).await?;
    }
    Ok(())
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
