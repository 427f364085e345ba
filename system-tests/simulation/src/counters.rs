//! What happened, how often: a world in which too little happens proves nothing.

use std::collections::BTreeMap;
use std::fmt;

use wavekeep_proto::chunk::{ChunkKind, Header, Reason};

use crate::faults::Fault;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// See the module's documentation.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Counters {
            /// Each fault.
            pub faults: BTreeMap<Fault, u64>,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// The sum over two worlds.
            pub fn add(&mut self, other: &Self) {
                for (fault, count) in &other.faults {
                    *self.faults.entry(*fault).or_insert(0) += count;
                }
                $(self.$name += other.$name;)*
            }

            /// Each counter with its name.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Sessions that began.
    sessions,
    /// Chunks that agents sent, again or not.
    chunks_sent,
    /// Chunks that sources stored.
    chunks_captured,
    /// Samples of those that were not lost with the power, at the end.
    captured_samples,
    /// Commits that were done.
    commits,
    /// Entries of the widest commit, summed.
    widest_batch,
    /// Entries that the compare-and-set refused.
    fenced,
    /// Commits that were done after their session had ended.
    late_commits,
    /// Commits that were not answered.
    ambiguous_commits,
    /// Frames of chunks that were damaged on the way.
    damaged_frames,
    /// Frames that a dishonest agent sent.
    dishonest_frames,
    /// Acks that a dishonest server sent.
    dishonest_acks,
    /// Frames of a session that was over.
    late_words,
    /// Batches of outboxes that power cuts took.
    batches_lost,
    /// Bits that flipped on disks.
    bits_flipped,
    /// Stores that found no room.
    blocked_stores,
    /// Failovers and restores that lost commits.
    database_losses,
    /// Alarms: the server came back behind its acks.
    rewinds,
    /// Alarms: neither side held some seqs.
    jump_gaps,
    /// Alarms: the server was ahead of a tail that the power took.
    adoptions,
    /// Alarms: the server had another's chunks.
    divergences,
    /// Alarms: an ack's digest was not the capture's.
    ack_mismatches,
    /// Alarms: the server's database was left for a promoted copy.
    old_primaries,
    /// Alarms: a stream was refused.
    stream_refusals,
    /// Successors in the surviving database.
    successors,
    /// Rows of samples in the surviving database.
    rows_samples,
    /// Rows that a source reported as missing.
    rows_source_gap,
    /// Rows of gaps that replace.
    rows_evicted,
    /// See `rows_evicted`.
    rows_corrupt,
    /// See `rows_evicted`.
    rows_lost_by_server,
    /// Ends.
    rows_end,
    /// Chunks that the database lost after every outbox had forgotten the stream.
    forgotten,
    /// Chunks without a named gap, by the known limit of docs/PROTOCOL.md.
    known_limit,
    /// Outboxes that were empty in the end.
    outboxes_emptied,
}

impl Counters {
    /// Counts a row of the surviving database.
    pub(crate) fn count_row(&mut self, header: &Header) {
        let counter = match (header.kind, header.reason) {
            (ChunkKind::Samples, _) => &mut self.rows_samples,
            (ChunkKind::End, _) => &mut self.rows_end,
            (ChunkKind::Gap, Reason::Evicted) => &mut self.rows_evicted,
            (ChunkKind::Gap, Reason::Corrupt) => &mut self.rows_corrupt,
            (ChunkKind::Gap, Reason::LostByServer) => &mut self.rows_lost_by_server,
            (ChunkKind::Gap, _) => &mut self.rows_source_gap,
        };
        *counter += 1;
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fault, count) in &self.faults {
            writeln!(f, "{count:>12}  fault {fault:?}")?;
        }
        for (name, count) in self.named() {
            writeln!(f, "{count:>12}  {name}")?;
        }
        Ok(())
    }
}
