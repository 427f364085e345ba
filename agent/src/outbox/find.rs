//! Finds the records of a stream on the disk, past whatever is damaged. Nothing here changes anything.
//!
//! A record may be unreadable alone (its seal does not fit), or with its neighbours (a bad block of a sorted file, which no
//! scan gets past). In the second case the other side is found by probing: one by one near by, then in growing steps.

use wavekeep_proto::id::StreamId;

use super::keys;
use super::kv::{Entry, Kv, KvError};
use super::record::Record;
use super::{STEP_BYTES_MAX, STEP_RECORDS_MAX};

/// Seqs that are probed one by one: a bad block has some dozens of records.
const NEAR: u64 = 1_024;

/// A readable record.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) record: Record,
    /// What it costs the quota.
    pub(super) cost_bytes: u64,
}

fn parse(key: &[u8], value: &[u8]) -> Option<Found> {
    let record = Record::from_value(key, keys::seq_of_chunk(key)?, value)?;
    let cost_bytes = record.cost_bytes(value.len());
    Some(Found { record, cost_bytes })
}

/// The record with exactly this key, if it is readable.
fn at<K: Kv>(kv: &K, stream: StreamId, seq: u64) -> Result<Option<Found>, KvError> {
    let key = keys::chunk(stream, seq);
    match kv.get(&key) {
        Ok(value) => Ok(value.and_then(|value| parse(&key, &value))),
        Err(KvError::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `None` where the disk is damaged.
fn probed(result: Result<Option<Entry>, KvError>) -> Result<Option<Option<Entry>>, KvError> {
    match result {
        Ok(entry) => Ok(Some(entry)),
        Err(KvError::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The smallest distance from 1 to `most` at which `good` holds, given that it fails at 0. Near by, every distance is tried, so
/// that nothing good between two bad places is jumped over; far away, what is bad is taken to lie together.
fn gallop(most: u64, mut good: impl FnMut(u64) -> Result<bool, KvError>) -> Result<Option<u64>, KvError> {
    let (mut bad, mut distance) = (0, 1);
    loop {
        distance = distance.min(most);
        if distance <= bad {
            return Ok(None);
        }
        if good(distance)? {
            break;
        }
        bad = distance;
        distance = if distance < NEAR {
            distance + 1
        } else {
            distance.saturating_mul(2)
        };
    }
    while distance - bad > 1 {
        let middle = bad + (distance - bad) / 2;
        if good(middle)? {
            distance = middle;
        } else {
            bad = middle;
        }
    }
    Ok(Some(distance))
}

/// The first readable record whose key is from `from` to `to`, both included.
pub(super) fn first<K: Kv>(kv: &K, stream: StreamId, from: u64, to: u64) -> Result<Option<Found>, KvError> {
    let end = keys::chunk(stream, to.saturating_add(1));
    let seek = |seq: u64| probed(kv.first(&keys::chunk(stream, seq), &end));
    let mut at_seq = from;
    while at_seq <= to {
        match seek(at_seq)? {
            Some(None) => return Ok(None),
            Some(Some((key, value))) => match parse(&key, &value) {
                Some(found) => return Ok(Some(found)),
                None => at_seq = keys::seq_of_chunk(&key).map_or(at_seq, |seq| seq.max(at_seq)) + 1,
            },
            None => {
                let distance = gallop(to - at_seq, |distance| Ok(seek(at_seq + distance)?.is_some()))?;
                let beyond = match distance {
                    Some(distance) => first(kv, stream, at_seq + distance, to)?,
                    None => None,
                };
                return nearest(kv, stream, at_seq, to, beyond);
            }
        }
    }
    Ok(None)
}

/// What replaced damaged records, and what galloping jumped over, is still read by its key: goes back from `beyond`, as far as
/// each record lies right before the one after it.
fn nearest<K: Kv>(
    kv: &K,
    stream: StreamId,
    from: u64,
    to: u64,
    beyond: Option<Found>,
) -> Result<Option<Found>, KvError> {
    let mut nearest = beyond;
    loop {
        let before = nearest.as_ref().map_or(to, |found| found.record.header.first_seq - 1);
        if before < from {
            return Ok(nearest);
        }
        match at(kv, stream, before)? {
            Some(found) => nearest = Some(found),
            None => return Ok(nearest),
        }
    }
}

/// The last readable record whose key is from `from` to `to`, both included.
pub(super) fn last<K: Kv>(kv: &K, stream: StreamId, from: u64, to: u64) -> Result<Option<Found>, KvError> {
    let begin = keys::chunk(stream, from);
    let seek = |seq: u64| probed(kv.last(&begin, &keys::chunk(stream, seq.saturating_add(1))));
    let mut at_seq = to;
    while at_seq >= from {
        if let Some(found) = at(kv, stream, at_seq)? {
            return Ok(Some(found));
        }
        let before = match seek(at_seq)? {
            Some(None) => return Ok(None),
            Some(Some((key, value))) => match parse(&key, &value) {
                Some(found) => return Ok(Some(found)),
                None => keys::seq_of_chunk(&key)
                    .map_or(at_seq, |seq| seq.min(at_seq))
                    .checked_sub(1),
            },
            None => {
                let distance = gallop(at_seq - from, |distance| Ok(seek(at_seq - distance)?.is_some()))?;
                let Some(distance) = distance else { return Ok(None) };
                return last(kv, stream, from, at_seq - distance);
            }
        };
        let Some(before) = before else { return Ok(None) };
        at_seq = before;
    }
    Ok(None)
}

/// Readable records whose keys are from `from` to `to`, both included, ascending: as many as one step takes.
pub(super) fn some<K: Kv>(kv: &K, stream: StreamId, from: u64, to: u64) -> Result<Vec<Found>, KvError> {
    let end = keys::chunk(stream, to.saturating_add(1));
    let mut found: Vec<Found> = Vec::new();
    let (mut next, mut bytes) = (from, 0);
    while next <= to {
        let result = kv.scan(&keys::chunk(stream, next), &end, &mut |key, value| {
            next = keys::seq_of_chunk(key).map_or(next, |seq| seq.max(next)) + 1;
            bytes += value.len() as u64;
            found.extend(parse(key, value));
            found.len() < STEP_RECORDS_MAX && bytes < STEP_BYTES_MAX
        });
        match result {
            Ok(()) => break,
            Err(KvError::Damaged(_)) => match first(kv, stream, next, to)? {
                Some(beyond) => {
                    next = beyond.record.header.seq + 1;
                    found.push(beyond);
                }
                None => break,
            },
            Err(error) => return Err(error),
        }
        if found.len() >= STEP_RECORDS_MAX {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probing_finds_the_near_edge_of_what_is_good() {
        for edge in [1, 2, 3, 40, NEAR - 1, NEAR, NEAR + 1, 5_000, 99_999, 1_000_000] {
            let mut probes = 0;
            let found = gallop(1_000_000, |distance| {
                probes += 1;
                Ok(distance >= edge)
            });
            assert_eq!(found, Ok(Some(edge)));
            assert!(probes <= NEAR + 40, "{probes} probes for {edge}");
        }
        assert_eq!(
            gallop(1_000_000, |distance| Ok(distance == 70 || distance > 100)),
            Ok(Some(70)),
            "an island"
        );
        assert_eq!(gallop(100, |_| Ok(false)), Ok(None));
        assert_eq!(gallop(0, |_| Ok(true)), Ok(None));
        assert_eq!(gallop(100, |distance| Ok(distance == 100)), Ok(Some(100)));
    }
}
