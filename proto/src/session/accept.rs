//! Which chunks are accepted, and what becomes of them.

use super::slot::{Slot, State};
use super::{Action, Session};
use crate::chunk::{Chunk, Header, Position};
use crate::code::Code;
use crate::hash;
use crate::id::Hash;
use crate::limits;
use crate::wire::ChunkFault;

/// What every accepted chunk satisfies, in the order of the checks.
fn continues(accepted: &Position, header: &Header, digest: Hash) -> Result<(), (Code, String)> {
    let out_of_order = |what: String| Err((Code::OutOfOrder, what));
    if accepted.ended {
        return Err((Code::StreamEnded, format!("the stream ended at seq {}", accepted.seq)));
    }
    if header.first_seq != accepted.seq + 1 {
        return out_of_order(format!("I1: seq {} does not follow {}", header.first_seq, accepted.seq));
    }
    if header.first_sample != accepted.next_sample {
        let (got, expected) = (header.first_sample, accepted.next_sample);
        return out_of_order(format!(
            "I4: the chunk starts at sample {got}, the one before it ended at {expected}"
        ));
    }
    if !header.is_replacing() && hash::next_digest(accepted.digest, hash::chunk_hash(header)) != digest {
        return out_of_order(format!(
            "I14: the digest of seq {} is not that of the chunks sent",
            header.seq
        ));
    }
    Ok(())
}

impl Session {
    pub(super) fn on_fault(&mut self, slot: u32, fault: &ChunkFault) {
        let code = match fault {
            ChunkFault::Damaged => Code::Damaged,
            ChunkFault::Unsupported(_) => Code::Unsupported,
            ChunkFault::Malformed(_) => Code::InvalidChunk,
        };
        if self.was_opened(slot) {
            self.refuse_slot(slot, code, &fault.to_string());
        }
    }

    /// A number that no `Open` has named ends the session.
    fn was_opened(&mut self, slot: u32) -> bool {
        let opened = slot > 0 && slot <= self.last_slot;
        if !opened {
            self.refuse_session(Code::Protocol, "a chunk for a slot that was never opened");
        }
        opened
    }

    pub(super) fn on_chunk(&mut self, number: u32, chunk: Chunk) {
        let Some(slot) = self.slots.get(&number) else {
            self.was_opened(number);
            return;
        };
        let State::Open { accepted: before, .. } = slot.state else {
            return self.refuse_session(Code::Protocol, "a chunk before Opened");
        };
        if let Err(error) = chunk.header.validate(&slot.definition) {
            return self.refuse_slot(number, Code::InvalidChunk, &error.to_string());
        }
        if let Err((code, message)) = continues(&before, &chunk.header, chunk.digest) {
            return self.refuse_slot(number, code, &message);
        }
        let bytes = chunk.flow_bytes();
        // What closed slots left with the writer, the agent no longer counts: reading stops for it, but it is no fault.
        let over = self.in_open_slots_bytes + bytes > self.window_believed_bytes;
        if over || self.in_flight_chunks >= limits::ACCEPTED_CHUNKS_MAX {
            return self.refuse_session(Code::WindowExceeded, "I3: more is in flight than the window allows");
        }
        self.in_flight_bytes += bytes;
        self.in_open_slots_bytes += bytes;
        self.in_flight_chunks += 1;
        let after = Position::after(&chunk.header, chunk.digest);
        if let Some(Slot {
            state: State::Open { accepted, .. },
            in_flight_bytes,
            ..
        }) = self.slots.get_mut(&number)
        {
            *accepted = after;
            *in_flight_bytes += bytes;
        }
        self.actions.push_back(Action::Accept {
            slot: number,
            before,
            chunk,
        });
    }

    /// The writer is done with accepted chunks, whatever became of them: their bytes no longer count.
    fn landed(&mut self, bytes: u64, chunks: usize) {
        assert!(
            bytes <= self.in_flight_bytes && chunks <= self.in_flight_chunks,
            "I12: what lands was accepted"
        );
        self.in_flight_bytes -= bytes;
        self.in_flight_chunks -= chunks;
    }

    /// COMMIT has answered: `chunks` chunks of `bytes` flow bytes, up to `watermark`, are committed.
    pub fn committed(&mut self, slot: u32, watermark: u64, digest: Hash, bytes: u64, chunks: usize) {
        self.landed(bytes, chunks);
        let Some(Slot {
            state: State::Open { accepted, committed },
            in_flight_bytes,
            ..
        }) = self.slots.get_mut(&slot)
        else {
            return;
        };
        *in_flight_bytes -= bytes;
        self.in_open_slots_bytes -= bytes;
        assert!(watermark > *committed, "I6: the watermark only rises within a slot");
        assert!(watermark <= accepted.seq, "I2: committed ≤ accepted");
        *committed = watermark;
        if self.phase == super::Phase::Up {
            self.acks.insert(slot, (watermark, digest));
        }
    }

    /// The compare-and-set failed: another session owns the stream. None of these chunks is stored.
    pub fn fenced(&mut self, slot: u32, bytes: u64, chunks: usize) {
        self.landed(bytes, chunks);
        self.refuse_slot(slot, Code::Fenced, "another session has taken this stream");
    }

    /// The ledger failed: whether these chunks are stored, the next `Open` will say.
    pub fn lost(&mut self, bytes: u64, chunks: usize, message: &str) {
        self.landed(bytes, chunks);
        self.refuse_session(Code::LedgerUnavailable, message);
    }
}
