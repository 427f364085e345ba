//! What an outbox lets go of, and what it loses.

use std::time::Duration;

use wavekeep_proto::id::{Epoch, StreamId};

use super::Oracle;

impl Oracle {
    /// Records of a stream left an outbox: from `first_seq` to `last_seq`. I5: an ack covered them, and all of it is committed.
    pub(crate) fn released(
        &mut self,
        now: Duration,
        agent: usize,
        stream: StreamId,
        range: (u64, u64),
        hold_back: Option<Duration>,
    ) {
        let (first_seq, last_seq) = range;
        let told = self.told.get(&(agent, stream));
        let told = told.and_then(|told| told.range(last_seq..).map(|(_, at)| *at).min());
        // Where room is needed, and no server has said since the start where it stands, the outbox goes by what it last noted.
        let noted = self.told_once.get(&(agent, stream)).copied().unwrap_or(0);
        let told = told.or_else(|| (hold_back.is_none() && noted >= last_seq).then_some(now));
        let Some(told) = told else {
            return self.break_with(format!(
                "I5: seqs {first_seq}..{last_seq} of {stream} were released, and no ack covers them"
            ));
        };
        if let Some(hold_back) = hold_back {
            let early = now < told + hold_back;
            self.check(!early, || {
                format!("I5: seqs {first_seq}..{last_seq} of {stream} were released before their hold-back")
            });
        }
        let stored = self.were_all_committed(stream, first_seq, last_seq);
        self.check(stored, || {
            format!("I5: seqs {first_seq}..{last_seq} of {stream} were released and never all committed")
        });
        let Some(captures) = self.captures.get(&stream) else {
            return;
        };
        for (seq, captures) in captures.range(first_seq..=last_seq) {
            let mut of_agent = captures
                .iter()
                .filter(|capture| capture.holders & (1 << agent) != 0)
                .peekable();
            let any = of_agent.peek().is_some();
            let committed = of_agent.any(|capture| self.was_committed(stream, *seq, capture.digest));
            // Inside of a gap that stands for several, only its last digest is committed; another's chunk may have been there too, in
            // another copy of the database.
            let inside = self.is_inside_of_a_gap(stream, *seq);
            if any && !committed && !inside {
                return self.break_with(format!(
                    "I5: seq {seq} of {stream} was released, and what is committed there is not it"
                ));
            }
        }
    }

    fn is_inside_of_a_gap(&self, stream: StreamId, seq: u64) -> bool {
        let rows = self.committed.get(&stream);
        rows.is_some_and(|rows| rows.range(seq + 1..).any(|(_, row)| row.first_seq <= seq))
    }

    /// The power failed: of this stream the outbox has nothing after `tail_seq` any more.
    pub(crate) fn tail_lost(&mut self, agent: usize, stream: StreamId, tail_seq: u64) {
        self.tail_lost.insert(stream);
        let Some(captures) = self.captures.get_mut(&stream) else {
            return;
        };
        for capture in captures.range_mut(tail_seq + 1..).flat_map(|(_, captures)| captures) {
            capture.holders &= !(1 << agent);
        }
    }

    /// An outbox's disk was copied: `to` holds what `from` holds of this stream.
    pub(crate) fn cloned(&mut self, from: usize, to: usize, stream: StreamId) {
        self.cloned.insert(stream);
        for capture in self
            .captures
            .get_mut(&stream)
            .into_iter()
            .flat_map(|seqs| seqs.values_mut().flatten())
        {
            if capture.holders & (1 << from) != 0 {
                capture.holders |= 1 << to;
            }
        }
        if let Some(told) = self.told.get(&(from, stream)).cloned() {
            self.told.insert((to, stream), told);
        }
        if let Some(seq) = self.told_once.get(&(from, stream)).copied() {
            self.told_once.insert((to, stream), seq);
        }
    }

    /// An outbox says that it turned samples into a gap for want of room. `full`: there really was little.
    pub(crate) fn evicted(&mut self, stream: StreamId, samples: (u64, u64), full: bool) {
        self.check(full, || {
            format!("I13: samples {samples:?} of {stream} were evicted, and there was room")
        });
        self.give_up(stream, samples);
    }

    /// An outbox says that stored bytes were bad.
    pub(crate) fn corrupted(&mut self, stream: StreamId, samples: (u64, u64)) {
        let damaged = self.is_damaged(stream);
        self.check(damaged, || {
            format!("I13: samples {samples:?} of {stream} are said to be corrupt, and no bit flipped")
        });
        self.give_up(stream, samples);
    }

    fn give_up(&mut self, stream: StreamId, samples: (u64, u64)) {
        if let Some(epoch) = self.epochs.get(&stream) {
            self.given_up.entry(*epoch).or_default().push(samples);
        }
    }

    /// A bit of an outbox flipped.
    pub(crate) fn flipped(&mut self, epoch: Epoch) {
        self.flipped.insert(epoch);
    }
}
