//! Room for the next chunk: at the quota, or where the disk has no more, first acked chunks go, whatever their hold-back, then
//! the oldest un-acked samples of live streams become gaps; or the source waits.
//!
//! Room is made in steps, so that a full outbox does not pay for it with every chunk. What was deleted and the disk has not given
//! back yet counts as free, or the same room would be made again and again; meanwhile up to half of what is kept free is used.

use super::kv::Kv;
use super::{Outbox, OutboxError, StoreError, WhenFull, Writer};

/// A step is this part of the quota…
const STEP_PARTS: u64 = 64;
/// … but at most this many bytes.
const STEP_BYTES_MAX: u64 = 64 * 1024 * 1024;

impl<K: Kv> Outbox<K> {
    /// What may be held now: the quota, or less where the disk has no more room than that.
    fn quota_now_bytes(&self, writer: &Writer, held_bytes: u64) -> u64 {
        let Some(free) = self.kv.free_bytes() else {
            return self.options.quota_bytes;
        };
        let kept_free = self.options.free_bytes_min;
        let room_soon = (free + writer.deleted_bytes + writer.reclaiming_bytes).saturating_sub(kept_free);
        let room = room_soon
            .min(free.saturating_sub(kept_free / 2))
            .max(free.saturating_sub(kept_free));
        self.options.quota_bytes.min(held_bytes.saturating_add(room))
    }

    /// Makes room for `bytes` more. `of_file`: for a chunk that can be read again, nothing is evicted.
    pub(super) fn make_room(&self, writer: &mut Writer, bytes: u64, of_file: bool) -> Result<(), StoreError> {
        let held_bytes = self.held_bytes();
        let quota_bytes = self.quota_now_bytes(writer, held_bytes);
        if held_bytes + bytes <= quota_bytes {
            return Ok(());
        }
        let step = (quota_bytes / STEP_PARTS).min(STEP_BYTES_MAX);
        let must = held_bytes + bytes - quota_bytes;
        let wanted = must + step;
        let mut freed = self.release_acked(writer, wanted)?;
        if freed < must && !of_file && self.options.when_full == WhenFull::Evict && self.disk_takes_changes() {
            freed += self.evict(writer, wanted - freed)?;
        }
        if freed < must {
            return Err(StoreError::Full {
                held_bytes: self.held_bytes(),
                quota_bytes,
            });
        }
        Ok(())
    }

    /// Where somebody else has filled the disk to the brim, evicting would lose samples and gain nothing.
    fn disk_takes_changes(&self) -> bool {
        self.kv
            .free_bytes()
            .is_none_or(|free| free >= self.options.free_bytes_min / 4)
    }

    /// Releases acked chunks whatever their hold-back, of the stream that holds most of them back first.
    pub(super) fn release_acked(&self, writer: &mut Writer, wanted_bytes: u64) -> Result<u64, OutboxError> {
        let mut freed = 0;
        let mut streams: Vec<_> = {
            let table = self.table();
            let acked = table
                .streams
                .iter()
                .filter(|(_, stream)| stream.acked.seq > stream.state.base.at.seq);
            acked
                .map(|(id, stream)| (stream.state.held_bytes - stream.unacked_bytes(), *id))
                .collect()
        };
        streams.sort_unstable();
        for (_, stream) in streams.into_iter().rev() {
            while freed < wanted_bytes {
                let Some(acked) = self.with_stream(stream, |stream| stream.acked.seq) else {
                    break;
                };
                match self.release_step(writer, stream, acked)? {
                    Some(bytes) => freed += bytes,
                    None => break,
                }
            }
        }
        Ok(freed)
    }
}
