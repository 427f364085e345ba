//! What an answer says about itself. Pure.
//!
//! The last part of an answer is a manifest with the digests of every stream. Gaps that became too many before it were named
//! in manifests of their own; such a one names streams without digests.
//!
//! # Invariants
//! - I12: at most [`limits::GAPS_PENDING_MAX`] gaps wait.
//! - I13: samples and missing samples add up to the range, for every stream.

use bytes::Bytes;
use wavekeep_proto::v1;

use super::limits;
use super::locate::Located;
use super::plan::Span;
use super::read::StoredChunk;

/// Grows with every chunk that is sent.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    streams: Vec<v1::StreamManifest>,
    gaps: usize,
}

impl Manifest {
    /// What follows is of this stream.
    pub(super) fn begin(&mut self, located: &Located) {
        let Span {
            from_sample, to_sample, ..
        } = located.span;
        self.streams.push(v1::StreamManifest {
            stream_id: located.place.stream.to_vec().into(),
            from_sample,
            to_sample,
            first_seq: located.span.first_seq,
            digest_before: located
                .digest_before
                .map(|digest| digest.to_vec())
                .unwrap_or_default()
                .into(),
            ..v1::StreamManifest::default()
        });
    }

    /// Takes a chunk in that is sent. `is_missing`: it has no sample of the signals asked for.
    pub(super) fn chunk(&mut self, chunk: &StoredChunk, (from, to): (u64, u64), is_missing: bool, gaps: Vec<v1::Gap>) {
        let stream = self.streams.last_mut().expect("a stream begins before its chunks");
        *(if is_missing {
            &mut stream.gap_sample_count
        } else {
            &mut stream.sample_count
        }) += to - from;
        stream.last_seq = chunk.row.header.seq;
        stream.digest = chunk.row.digest.to_vec().into();
        stream.chunks += 1;
        self.gaps(gaps);
    }

    /// Takes all of a stream in at once, of which columns were sent. So many samples of its range are missing.
    pub(super) fn range(&mut self, missing: u64, located: &Located) {
        let stream = self.streams.last_mut().expect("a stream begins before its columns");
        stream.gap_sample_count = missing;
        stream.sample_count = stream.to_sample - stream.from_sample - missing;
        stream.last_seq = located.span.last_seq;
        stream.digest = located.ends.1.digest.to_vec().into();
    }

    /// What is missing in the stream that was begun last.
    pub(super) fn gaps(&mut self, gaps: Vec<v1::Gap>) {
        let stream = self.streams.last_mut().expect("a stream begins before its gaps");
        self.gaps += gaps.len();
        stream.gaps.extend(gaps);
    }

    /// A manifest of gaps alone, once many wait.
    pub(super) fn overflow(&mut self) -> Option<v1::Manifest> {
        if self.gaps < limits::GAPS_PENDING_MAX {
            return None;
        }
        self.pending()
    }

    /// A manifest of the gaps that wait, if any do. Sent before another stream begins, so that it is about one stream, or one of its times.
    pub(super) fn pending(&mut self) -> Option<v1::Manifest> {
        if self.gaps == 0 {
            return None;
        }
        self.gaps = 0;
        let with_gaps = self.streams.iter_mut().filter(|stream| !stream.gaps.is_empty());
        let streams = with_gaps.map(|stream| v1::StreamManifest {
            stream_id: stream.stream_id.clone(),
            from_sample: stream.from_sample,
            gaps: std::mem::take(&mut stream.gaps),
            digest: Bytes::new(),
            ..v1::StreamManifest::default()
        });
        Some(v1::Manifest {
            streams: streams.collect(),
        })
    }

    /// The last part of the answer.
    pub(super) fn finish(self) -> v1::Manifest {
        for stream in &self.streams {
            assert_eq!(
                stream.sample_count + stream.gap_sample_count,
                stream.to_sample - stream.from_sample,
                "I13: what was sent of a range is all of it"
            );
        }
        v1::Manifest { streams: self.streams }
    }
}
