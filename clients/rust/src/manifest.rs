//! What an answer says about itself at its end, held against what came.
//!
//! A server names the gaps of an answer in manifests of their own when they become many; such a one has no digest. The last
//! part of an answer is the manifest with the digests of every stream, and the gaps not yet named.

use wavekeep_proto::chunk::Reason;
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::{hash, v1};

use crate::verify::{Extent, StreamCheck};
use crate::{Error, Fault, TimeRange};

/// What was answered of a stream; every number was checked against what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamManifest {
    /// The stream.
    pub stream: StreamId,
    /// The first sample of the range, and the one after its last.
    pub from_sample: u64,
    /// See `from_sample`.
    pub to_sample: u64,
    /// Samples that came.
    pub sample_count: u64,
    /// Samples missing.
    pub gap_sample_count: u64,
    /// The seqs that the chunks stand for.
    pub first_seq: u64,
    /// See `first_seq`.
    pub last_seq: u64,
    /// The digest before the first chunk; None where retention has removed the row that held it: then the chain is proven from
    /// the first chunk on.
    pub digest_before: Option<Hash>,
    /// The digest after the last chunk.
    pub digest: Hash,
    /// Chunks that came.
    pub chunks: u64,
}

/// A statement must be what came.
pub(crate) fn same<T: PartialEq + std::fmt::Display>(what: &'static str, stated: T, found: T) -> Result<(), Fault> {
    if stated == found {
        return Ok(());
    }
    Err(Fault::Manifest {
        what,
        stated: stated.to_string(),
        found: found.to_string(),
    })
}

/// Is this the last manifest, or does it only name gaps?
pub(crate) fn is_last(manifest: &v1::Manifest) -> bool {
    manifest.streams.iter().all(|stream| !stream.digest.is_empty())
}

/// Every gap that the manifest names came, in order. Of columns, the manifest is what names them.
fn take_gaps(check: &mut StreamCheck, gaps: &[v1::Gap]) -> Result<(), Error> {
    let is_drawn = check.is_drawn();
    match &mut check.drawn {
        Some(drawn) if is_drawn => check.gaps.extend(drawn.gaps(&check.info, gaps)?),
        _ => {
            let stream = check.info.id();
            check_gaps(check, gaps).map_err(|fault| Error::Refuted { stream, fault })?;
        }
    }
    Ok(())
}

fn check_gaps(check: &mut StreamCheck, gaps: &[v1::Gap]) -> Result<(), Fault> {
    let words = |first: u64, count: u64, reason: Option<Reason>, signals: &[String]| {
        let reason = reason.map_or("unknown", Reason::name);
        format!("{count} samples from {first} on, {reason} {}", signals.join(" "))
    };
    for stated in gaps {
        let reason = Reason::from_number(stated.reason.cast_unsigned());
        let stated = words(stated.first_sample, stated.count, reason, &stated.signals);
        let found = check.gaps.pop_front();
        let found = found.map_or_else(
            || "none".into(),
            |gap| words(gap.first_sample, gap.count, Some(gap.reason), &gap.signals),
        );
        same("a gap", stated, found)?;
    }
    Ok(())
}

/// The first chunk is cut to where the range asked for starts, and the last one to where it ends.
fn check_range(check: &StreamCheck, range: TimeRange) -> Result<(), Fault> {
    let (Some((first, last)), Some((from, to))) = (check.extents, check.cut) else {
        return Ok(());
    };
    let sample_at = |extent: Extent, time_ns| extent.sample_at(&check.info.definition, time_ns);
    let from_expected = range.from_ns.map_or(first.first_sample, |ns| sample_at(first, ns));
    let to_expected = range.to_ns.map_or(last.end_sample, |ns| sample_at(last, ns));
    let fault = if from != from_expected {
        "starts with another sample"
    } else if range.to_ns.is_some_and(|to_ns| last.utc_ns >= to_ns) {
        "goes on after its end"
    } else if to != to_expected {
        "ends with another sample"
    } else {
        return Ok(());
    };
    Err(Fault::Range(fault))
}

/// Does one of the streams continue another after this seq? Then the other is read up to there.
pub(crate) fn is_continued<'a>(
    stream: StreamId,
    seq: u64,
    mut streams: impl Iterator<Item = &'a StreamDefinition>,
) -> bool {
    streams.any(|other| {
        let predecessor = other
            .predecessor
            .map(|predecessor| (predecessor.stream_id, predecessor.seq));
        predecessor == Some((stream, seq))
    })
}

fn check_totals(check: &StreamCheck, stated: &v1::StreamManifest, range: TimeRange) -> Result<StreamManifest, Fault> {
    let (from_sample, to_sample) = check.cut.unwrap_or_default();
    same("the first sample", stated.from_sample, from_sample)?;
    same("the end of the range", stated.to_sample, to_sample)?;
    same("the number of samples", stated.sample_count, check.sample_count)?;
    same(
        "the number of missing samples",
        stated.gap_sample_count,
        check.gap_sample_count,
    )?;
    same("the number of chunks", stated.chunks, check.chunks)?;
    same("the first seq", stated.first_seq, check.first_seq())?;
    same("the last seq", stated.last_seq, check.last_seq())?;
    let digest = Hash::from_slice(&stated.digest).unwrap_or_default();
    same("the digest", digest, check.last_digest())?;
    let at = check.info.at;
    if at.seq == check.last_seq() {
        same("the digest at the watermark", at.digest, digest)?;
    }
    check_range(check, range)?;
    let unnamed = check.gaps.len();
    same("the number of gaps", 0, unnamed)?;
    let digest_before = match &stated.digest_before[..] {
        // The definition is known, whatever the manifest says.
        [] if check.first_seq() == 1 => Some(hash::definition_hash(&check.info.definition)),
        [] => None,
        bytes => Some(Hash::from_slice(bytes).unwrap_or_default()),
    };
    if let Some(before) = digest_before
        && !check.follows(before)
    {
        return Err(Fault::Digest { seq: check.first_seq() });
    }
    Ok(StreamManifest {
        stream: check.info.id(),
        from_sample,
        to_sample,
        sample_count: check.sample_count,
        gap_sample_count: check.gap_sample_count,
        first_seq: check.first_seq(),
        last_seq: check.last_seq(),
        digest_before,
        digest,
        chunks: check.chunks,
    })
}

/// Holds a manifest against the streams that came, in the order they came. `Some` when it was the last.
pub(crate) fn check(checks: &mut [StreamCheck], manifest: &v1::Manifest) -> Result<Option<Vec<StreamManifest>>, Error> {
    let refuted = |stream, fault| Error::Refuted { stream, fault };
    if !is_last(manifest) {
        for stated in &manifest.streams {
            let mut of_stream: Vec<&mut StreamCheck> = checks
                .iter_mut()
                .filter(|check| check.info.id().as_bytes()[..] == stated.stream_id[..])
                .collect();
            // A stream that came for several ranges is named with where one of them starts.
            let starts = |check: &&mut StreamCheck| check.cut.is_some_and(|(from, _)| from == stated.from_sample);
            let at = of_stream
                .iter()
                .position(starts)
                .unwrap_or_else(|| of_stream.len().saturating_sub(1));
            let known = of_stream.get_mut(at);
            let check = known.ok_or(Error::Malformed("a manifest names a stream that did not come"))?;
            take_gaps(check, &stated.gaps)?;
        }
        return Ok(None);
    }
    let mut stated = manifest.streams.iter();
    let mut streams = Vec::with_capacity(checks.len());
    for check in checks {
        let id = check.info.id();
        let stated = stated.next().filter(|stated| stated.stream_id[..] == id.as_bytes()[..]);
        let stated = stated.ok_or_else(|| refuted(id, Fault::ManifestMissing))?;
        take_gaps(check, &stated.gaps)?;
        let range = check.range;
        let totals = match &check.drawn {
            Some(drawn) if check.is_drawn() => drawn.totals(&check.info, stated, range),
            _ => check_totals(check, stated, range),
        };
        streams.push(totals.map_err(|fault| refuted(id, fault))?);
    }
    match stated.next() {
        Some(_) => Err(Error::Malformed("the manifest names a stream that did not come")),
        None => Ok(Some(streams)),
    }
}
